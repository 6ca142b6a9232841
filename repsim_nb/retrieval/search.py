"""Exact search: the passages whose embeddings are nearest to that of each query, with memory known beforehand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError, named_arguments, unknown
from repsim_nb.system.memory import limit_bytes, most_rows, readable_size

if TYPE_CHECKING:
    import xarray as xr

METRICS = ("cosine", "dot")
BLOCK = 1024  # passages turned into float64 at a time, and the most queries in a batch
HALF_ULP = 2.0**-24  # of float32, relative
LARGEST = float(np.finfo(np.float32).max)


@named_arguments()
def search(
    queries: Any,
    passages: Any,
    k: int = 10,
    metric: str = "cosine",
    *,
    query_ids: Sequence[Any] | None = None,
    passage_ids: Sequence[Any] | None = None,
    leave_out: Mapping[Any, Collection[Any]] | None = None,
    memory_limit: int | None = None,
) -> xr.Dataset:
    """Find the k passages nearest to each query, exactly.

    Parameters
    ----------
    queries
        Embeddings of the queries, (n_queries, d).
    passages
        Embeddings of the passages by the same model, (n_passages, d).
    k
        Number of passages per query, at most n_passages.
    metric
        "cosine", or "dot" for models that were trained with inner products.
    query_ids, passage_ids
        A unique id for each row; None numbers them from 0.
    leave_out
        Query -> ids of passages that its list must not hold, such as what a user has read already, or the query itself
        where it is a passage. Queries that are not named lose nothing.
    memory_limit
        Most bytes to use beyond the two arrays. None: REPSIM_NB_MEMORY, else half of the available memory. It sets how
        many queries are searched at a time, and does not change the result.

    Returns
    -------
    xarray.Dataset
        `id` and `score` (float32), both query x rank, with ranks from 1 for the nearest. Equal scores are ordered by
        the place of the passage in `passages`. Attributes: metric, n_passages.

    Raises
    ------
    InputError
        An array is not two-dimensional, or has values that are not finite; the widths differ; a row of zeros (cosine);
        k exceeds the number of passages that may be returned; ids repeat; `leave_out` names an id that does not exist;
        or one query at a time needs more than `memory_limit`.

    Notes
    -----
    Products in float32 select candidates with a margin that covers every possible rounding error; the candidates are
    scored in float64 and rounded to float32. So the result depends neither on the size of batches nor on the number of
    threads, and two equal passages always have equal scores. Beyond the result, memory is about 8 bytes x n_passages
    x queries in a batch, 65 bytes x n_passages, and 24 bytes x 1,024 x d.

    How the result misleads: a passage that occurs twice takes two places, so the list covers fewer distinct answers
    than k; remove duplicates from the corpus first. A list of k always has k passages, however far they are: look at
    the scores. Cosines of different models are not comparable.

    Examples
    --------
    >>> found = search([[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [3.0, 0.0], [2.0, 2.0]], k=2)
    >>> found["id"].values.tolist()
    [[1, 0], [0, 2]]
    >>> found["score"].values.astype(float).round(3).tolist()
    [[1.0, 0.707], [0.707, 0.707]]
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    q, p = _rows(queries, "queries"), _rows(passages, "passages")
    if q.shape[1] != p.shape[1]:
        raise InputError(
            f"queries are {q.shape} and passages {p.shape}; expected the same width d. Embed both with one model."
        )
    check_k(k, len(p))
    q_ids, p_ids = unique_ids(query_ids, len(q), "query_ids"), unique_ids(passage_ids, len(p), "passage_ids")
    removed = places_left_out(leave_out, q_ids, p_ids, int(k))
    deepest = int(k) + max(map(len, removed.values()), default=0)
    batch = _batch(len(q), len(p), p.shape[1], deepest, memory_limit)
    q_norms, p_norms = _norms(q, "queries", metric), _norms(p, "passages", metric)
    if metric == "dot" and q_norms.max() * p_norms.max() > LARGEST:
        raise InputError("Inner products of these embeddings exceed float32. Divide both by a constant.")
    place, score = np.empty((len(q), deepest), dtype=np.int64), np.empty((len(q), deepest), dtype=np.float32)
    for start in range(0, len(q), batch):
        here = slice(start, start + batch)
        _search_batch(q[here], p, q_norms[here], p_norms, metric, place[here], score[here])
    for query, gone in removed.items():
        kept = ~np.isin(place[query], gone)
        place[query, :k], score[query, :k] = place[query, kept][:k], score[query, kept][:k]
    return ranked(q_ids, p_ids[place[:, :k]], score[:, :k], metric=metric, n_passages=len(p))


def ranked(queries: np.ndarray, ids: np.ndarray, score: np.ndarray, **attrs: Any) -> xr.Dataset:
    """Label ids and scores, both (queries, k), as `search` returns them."""
    import xarray as xr

    return xr.Dataset(
        {"id": (("query", "rank"), ids), "score": (("query", "rank"), score)},
        coords={"query": queries, "rank": np.arange(1, ids.shape[1] + 1)},
        attrs=attrs,
    )


def places_left_out(
    leave_out: Mapping[Any, Collection[Any]] | None, queries: np.ndarray, passages: np.ndarray, k: int
) -> dict[int, np.ndarray]:
    """Row of a query -> rows of the passages that its list must not hold.

    Raises
    ------
    InputError
        If an id is unknown, the ids of a query are one text, or fewer than k passages are left.
    """
    import pandas as pd

    given = leave_out or {}
    rows, columns = pd.Index(queries), pd.Index(passages)
    removed = {}
    for query, ids in given.items():
        if isinstance(ids, str):
            raise InputError(f"leave_out has {ids!r} for query {query!r}; expected a list of ids.")
        row, gone = rows.get_indexer([query])[0], columns.get_indexer(list(ids))
        if row < 0:
            raise InputError(f"leave_out names the query {query!r}, which is not among the queries.")
        if (gone < 0).any():
            lone = list(ids)[int(np.argmax(gone < 0))]
            raise InputError(f"leave_out has {lone!r} for query {query!r}, which is not among the passages.")
        removed[int(row)] = np.unique(gone)
    left = len(passages) - max(map(len, removed.values()), default=0)
    if k > left:
        raise InputError(f"k={k}, but leave_out leaves a query only {left} of {len(passages)} passages.")
    return removed


def check_k(k: int, n_passages: int) -> None:
    """Raise unless k is a whole number from 1 to the number of passages."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= n_passages:
        raise InputError(f"k={k!r}; expected a whole number from 1 to the number of passages, {n_passages}.")


def _search_batch(
    q: np.ndarray,
    p: np.ndarray,
    q_norms: np.ndarray,
    p_norms: np.ndarray,
    metric: str,
    place: np.ndarray,
    score: np.ndarray,
) -> None:
    """Fill `place` and `score`, (queries, k)."""
    k, width = place.shape[1], q.shape[1]
    # scaled to length 1 at most, a product of float32 is off by less than (d + 4) half ulps
    margin = (2 * (width + 4) + 2) * HALF_ULP
    scale = p_norms if metric == "cosine" else np.full(len(p), p_norms.max() or 1.0)
    unit = (q / np.where(q_norms, q_norms, 1)[:, None]).astype(np.float32)
    rough = np.empty((len(q), len(p)), dtype=np.float32)
    for start in range(0, len(p), BLOCK):
        block = slice(start, start + BLOCK)
        rough[:, block] = unit @ (p[block] / scale[block, None]).astype(np.float32).T
    least = np.partition(rough, len(p) - k, axis=1)[:, len(p) - k] - margin
    for i, query in enumerate(q.astype(np.float64)):
        candidates = np.flatnonzero(rough[i] >= least[i])
        exact = np.concatenate(
            [_products(p[candidates[at : at + BLOCK]], query) for at in range(0, len(candidates), BLOCK)]
        )
        if metric == "cosine":
            exact /= p_norms[candidates] * q_norms[i]
        rounded = exact.astype(np.float32)
        best = np.lexsort((candidates, -rounded))[:k]
        place[i], score[i] = candidates[best], rounded[best]


def _products(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    # a matrix product may sum equal rows in different orders; this does not
    return (rows.astype(np.float64) * query).sum(1)


def least_memory(n_queries: int, n_passages: int, width: int, k: int, rows: int = 1) -> int:
    """Bytes of a search of so many queries at a time, beyond the two arrays."""
    block = min(BLOCK, n_passages)
    # sums of blocks; norms, and candidates if all are; norms of queries; the result
    fixed = 24 * block * width + 65 * n_passages + 8 * n_queries + 20 * n_queries * k
    return fixed + rows * (8 * n_passages + 20 * width + 4 * block + 8)


def _batch(n_queries: int, n_passages: int, width: int, k: int, memory_limit: int | None) -> int:
    """Number of queries searched at a time."""

    def needed(rows: int) -> int:
        return least_memory(n_queries, n_passages, width, k, rows)

    limit = limit_bytes(memory_limit)
    rows = min(n_queries, BLOCK) if limit is None else most_rows(needed, min(n_queries, BLOCK), limit)
    if not rows:
        raise InputError(
            f"Searching {n_passages} passages of width {width} needs {readable_size(needed(1))} for one query at a "
            f"time; the limit is {readable_size(limit or 0)}. Raise memory_limit, or search fewer queries per call."
        )
    return rows


def _rows(values: Any, side: str) -> np.ndarray:
    try:
        x = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{side} cannot be read as an array: {error}. Pass a float array (n, d) on the CPU.") from None
    if x.ndim != 2 or not x.size or x.dtype.kind not in "fiu":
        raise InputError(f"{side} is an array {x.shape} of {x.dtype}; expected numbers, (n, d), with at least one row.")
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _norms(x: np.ndarray, side: str, metric: str) -> np.ndarray:
    """Norm of every row in float64, after checking that it has one."""
    norms = np.empty(len(x))
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK].astype(np.float64)
        with np.errstate(over="ignore"):
            norms[start : start + BLOCK] = np.sqrt((block * block).sum(1))
    bad = np.flatnonzero(~np.isfinite(norms))
    if bad.size:
        raise InputError(
            f"Row {bad[0]} of {side} is not finite ({bad.size} such rows). Look for empty texts or an overflow in half "
            "precision, and embed those again."
        )
    zero = np.flatnonzero(norms == 0)
    if zero.size and metric == "cosine":
        raise InputError(
            f"Row {zero[0]} of {side} is zero ({zero.size} such rows) and has no direction. Leave these rows out; they "
            "often come from empty texts."
        )
    return norms


def unique_ids(given: Sequence[Any] | None, n: int, name: str) -> np.ndarray:
    """An id for each of n rows, checked to be unique; None numbers them from 0."""
    import pandas as pd

    if given is None:
        return np.arange(n)
    ids = pd.Index(given)
    if len(ids) != n:
        raise InputError(f"{name} has {len(ids)} entries for {n} rows; expected one per row.")
    if ids.hasnans or not ids.is_unique:
        what = "a missing value" if ids.hasnans else f"{ids[ids.duplicated()][0]!r} twice"
        raise InputError(f"{name} has {what}; expected a unique id for each row.")
    return ids.to_numpy()
