"""One representation, as linear measures read it: centred and scaled on demand, never copied as a whole."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError

ALL = slice(None)
BLOCK_BYTES = 2**26  # working memory of a strip of products
TILE_BYTES = 28 * 2**20  # of X'Y of several layers at once; some 70 MB with the rows being multiplied
TILE_ROWS = 1024
BLOCK_ROWS = 1024
BUFFERS = 16 * 10**6  # bytes that BLAS and LAPACK take for float64 and that malloc keeps meanwhile, measured
SLACK = 4 * 10**6  # the same for float32 products
LEAST_BLOCKS = 8  # blocks of several layers have at least DISTANCE_BYTES divided by this
DISTANCE_BYTES = 2**22  # of a block of distances
FEW_ROWS = 512  # that stay in cache while they are converted to float64
CACHED_ROWS = 64  # rows that fit the cache in float64
NEARLY_SAME = 0.99  # mean cosine of rows
LEAST = 96  # columns of the smallest block of a symmetric product
ALIGNED = 32  # blocks have a multiple of this many rows or columns where possible: up to 1.5 times faster


class Spectrum(NamedTuple):
    """Singular values (r,) and right singular vectors (r, d) of one representation, in its own units."""

    s: Tensor
    vh: Tensor


class Layer(Protocol):
    """What linear measures read of one representation, from its rows (Features) or from sums (LayerMoments)."""

    n: int
    d: int
    side: str
    unit: float

    @property
    def norm(self) -> float:
        """Frobenius norm, centred, in units of `unit`."""

    @property
    def spectrum(self) -> Spectrum:
        """Its singular values and right singular vectors, up to the numerical rank r."""

    def varied(self, measure: str) -> Self:
        """Return self; raise if nothing varies, so that `measure` is undefined."""

    def overlap(self, other: Any) -> Tensor:
        """U'V of the left singular vectors of both, (r, r of other)."""

    def reweighted(self, weights: Callable[[Tensor], Tensor]) -> "Layer":
        """U diag(weights(s)) in place of U diag(s) V'."""

    @staticmethod
    def products(xs: Sequence[Any], ys: Sequence[Any]) -> Iterator[tuple[int, int, Tensor]]:
        """X_i'Y_j (d_i, d_j) of all pairs; only those with j >= i if ys are xs."""


