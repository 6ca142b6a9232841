"""Ranked lists of ids by query, from a search or from elsewhere, checked and aligned."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

COLUMNS = ("query", "rank", "id")
WHICH = ("same", "common")


@dataclass(frozen=True)
class RankedLists:
    """What one model returned: for each query, ids from the best down.

    Attributes
    ----------
    queries
        Ids of the queries.
    ids
        One array of ids per query.
    """

    queries: list[Any]
    ids: list[np.ndarray]

    @property
    def lengths(self) -> np.ndarray:
        """Number of ids of each query."""
        return np.array([len(ids) for ids in self.ids])

    def of(self, queries: Sequence[Any]) -> RankedLists:
        """The lists of some queries, in the order given."""
        place = {query: i for i, query in enumerate(self.queries)}
        return RankedLists(list(queries), [self.ids[place[query]] for query in queries])

    def down_to(self, k: int) -> RankedLists:
        """The lists cut after rank k."""
        return RankedLists(self.queries, [ids[:k] for ids in self.ids])


if TYPE_CHECKING:
    Source = RankedLists | xr.Dataset | pd.DataFrame | Mapping[Any, Sequence[Any]]


def read_lists(source: Source, name: str = "lists") -> RankedLists:
    """Read ranked lists and check them.

    Parameters
    ----------
    source
        What `search` returned; a table with the columns query, rank (from 1) and id, in any order of rows; or a
        mapping query -> ids from the best down.
    name
        How messages call it.

    Raises
    ------
    InputError
        It is none of these, has no queries, or a list is empty, has an id twice, a missing id, or ranks that are not
        1, 2, 3, ...; or ids are partly text and partly numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"query": ["q", "q"], "rank": [2, 1], "id": ["d3", "d7"]})
    >>> read_lists(table).ids[0].tolist()
    ['d7', 'd3']
    >>> read_lists({"q": ["d7", "d7"]})
    Traceback (most recent call last):
        ...
    repsim_nb.errors.InputError: lists: query 'q' has 'd7' twice; expected each id once per query. Keep its best rank.
    """
    lists = _parts(source, name)
    if not lists.queries:
        raise InputError(f"{name} has no queries.")
    for query, ids in zip(lists.queries, lists.ids, strict=True):
        _check_list(query, ids, name)
    if len({isinstance(one, str) for ids in lists.ids for one in ids}) > 1:
        raise InputError(f"{name}: some ids are text and some are not. Make all of them text, or all numbers.")
    return lists


def read_pair(a: Source, b: Source, queries: str = "same") -> tuple[RankedLists, RankedLists]:
    """Read the lists of two models and align them by query, in the order of a.

    Raises
    ------
    InputError
        As for `read_lists`; ids of one are text and of the other numbers; a query is in only one of them, unless
        `queries` is "common"; or no query is in both.
    """
    return aligned_pair(read_lists(a, "a"), read_lists(b, "b"), ("a", "b"), queries)


def aligned_pair(
    a: RankedLists, b: RankedLists, names: tuple[str, str], queries: str
) -> tuple[RankedLists, RankedLists]:
    """The same for lists that are read; `names` is how messages call them."""
    check_kinds(a.ids[0][0], b.ids[0][0], names)
    both = shared_queries(a.queries, b.queries, names, queries)
    return a.of(both), b.of(both)


def shared_queries(a: Collection[Any], b: Collection[Any], names: tuple[str, str], which: str) -> list[Any]:
    """Queries of both, in the order of a; unless `which` is "common" the two must have the same."""
    if which not in WHICH:
        raise InputError(f'queries={which!r}; expected "same" or "common".')
    in_a, in_b = set(a), set(b)
    if which == "same" and in_a != in_b:
        here, there = names if in_a - in_b else names[::-1]
        lone = next(query for query in (a if in_a - in_b else b) if query not in (in_b if in_a - in_b else in_a))
        raise InputError(
            f"{len(in_a ^ in_b)} queries are not in both: {lone!r} is in {here} but not in {there}. Give both the same "
            'queries, or queries="common" for those of both.'
        )
    both = [query for query in a if query in in_b]
    if not both:
        raise InputError(f"{names[0]} and {names[1]} have no query in common. Give both the same ids of queries.")
    return both


def read_k(k: int | Sequence[int], longest: int) -> np.ndarray:
    """Check the cut-offs; `longest` is the number of ids in the longest list."""
    given = list(k) if isinstance(k, Iterable) else [k]
    if not given or any(isinstance(one, bool) or not isinstance(one, int | np.integer) or one < 1 for one in given):
        raise InputError(f"k={k!r}; expected whole numbers from 1, such as (1, 3, 10).")
    if len(set(given)) < len(given):
        raise InputError(f"k={k!r} has a value twice; expected each once.")
    if max(given) > longest:
        raise InputError(f"k={max(given)}, but no list has more than {longest} ids. Use a smaller k, or longer lists.")
    return np.array(given, dtype=np.int64)


def check_kinds(one: Any, other: Any, names: tuple[str, str]) -> None:
    """Raise if the ids of one side are text and those of the other are not, so that none would match."""
    if isinstance(one, str) != isinstance(other, str):
        raise InputError(
            f"ids in {names[0]} are like {one!r} and in {names[1]} like {other!r}, so none would match. Give both the "
            "same ids."
        )


def _check_list(query: Any, ids: np.ndarray, name: str) -> None:
    import pandas as pd

    if not len(ids):
        raise InputError(f"{name}: the list of query {query!r} is empty. Leave the query out.")
    if pd.isna(ids).any():
        raise InputError(f"{name}: query {query!r} has a missing id.")
    twice = pd.Index(ids).duplicated()
    if twice.any():
        raise InputError(
            f"{name}: query {query!r} has {ids[twice][0]!r} twice; expected each id once per query. Keep its best rank."
        )


def _parts(source: Any, name: str) -> RankedLists:
    import pandas as pd
    import xarray as xr

    if isinstance(source, RankedLists):
        return source
    if isinstance(source, xr.Dataset) and "id" in source and set(source["id"].dims) == {"query", "rank"}:
        ids = source["id"].transpose("query", "rank").values
        queries = source["query"].values.tolist()
        _check_queries(queries, name)
        return RankedLists(queries, [_objects(row) for row in ids.tolist()])
    if isinstance(source, pd.DataFrame):
        return _of_table(source, name)
    if isinstance(source, Mapping) and not isinstance(source, xr.Dataset):
        for query, ids in source.items():
            if isinstance(ids, str) or not isinstance(ids, Iterable):
                raise InputError(f"{name}: query {query!r} has {ids!r}; expected a list of ids.")
        return RankedLists(list(source), [_objects(list(ids)) for ids in source.values()])
    raise InputError(
        f"{name} is a {type(source).__name__}; expected what `search` returned, a table with the columns "
        f"{', '.join(COLUMNS)}, or a mapping query -> ids."
    )


def _of_table(table: pd.DataFrame, name: str) -> RankedLists:
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise InputError(
            f"{name} has the columns {', '.join(map(str, table.columns))}; {', '.join(missing)} missing. Expected "
            f"{', '.join(COLUMNS)}, one row per id."
        )
    if table["query"].isna().any() or table["rank"].isna().any():
        raise InputError(f"{name}: a query or a rank is missing.")
    queries, lists = [], []
    for query, part in table.groupby("query", sort=False, observed=True):
        ranks = sorted(part["rank"].tolist())
        if ranks != list(range(1, len(part) + 1)):
            raise InputError(
                f"{name}: query {query!r} has the ranks {', '.join(map(str, ranks[:5]))}...; expected 1, 2, 3, ... "
                "without gaps or ties."
            )
        queries.append(query)
        lists.append(_objects(part.sort_values("rank")["id"].tolist()))
    return RankedLists(queries, lists)


def _check_queries(queries: list[Any], name: str) -> None:
    if len(set(queries)) < len(queries):
        raise InputError(f"{name}: a query occurs twice; expected each once.")


def _objects(ids: list[Any]) -> np.ndarray:
    # an array of objects keeps 1 and "1" apart, and ids that are tuples whole
    out = np.empty(len(ids), dtype=object)
    out[:] = ids
    return out
