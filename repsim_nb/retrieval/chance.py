"""What two lists have in common if both are drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import named_arguments
from repsim_nb.retrieval.agreement import MEASURES, measure_names, persistence
from repsim_nb.retrieval.lists import read_k

if TYPE_CHECKING:
    import pandas as pd


@named_arguments()
def chance(
    n_passages: int,
    k: int | Sequence[int] = (1, 3, 10),
    measures: str | Sequence[str] = tuple(MEASURES),
    *,
    p: float = 0.9,
) -> pd.Series:
    """Compute the agreement to expect of two lists of k drawn at random from the same passages.

    Parameters
    ----------
    n_passages
        Number of passages in the corpus.
    k, measures, p
        As in `overlap`.

    Returns
    -------
    pandas.Series
        Expected values, indexed by measure and k.

    Raises
    ------
    InputError
        If k exceeds the number of passages, or a measure is unknown.

    Notes
    -----
    With k of N passages on both sides the number of common items is hypergeometric, and given it every pair of ranks
    is as likely as any other. The expected overlap is k / N.

    How it misleads: it is the floor of models that know nothing of the passages either. Any two models agree more than
    that on what is asked at random, because some passages are near everything; `exchange_test` has that floor.

    Examples
    --------
    >>> chance(100, (1, 10, 100), "overlap").tolist()
    [0.01, 0.1, 1.0]
    """
    import pandas as pd

    names, depths, p = measure_names(measures), read_k(k, n_passages), persistence(p)
    values = {(name, depth): _expected(name, depth, n_passages, p) for name in names for depth in depths.tolist()}
    return pd.Series([*values.values()], index=pd.MultiIndex.from_tuples([*values], names=["measure", "k"]))


def _expected(name: str, k: int, n: int, p: float) -> float:
    from scipy.stats import hypergeom

    depths = np.arange(1, k + 1)
    if name == "rank_biased_overlap":  # linear in the numbers of common items, d^2 / n down to depth d
        return float((1 - p) / p * (p**depths * depths / n).sum() + p**k * k / n)
    common = np.arange(k + 1)
    share = hypergeom(n, k, k).pmf(common)
    if name == "overlap":
        return k / n
    if name == "jaccard":
        return float(share @ (common / (2 * k - common)))
    r, s = depths[:, None], depths[None]
    weight = (2 / ((1 + np.abs(r - s)) * (r + s))).mean()
    harmonic = np.concatenate([[1.0], np.cumsum(1 / depths)])
    return float(share @ (common * weight / harmonic))
