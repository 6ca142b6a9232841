"""Measures of whether rows have the same neighbours in both representations."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.sparse import csr_array
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.constraints import Count
from repsim_nb.measures.features import BUFFERS, Features, common_direction, squared_lengths, unit_rows
from repsim_nb.measures.registry import SIMILAR, Measure, register

BLOCK = 256  # rows of a block of neighbours
GATHERED = 32  # rows whose neighbours are copied at once


@dataclass
class Neighbours:
    """The k nearest other rows of every row, nearest first: indices and nearness (n, k), and the rows themselves."""

    indices: Tensor
    nearness: Tensor
    rows: Tensor
    start: int = 0  # of the block of rows whose neighbours these are

    def block(self, start: int) -> "Neighbours":
        """The neighbours of BLOCK rows."""
        cut = slice(start, start + BLOCK)
        return Neighbours(self.indices[cut], self.nearness[cut], self.rows, start)


def nearest(rows: Tensor, k: int) -> Neighbours:
    """Neighbours by euclidean distance."""
    return _search(rows, k, squared_lengths(rows) / 2)


def nearest_directions(rows: Tensor, k: int) -> Neighbours:
    """Neighbours by cosine, of rows of norm 1."""
    common = common_direction(rows)
    if common is None:
        return _search(rows, k, torch.zeros_like(rows[:, 0]))
    indices = nearest(rows - common, k).indices
    nearness = rows.new_empty(indices.shape)
    for i, at in enumerate(indices.split(BLOCK)):
        nearness[i * BLOCK : (i + 1) * BLOCK] = inner_products(rows, at, i * BLOCK)
    return Neighbours(indices, nearness, rows)


def _search(rows: Tensor, k: int, penalty: Tensor) -> Neighbours:
    # allocate what stays first: small tensors in between would keep malloc from reusing the memory of blocks
    indices = torch.empty(len(rows), k, dtype=torch.int64, device=rows.device)
    nearness = rows.new_empty(len(rows), k)
    products = rows.new_empty(min(BLOCK, len(rows)), len(rows))
    for start in range(0, len(rows), BLOCK):
        cut = slice(start, start + BLOCK)
        near = torch.mm(rows[cut], rows.T, out=products[: len(rows[cut])]).sub_(penalty)
        near.diagonal(start).fill_(-math.inf)
        torch.topk(near, k, out=(nearness[cut], indices[cut]))
    return Neighbours(indices, nearness, rows)


def inner_products(rows: Tensor, at: Tensor, start: int) -> Tensor:
    """Inner products of each row from `start` on with the rows listed for it in `at`."""
    products = rows.new_empty(at.shape)
    own = rows[start : start + len(at), :, None]
    for near, one, out in zip(at.split(GATHERED), own.split(GATHERED), products.split(GATHERED), strict=True):
        out.copy_((rows[near] @ one)[..., 0])
    return products


class _Neighbourhood(Measure):
    """Base class of measures averaged over rows; `_of_rows` gives one value per row."""

    direction = "similarity"
    bounds = (0.0, 1.0)
    cost = "n^2 d"
    invariances_x = invariances_y = frozenset({"permutation", "orthogonal", "scale"})

    k: Count = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self.min_rows = self.k + 2  # with k = n - 1 every row is a neighbour of every other

    def _prepare(self, x: Tensor, side: str) -> Neighbours:
        return nearest_directions(unit_rows(x, self.name, side), self.k)

    def _kept_bytes(self, n: int, d: int) -> int:
        return 8 * n * d + 16 * n * self.k

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return max(8 * BLOCK * n, 8 * BLOCK * self.k**2) + 16 * n * self.k + BUFFERS // 2

    def _score(self, p: Neighbours, q: Neighbours) -> float:
        values = p.rows.new_empty(len(p.indices), dtype=self._of_rows(p.block(0), q.block(0)).dtype)
        for start in range(0, len(values), BLOCK):
            values[start : start + BLOCK] = self._of_rows(p.block(start), q.block(start))
        return values.mean().item()

    def _of_rows(self, p: Neighbours, q: Neighbours) -> Tensor:
        raise NotImplementedError


def shared(p: Neighbours, q: Neighbours) -> Tensor:
    """Whether the r-th neighbour in x is the s-th in y, (n, k, k)."""
    return p.indices[:, :, None] == q.indices[:, None, :]


def jaccard_of_rows(same: Tensor) -> Tensor:
    """Intersection over union of the two neighbourhoods of every row."""
    common = same.sum((1, 2))
    return common / (2 * same.shape[1] - common).double()


def rank_similarity_of_rows(same: Tensor) -> Tensor:
    """Similarity of the ranks of common neighbours; 0 for rows without any."""
    k = same.shape[1]
    rank = torch.arange(1, k + 1, device=same.device, dtype=torch.float64)
    weight = 2 / ((1 + (rank[:, None] - rank).abs()) * (rank[:, None] + rank))
    harmonic = torch.cat([rank.new_ones(1), (1 / rank).cumsum(0)])  # first entry: no common neighbour, sum 0
    return (same * weight).sum((1, 2)) / harmonic[same.sum((1, 2))]


@register
class Jaccard(_Neighbourhood):
    """Overlap of the k nearest neighbours in x and y.

    Parameters
    ----------
    k
        Number of nearest neighbours of each row, at least 1.
    metric
        "cosine" or "euclidean": the distance that decides which rows are near.

    Raises
    ------
    InputError
        Fewer than k + 2 rows; a row of zeros (cosine).

    Notes
    -----
        mean_i |N_x(i) and N_y(i)| / |N_x(i) or N_y(i)|

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [0, 1]; 1 = every row has the
    same neighbours, about k / (2n) for unrelated data. A row is never its own neighbour, even if another row equals it.

    How the number misleads: The value depends on k and n: compare only values with the same of both. With more rows,
    neighbourhoods become finer and the value of the same two models falls. Only the set of neighbours counts, so any
    change at larger distances goes unseen. Tokens of one document are often each other's neighbours in any model, which
    raises the value.

    References
    ----------
    .. [1] Schumacher, Wolf, Ritzert, Lemmerich, Grohe and Strohmaier (2021). The effects of randomness on the stability
       of node embeddings. ECML PKDD workshops.
    .. [2] Wang et al. (2020). Towards understanding the instability of network embedding. IEEE TKDE.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x, y = [[0.0], [1.0], [3.0], [7.0]], [[0.0], [1.0], [8.0], [7.0]]
    >>> get_measure("jaccard", k=1, metric="euclidean")(x, y)
    0.75
    """

    name = "jaccard"
    title = "Jaccard overlap of nearest neighbours"
    reference = "Schumacher et al. 2021"

    metric: Literal["cosine", "euclidean"] = "cosine"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        # elsewhere `metric` says whether a measure is one, so keep the parameter under another name
        self.distance, self.metric = self.metric, False  # type: ignore[assignment]
        super().__post_init__()
        if self.distance == "euclidean":
            self.invariances_x = self.invariances_y = SIMILAR

    @property
    def params(self) -> dict[str, object]:
        """The parameters and their values."""
        return {"k": self.k, "metric": self.distance}

    def _prepare(self, x: Tensor, side: str) -> Neighbours:
        if self.distance == "cosine":
            return super()._prepare(x, side)
        return nearest(Features(x, side).rows(dtype=torch.float64), self.k)

    def _of_rows(self, p: Neighbours, q: Neighbours) -> Tensor:
        return jaccard_of_rows(shared(p, q))


@register
class MutualKNN(_Neighbourhood):
    """Share of the k nearest neighbours (by cosine) that x and y have in common.

    Parameters
    ----------
    k
        Number of nearest neighbours of each row, at least 1.

    Raises
    ------
    InputError
        Fewer than k + 2 rows; a row of zeros, which has no direction.

    Notes
    -----
        mean_i |N_x(i) and N_y(i)| / k

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [0, 1]; 1 = every row has the
    same neighbours, k / (n - 1) on average for unrelated data.

    How the number misleads: The value depends on k and n: compare only values with the same of both. For the same two
    models it falls as n grows and rises with k. A low value means different nearest neighbours, not a different global
    geometry. Tokens of one document are often each other's neighbours in any model, which raises the value.

    References
    ----------
    .. [1] Huh, Cheung, Wang and Isola (2024). The Platonic representation hypothesis. ICML. Appendix A.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]
    >>> get_measure("mutual_knn", k=1)(x, [x[0], x[2], x[1], x[3]])
    0.0
    """

    name = "mutual_knn"
    title = "Mutual nearest neighbours"
    reference = "Huh et al. 2024"

    def _of_rows(self, p: Neighbours, q: Neighbours) -> Tensor:
        return shared(p, q).sum((1, 2)) / float(self.k)


@register
class RankSimilarity(_Neighbourhood):
    """Whether the neighbours (by cosine) that x and y have in common are equally near in both.

    Parameters
    ----------
    k
        Number of nearest neighbours of each row, at least 1.

    Raises
    ------
    InputError
        Fewer than k + 2 rows; a row of zeros, which has no direction.

    Notes
    -----
        mean_i (1 / H_m) sum_j 2 / ((1 + |r_ij - s_ij|) (r_ij + s_ij)),   H_m = 1 + 1/2 + ... + 1/m

    The sum is over the m of the k nearest neighbours j of row i that both sides have in common; r and s are their ranks
    from 1 in x and y. x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [0, 1]; 1 =
    common neighbours in the same order. Rows without common neighbours count as 0.

    How the number misleads: it does not say how many neighbours are shared. A row with a single common neighbour, first
    on both sides, counts as 1. Ranks among nearly equal cosines are noise. The value depends on k and n: compare only
    values with the same of both.

    References
    ----------
    .. [1] Wang et al. (2020). Towards understanding the instability of network embedding. IEEE TKDE.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [1.0, 1.0]]
    >>> get_measure("rank_similarity", k=2)(x, x)
    1.0
    """

    name = "rank_similarity"
    title = "Rank similarity of common neighbours"
    reference = "Wang et al. 2020"

    def _of_rows(self, p: Neighbours, q: Neighbours) -> Tensor:
        return rank_similarity_of_rows(shared(p, q))


@register
class JointRankJaccard(_Neighbourhood):
    """Neighbour overlap times rank similarity, averaged over rows: the same neighbours in the same order.

    Parameters
    ----------
    k
        Number of nearest neighbours of each row, at least 1.

    Raises
    ------
    InputError
        Fewer than k + 2 rows; a row of zeros, which has no direction.

    Notes
    -----
    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [0, 1] with neighbours by
    cosine, the row-by-row product of `jaccard` and `rank_similarity`.

    How the number misleads: a low value does not tell whether other rows are near, or the same rows in another order;
    look at the two factors. Being a product of two shares, it is far below either. The value depends on k and n:
    compare only values with the same of both.

    References
    ----------
    .. [1] Wang et al. (2020). Towards understanding the instability of network embedding. IEEE TKDE.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [1.0, 1.0]]
    >>> get_measure("joint_rank_jaccard", k=2)(x, x)
    1.0
    """

    name = "joint_rank_jaccard"
    title = "Neighbour overlap times rank similarity"
    reference = "Wang et al. 2020"

    def _of_rows(self, p: Neighbours, q: Neighbours) -> Tensor:
        same = shared(p, q)
        return jaccard_of_rows(same) * rank_similarity_of_rows(same)


@register
class SecondOrderCosine(_Neighbourhood):
    """Whether rows are equally similar to their neighbours in x and y.

    Parameters
    ----------
    k
        Number of nearest neighbours of each row, at least 1.

    Raises
    ------
    InputError
        Fewer than k + 2 rows; a row of zeros; a row that is orthogonal to all its neighbours.

    Notes
    -----
        mean_i cos(s_i, t_i),   s_i, t_i the cosines of row i with each of N_x(i) or N_y(i), in x and in y

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [-1, 1]; 1 = the same
    similarities up to one factor per row.

    How the number misleads: where rows lie in a narrow cone about their mean, as those of language models often do, all
    cosines are near 1, so s and t are nearly constant and the value is near 1 for any data. Compare it with its null,
    or remove the mean or leading components first (remove_components in `compare`).

    Some public code takes 1 - cosine for s and t; all entries are then near 1 and unrelated data gives 0.9.

    References
    ----------
    .. [1] Hamilton, Leskovec and Jurafsky (2016). Cultural shift or linguistic drift? Comparing two computational
       measures of semantic change. EMNLP. Section 3.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [1.0, 1.0]]
    >>> round(get_measure("second_order_cosine", k=2)(x, x), 6)
    1.0
    """

    name = "second_order_cosine"
    title = "Second-order cosine similarity"
    bounds = (-1.0, 1.0)
    reference = "Hamilton et al. 2016"

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return max(super()._work_bytes(n, widths, wide), 16 * GATHERED * self.k * max(widths))

    def _of_rows(self, p: Neighbours, q: Neighbours) -> Tensor:
        # a neighbour on both sides must count once, so drop it from y's list
        both = torch.cat([p.indices, q.indices], dim=1)
        counts = torch.cat([torch.ones_like(p.indices, dtype=torch.bool), ~shared(p, q).any(1)], dim=1)
        s, t = (inner_products(n.rows, both, n.start) * counts for n in (p, q))
        cosines = (s * t).sum(1) / (s.norm(dim=1) * t.norm(dim=1))
        if cosines.isnan().any():
            row = p.start + int(cosines.isnan().nonzero()[0])
            raise InputError(
                f"second_order_cosine is undefined: row {row} is orthogonal to all its neighbours on one side. Use a "
                "larger k, or drop that row on both sides."
            )
        return cosines


@register
class CKNNA(_Neighbourhood):
    """CKA of x and y over the pairs of rows that are near in both.

    Parameters
    ----------
    k
        Number of nearest neighbours of each row, at least 1.

    Raises
    ------
    InputError
        Fewer than k + 2 rows; a row of zeros; a self term that is not positive, as with orthogonal rows.

    Notes
    -----
        HSIC(K o M, L o M) / sqrt(HSIC(K o M_x, K o M_x) HSIC(L o M_y, L o M_y)),   M = M_x o M_y

    K and L are the inner products of rows of unit norm; M_x,ij = 1 where j is among the k nearest neighbours of i in x;
    HSIC is the unbiased estimator in its form for matrices that are not symmetric. x is (n, d_x) and y is (n, d_y); row
    i of both is the same stimulus. A similarity; 1 = the same, and about 0, of the order of k / n, for unrelated data.

    How the number misleads: it is mostly the share of common neighbours (`mutual_knn`), weighted by how near they are,
    so it depends on k and n in the same way. It can leave [0, 1], and as K o M is directed, swapping x and y changes it
    slightly.

    The original adds 1e-6 to the denominator; this does not.

    References
    ----------
    .. [1] Huh, Cheung, Wang and Isola (2024). The Platonic representation hypothesis. ICML. Equation 15.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [-1.0, 1.0], [-1.0, 0.9]]
    >>> round(get_measure("cknna", k=1)(x, x), 6)
    1.0
    """

    name = "cknna"
    title = "Nearest-neighbour kernel alignment (CKNNA)"
    bounds = (-math.inf, math.inf)
    symmetric = False
    reference = "Huh et al. 2024"

    def _score(self, p: Neighbours, q: Neighbours) -> float:
        row, r, s = shared(p, q).nonzero(as_tuple=True)
        n = len(p.indices)
        common = (_sparse(row, m.indices[row, rank], m.nearness[row, rank], n) for m, rank in ((p, r), (q, s)))
        return _directed_hsic(*common) / math.sqrt(_self_hsic(p, self.k) * _self_hsic(q, self.k))

    def _dissimilarity(self, p: Neighbours, q: Neighbours) -> float:
        return abs(1 - self._score(p, q))


def _sparse(row: Tensor, column: Tensor, value: Tensor, n: int) -> csr_array:
    return csr_array((value.numpy(force=True), (row.numpy(force=True), column.numpy(force=True))), shape=(n, n))


def _directed_hsic(k: csr_array, l: csr_array) -> float:  # noqa: E741
    """Unbiased HSIC of two matrices with zero diagonal, not necessarily symmetric."""
    n = k.shape[0]
    trace, chained = (k * l.T).sum(), k.sum(0) @ l.sum(1)
    return float(trace + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * chained / (n - 2)) / (n * (n - 3))


def _self_hsic(neighbours: Neighbours, k: int) -> float:
    n = len(neighbours.indices)
    row = torch.arange(n, device=neighbours.indices.device).repeat_interleave(k)
    matrix = _sparse(row, neighbours.indices.flatten(), neighbours.nearness.flatten(), n)
    hsic = _directed_hsic(matrix, matrix)
    if hsic <= 0:
        raise InputError(
            f"cknna is undefined: with k={k} and {n} rows a self term is {hsic:.2g}, so neighbours are no nearer than "
            "other rows. Use another k, or check whether rows are orthogonal."
        )
    return hsic
