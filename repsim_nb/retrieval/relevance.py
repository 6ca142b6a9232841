"""How good lists are where it is known which passages are relevant: nDCG, recall, and the share that was judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError, named_arguments, unknown
from repsim_nb.retrieval.lists import check_kinds, read_k, read_lists, shared_queries

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from repsim_nb.retrieval.lists import Source

SCORES = ("ndcg", "recall", "judged")
GAINS = ("linear", "exponential")
COLUMNS = ("query", "id", "gain")


@named_arguments()
def relevance(
    lists: Source,
    judgements: pd.DataFrame | Mapping[Any, Mapping[Any, float]],
    k: int | Sequence[int] = (1, 3, 10),
    measures: str | Sequence[str] = SCORES,
    *,
    gain: str = "linear",
    queries: str = "same",
) -> xr.Dataset:
    """Score the ranked lists of one model against judgements of relevance, for every query.

    Parameters
    ----------
    lists
        As for `overlap`.
    judgements
        A table with the columns query, id and gain, or a mapping query -> {id: gain}. A gain of 0 is a passage judged
        not relevant; what is not judged counts as 0.
    k
        Depths at which lists are cut; at most the length of the longest list.
    measures
        Some of "ndcg", "recall" and "judged".
    gain
        Of nDCG: "linear" (trec_eval, BEIR, scikit-learn), or "exponential", 2^gain - 1 [2]_.
    queries
        "same": lists and judgements must have the same queries. "common": score those that both have.

    Returns
    -------
    xarray.Dataset
        One variable per measure, query x k, each between 0 and 1. ndcg: sum of gain / log2(1 + rank) over the first k,
        divided by that of the best order of all judged passages [1]_. recall: share of the relevant passages (gain
        above 0) that are among the first k. judged: share of the first k that have a judgement.

    Raises
    ------
    InputError
        As for `overlap`; or a judgement is missing, negative or given twice, a query has no relevant passage, or ids
        of lists and judgements are of different kinds.

    Notes
    -----
    A list with fewer than k ids counts as if nothing relevant followed; judged is the share of the ids that it has.

    How the numbers mislead: they depend on the pool of judgements. A passage that nobody judged counts as not
    relevant, so a model unlike those whose results were judged looks worse than it is: where "judged" differs between
    two models, so may their nDCG for no other reason. Recall at k cannot reach 1 with more than k relevant passages.
    With one relevant passage per query nDCG is a function of its rank alone.

    References
    ----------
    .. [1] Järvelin and Kekäläinen (2002). Cumulated gain-based evaluation of IR techniques. ACM TOIS 20(4):422.
    .. [2] Burges et al. (2005). Learning to rank using gradient descent. ICML.

    Examples
    --------
    >>> scores = relevance({"q": ["d2", "d9", "d1"]}, {"q": {"d1": 2, "d2": 1}}, k=(1, 3))
    >>> scores["ndcg"].values.round(3).tolist(), scores["recall"].values.tolist()
    ([[0.5, 0.76]], [[0.5, 1.0]])
    """
    import xarray as xr

    names = [measures] if isinstance(measures, str) else list(measures)
    for name in names:
        if name not in SCORES:
            raise unknown("measure of relevance", name, SCORES)
    if not names:
        raise InputError(f"measures={measures!r}; expected at least one of {', '.join(SCORES)}.")
    if gain not in GAINS:
        raise unknown("gain", gain, GAINS)
    found, judged = read_lists(lists), read_judgements(judgements)
    check_kinds(found.ids[0][0], next(iter(next(iter(judged.values())))), ("lists", "judgements"))
    both = shared_queries(found.queries, list(judged), ("lists", "judgements"), queries)
    found = found.of(both)
    depths = read_k(k, int(found.lengths.max()))
    rows = [_scores(ids, judged[query], depths, gain) for query, ids in zip(found.queries, found.ids, strict=True)]
    return xr.Dataset(
        {name: (("query", "k"), np.array([row[name] for row in rows])) for name in names},
        coords={"query": found.queries, "k": depths},
        attrs={"gain": gain},
    )


def read_judgements(judgements: pd.DataFrame | Mapping[Any, Mapping[Any, float]]) -> dict[Any, dict[Any, float]]:
    """Read and check judgements: query -> {id: gain}."""
    import pandas as pd

    if isinstance(judgements, pd.DataFrame):
        missing = [column for column in COLUMNS if column not in judgements]
        if missing:
            raise InputError(f"judgements lack the columns {', '.join(missing)}; expected {', '.join(COLUMNS)}.")
        if judgements[list(COLUMNS)].isna().any(axis=None):
            raise InputError("judgements have a missing value.")
        twice = judgements.duplicated(["query", "id"])
        if twice.any():
            line = judgements[twice].iloc[0]
            raise InputError(f"judgements: query {line['query']!r} has {line['id']!r} twice; expected it once.")
        read: dict[Any, dict[Any, float]] = {}
        for query, passage, gain in zip(*(judgements[column].tolist() for column in COLUMNS), strict=True):
            read.setdefault(query, {})[passage] = gain
    elif isinstance(judgements, Mapping) and all(isinstance(each, Mapping) for each in judgements.values()):
        read = {query: dict(each) for query, each in judgements.items()}
    else:
        raise InputError(
            f"judgements is a {type(judgements).__name__}; expected a table with the columns {', '.join(COLUMNS)}, or "
            "a mapping query -> {id: gain}."
        )
    if not read:
        raise InputError("judgements have no queries.")
    for query, gains in read.items():
        _check_gains(query, gains)
    return read


def _scores(ids: np.ndarray, gains: dict[Any, float], depths: np.ndarray, gain: str) -> dict[str, np.ndarray]:
    """Measure -> value at each depth, for one query."""
    reached = np.minimum(depths, len(ids))
    known = np.array([one in gains for one in ids])
    got = np.array([gains.get(one, 0.0) for one in ids], dtype=float)
    best = np.sort(np.array([*gains.values()], dtype=float))[::-1]
    ideal = _discounted(best, gain)[np.minimum(depths, len(best)) - 1]
    return {
        "ndcg": _discounted(got, gain)[reached - 1] / ideal,
        "recall": np.cumsum(got > 0)[reached - 1] / (best > 0).sum(),
        "judged": np.cumsum(known)[reached - 1] / reached,
    }


def _discounted(gains: np.ndarray, gain: str) -> np.ndarray:
    """Discounted cumulative gain at every depth."""
    worth = gains if gain == "linear" else np.exp2(gains) - 1
    return np.cumsum(worth / np.log2(np.arange(2, len(gains) + 2)))


def _check_gains(query: Any, gains: Mapping[Any, float]) -> None:
    for passage, value in gains.items():
        if not isinstance(value, int | float | np.number) or not np.isfinite(value) or value < 0:
            raise InputError(
                f"judgements: the gain of {passage!r} for query {query!r} is {value!r}; expected a number from 0. Set "
                "negative grades to 0."
            )
    if not any(value > 0 for value in gains.values()):
        raise InputError(
            f"judgements: query {query!r} has no relevant passage, so nDCG and recall are undefined. Leave it out."
        )
