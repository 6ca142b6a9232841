"""Inner products of Gram matrices, with some pairs of rows left out and means removed.

All variants of HSIC here are one construction. Keep the pairs (i, j) that count: all (biased), i != j (debiased), or
rows of different groups. Project a Gram K, on those pairs, onto the complement of all a_i + a_j. The inner product of
two projected Grams is

    <K, L>_kept - 2 a'(L 1)_kept,   where a solves  sum_kept,j (K_ij - a_i - a_j) = 0 for every i.

For all pairs this is double centring and gives Gretton's HSIC; for i != j it is the U-centring of Szekely and Rizzo
(2014) and gives the unbiased HSIC1 of Song et al. (2012); for groups it has zero expectation whenever rows of
different groups are independent and x is independent of y, however rows of one group depend on each other.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.features import (
    ALIGNED,
    SLACK,
    TILE_BYTES,
    TILE_ROWS,
    Features,
    block_bytes,
    distance_blocks,
    pairwise,
    squared_lengths,
    squared_norm,
    upper_blocks,
)
from repsim_nb.measures.moments import Moments, PrecisionError

Kernel = Literal["linear", "rbf"]
WIDTH = 256  # columns of a block of a symmetric product
BINS = 2**12
TINY = 1e-200
GATHERED = 2**20  # distances sorted at once
INNER = 2048  # features multiplied at a time: with all of them the product itself is slower
TILE = (256, 512)  # rows and columns of all Gram matrices held at a time; each tile centres its rows again
LARGE_TILES = (1024, 512)  # sides of square tiles, for layers so wide that a tile of each takes at most half of them
STRIP = 256  # rows of a tile on the diagonal that are multiplied at a time, with what is right of them


class Groups:
    """Which rows belong together; pairs within a group do not count."""

    def __init__(self, labels: Any, n: int) -> None:
        values, codes = np.unique(np.asarray(labels), return_inverse=True)
        if codes.shape != (n,):
            raise InputError(f"groups has shape {codes.shape}, expected one label for each of the {n} rows.")
        if len(values) < 4:
            raise InputError(f"groups has {len(values)} different labels; at least 4 are needed. Leave groups out.")
        self.n, self.codes = n, torch.from_numpy(codes)
        self.sizes = torch.bincount(self.codes).double()

    @cached_property
    def members(self) -> list[Tensor]:
        """Rows of each group."""
        return list(self.codes.argsort(stable=True).split(self.sizes.int().tolist()))

    def sums(self, v: Tensor) -> Tensor:
        """Sum of v over each group."""
        return torch.zeros(len(self.sizes), dtype=v.dtype, device=v.device).index_add_(0, self.codes.to(v.device), v)

    def offsets(self, row_sums: Tensor) -> Tensor:
        """The vector a of the module's docstring: (n - n_g) a_i + S - S_g = r_i, S_g the sum of a over i's group."""
        sizes, sums = self.sizes.to(row_sums.device), self.sums(row_sums)
        gap = self.n - 2 * sizes
        # the largest group may hold half of all rows (gap 0), so solve for the others first
        last = int(sizes.argmax())
        others = torch.arange(len(sizes), device=sizes.device) != last
        known, slope = (sums / gap)[others].sum(), (sizes / gap)[others].sum()
        total = (sums[last] + gap[last] * known) / (gap[last] * (1 + slope) + sizes[last])
        of_group = torch.where(others, (sums - sizes * total) / torch.where(others, gap, 1.0), 0.0)
        of_group[last] = total - of_group.sum()
        codes = self.codes.to(row_sums.device)
        return (row_sums - total + of_group[codes]) / (self.n - sizes[codes])


@dataclass
class Gram:
    """The Gram matrix of one representation. It is never stored: its rows are computed when needed."""

    features: Features
    kernel: Kernel
    debiased: bool
    groups: Groups | None = None
    bandwidth: float = 1.0

    def __post_init__(self) -> None:
        if self.kernel == "rbf":  # in float32, distances as differences of squares are too imprecise for exp
            self.features = self.features.doubled

    @property
    def n(self) -> int:
        """Rows."""
        return self.features.n

    @property
    def unit(self) -> float:
        """The square root of the unit of K's entries, as a linear kernel is computed from scaled features."""
        return self.features.unit if self.kernel == "linear" else 1.0

    @cached_property
    def doubled(self) -> "Gram":
        """The same Gram matrix in float64."""
        return replace(self, features=self.features.doubled)

    def rows(self, start: int, stop: int) -> Tensor:
        """K[start:stop, start:]; the lower triangle is its mirror image."""
        right = self.features.rows(start)
        product = right[: stop - start] @ right.T
        if self.kernel == "linear":
            return product
        squares = self.features.squared_rows[start:]
        return self._decayed(product, squares[: stop - start], squares)

    def fill(self, out: Tensor, rows: slice, columns: slice, work: Tensor) -> None:
        """Write K[rows, columns] to `out`; `work` has room for INNER features of both."""
        height, width = out.shape
        for start in range(0, self.features.d, INNER):
            part = slice(start, min(start + INNER, self.features.d))
            room = work[: (height + width) * (part.stop - start)].view(height + width, -1)
            right = left = self.features.rows(columns.start, columns.stop, out=room[:width], columns=part)
            if rows != columns:
                left = self.features.rows(rows.start, rows.stop, out=room[width:], columns=part)
            if rows == columns:
                _add_symmetric(out, right, beta=min(start, 1))
            else:
                out.addmm_(left, right.T, beta=min(start, 1))
        if rows == columns:
            _mirror(out)
        if self.kernel == "rbf":
            self._decayed(out, self.features.squared_rows[rows], self.features.squared_rows[columns])

    def _decayed(self, products: Tensor, squares: Tensor, others: Tensor) -> Tensor:
        """Inner products of rows turned into the RBF kernel, in place; `squares` are the rows' squared norms."""
        distances = products.mul_(-2).add_(squares[:, None]).add_(others)
        return distances.clamp_(min=0).div_(-2 * self.variance).exp_()

    @cached_property
    def variance(self) -> float:
        """s^2 of the RBF kernel: bandwidth^2 times the median squared distance of two different rows."""
        median = median_distance(self.features.rows(dtype=torch.float64))
        if median == 0:
            raise InputError(
                f"{self.features.side}: more than half of all pairs of rows are equal, so their median distance, the "
                "unit of bandwidth, is 0. Drop duplicate rows or use kernel='linear'."
            )
        return float(self.bandwidth**2 * median)

    @cached_property
    def left_out(self) -> Tensor:
        """The entries of K that do not count, in one vector: the diagonal, or the blocks of groups."""
        if not self.debiased:
            return torch.zeros(1, dtype=torch.float64, device=self.features.x.device)
        if self.groups is None:
            return self._diagonal
        return torch.cat([block.flatten() for block in self._blocks])

    @cached_property
    def row_sums(self) -> Tensor:
        """Sum of each row of K over the pairs that count."""
        if self.kernel == "linear":  # rows are centred, so whole rows sum to 0
            total = torch.zeros(self.n, dtype=torch.float64, device=self.features.x.device)
        else:
            total = self._whole_rows
        if not self.debiased:
            return total
        if self.groups is None:
            return total - self._diagonal
        for members, block in zip(self.groups.members, self._blocks, strict=True):
            total[members] -= block.sum(1)
        return total

    @cached_property
    def offsets(self) -> Tensor:
        """The vector a of the module's docstring."""
        if self.groups is not None:
            return self.groups.offsets(self.row_sums)
        out = 1 if self.debiased else 0  # entries left out of each row
        mean = self.row_sums.sum() / (2 * (self.n - out))
        return (self.row_sums - mean) / (self.n - 2 * out)

    @property
    def _diagonal(self) -> Tensor:
        squares = self.features.squared_rows
        return squares if self.kernel == "linear" else torch.ones_like(squares)

    @property
    def _whole_rows(self) -> Tensor:
        total = torch.zeros(self.n, dtype=torch.float64, device=self.features.x.device)
        for start in range(0, self.n, WIDTH):
            block = self.rows(start, start + WIDTH)
            total[start : start + WIDTH] += block.sum(1)
            total[start + WIDTH :] += block[:, WIDTH:].sum(0)
        return total

    @cached_property
    def _blocks(self) -> list[Tensor]:
        assert self.groups is not None
        rows = self.features.rows(dtype=torch.float64)
        blocks = []
        for members in self.groups.members:
            block = rows[members]
            if self.kernel == "linear":
                blocks.append(block @ block.T)
            else:
                blocks.append(torch.exp(torch.cdist(block, block).square() / (-2 * self.variance)))
        return blocks

    @cached_property
    def energy(self) -> float:
        """<K, K> over all pairs, from features; the Gram route sets it from what it computes anyway."""
        return _self_product(self.features)

    def correction(self, other: "Gram") -> float:
        """What to subtract from <K, L> for the pairs left out and the means."""
        return (self.left_out @ other.left_out + 2 * self.offsets @ other.row_sums).item()


