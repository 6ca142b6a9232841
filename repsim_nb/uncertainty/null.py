"""Null distribution for unrelated representations: a test for each cell, family-wise over the whole grid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.measures import Measure
from repsim_nb.system.p_value import LEVEL

ROUNDING = 1e-6  # relative difference within which two values count as equal


class Null(NamedTuple):
    """The null of every cell; all arrays have the shape of the grid.

    Attributes
    ----------
    mean
        Mean over permutations.
    high
        Value that a cell by itself reaches with probability 0.05 on the "more similar" side (the low side for a
        dissimilarity).
    high_family
        Value that any cell of the grid reaches with probability 0.05, scaled to each cell's spread.
    p_value
        Family-wise p-value: the probability that the most extreme cell of an unrelated grid is as extreme.
    high_most
        Value that the most similar cell of an unrelated grid reaches with probability 0.05.
    """

    mean: np.ndarray
    high: np.ndarray
    high_family: np.ndarray
    p_value: np.ndarray
    high_most: float


def calibrated(values: np.ndarray | float, high: np.ndarray | float, bound: float) -> np.ndarray:
    """Rescale similarities so that the 5% level of their null is 0 and the bound is 1; values below the level are 0.

    Parameters
    ----------
    values, high
        Similarities, and the value that unrelated ones reach with probability 0.05.
    bound
        Upper bound of the measure, which identical representations reach.

    Returns
    -------
    numpy.ndarray
        In [0, 1]; 0 too where the level is at the bound, since nothing can exceed it.

    Examples
    --------
    >>> calibrated(np.array([0.3, 0.5, 0.75, 1.0]), 0.5, 1.0)
    array([0. , 0. , 0.5, 1. ])

    References
    ----------
    Groeger, Wen and Brbic 2026, arXiv 2602.14486.
    """
    room = np.subtract(bound, high)
    excess = np.divide(np.subtract(values, high), room, out=np.zeros(np.broadcast(values, high).shape), where=room > 0)
    return np.clip(excess, 0, 1)


def max_statistic(observed: np.ndarray, permuted: Iterable[np.ndarray], measure: Measure) -> Null:
    """Compute the null of a grid from grids with permuted documents (single-step maxT).

    Parameters
    ----------
    observed
        The observed grid, (a, b).
    permuted
        At least 19 grids of the same shape with permuted documents.
    measure
        The measure; its direction says which side is "more similar".

    Returns
    -------
    Null
        Mean, levels and family-wise p-value of every cell.

    Raises
    ------
    InputError
        If there are fewer than 19 permutations, or the measure does not change when rows are permuted.

    Notes
    -----
    p = (1 + number of permuted maxima at least as large) / (1 + number of permuted grids). p-values are family-wise
    over this grid only: with several grids or measures the error rate adds up.

    Every cell is standardised by its mean and spread over the observed and all permuted grids, except the one that is
    most extreme there. This treats all grids alike, so the test stays exact, and leaving out the extreme one keeps a
    similar pair from raising its own threshold.

    References
    ----------
    Westfall and Young 1993, "Resampling-based multiple testing", algorithm 2.5; Phipson and Smyth 2010 on the + 1.
    """
    sign = 1.0 if measure.direction == "similarity" else -1.0
    values = sign * np.stack([observed, *permuted])
    null = values[1:]
    passing = int(LEVEL * len(values) + 1e-9)  # number of grids that may be as extreme as a significant one
    if passing < 1:
        raise InputError(f"{len(null)} permutations cannot give a p-value of 0.05; use at least 19.")
    rounding = ROUNDING * np.abs(values).max(0)
    typical = np.sort(values, axis=0)[:-1]
    mean, spread = typical.mean(0), typical.std(0)
    if (spread <= rounding).all():
        raise InputError(
            f"{measure.name} does not change when the documents of one side are permuted, because it ignores which "
            "rows belong together. It has no such null; leave null out."
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
        high_most=float(sign * np.sort(null.max(axis=(1, 2)))[-passing]),
    )
