"""Agreement of the lists of two models, query by query and depth by depth, and its null of exchanged queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError, named_arguments, unknown
from repsim_nb.retrieval.lists import RankedLists, read_k, read_lists, read_pair

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from repsim_nb.retrieval.lists import Source

ROUNDING = 1e-12
HIGH = 0.95  # quantile of null_high


@dataclass(frozen=True)
class CommonItems:
    """The items that the lists of a query have in common, for many queries at once.

    Attributes
    ----------
    row, rank_a, rank_b
        The place of the query and both ranks from 1, one entry per common item.
    length_a, length_b
        Number of items in the lists of each query.
    persistence
        p of rank-biased overlap.
    """

    row: np.ndarray
    rank_a: np.ndarray
    rank_b: np.ndarray
    length_a: np.ndarray
    length_b: np.ndarray
    persistence: float

    def down_to(self, k: int) -> CommonItems:
        """The same for lists cut after rank k."""
        kept = self.depth <= k
        return CommonItems(
            self.row[kept],
            self.rank_a[kept],
            self.rank_b[kept],
            np.minimum(self.length_a, k),
            np.minimum(self.length_b, k),
            self.persistence,
        )

    @property
    def depth(self) -> np.ndarray:
        """Depth from which on an item is in both lists."""
        return np.maximum(self.rank_a, self.rank_b)

    def per_query(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Number of common items, or the sum of their weights, of each query."""
        return np.bincount(self.row, weights, minlength=len(self.length_a))


def _overlap(items: CommonItems) -> np.ndarray:
    return items.per_query() / np.maximum(items.length_a, items.length_b)


def _jaccard(items: CommonItems) -> np.ndarray:
    common = items.per_query()
    return common / (items.length_a + items.length_b - common)


def _rank_similarity(items: CommonItems) -> np.ndarray:
    r, s = items.rank_a, items.rank_b
    common = items.per_query()
    harmonic = np.cumsum(1 / np.arange(1, max(common.max(), 1) + 1))
    return items.per_query(2 / ((1 + np.abs(r - s)) * (r + s))) / harmonic[np.maximum(common, 1) - 1]


def _rank_biased_overlap(items: CommonItems) -> np.ndarray:
    """Equation 32 of Webber et al., its sums over depths taken item by item; equal lengths make it equation 30."""
    p = items.persistence
    short, long = np.minimum(items.length_a, items.length_b), np.maximum(items.length_a, items.length_b)
    depths = np.arange(1, long.max() + 1)
    powers = np.concatenate([[0.0], np.cumsum(p**depths)])  # up to and with each depth
    shares = np.concatenate([[0.0], np.cumsum(p**depths / depths)])
    found, found_short = items.per_query(), items.per_query(items.depth <= short[items.row])
    seen = items.per_query(shares[long[items.row]] - shares[items.depth - 1])
    unseen = found_short * ((powers[long] - powers[short]) / short - (shares[long] - shares[short]))
    beyond = ((found - found_short) / long + found_short / short) * p**long
    return (1 - p) / p * (seen + unseen) + beyond


MEASURES: dict[str, Callable[[CommonItems], np.ndarray]] = {
    "overlap": _overlap,
    "jaccard": _jaccard,
    "rank_similarity": _rank_similarity,
    "rank_biased_overlap": _rank_biased_overlap,
}
TITLES = {
    "overlap": "Overlap of the top k",
    "jaccard": "Jaccard similarity of the top k",
    "rank_similarity": "Rank similarity of common items in the top k",
    "rank_biased_overlap": "Rank-biased overlap of the top k, extrapolated",
}