def median_distance(rows: Tensor) -> float:
    """Median squared distance of two different rows, of centred rows in float64; exact, without storing all distances.

    Counts in bins narrow down where the middle distances are.
    """
    pairs = len(rows) * (len(rows) - 1) // 2
    middle = np.array([(pairs - 1) // 2, pairs // 2])
    low, high, inside = 0.0, 5 * squared_lengths(rows).max().item(), pairs
    wider = math.inf
    while inside > GATHERED and high - low < wider / 2 and high - low > 4 * BINS * np.spacing(high) and high > TINY:
        wider = high - low
        below, counts, width = 0, np.zeros(BINS + 1, dtype=int), (high - low) / BINS
        for values in _distances(rows):
            below += int(np.count_nonzero(values < low))
            values = values[(values >= low) & (values <= high)]
            counts += np.bincount(((values - low) / width).astype(int), minlength=BINS + 1)
        first, last = np.searchsorted(below + counts.cumsum(), middle, side="right")
        first, last = max(first - 1, 0), last + 2  # one more on each side, for rounding
        low, high, inside = low + first * width, low + last * width, counts[first:last].sum()
    below, tallies = 0, []
    for values in _distances(rows):
        below += int(np.count_nonzero(values < low))
        values = values[(values >= low) & (values <= high)]
        tallies.append(np.unique(values, return_counts=True) if inside > GATHERED else (values, values[:0]))
    values, counts = (np.concatenate(parts) for parts in zip(*tallies, strict=True))
    if not len(counts):
        values.sort()
        return float(values[middle - below].mean())
    order = values.argsort()  # there are many distances but few different ones
    found = np.searchsorted(below + counts[order].cumsum(), middle, side="right")
    return float(values[order][found].mean())


def product_bytes(n: int, wide_x: int, wide_y: int, widest: int, after: int = 0) -> int:
    """Most working memory, in bytes, for X_i'Y_j of layers of these total widths, float32; `after` is used on each."""
    most = max(math.isqrt(TILE_BYTES // 4), widest)
    left, right = min(wide_x, most), min(wide_y, most)
    return 4 * left * right + max(4 * min(n, TILE_ROWS) * (left + right), after) + 8 * widest**2 + SLACK


def work_bytes(n: int, widths: Sequence[int], wide_x: int, wide_y: int, kernel: Kernel = "linear") -> int:
    """Most working memory, in bytes, of `kept_products` for layers of these widths; `wide_x`, `wide_y` are totals."""
    size, wide = (4 if kernel == "linear" else 8), max(widths)
    if kernel == "linear" and not gram_route_is_cheaper(n, widths, wide_x * wide_y):
        return product_bytes(n, wide_x, wide_y, wide)
    total = tile_bytes(n, widths, size) + SLACK
    if kernel == "rbf":
        whole = 8 * n * (wide + 2 * min(n, WIDTH))
        total = max(total, whole, 8 * n * wide + 4 * block_bytes(n) + 16 * min(GATHERED, n * n // 2))
    return total


def tile_bytes(n: int, widths: Sequence[int], size: int) -> int:
    """What one tile of the Gram matrices takes, and the rows it is made of; numbers of `size` bytes."""
    height, width = tile_sides(n, max(widths))
    return size * (len(widths) * (height * width + n) + (height + width) * min(max(widths), INNER))


def tile_sides(n: int, widest: int) -> tuple[int, int]:
    """Rows and columns of a tile for n rows and layers of up to `widest` features."""
    square = next((side for side in LARGE_TILES if 2 * side * side <= n * widest), None)
    height, width = TILE if square is None else (square, square)
    return min(n, height), min(n, width)


def _distances(rows: Tensor) -> Iterator[np.ndarray]:
    """Squared distances of different rows, in parts."""
    for _, block in distance_blocks(rows):
        yield block[torch.ones_like(block, dtype=torch.bool).triu_(1)].numpy(force=True)


def kept_products(ps: Sequence[Gram], qs: Sequence[Gram]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """<K_i, L_j>, <K_i, K_i> and <L_j, L_j>, projected as described at the top of this module."""
    cross = _whole_products(ps, qs)
    trusted_ps, trusted_qs, self_p, self_q = kept_selves(ps, qs)
    if trusted_ps is not ps:
        cross = _whole_products(trusted_ps, trusted_qs)
    cross -= [[p.correction(q) for q in trusted_qs] for p in trusted_ps]
    return cross, self_p, self_q


def kept_selves(
    ps: Sequence[Gram], qs: Sequence[Gram]
) -> tuple[Sequence[Gram], Sequence[Gram], np.ndarray, np.ndarray]:
    """The Grams used, and their <K_i, K_i> and <L_j, L_j>, projected.

    Debiasing can cancel nearly all of <K, K>, for example when one row is far from all others. float32 is not enough
    then, and all Grams returned are in float64.
    """
    single = ps[0].features.x.dtype is torch.float32
    selves = []
    for side in (ps, qs):
        energies = np.array([g.energy for g in side])
        kept = energies - [g.correction(g) for g in side]
        lost = _lost(kept, energies, single)
        if lost.any() and single:
            return kept_selves([p.doubled for p in ps], [q.doubled for q in qs])
        if lost.any():
            raise _vanished(side[int(lost.argmax())].features.side)
        selves.append(kept)
    return ps, qs, selves[0], selves[1]


def kept_products_of_moments(
    moments: Moments, debiased: bool, measure: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `kept_products` gives for linear kernels of the rows in `moments`; `measure` is a name for messages."""
    xs, ys = moments.layers()
    layers = [layer.varied(measure) for layer in (xs if ys is xs else [*xs, *ys])]
    n, whole = moments.n, pairwise(xs, ys, squared_norm)
    energies = np.array([squared_norm(layer.second) for layer in layers])
    if not debiased:
        corrections = np.zeros((len(energies), len(energies)))
    else:
        # with p_i = |x_i|^2 the row sums of K are -p_i, so these sums are all that `Gram.correction` needs
        *_, quartic = moments.moved(-moments.sums / n)
        squares = np.array([layer.norm**2 for layer in layers])
        corrections = (n * quartic.numpy() - np.outer(squares, squares) / (n - 1)) / (n - 2)
    single = moments.dtype is torch.float32
    lost = _lost(kept := energies - corrections.diagonal(), energies, single)
    if lost.any() and single:
        raise PrecisionError(
            f"HSIC of {moments.name(int(lost.argmax()))} with itself is lost in the rounding of float32 products, "
            "for example because one row is far from all others. Use accumulator(..., dtype=torch.float64)."
        )
    if lost.any():
        raise _vanished(moments.name(int(lost.argmax())))
    a, b = (list(side) for side in moments.sides)
    return whole - corrections[np.ix_(a, b)], kept[a], kept[b]


def _lost(kept: np.ndarray, energies: np.ndarray, single: bool) -> np.ndarray:
    """Where cancellation left too few digits of float32 or float64 products."""
    return kept < (0.02 if single else 1e-9) * energies  # keeps errors under ROUNDING in the registry


def _vanished(side: str) -> InputError:
    return InputError(
        f"HSIC of {side} with itself is 0 to rounding: hardly any pair of rows that counts differs from the rest. "
        "Check for rows that are far from all others or all alike, or use debiased=False."
    )


def _whole_products(ps: Sequence[Gram], qs: Sequence[Gram]) -> np.ndarray:
    """<K_i, L_j> over all pairs, by the cheaper route."""
    distinct = list({id(g): g for g in [*ps, *qs]}.values())
    widths = [g.features.d for g in distinct]
    products = sum(p.features.d for p in ps) * sum(q.features.d for q in qs)
    if ps[0].kernel == "linear" and not gram_route_is_cheaper(ps[0].n, widths, products):
        return pairwise([p.features for p in ps], [q.features for q in qs], squared_norm)
    whole = _gram_products(distinct)
    place = {id(g): k for k, g in enumerate(distinct)}
    for g, value in zip(distinct, whole.diagonal(), strict=True):
        g.energy = float(value)
    return whole[np.ix_([place[id(p)] for p in ps], [place[id(q)] for q in qs])]


def gram_route_is_cheaper(n: int, widths: Sequence[int], products: int) -> bool:
    """Whether Grams of representations of these widths cost less than X_i'Y_j with `products` entries in all.

    Tiles on the diagonal are computed whole and rows are centred again for every tile, as if there were more rows.
    """
    grams = n * (n + 2 * TILE[0]) * (sum(widths) + len(widths) ** 2)
    return grams < 2 * n * products + n * sum(d * d for d in widths)


def _self_product(features: Features) -> float:
    """||X'X||^2 = ||XX'||^2, computing half of the symmetric product."""
    wide = features.d > features.n
    parts = [features.rows().T] if wide else (features.rows(i, i + TILE_ROWS) for i in range(0, features.n, TILE_ROWS))
    blocks = list(upper_blocks(min(features.n, features.d)))
    sums = [features.x.new_zeros(left.stop - left.start, right.stop - right.start) for left, right in blocks]
    for part in parts:
        for (left, right), total in zip(blocks, sums, strict=True):
            total.addmm_(part[:, left].T, part[:, right])
    return sum(squared_norm(s) * (1 if left == right else 2) for (left, right), s in zip(blocks, sums, strict=True))


def _gram_products(grams: Sequence[Gram]) -> np.ndarray:
    """<K_i, K_j> for all pairs of `grams`, from the upper triangle, a tile of all of them at a time."""
    n, x = grams[0].n, grams[0].features.x
    total = torch.zeros(len(grams), len(grams), dtype=torch.float64, device=x.device)
    widest = max(g.features.d for g in grams)
    height, width = tile_sides(n, widest)
    work = x.new_empty((height + width) * min(widest, INNER))
    tiles = x.new_empty(len(grams) * height * width)
    diagonals = x.new_empty(len(grams), n)
    for rows, columns in _tiles(n, height, width):
        shape = len(grams), rows.stop - rows.start, columns.stop - columns.start
        tile = tiles[: math.prod(shape)].view(shape)
        for gram, own in zip(grams, tile, strict=True):
            gram.fill(own, rows, columns, work)
        total += _inner_products(tile) * (1 if rows == columns else 2)
        if rows == columns:
            diagonals[:, rows] = tile.diagonal(dim1=1, dim2=2)
    for gram, diagonal in zip(grams, diagonals.double(), strict=True):
        if gram.kernel == "linear":
            gram.features.squared_rows = diagonal
    return total.numpy(force=True)


def _tiles(n: int, height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of tiles that cover the upper triangle of (n, n): squares on the diagonal, and the rest."""
    for rows in _parts(0, n, height):
        for columns in [rows, *_parts(rows.stop, n, width)]:
            yield rows, columns


def _parts(start: int, stop: int, most: int) -> list[slice]:
    """Slices of at most `most`, as equal as multiples of ALIGNED allow."""
    count = math.ceil((stop - start) / most)
    step = min(most, ALIGNED * math.ceil((stop - start) / max(1, count) / ALIGNED))
    return [slice(at, min(at + step, stop)) for at in range(start, stop, max(1, step))]


def _add_symmetric(out: Tensor, rows: Tensor, beta: int) -> None:
    """Add rows rows' to beta out, above the diagonal and around it."""
    for at in range(0, len(out), STRIP):
        out[at : at + STRIP, at:].addmm_(rows[at : at + STRIP], rows[at:].T, beta=beta)


def _mirror(out: Tensor) -> None:
    """Fill what `_add_symmetric` left out."""
    for at in range(0, len(out), STRIP):
        out[at + STRIP :, at : at + STRIP] = out[at : at + STRIP, at + STRIP :].T


def _inner_products(matrices: Tensor) -> Tensor:
    """<K_i, K_j> of matrices (i, rows, columns), row by row and added up in float64."""
    by_row = matrices.transpose(0, 1)
    return (by_row @ by_row.mT).sum(0, dtype=torch.float64)
