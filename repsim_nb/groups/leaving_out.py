"""Intervals of a statistic of two groups of models from leaving out one model in turn."""

from __future__ import annotations

import numpy as np


def leaving_out_interval(
    value: np.ndarray, without: tuple[np.ndarray, np.ndarray], level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of each value.

    The variance is the sum of those of the two groups; Student's t has the degrees of freedom of Welch.

    Args:
        value: (layers,).
        without: the value without each model of one group and of the other, (models of the group, layers).
        level: coverage of each interval by itself.

    Reference: Arvesen 1969, "Jackknifing U-statistics", Ann. Math. Statist. 40:2076; Welch 1947.
    """
    from scipy.stats import t

    sizes = [len(w) for w in without]
    first, second = ((n - 1) / n * ((w - w.mean(0)) ** 2).sum(0) for n, w in zip(sizes, without, strict=True))
    variance = first + second
    spread = first**2 / (sizes[0] - 1) + second**2 / (sizes[1] - 1)
    freedom = np.where(spread == 0, 1, variance**2 / np.where(spread == 0, 1, spread))
    reach = t.ppf(0.5 + level / 2, freedom) * np.sqrt(variance)
    return value - reach, value + reach
