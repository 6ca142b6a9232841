"""Permutations of models, and p-values of the observed arrangement among them."""

from __future__ import annotations

from itertools import combinations, permutations
from math import comb, factorial

import numpy as np

from repsim_nb.errors import InputError

ROUNDING = 1e-9  # relative difference below which two values count as equal
FEWEST = 19  # smallest number of permutations that can give a p-value of 0.05


def assignments(first: np.ndarray, n_permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Assignments of models to the first group, bool (ways, models), the observed one first.

    All assignments if there are at most `n_permutations`, else the observed one plus that many random ones. Either
    way, the share of assignments as extreme as the first is a valid p-value (Phipson and Smyth 2010).
    """
    _check(n_permutations)
    n, size = len(first), int(first.sum())
    if comb(n, size) > n_permutations:
        return np.vstack([first, rng.permuted(np.tile(first, (n_permutations, 1)), axis=1)])
    ways = np.zeros((comb(n, size), n), dtype=bool)
    np.put_along_axis(ways, np.array(list(combinations(range(n), size))), True, axis=1)
    return _observed_first(ways, first)


def orders(n: int, n_permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Orders of n models, (ways, n), the observed one first: all or random ones, as in `assignments`."""
    _check(n_permutations)
    given = np.arange(n)
    if factorial(n) > n_permutations:
        return np.vstack([given, rng.permuted(np.tile(given, (n_permutations, 1)), axis=1)])
    return _observed_first(np.array(list(permutations(range(n)))), given)


def standardised(statistics: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Standardise statistics (ways, layers) by their mean and standard deviation over ways.

    Both are taken over all ways, including the observed one, which keeps the test exact. A layer where all ways agree
    up to rounding, relative to `size` (layers,), becomes -inf: it is never extreme and never the maximum.

    Reference: Westfall and Young 1993, "Resampling-based multiple testing".
    """
    spread = statistics.std(0)
    same = spread <= ROUNDING * size
    return np.where(same, -np.inf, (statistics - statistics.mean(0)) / np.where(same, 1, spread))


def p_values(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-sided p-values of the first of scores (ways, layers): for each layer, and family-wise by the maximum."""
    reached = scores[0] - ROUNDING
    return (scores >= reached).mean(0), (scores.max(1, keepdims=True) >= reached).mean(0)


def _observed_first(ways: np.ndarray, given: np.ndarray) -> np.ndarray:
    is_given = (ways == given).all(1)
    return np.concatenate([ways[is_given], ways[~is_given]])


def _check(n_permutations: int) -> None:
    if n_permutations < FEWEST:
        raise InputError(f"{n_permutations} permutations cannot give a p-value of 0.05; use at least {FEWEST}.")
