"""What unrelated representations would show: one test per cell, controlled over the whole grid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.measures import Measure

LEVEL = 0.05  # of the tests
ROUNDING = 1e-6  # share of the largest value within which two values are the same


class Null(NamedTuple):
    """The null of every cell; all arrays have the shape of the grid.

    Attributes
    ----------
    mean
        The mean over arrangements.
    high
        What a cell by itself reaches with probability 0.05, on the side of "more alike" (for a dissimilarity that is
        the low side).
    high_family
        What any cell of the grid reaches with probability 0.05, shared out by each cell's spread.
    p_value
        Family-wise: the probability that the most extreme cell of an unrelated grid is as extreme.
    """

    mean: np.ndarray
    high: np.ndarray
    high_family: np.ndarray
    p_value: np.ndarray


def max_statistic(observed: np.ndarray, permuted: Iterable[np.ndarray], measure: Measure) -> Null:
    """The null of a grid from the grids of exchanged documents.

    Every cell is standardised by its mean and spread over the observed and all permuted grids but the one most extreme
    there (symmetric in all of them, so that the test stays exact; without the extreme one, so that an alike pair does
    not raise its own threshold), and compared with the largest cell of each permuted grid (single-step maxT):
    p = (1 + number of permuted maxima at least as large) / (1 + number of permuted grids).

    Parameters
    ----------
    observed
        (a, b).
    permuted
        Grids of that shape, at least 19.
    measure
        Whose direction says which side is "more alike".

    Raises
    ------
    InputError
        Fewer than 19 permutations; a measure that permuting rows does not change.

    References
    ----------
    Westfall and Young 1993, "Resampling-based multiple testing", algorithm 2.5; Phipson and Smyth 2010 on the + 1.
    """
    sign = 1.0 if measure.direction == "similarity" else -1.0
    values = sign * np.stack([observed, *permuted])
    null = values[1:]
    passing = int(LEVEL * len(values) + 1e-9)  # this many of all grids may be as extreme as a significant one
    if passing < 1:
        raise InputError(f"{len(null)} permutations cannot give a p-value below 0.05: take at least 19.")
    rounding = ROUNDING * np.abs(values).max(0)
    typical = np.sort(values, axis=0)[:-1]
    mean, spread = typical.mean(0), typical.std(0)
    if (spread <= rounding).all():
        raise InputError(
            f"{measure.name} does not change when the documents of one side are exchanged: it does not ask which rows "
            "belong together, so it has no such null. Leave null out."
        )
    scale = np.maximum(spread, rounding + np.finfo(float).tiny)
    score = (values - mean) / scale
    largest = score[1:].max(axis=(1, 2))
    exceeding = (largest[:, None, None] >= score[0] - rounding / scale).sum(0)
    threshold = np.sort(largest)[-passing]
    return Null(
        mean=sign * null.mean(0),
        high=sign * np.sort(null, axis=0)[-passing],
        high_family=sign * (mean + threshold * scale),
        p_value=(1 + exceeding) / len(values),
    )