class Features:
    """The rows of one representation, centred (unless told otherwise) and scaled by a power of two.

    The scale makes the largest entry about 1, so that huge and tiny inputs neither overflow nor vanish. A power of two
    changes no digit; `unit` undoes it (true value = scaled value * unit). What counts as rounding is decided feature
    by feature, as a large feature says nothing about the precision of a small one.
    """

    def __init__(self, x: Tensor, side: str, centred: bool = True) -> None:
        self.x, self.side, self.centred = x, side, centred
        self.n, self.d = x.shape
        low, high = _column_range(x)
        mean = torch.zeros_like(low)
        if centred:
            mean = torch.where(low == high, low, column_sums(x) / self.n)  # a constant feature is exactly 0
        reach = torch.maximum(high - mean, mean - low)
        rounding = 8 * torch.finfo(x.dtype).eps * torch.maximum(low.abs(), high.abs())
        self.varies = bool((reach > rounding).any())
        self.scale = _power_below(reach.max().item(), x.dtype) if self.varies else 1.0
        self.unit = 1 / self.scale
        self.mean = mean * self.scale
        # the part of the mean that the dtype of x cannot hold, if that is more than rounding
        rest = self.mean - self.mean.to(x.dtype).double()
        self.rest = rest if (rest.abs() > 4 * torch.finfo(x.dtype).eps * reach * self.scale).any() else None

    def varied(self, measure: str) -> Self:
        """Return self; raise if nothing varies, so that `measure` is undefined."""
        if not self.varies:
            raise self._undefined(measure)
        return self

    def _undefined(self, measure: str) -> InputError:
        what = f"all {self.n} rows are equal" if self.centred else "all values are 0"
        if self.centred and (self.x != self.x[0]).any():
            what += f" up to the rounding of {str(self.x.dtype).removeprefix('torch.')}"
        return InputError(f"{measure} is undefined: {self.side} has no variance ({what}). Leave this layer out.")

    @cached_property
    def doubled(self) -> "Features":
        """The same features in float64."""
        return self if self.x.dtype is torch.float64 else Features(self.x.double(), self.side, self.centred)

    def rows(
        self,
        start: int = 0,
        stop: int | None = None,
        dtype: torch.dtype | None = None,
        out: Tensor | None = None,
        columns: slice = ALL,
    ) -> Tensor:
        """Rows start to stop of these columns, centred and scaled, as a new tensor or in `out`."""
        dtype = (dtype or self.x.dtype) if out is None else out.dtype
        return self._centred(self.x[start:stop, columns], dtype, out, columns)

    def take(self, index: Tensor) -> Tensor:
        """The rows at `index`, centred and scaled, as a new tensor."""
        rows = self.x[index.to(self.x.device)]
        return self._centred(rows, rows.dtype, rows)

    def _centred(self, rows: Tensor, dtype: torch.dtype, out: Tensor | None, columns: slice = ALL) -> Tensor:
        mean = self.mean[columns].to(dtype)
        if dtype is not self.x.dtype:  # in place, as operands of different dtypes would be copied
            result = rows.to(dtype) if out is None else out.copy_(rows)
            return result.mul_(self.scale).sub_(mean)
        result = torch.add(-mean, rows, alpha=self.scale, out=out)
        return result if self.rest is None else result.sub_(self.rest[columns].to(dtype))

    @cached_property
    def squared_rows(self) -> Tensor:
        """Squared norm of every row, float64 (n,)."""
        blocks = (self.rows(i, i + BLOCK_ROWS) for i in range(0, self.n, BLOCK_ROWS))
        return torch.cat([torch.linalg.vector_norm(block, dim=1) for block in blocks]).double().square()

    @cached_property
    def norm(self) -> float:
        """Frobenius norm."""
        return math.sqrt(self.squared_rows.sum().item())

    @cached_property
    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """U (n, r), s (r,), V' (r, d) in float64, r the numerical rank.

        Directions that rounding of the input may have produced are dropped; see `rounding_lengths`.
        """
        rows = self.rows(dtype=torch.float64)
        u, s, vh = torch.linalg.svd(rows, full_matrices=False)
        sizes = torch.linalg.vector_norm(rows, dim=0)
        ours = 8 * torch.finfo(torch.float64).eps * math.sqrt(max(rows.shape)) * s[0]
        kept = s > ours + rounding_lengths(vh, sizes, self.mean, self.n, torch.finfo(self.x.dtype).eps)
        if not kept.any():
            raise self._undefined("The spectrum")
        return (u, s, vh) if kept.all() else (u[:, kept], s[kept], vh[kept])

    @property
    def spectrum(self) -> Spectrum:
        """Singular values and right singular vectors, in the units of the data."""
        _, s, vh = self.svd
        return Spectrum(s * self.unit, vh)

    def overlap(self, other: "Features") -> Tensor:
        """U'V of the left singular vectors of both, (r, r of other)."""
        return self.svd[0].T @ other.svd[0]

    def reweighted(self, weights: Callable[[Tensor], Tensor]) -> "Features":
        """U diag(weights(s)) in place of U diag(s) V'."""
        return Features(self.svd[0] * weights(self.spectrum.s), self.side, centred=False)

    @staticmethod
    def products(xs: Sequence["Features"], ys: Sequence["Features"]) -> Iterator[tuple[int, int, Tensor]]:
        """X_i'Y_j (d_i, d_j) of all pairs; only those with j >= i if ys are xs."""
        return cross_products(xs, ys)


def column_sums(x: Tensor) -> Tensor:
    """Sum of every column, float64."""
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    work = torch.empty(min(CACHED_ROWS, len(x)), x.shape[1], dtype=torch.float64, device=x.device)
    one = torch.ones(len(work), dtype=torch.float64, device=x.device)
    for block in x.split(CACHED_ROWS):  # a product with ones is three times faster than sum(0)
        total.addmv_(work[: len(block)].copy_(block).T, one[: len(block)])
    return total


