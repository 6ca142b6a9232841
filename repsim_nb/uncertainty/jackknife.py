"""Intervals over documents: leave out whole documents, never repeat a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from repsim_nb.errors import InputError

BLOCKS = 20  # groups of documents to leave out in turn
MAX_MOVE = 2.0  # distance on the transformed scale beyond which the linear approximation is useless


class Interval(NamedTuple):
    """A value with its interval: three floats, or three arrays of equal shape."""

    value: Any
    low: Any
    high: Any


def jackknife(
    statistic: Callable[[np.ndarray], Any],
    documents: Sequence[Any],
    blocks: int = BLOCKS,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Compute a statistic of rows with its delete-a-group jackknife interval over documents.

    Parameters
    ----------
    statistic
        Function of a row mask, bool (n_rows,), that returns a float or an array.
    documents
        The document of each row, (n_rows,).
    blocks
        Number of groups of documents; the interval uses Student's t with blocks - 1 degrees of freedom.
    level
        Coverage of the interval.
    seed
        Seed for assigning documents to groups.

    Returns
    -------
    Interval
        The statistic of all rows, with low and high.

    Raises
    ------
    InputError
        If there are fewer documents than groups.

    Notes
    -----
    Each replicate leaves out one group of whole documents. No row is ever repeated, so debiased estimators stay
    unbiased (a naive bootstrap repeats rows and brings their self terms back). The interval does not remove a
    statistic's bias, and is unreliable for statistics that are not smooth in the rows, such as ranks of neighbours.

    References
    ----------
    Quenouille 1956; Kott 2001, "The delete-a-group jackknife", J. Official Statistics 17.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=400)
    >>> value, low, high = jackknife(lambda keep: x[keep].mean(), np.arange(400))
    >>> f"{value:.3f} [{low:.3f}, {high:.3f}]"
    '-0.037 [-0.163, 0.090]'
    """
    names, document = np.unique(np.asarray(documents, dtype=str), return_inverse=True)
    if len(names) < blocks:
        raise InputError(f"A jackknife over {blocks} groups needs at least {blocks} documents, got {len(names)}.")
    group = np.random.default_rng(seed).permutation(np.arange(len(names)) % blocks)[document]
    value = np.asarray(statistic(np.ones(len(document), dtype=bool)), dtype=float)
    without = np.array([statistic(group != g) for g in range(blocks)])
    half_width = _half_width(without, level)
    return Interval(
        *(part.item() if part.ndim == 0 else part for part in (value, value - half_width, value + half_width))
    )


def jackknife_grid(
    value: np.ndarray, without: Iterable[np.ndarray], bounds: tuple[float, float], level: float = 0.95
) -> Interval:
    """Compute the interval of each value of a grid from the grids with each block of documents left out.

    Parameters
    ----------
    value
        Values for all documents, any shape.
    without
        One array of that shape per block, computed without that block.
    bounds
        Bounds of the measure.
    level
        Coverage of each value's interval by itself.

    Returns
    -------
    Interval
        Arrays value, low and high.

    Notes
    -----
    The interval is symmetric on a transformed scale and mapped back, so that it stays inside `bounds` and contains the
    value: log((v - low) / (high - v)) for two bounds, log(v - low) for one, v itself for none, with errors
    transformed by the slope at the value. A value on its bound, such as that of a representation with itself, is cut
    there instead: such an interval says nothing about sampling error.

    References
    ----------
    Kott 2001 (see `jackknife`); Efron and Tibshirani 1993, section 14.1 on transformed scales.

    Examples
    --------
    >>> low_high = jackknife_grid(np.array(0.99), [np.array(0.99 + e) for e in (-0.003, 0.0, 0.002)], (0, 1))
    >>> f"{low_high.low:.3f} to {low_high.high:.3f}"
    '0.966 to 0.997'
    """
    half_width = _half_width(np.stack(list(without)), level)
    low, high = bounds
    above, below = value - low, high - value  # infinite where there is no bound
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # slope of the scale = 1 / above + 1 / below; moving by `move` on it multiplies the odds by exp(move)
        move = half_width * (1 / above + 1 / below)
        if np.isinf(high):
            ends = [low + above * np.exp(-move), low + above * np.exp(move)]
        else:
            ends = [low + above / (above + below * np.exp(m)) * (high - low) for m in (move, -move)]
    inside = (above > 0) & (below > 0) & (move < MAX_MOVE) & np.isfinite(low)
    low_end = np.where(inside, ends[0], np.clip(value - half_width, low, high))
    high_end = np.where(inside, ends[1], np.clip(value + half_width, low, high))
    return Interval(value, np.minimum(low_end, value), np.maximum(high_end, value))  # whatever the rounding


def _half_width(without: np.ndarray, level: float) -> np.ndarray:
    """Half-width of the interval on the scale of the replicates (blocks, ...)."""
    from scipy.stats import t

    blocks = len(without)
    error = np.sqrt((blocks - 1) / blocks * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    return t.ppf(0.5 + level / 2, blocks - 1) * error
