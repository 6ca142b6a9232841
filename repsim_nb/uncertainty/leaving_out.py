"""Delete-one-model jackknife intervals for statistics of groups of models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def jackknife_interval(value: np.ndarray, without: Sequence[np.ndarray], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of each value.

    The variance is the sum over groups; Student's t uses Welch's degrees of freedom.

    Parameters
    ----------
    value
        The statistic of all models, (layers,).
    without
        For each group, the statistic with each of its models left out, (models in the group, layers).
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
