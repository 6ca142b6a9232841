"""Measures between the n x n (dis)similarity matrices of the rows."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.features import (
    BUFFERS,
    Features,
    block_bytes,
    blocks_of_rows,
    common_direction,
    distance_blocks,
    squared_distances,
    unit_rows,
    upper_triangle,
)
from repsim_nb.measures.registry import EUCLIDEAN, SIMILAR, Measure, register

CHUNK = 2**20  # numbers ranked at a time
Inner = Literal["correlation", "euclidean", "cosine"]


def _similarities(x: Tensor, inner: Inner, side: str) -> np.ndarray:
    """Similarity of every two rows of x: Pearson r, cosine (up to a constant), or minus the euclidean distance."""
    if inner == "euclidean":
        values = upper_triangle(distance_blocks(Features(x, side).varied("rsa").rows(dtype=torch.float64)))
        return np.negative(np.sqrt(values, out=values), out=values)
    if inner == "correlation":
        constant = x.amin(1) == x.amax(1)
        if constant.any():
            raise InputError(
                f"rsa(inner='correlation') is undefined: row {int(constant.nonzero()[0])} of {side} has the same value "
                f"in all its {x.shape[1]} features. Use inner='euclidean' or 'cosine', or drop that row on both sides."
            )
    rows = unit_rows(x, "rsa", side, centred=inner == "correlation")
    common = common_direction(rows)
    if common is None:
        return upper_triangle(_product_blocks(rows))
    values = upper_triangle(distance_blocks(rows.sub_(common)))
    return np.multiply(values, -0.5, out=values)  # r = 1 - |x_i - x_j|^2 / 2


def _product_blocks(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    for start, height in blocks_of_rows(len(rows)):
        yield start, rows[start : start + height] @ rows[start:].T


def to_ranks(values: np.ndarray, chunk: int = CHUNK) -> np.ndarray:
    """Replace values by their ranks from 1, ties by their mean rank; a chunk at a time to save memory.

    >>> to_ranks(np.array([5.0, 2.0, 5.0, 9.0]))
    array([2.5, 1. , 2.5, 4. ])
    """
    order = np.argsort(values)
    start, size = 0, chunk
    while start < len(order):
        ordered = values[order[start : start + size]]
        first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        whole = start + size >= len(order)
        if not whole and len(first) == 1:
            size *= 2  # all equal, and perhaps more follow
            continue
        ends = np.append(first[1:], len(ordered)) if whole else first[1:]
        first = first[: len(ends)]
        values[order[start : start + ends[-1]]] = np.repeat(start + (first + ends + 1) / 2, ends - first)
        start, size = start + int(ends[-1]), chunk
    return values


@register
class RSA(Measure):
    """Representational similarity analysis: how far x and y agree on which pairs of rows are close.

    Parameters
    ----------
    inner
        How alike two rows of one representation are: "correlation" (Pearson r), "euclidean" (minus the distance) or
        "cosine". Whether S or 1 - S is used makes no difference.
    outer
        How the two sides are compared: "spearman", "pearson" or "kendall" (tau-b).

    Raises
    ------
    InputError
        Fewer than 3 rows; a row with no variance (correlation) or of zeros (cosine); all pairs equally alike.

    Notes
    -----
        corr(S_x, S_y) over pairs i < j,   S_ij how alike rows i and j of one representation are

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [-1, 1]; 1 = the same order of
    all pairs, or with outer="pearson" the same proportions.

    How the number misleads: with outer="spearman" or "kendall" only the order of pairs counts, so distances may be
    stretched at will, and most pairs are of unrelated rows whose order is noise. The n (n - 1) / 2 pairs share n rows:
    they are not independent, and a p-value from their number is far too small. With inner="correlation" the value
    depends on the axes, and one massive feature can decide every r. Rows in clusters, such as tokens of documents,
    raise it: any model puts pairs within a document closer.

    References
    ----------
    .. [1] Kriegeskorte, Mur and Bandettini (2008). Representational similarity analysis: connecting the branches of
       systems neuroscience. Frontiers in Systems Neuroscience 2.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x, y = [[0.0], [1.0], [3.0], [7.0]], [[0.0], [1.0], [2.0], [7.0]]
    >>> round(get_measure("rsa", inner="euclidean")(x, y), 6)
    0.985611
    """

    name = "rsa"
    title = "Representational similarity analysis (RSA)"
    direction = "similarity"
    bounds = (-1.0, 1.0)
    min_rows = 3
    cost = "n^2 d + n^2 log n"
    reference = "Kriegeskorte et al. 2008"

    inner: Inner = "correlation"
    outer: Literal["spearman", "pearson", "kendall"] = "spearman"

    def __post_init__(self) -> None:
        super().__post_init__()
        rotations = frozenset({"permutation", "orthogonal", "scale"})
        kept = {"correlation": rotations - {"orthogonal"}, "cosine": rotations, "euclidean": SIMILAR}[self.inner]
        self.invariances_x = self.invariances_y = kept

    def _kept_bytes(self, n: int, d: int) -> int:
        return 4 * n * (n - 1)

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        pairs = n * (n - 1) // 2
        ranked = {"spearman": 8 * pairs + 48 * min(CHUNK, pairs), "pearson": 0, "kendall": 49 * pairs}[self.outer]
        return max(8 * n * max(widths) + 4 * block_bytes(n), ranked) + BUFFERS

    def _prepare(self, x: Tensor, side: str) -> np.ndarray:
        values = _similarities(x, self.inner, side)
        low, high = values.min(), values.max()
        if high - low <= 1e-12 * max(abs(low), abs(high)):
            raise InputError(f"rsa is undefined: all pairs of rows of {side} are equally alike. Give more varied rows.")
        if self.outer == "kendall":
            return values
        if self.outer == "spearman":
            values = to_ranks(values)
        values -= values.mean()
        return np.divide(values, np.linalg.norm(values), out=values)

    def _score(self, p: np.ndarray, q: np.ndarray) -> float:
        return float(kendalltau(p, q).statistic if self.outer == "kendall" else p @ q)


@register
class RSMNormDifference(Measure):
    """Difference between the euclidean distance matrices of x and y.

    Notes
    -----
        sqrt(sum_{i<j} (|x_i - x_j| - |y_i - y_j|)^2)

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A metric in [0, inf), in the units of the data;
    0 = the same up to rotation and shift.

    How the number misleads: it grows with n and with the scale of the data, so a layer that is merely larger is far
    away. Large distances dominate: a few rows far from all others decide it.

    Some public code takes the spectral norm of the difference matrix instead, by accident; this is the norm over the
    upper triangle.

    References
    ----------
    .. [1] Yin and Shen (2018). On the dimensionality of word embedding. NeurIPS.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> get_measure("rsm_norm_difference")([[0.0], [1.0]], [[0.0], [3.0]])
    2.0
    """

    name = "rsm_norm_difference"
    title = "Difference of distance matrices"
    direction = "dissimilarity"
    bounds = (0.0, math.inf)
    metric = True
    cost = "n^2 d"
    reference = "Yin & Shen 2018"
    invariances_x = invariances_y = EUCLIDEAN

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return _distance_bytes(n, widths)

    def _prepare(self, x: Tensor, side: str) -> Features:
        return Features(x, side)

    def _score(self, p: Features, q: Features) -> float:
        return self._grid([p], [q])[0, 0]

    def _grid(self, ps: Sequence[Features], qs: Sequence[Features]) -> np.ndarray:
        distinct, at_p, at_q = _distinct(ps, qs)
        units = np.array([f.unit if f.varies else 0.0 for f in distinct])
        # use the larger unit of each pair, so that squares do not overflow
        larger = np.maximum.outer(units, units)
        share = np.divide(units[:, None], larger, out=np.zeros_like(larger), where=larger > 0)
        cells = {(min(i, j), max(i, j)) for i in at_p for j in at_q if i != j}
        total = np.zeros_like(larger)
        for _, distances in _distances(distinct):
            for i, j in cells:
                gap = torch.sub(distances[i] * share[i, j], distances[j], alpha=share[j, i])
                total[i, j] += gap.square_().triu_(1).sum().item()
        values = larger * np.sqrt(total + total.T)
        return values[np.ix_(at_p, at_q)]


def _distance_bytes(n: int, widths: Sequence[int]) -> int:
    """Working memory of `_distances` for layers of these widths."""
    return 8 * n * max(widths) + (len(widths) + 2) * block_bytes(n, len(widths)) + BUFFERS // 2


def _distinct(ps: Sequence[Any], qs: Sequence[Any]) -> tuple[list[Any], list[int], list[int]]:
    """The distinct objects of both lists, and the place of each among them."""
    distinct = list({id(p): p for p in [*ps, *qs]}.values())
    place = {id(p): k for k, p in enumerate(distinct)}
    return distinct, [place[id(p)] for p in ps], [place[id(q)] for q in qs]


def _distances(layers: Sequence[Features]) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield the first row of a block and, for every layer, distances of the block's rows to those from there on.

    Each block overwrites the last.
    """
    n, x = layers[0].n, layers[0].x
    work = x.new_empty(n * max(f.d for f in layers), dtype=torch.float64)
    *outs, sums = x.new_empty(len(layers) + 1, block_bytes(n, len(layers)) // 8, dtype=torch.float64)
    for start, height in blocks_of_rows(n, len(layers)):
        rows = (f.rows(start, out=work[: (n - start) * f.d].view(n - start, f.d)) for f in layers)
        blocks = zip(rows, outs, strict=True)
        yield start, [squared_distances(left, height, (out, sums)).sqrt_() for left, out in blocks]


@register
class DistanceCorrelation(Measure):
    """Distance correlation of x and y.

    Raises
    ------
    InputError
        No variance.

    Notes
    -----
        sqrt(<A, B> / (|A| |B|)),   A and B the doubly centred euclidean distance matrices

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [0, 1]; 1 = the same up to
    rotation, isotropic scale and shift.

    How the number misleads: this is the V-statistic. Like biased CKA it is above 0 for unrelated data and tends to 1
    for any data as features outnumber rows (a DegenerateWarning when rows are not more than features). Being a square
    root, it looks high: 0.3 is a squared correlation of 0.09. Rows far from all others dominate the distances.

    References
    ----------
    .. [1] Székely, Rizzo and Bakirov (2007). Measuring and testing dependence by correlation of distances. Annals of
       Statistics 35. Definition 3.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x, y = [[0.0], [1.0], [3.0], [7.0]], [[0.0], [1.0], [2.0], [7.0]]
    >>> round(get_measure("distance_correlation")(x, y), 6)
    0.986042
    """

    name = "distance_correlation"
    title = "Distance correlation"
    direction = "similarity"
    bounds = (0.0, 1.0)
    cost = "n^2 d"
    reference = "Székely et al. 2007"
    invariances_x = invariances_y = SIMILAR
    needs_rows = frozenset({"x", "y"})

    def _kept_bytes(self, n: int, d: int) -> int:
        return 8 * n

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return _distance_bytes(n, widths) + 2 * block_bytes(n)  # of `_prepare`, which malloc may keep

    def _prepare(self, x: Tensor, side: str) -> tuple[Features, Tensor]:
        """The features, and the mean distance of every row to all rows."""
        features = Features(x, side).varied(self.name)
        means = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for start, (block,) in _distances([features]):
            stop = start + len(block)
            means[start:stop] += block.sum(1)
            means[stop:] += block[:, stop - start :].sum(0)
        return features, means / len(x)

    def _score(self, p: tuple[Features, Tensor], q: tuple[Features, Tensor]) -> float:
        return self._grid([p], [q])[0, 0]

    def _grid(self, ps: Sequence[tuple[Features, Tensor]], qs: Sequence[tuple[Features, Tensor]]) -> np.ndarray:
        distinct, at_p, at_q = _distinct(ps, qs)
        means = [mean for _, mean in distinct]
        total = np.zeros((len(distinct), len(distinct)))
        for start, blocks in _distances([features for features, _ in distinct]):
            stop = start + len(blocks[0])
            for block, mean in zip(blocks, means, strict=True):
                block.sub_(mean[start:] - mean.mean()).sub_(mean[start:stop, None])
            for i, one in enumerate(blocks):
                for j, other in enumerate(blocks[i:], i):
                    # what is right of the square on the diagonal counts twice, for its mirror image
                    square = one[:, : len(one)].flatten() @ other[:, : len(one)].flatten()
                    total[i, j] += (2 * one.flatten().dot(other.flatten()) - square).item()
        alone = total.diagonal()
        total = np.triu(total) + np.triu(total, 1).T
        return np.sqrt(np.maximum(0, total / np.sqrt(np.outer(alone, alone))))[np.ix_(at_p, at_q)]
