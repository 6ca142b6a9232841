"""Intervals and nulls over documents: tokens of one document are not independent, documents are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from repsim_nb.errors import InputError


class Estimate(NamedTuple):
    """A value with its interval; three floats, or three arrays of one shape."""

    value: Any
    low: Any
    high: Any


def jackknife(
    statistic: Callable[[np.ndarray], Any],
    documents: Sequence[Any],
    blocks: int = 20,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A statistic of rows with its interval by the delete-a-group jackknife over documents.

    Whole documents are dealt into `blocks` groups at random; the statistic is recomputed without each group. Leaving
    rows out never repeats one, so that debiased estimators stay unbiased (a naive bootstrap repeats rows and brings
    their self terms back).

    Args:
        statistic: called with a boolean array (n_rows,), True for the rows to use; returns a float or an array.
        documents: the document of each row, (n_rows,).
        blocks: number of groups; the interval uses Student's t with blocks - 1 degrees of freedom.
        level: coverage of the interval.
        seed: of the dealing.

    Raises:
        InputError: fewer documents than groups.

    Reference: Quenouille 1956; Kott 2001, "The delete-a-group jackknife", J. Official Statistics 17.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=400)
    >>> value, low, high = jackknife(lambda keep: x[keep].mean(), np.arange(400))
    >>> f"{value:.3f} [{low:.3f}, {high:.3f}]"
    '-0.037 [-0.163, 0.090]'
    """
    from scipy.stats import t

    names, document = np.unique(np.asarray(documents, dtype=str), return_inverse=True)
    if len(names) < blocks:
        raise InputError(f"A jackknife over {blocks} groups needs as many documents; there are {len(names)}.")
    group = np.random.default_rng(seed).permutation(np.arange(len(names)) % blocks)[document]
    value = np.asarray(statistic(np.ones(len(document), dtype=bool)), dtype=float)
    without = np.array([statistic(group != g) for g in range(blocks)])
    error = np.sqrt((blocks - 1) / blocks * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    reach = t.ppf(0.5 + level / 2, blocks - 1) * error
    return Estimate(*(part.item() if part.ndim == 0 else part for part in (value, value - reach, value + reach)))