def rounding_lengths(vh: Tensor, sizes: Tensor, means: Tensor, n: int, eps: float) -> Tensor:
    """The length that rounding alone may give each of the directions `vh` (r, d) of n centred rows.

    Every feature has its own rounding: eps of its variation, of norm `sizes` (with room for how it was computed), and
    eps of its mean, which centring leaves behind (0 for a constant feature, of size 0).
    """
    varying = torch.linalg.vector_norm(vh * sizes, dim=1)
    left = torch.linalg.vector_norm(vh * torch.where(sizes > 0, means, 0.0), dim=1)
    return eps * (8 * math.sqrt(vh.shape[1]) * varying + 2 * (math.sqrt(n) + math.sqrt(vh.shape[1])) * left)


def squared_lengths(rows: Tensor) -> Tensor:
    """Squared norm of every row."""
    lengths = rows.new_empty(len(rows))  # small tensors in between would keep malloc from reusing memory
    for block, out in zip(rows.split(FEW_ROWS), lengths.split(FEW_ROWS), strict=True):
        torch.sum(block.square(), dim=1, out=out)
    return lengths


def squared_distances(rows: Tensor, height: int | None = None, room: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Squared euclidean distances of the first `height` rows (None: all) to all, of centred rows in float64.

    Computed from products, several times faster than from differences. What is within rounding of 0 becomes 0, so that
    equal rows have distance 0 here too. `room` is for the result and as much working memory: malloc would keep several
    blocks of different sizes.
    """
    squares = squared_lengths(rows)
    shape = len(rows[:height]), len(rows)
    out, work = (part[: math.prod(shape)].view(shape) for part in room) if room else rows.new_empty(2, *shape)
    sums = torch.add(squares[:height, None], squares, out=work)
    distances = torch.addmm(sums, rows[:height], rows.T, alpha=-2, out=out)
    zero = distances <= sums.mul_(4 * math.sqrt(rows.shape[1]) * torch.finfo(torch.float64).eps)
    return distances.masked_fill_(zero, 0)


def distance_blocks(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield `start` and the `squared_distances` of a few rows, start, start + 1, ..., to those from `start` on.

    Each block overwrites the last.
    """
    out, work = rows.new_empty(2, block_bytes(len(rows)) // 8)
    for start, height in blocks_of_rows(len(rows)):
        yield start, squared_distances(rows[start:], height, (out, work))


def blocks_of_rows(n: int, layers: int = 1) -> Iterator[tuple[int, int]]:
    """Start and height of blocks of rows that cover the upper triangle of (n, n) in float64, for this many layers."""
    room = DISTANCE_BYTES // min(layers, LEAST_BLOCKS)
    start = 0
    while start < n:
        height = max(1, min(n - start, room // (8 * (n - start))))
        yield start, height
        start += height


def block_bytes(n: int, layers: int = 1) -> int:
    """Size of one block of `blocks_of_rows`, float64."""
    return min(max(DISTANCE_BYTES // min(layers, LEAST_BLOCKS), 8 * n), 8 * n * n)


def upper_triangle(blocks: Iterator[tuple[int, Tensor]]) -> np.ndarray:
    """Entries i < j of a symmetric matrix as a vector, from blocks such as those of `distance_blocks`."""
    out = np.empty(0)
    at = 0
    for start, block in blocks:
        if not start:
            out = np.empty(block.shape[1] * (block.shape[1] - 1) // 2)
        part = block[torch.ones_like(block, dtype=torch.bool).triu_(1)].numpy(force=True)
        out[at : at + len(part)] = part
        at += len(part)
    return out


def unit_rows(x: Tensor, measure: str, side: str, centred: bool = False) -> Tensor:
    """Rows of norm 1 in float64; `centred` subtracts each row's mean over features first."""
    rows = Features(x, side, centred=False).rows(dtype=torch.float64)
    if centred:
        rows -= rows.mean(1, keepdim=True)
    return rows.div_(row_norms(rows, measure, side)[:, None])


def common_direction(rows: Tensor) -> Tensor | None:
    """The mean of rows of norm 1 if all point nearly the same way, as with one huge feature; else None.

    Their cosines then differ by less than the precision of products, so subtract this from the rows first.
    """
    mean = rows.mean(0)
    return mean if mean.square().sum() > NEARLY_SAME else None


def row_norms(rows: Tensor, measure: str, side: str) -> Tensor:
    """Norms of the rows; raises for a row of zeros, which has no direction."""
    norms = rows.norm(dim=1)
    if (norms == 0).any():
        first = int((norms == 0).nonzero()[0])
        raise InputError(
            f"{measure} compares directions, and row {first} of {side} is all 0 ({int((norms == 0).sum())} such rows). "
            "Drop those rows on both sides."
        )
    return norms


def _column_range(x: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of every column, float64."""
    if x.device.type == "cpu":  # numpy is three times faster here
        return tuple(torch.from_numpy(f(x.numpy(), axis=0)).double() for f in (np.min, np.max))  # type: ignore
    return x.amin(0).double(), x.amax(0).double()


def _power_below(value: float, dtype: torch.dtype) -> float:
    """The power of two that scales `value` to [0.5, 1), within the range of `dtype`."""
    limit = 126 if dtype is torch.float32 else 1000
    return math.ldexp(1.0, max(-limit, min(limit, -math.frexp(value)[1])))


def cross_products(xs: Sequence[Features], ys: Sequence[Features]) -> Iterator[tuple[int, int, Tensor]]:
    """X_i'Y_j (d_i, d_j) of all pairs, many at once in bounded memory; only those with j >= i if ys are xs."""
    same = same_layers(xs, ys)
    width = math.isqrt(TILE_BYTES // xs[0].x.dtype.itemsize)
    for rows in _tiles([x.d for x in xs], width):
        for columns in _tiles([y.d for y in ys], width):
            if same and columns[-1] < rows[0]:
                continue
            bands = _tile([xs[i] for i in rows], [ys[j] for j in columns]).split([xs[i].d for i in rows])
            for i, band in zip(rows, bands, strict=True):
                for j, product in zip(columns, band.split([ys[j].d for j in columns], dim=1), strict=True):
                    if not same or j >= i:
                        yield i, j, product


def _tile(xs: Sequence[Features], ys: Sequence[Features]) -> Tensor:
    """[X_1 X_2 ...]'[Y_1 Y_2 ...]."""
    left, right = (side[0].x.new_empty(min(TILE_ROWS, side[0].n), sum(f.d for f in side)) for side in (xs, ys))
    total = left.new_zeros(left.shape[1], right.shape[1])
    for start in range(0, xs[0].n, TILE_ROWS):
        count = min(TILE_ROWS, xs[0].n - start)
        for side, buffer in ((xs, left), (ys, right)):
            for features, columns in zip(side, buffer[:count].split([f.d for f in side], dim=1), strict=True):
                features.rows(start, start + count, out=columns)
        total.addmm_(left[:count].T, right[:count])
    return total


def upper_blocks(size: int, least: int = LEAST) -> Iterator[tuple[slice, slice]]:
    """Blocks that cover the upper triangle of a symmetric (size, size) matrix, found by halving.

    They are squares of at most `least` on the diagonal, and what is above them.
    """

    def part(start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        if stop - start <= least:
            yield slice(start, stop), slice(start, stop)
            return
        middle = start + ALIGNED * math.ceil((stop - start) / 2 / ALIGNED)
        yield slice(start, middle), slice(middle, stop)
        yield from part(start, middle)
        yield from part(middle, stop)

    return part(0, size)


def squared_norm(m: Tensor) -> float:
    """Squared Frobenius norm, summed over rows in float64."""
    return torch.linalg.vector_norm(m, dim=1).double().square().sum().item()


def _tiles(widths: Sequence[int], most: int) -> list[list[int]]:
    """Group consecutive indices until their widths reach `most`."""
    tiles: list[list[int]] = []
    room = 0
    for index, width in enumerate(widths):
        if not tiles or width > room:
            tiles.append([])
            room = most
        tiles[-1].append(index)
        room -= width
    return tiles


def pairwise(
    xs: Sequence[Layer],
    ys: Sequence[Layer],
    function: Callable[[Tensor], float],
) -> np.ndarray:
    """function(X_i'Y_j) for all pairs, (len(xs), len(ys)); the function must not change under a transpose."""
    values = np.empty((len(xs), len(ys)))
    for i, j, product in xs[0].products(xs, ys):
        values[i, j] = function(product)
        if same_layers(xs, ys):
            values[j, i] = values[i, j]
    return values


def same_layers(xs: Sequence[Any], ys: Sequence[Any]) -> bool:
    """Whether both lists hold the same objects, so that the grid is symmetric."""
    return len(xs) == len(ys) and all(x is y for x, y in zip(xs, ys, strict=True))
