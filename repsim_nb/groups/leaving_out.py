"""Intervals of a statistic of groups of models from leaving out one model in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def leaving_out_interval(
    value: np.ndarray, without: Sequence[np.ndarray], level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of each value.

    The variance is the sum of those of the groups; Student's t has the degrees of freedom of Welch.

    Parameters
    ----------
    value
        (layers,).
    without
        For each group, the value without each model of it, (models of the group, layers).
    level
        Coverage of each interval by itself.

    References
    ----------
    Arvesen 1969, "Jackknifing U-statistics", Ann. Math. Statist. 40:2076; Welch 1947.
    """
    from scipy.stats import t

    parts = [(len(w) - 1) / len(w) * ((w - w.mean(0)) ** 2).sum(0) for w in without]
    variance = np.sum(parts, axis=0)
    spread = np.sum([part**2 / (len(w) - 1) for part, w in zip(parts, without, strict=True)], axis=0)
    freedom = np.where(spread == 0, 1, variance**2 / np.where(spread == 0, 1, spread))
    reach = t.ppf(0.5 + level / 2, freedom) * np.sqrt(variance)
    return value - reach, value + reach