@named_arguments()
def overlap(
    a: Source,
    b: Source,
    k: int | Sequence[int] = (1, 3, 10),
    measures: str | Sequence[str] = tuple(MEASURES),
    *,
    p: float = 0.9,
    queries: str = "same",
) -> xr.Dataset:
    """Compute how much the ranked lists of two models agree, for every query.

    Parameters
    ----------
    a, b
        What `search` returned for each model; or a table with the columns query, rank (from 1) and id; or a mapping
        query -> ids from the best down. Queries are matched by their ids.
    k
        Depths at which lists are cut; at most the length of the longest list.
    measures
        Some of "overlap", "jaccard", "rank_similarity" and "rank_biased_overlap".
    p
        Persistence of rank-biased overlap, between 0 and 1: the probability that a reader of rank d goes on to d + 1.
    queries
        "same": both must have the same queries. "common": compare those that both have.

    Returns
    -------
    xarray.Dataset
        One variable per measure, query x k, each between 0 (nothing in common) and 1 (the same list). The coordinates
        length_a and length_b are the lengths of the lists before they are cut. Attributes: p, and left_out, the number
        of queries that only one side has.

    Raises
    ------
    InputError
        A list is empty or has an id twice; ids are text on one side and numbers on the other; the queries differ; k
        exceeds the longest list; a measure is unknown; or p is not between 0 and 1.

    Notes
    -----
    Let A and B be the lists of a query cut after rank k, and r and s the ranks of an item from 1.

    - overlap: `|A and B| / max(|A|, |B|)`, which is the share of k where both lists reach k.
    - jaccard: `|A and B| / |A or B|` [1]_.
    - rank_similarity: `(1 / H_m) sum 2 / ((1 + |r - s|) (r + s))` over the m common items, with H_m = 1 + 1/2 + ... +
      1/m [1]_; 0 without common items.
    - rank_biased_overlap: `(1 - p) / p sum_d p^d X_d / d + p^k X_k / k` with X_d the number of common items down to
      depth d (equation 30 of [2]_, RBO_ext). It assumes that the agreement at depth k holds below it. For lists of
      different lengths it is equation 32, which assumes that the shorter list would have gone on with the agreement at
      its end.

    A list with fewer than k items counts with the items that it has.

    How the numbers mislead: at small k there are few values (Jaccard is 0, 1/5, 1/2 or 1 at k = 3), so one query says
    little and the mean over queries is uncertain; see `summary`. Overlap grows with k towards 1 at the size of the
    corpus for any two models; see `exchange_test`. Passages that occur twice in the corpus under different ids make
    equal answers count as different. rank_similarity does not say how much is shared: one common item, first on both
    sides, gives 1. rank_biased_overlap depends on p: with p = 0.9 the first ten ranks have 86% of the weight, so
    differences further down hardly count, and at small k most of it is extrapolated from X_k / k. Agreement is not
    quality: two models that both fail can agree; see `relevance`.

    References
    ----------
    .. [1] Caspari, Dastidar, Zerhoudi, Mitrović and Granitzer (2024). Beyond benchmarks: evaluating embedding model
       similarity for retrieval augmented generation. IR-RAG at SIGIR.
    .. [2] Webber, Moffat and Zobel (2010). A similarity measure for indefinite rankings. ACM TOIS 28(4):20.

    Examples
    --------
    >>> a, b = {"q1": [4, 8, 1], "q2": [5, 2, 3]}, {"q2": [7, 6, 9], "q1": [4, 1, 8]}
    >>> result = overlap(a, b, k=(1, 2, 3))
    >>> result["jaccard"].sel(query="q1").values.round(3).tolist()
    [1.0, 0.333, 1.0]
    >>> result["rank_biased_overlap"].sel(k=3).values.round(3).tolist()
    [0.955, 0.0]
    """
    import xarray as xr

    first, second = read_pair(a, b, queries)
    depths, names = _cut_offs(k, first, second), measure_names(measures)
    values = agreement_of(first, second, depths, names, p)
    out = xr.Dataset(
        {name: (("query", "k"), values[name], {"long_name": TITLES[name]}) for name in names},
        coords={
            "query": first.queries,
            "k": depths,
            "length_a": ("query", first.lengths),
            "length_b": ("query", second.lengths),
        },
    )
    left_out = 0 if queries == "same" else _left_out(a, b, first.queries)
    out.attrs = {"p": p, "left_out": left_out}
    return out


