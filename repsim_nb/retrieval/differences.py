"""The queries on which two models differ most, with what each returned."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError, named_arguments, unknown
from repsim_nb.retrieval.lists import read_lists

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from repsim_nb.retrieval.lists import Source


@named_arguments()
def most_different(
    scores: xr.Dataset,
    a: Source,
    b: Source,
    n: int = 5,
    *,
    measure: str | None = None,
    k: int | None = None,
) -> pd.DataFrame:
    """List the queries on which two models agree least, side by side with what each returned.

    Parameters
    ----------
    scores
        What `overlap` returned for these lists.
    a, b
        The lists, as given to `overlap`.
    n
        Number of queries.
    measure
        The measure that decides; None is the first of `scores`.
    k
        The depth that decides, and to which lists are shown; None is the largest of `scores`.

    Returns
    -------
    pandas.DataFrame
        Indexed by query (least agreement first; equal ones in the order of `scores`) and rank from 1 to k. Columns:
        agreement, of the query; a and b, the ids at this rank; rank_in_b, of a's id in the whole list of b, and
        rank_in_a, of b's id in that of a. Missing (`<NA>`) where a list has ended or does not have the id.

    Raises
    ------
    InputError
        The measure or k is not in `scores`, n is not between 1 and the number of queries, or a query of `scores` is
        not in the lists.

    Notes
    -----
    How the table misleads: these are the extremes of many queries, chosen because they differ. They show how models
    differ where they do, not how much they differ in general. An id without a rank on the other side may stand just
    below the end of that list.

    Examples
    --------
    >>> from repsim_nb.retrieval import overlap
    >>> a, b = {"q1": [4, 8], "q2": [5, 2]}, {"q1": [8, 4], "q2": [2, 7]}
    >>> table = most_different(overlap(a, b, k=2, measures="overlap"), a, b, n=1)
    >>> table.loc["q2"].astype(object).where(table.loc["q2"].notna(), None).to_dict("records")
    [{'agreement': 0.5, 'a': 5, 'b': 2, 'rank_in_b': None, 'rank_in_a': 2}, \
{'agreement': 0.5, 'a': 2, 'b': 7, 'rank_in_b': 1, 'rank_in_a': None}]
    """
    import pandas as pd

    names, depths = [str(name) for name in scores.data_vars], scores["k"].values.tolist()
    measure = names[0] if measure is None else measure
    k = max(depths) if k is None else k
    if measure not in names:
        raise unknown("measure of these scores", measure, names)
    if k not in depths:
        raise InputError(f"k={k!r} is not in these scores; expected one of {', '.join(map(str, depths))}.")
    agreement = scores[measure].sel(k=k).values
    queries = scores["query"].values.tolist()
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= len(queries):
        raise InputError(f"n={n!r}; expected a whole number from 1 to the number of queries, {len(queries)}.")
    first, second = read_lists(a, "a"), read_lists(b, "b")
    for name, lists in (("a", first), ("b", second)):
        lacking = set(queries) - set(lists.queries)
        if lacking:
            raise InputError(f"{name} lacks {len(lacking)} queries of the scores, such as {min(lacking, key=str)!r}.")
    first, second = first.of(queries), second.of(queries)
    lines: list[list[Any]] = []
    for i in np.argsort(agreement, kind="stable")[:n]:
        lines += _side_by_side(queries[i], float(agreement[i]), list(first.ids[i]), list(second.ids[i]), k)
    columns = ["query", "rank", "agreement", "a", "b", "rank_in_b", "rank_in_a"]
    ranks = {"rank_in_b": "Int64", "rank_in_a": "Int64"}
    return pd.DataFrame(lines, columns=columns).astype(ranks).set_index(["query", "rank"])


def _side_by_side(query: Any, agreement: float, a: list[Any], b: list[Any], k: int) -> list[list[Any]]:
    import pandas as pd

    in_a, in_b = ({one: rank for rank, one in enumerate(ids, 1)} for ids in (a, b))
    return [
        [query, rank, agreement, one, other, in_b.get(one, pd.NA), in_a.get(other, pd.NA)]
        for rank, (one, other) in enumerate(zip_longest(a[:k], b[:k], fillvalue=pd.NA), 1)
    ]