@named_arguments()
def exchange_test(
    a: Source,
    b: Source,
    k: int | Sequence[int] = (1, 3, 10),
    measures: str | Sequence[str] = tuple(MEASURES),
    *,
    p: float = 0.9,
    queries: str = "same",
    n_permutations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether two models agree more on the same query than on different queries.

    Parameters
    ----------
    a, b, k, measures, p, queries
        As in `overlap`.
    n_permutations
        Number of random permutations of b's queries.
    seed
        Seed of the permutations.

    Returns
    -------
    pandas.DataFrame
        Indexed by measure and k. Columns: mean, over queries; null_mean, the mean agreement of a's list of one query
        with b's list of another; null_high, the 95% quantile of the mean under permutation; and p_value, one-sided, at
        least 1 / (n_permutations + 1), of each line by itself.

    Raises
    ------
    InputError
        As for `overlap`; or there are fewer than two queries.

    Notes
    -----
    null_mean is the floor: what two models agree on whatever is asked, as they do on popular items, on passages that
    are near everything, and at k near the size of the corpus. Report agreement next to it.

    How the test misleads: a small p-value says only that the lists depend on the query in both models in a similar
    way, which holds for any two that work at all. It does not say that they agree well. Queries about one topic have
    similar lists, which raises the floor.

    Examples
    --------
    >>> a = {q: [q, q + 1, q + 2] for q in range(20)}
    >>> table = exchange_test(a, a, k=3, measures="overlap", n_permutations=99)
    >>> table.round(3).to_dict("records")
    [{'mean': 1.0, 'null_mean': 0.103, 'null_high': 0.283, 'p_value': 0.01}]
    """
    import pandas as pd

    first, second = read_pair(a, b, queries)
    depths, names = _cut_offs(k, first, second), measure_names(measures)
    n = len(first.queries)
    if n < 2:
        raise InputError("There is one query; expected at least two to exchange.")
    if isinstance(n_permutations, bool) or not isinstance(n_permutations, int) or n_permutations < 1:
        raise InputError(f"n_permutations={n_permutations!r}; expected a whole number from 1.")
    match = _Match(first, second, persistence(p))
    mean = _table(_scores(match.common(), depths, names)).mean(1)
    null, others, n_others = np.empty((n_permutations, *mean.shape)), np.zeros_like(mean), 0
    rng = np.random.default_rng(seed)
    for i in range(n_permutations):
        order = rng.permutation(n)
        scores = _table(_scores(match.common(order), depths, names))
        null[i] = scores.mean(1)
        moved = order != np.arange(n)
        others += scores[:, moved].sum(1)
        n_others += int(moved.sum())
    if not n_others:
        raise InputError(f"No permutation exchanged a query: n_permutations={n_permutations} is too small.")
    return pd.DataFrame(
        {
            "mean": mean.ravel(),
            "null_mean": (others / n_others).ravel(),
            "null_high": np.quantile(null, HIGH, axis=0, method="higher").ravel(),
            "p_value": ((1 + (null >= mean - ROUNDING).sum(0)) / (1 + n_permutations)).ravel(),
        },
        index=pd.MultiIndex.from_product([names, depths.tolist()], names=["measure", "k"]),
    )


class _Match:
    """Finds the items that lists of a and b have in common, for any pairing of queries."""

    def __init__(self, a: RankedLists, b: RankedLists, persistence: float) -> None:
        import pandas as pd

        self.lengths, self.persistence = (a.lengths, b.lengths), persistence
        flat = np.concatenate([*a.ids, *b.ids])
        codes, items = pd.factorize(flat)
        self.n_items = len(items)
        n_a = self.lengths[0].sum()
        self.row, self.rank = _places(self.lengths[0])
        self.code = codes[:n_a]
        row_b, rank_b = _places(self.lengths[1])
        keys = row_b * self.n_items + codes[n_a:]
        order = np.argsort(keys)
        self.keys, self.rank_b = keys[order], rank_b[order]

    def common(self, order: np.ndarray | None = None) -> CommonItems:
        """Common items of a's query i and b's query order[i]."""
        length_a, length_b = self.lengths
        order = np.arange(len(length_a)) if order is None else order
        wanted = order[self.row] * self.n_items + self.code
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        hit = self.keys[place] == wanted
        return CommonItems(
            self.row[hit], self.rank[hit], self.rank_b[place[hit]], length_a, length_b[order], self.persistence
        )


def agreement_of(
    a: RankedLists, b: RankedLists, depths: np.ndarray, names: Sequence[str], p: float
) -> dict[str, np.ndarray]:
    """Measure -> agreement (queries, depths) of lists that are read and aligned."""
    return _scores(_Match(a, b, persistence(p)).common(), depths, names)


def _places(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and rank of every entry of lists of these lengths."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    start = np.cumsum(lengths) - lengths
    return row, np.arange(len(row)) - start[row] + 1


def _scores(items: CommonItems, depths: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Measure -> (queries, depths)."""
    cut = [items.down_to(depth) for depth in depths.tolist()]
    return {name: np.stack([MEASURES[name](each) for each in cut], axis=1) for name in names}


def _table(scores: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([*scores.values()])  # measure x query x k


def _cut_offs(k: int | Sequence[int], a: RankedLists, b: RankedLists) -> np.ndarray:
    return read_k(k, int(max(a.lengths.max(), b.lengths.max())))


def measure_names(given: str | Sequence[str]) -> list[str]:
    """Names of measures as a list, checked."""
    names = [given] if isinstance(given, str) else list(given)
    if not names or len(set(names)) < len(names):
        raise InputError(f"measures={given!r}; expected at least one, each once: {', '.join(MEASURES)}.")
    for name in names:
        if name not in MEASURES:
            raise unknown("measure of lists", name, MEASURES)
    return names


def persistence(p: float) -> float:
    """p of rank-biased overlap, checked."""
    if isinstance(p, bool) or not isinstance(p, float | int) or not 0 < p < 1:
        raise InputError(f"p={p!r}; expected a number between 0 and 1, such as 0.9.")
    return float(p)


def _left_out(a: Source, b: Source, both: Sequence[object]) -> int:
    return len({*read_lists(a).queries} | {*read_lists(b).queries}) - len(both)
