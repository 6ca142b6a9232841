"""Second moments of two stacks of layers: one pass over any number of rows gives many measures.

With p_i = |x_i|^2 and q_i = |y_i|^2 for row i of two layers x and y, the sums of

    x_i,   x_i y_i',   p_i q_i,   x_i q_i   and   y_i p_i

give every linear measure exactly. They are taken about a provisional centre, the mean of the first rows, so that
float32 products lose no digits to a mean far from 0, and they can be moved to any other centre afterwards. Rows far
from that centre get a centre of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.accumulation import Accumulator, Layers
from repsim_nb.measures.features import Spectrum, column_sums, rounding_lengths, same_layers

ROWS = 2048  # multiplied at once: adding a float32 product to a float64 sum costs as much as some 200 rows
HEIGHT = 512  # rows of products computed at a time
WIDTH = 256  # columns of a block of a symmetric product
FAR = 100.0  # squared distance of a centre, in variances
SEEN = 1e-7  # of the largest singular value; smaller ones are lost in float64 products
RANGE = 1e-30, 1e30  # of a mean square, so that float32 products neither vanish nor overflow


class PrecisionError(InputError):
    """float32 products have lost digits that the value needs; float64 products would keep them."""


class Rectangle(NamedTuple):
    """Products of features `top` to `bottom` with features `left` to `right`, numbered over all layers."""

    top: int
    bottom: int
    left: int
    right: int


class Moments(Accumulator):
    """Second moments of every layer, and of every layer of a with every layer of b.

    Parameters
    ----------
    layers_a, layers_b
        Layer -> width; layers_b=None compares a with itself and stores half.
    dtype
        Precision of products, float32 or float64; sums are always float64. Measures that whiten (CCA and its relatives,
        regression, GULP) need float64. `measure.accumulator(layers_a, layers_b)` chooses the right one.

    Raises
    ------
    InputError
        Widths that are no positive integers, or another dtype.

    Notes
    -----
    Memory is `nbytes`, however many rows are added. In float32 a measure may lose digits when rows are far from the
    rest; it then raises a PrecisionError instead of returning a wrong number.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [5.0]])
    >>> first, second = Moments({7: 1}, {3: 1}), Moments({7: 1}, {3: 1})
    >>> both = first.add({7: x[:2]}, {3: x[:2] ** 2}) + second.add({7: x[2:]}, {3: x[2:] ** 2})
    >>> get_measure("cka").from_moments(both).round(6)
    array([[0.963087]])
    """

    kind = "second moments"

    def __init__(self, layers_a: Layers, layers_b: Layers | None = None, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(layers_a, layers_b, dtype, ROWS)
        total, count = sum(self.widths), len(self.widths)
        self.centre = torch.zeros(total, dtype=torch.float64)
        self.sums = torch.zeros(total, dtype=torch.float64)
        self.weighted = torch.zeros(total, count, dtype=torch.float64)  # of x_i q_i
        self.quartic = torch.zeros(count, count, dtype=torch.float64)  # of p_i q_i

    @cached_property
    def products(self) -> dict[Rectangle, Tensor]:
        """Sums of products, by their place."""
        return {r: torch.zeros(r.bottom - r.top, r.right - r.left, dtype=torch.float64) for r in self._rectangles}

    @cached_property
    def _rectangles(self) -> list[Rectangle]:
        return list(_rectangles(list(self.layers_a.values()), list((self.layers_b or {}).values())))

    @property
    def nbytes(self) -> int:
        """Most bytes ever held, while rows are added or values read; known before the first row."""
        total, count = sum(self.widths), len(self.widths)
        areas = [(r.bottom - r.top) * (r.right - r.left) for r in self._rectangles]
        small = total * (2 * count + 4) + 2 * sum(width**2 for width in self.widths)
        return 8 * (sum(areas) + small) + self.dtype.itemsize * (ROWS * total + max(areas))

    @cached_property
    def _covered(self) -> Tensor:
        """1 for pairs of layers that have products, 0 for others, (layers, layers)."""
        if self.layers_b is None:
            return torch.ones_like(self.quartic)
        side = torch.tensor([layer in self.sides[1] for layer in range(len(self.widths))])
        return ((side[:, None] != side) | torch.eye(len(side), dtype=torch.bool)).double()

    def _digest(self, rows: Tensor) -> int:
        if not self._digested:
            self.centre = (column_sums(rows) / len(rows)).to(rows.dtype).double() + self.origin
        elif self._far(rows):
            part = self._empty(self._signature())
            part.origin = self.origin
            part._digested = part._digest(rows)
            self._merge(part)
            return len(rows)
        rows -= (self.centre - self.origin).to(rows.dtype)
        squares = torch.stack([rows[:, span].square().sum(1) for span in self.spans], dim=1)
        first = rows.T @ torch.cat([squares, torch.ones_like(squares[:, :1])], dim=1)
        self.weighted += first[:, :-1] * self._per_feature(self._covered)
        self.sums += first[:, -1]
        squares = squares.double()
        self.quartic += squares.T @ squares * self._covered
        for r, total in self.products.items():
            total += rows[:, r.top : r.bottom].T @ rows[:, r.left : r.right]
        return len(rows)

    def _far(self, rows: Tensor) -> bool:
        """Whether the centre is so far from these rows that float32 products about it would lose digits."""
        mean = column_sums(rows) / len(rows) + self.origin
        away = self._per_layer((mean - self.centre).square())
        spread = self._per_layer(rows[::8].var(0, correction=0).double())  # a rough estimate is enough
        return bool((away > FAR * spread).any())

    def settle(self) -> None:
        """Digest all waiting rows. Calling it more often changes nothing."""
        if self._waiting:
            assert self._rows is not None
            self._release(self._digest(self._rows[: self._waiting]))

    def _per_feature(self, per_layer: Tensor) -> Tensor:
        return per_layer.repeat_interleave(torch.tensor(self.widths), dim=0)

    def _per_layer(self, per_feature: Tensor) -> Tensor:
        """Sums over each layer's features."""
        return torch.stack([per_feature[span].sum(0) for span in self.spans])

    @property
    def traces(self) -> Tensor:
        """Sum of p_i by layer."""
        return torch.stack([self._block(layer, layer).diagonal().sum() for layer in range(len(self.widths))])

    def moved(self, by: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(sums, weighted, quartic) with `by` (features,) added to every row."""
        n, covered = self._digested, self._covered
        step, along = self._per_layer(by.square()), self._per_layer(by * self.sums)
        squares = self.traces
        onto = self._onto(by)
        weighted = self.weighted + 2 * onto + torch.outer(self.sums, step)
        weighted += torch.outer(by, squares + 2 * along + n * step)
        half = 2 * self._per_layer(by[:, None] * (self.weighted + onto)) + torch.outer(squares + 2 * along, step)
        quartic = self.quartic + half + half.T + n * torch.outer(step, step)
        return self.sums + n * by, weighted * self._per_feature(covered), quartic * covered

    def _onto(self, by: Tensor) -> Tensor:
        """Sum of x_i (y_i . by_y) for every feature of x and every layer y, (features, layers)."""
        places = torch.eye(len(self.widths), dtype=torch.float64).repeat_interleave(torch.tensor(self.widths), dim=0)
        steps, onto = by[:, None] * places, torch.zeros_like(self.weighted)
        for r, total in self.products.items():
            onto[r.top : r.bottom] += total @ steps[r.left : r.right]
            if r.top != r.left:
                onto[r.left : r.right] += total.T @ steps[r.top : r.bottom]
        return onto * self._per_feature(self._covered)

    def _merge(self, other: Moments) -> None:
        if not self._digested:
            self.centre = other.centre.clone()
        by = other.centre - self.centre
        sums, weighted, quartic = other.moved(by)
        for r, total in self.products.items():
            rows, columns = slice(r.top, r.bottom), slice(r.left, r.right)
            total += other.products[r]
            # replacing x and y by x + s and y + t adds s (sum of y)' + (sum of x) t' + n s t'
            total.addr_(by[rows], other.sums[columns]).addr_(sums[rows], by[columns])
        self.sums += sums
        self.weighted += weighted
        self.quartic += quartic

    def _block(self, i: int, j: int) -> Tensor:
        """Sum of x_i y_i' of two layers about the provisional centre, (d_i, d_j)."""
        rows, columns = self.spans[i], self.spans[j]
        block = torch.empty(self.widths[i], self.widths[j], dtype=torch.float64)
        for r, total in self.products.items():
            _copy_overlap(block, rows, columns, total, r)
            if r.top != r.left:
                _copy_overlap(block, rows, columns, total.T, Rectangle(r.left, r.right, r.top, r.bottom))
        return block

    def block(self, i: int, j: int) -> Tensor:
        """Centred second moment X_i'X_j of two of all layers, float64 (d_i, d_j)."""
        return self._block(i, j).addr_(self.sums[self.spans[i]], self.sums[self.spans[j]] / -self._digested)

    def layers(self) -> tuple[list[LayerMoments], list[LayerMoments]]:
        """Every layer of a and of b, as measures read them; the same list twice if a is compared with itself.

        Raises
        ------
        InputError
            No rows yet, or values that float32 products cannot hold.
        """
        self.settle()
        if not self._digested:
            raise InputError(f"{self!r} has no rows yet. Add some first.")
        every = [LayerMoments(self, index) for index in range(len(self.widths))]
        if self.dtype is torch.float32:
            for layer in every:
                layer.check_precision()
        a, b = self.sides
        first = [every[i] for i in a]
        return first, first if self.layers_b is None else [every[i] for i in b]

    def _tensors(self) -> dict[str, Tensor]:
        products = {" ".join(map(str, r)): total for r, total in self.products.items()}
        return products | {name: getattr(self, name) for name in ("centre", "sums", "weighted", "quartic")}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        for name in ("centre", "sums", "weighted", "quartic"):
            setattr(self, name, tensors[name])
        self.products = {r: tensors[" ".join(map(str, r))] for r in self._rectangles}

    @classmethod
    def _empty(cls, signature: Mapping[str, Any]) -> Moments:
        a, b = signature["layers_a"], signature["layers_b"]
        return cls(dict(a), None if b is None else dict(b), getattr(torch, signature["dtype"]))


def _copy_overlap(block: Tensor, rows: slice, columns: slice, values: Tensor, r: Rectangle) -> None:
    """Copy the part of `values`, whose place is r, that lies in the block at (rows, columns)."""
    top, bottom = max(rows.start, r.top), min(rows.stop, r.bottom)
    left, right = max(columns.start, r.left), min(columns.stop, r.right)
    if top < bottom and left < right:
        there = values[top - r.top : bottom - r.top, left - r.left : right - r.left]
        block[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = there


def _rectangles(widths_a: Sequence[int], widths_b: Sequence[int]) -> Iterator[Rectangle]:
    """What is multiplied; symmetric products only once, as squares on the diagonal and what is right of them."""
    total_a, total = sum(widths_a), sum(widths_a) + sum(widths_b)
    if widths_b:
        for top in range(0, total_a, HEIGHT):
            yield Rectangle(top, min(top + HEIGHT, total_a), total_a, total)
    start = 0
    for width in [*widths_a, *widths_b] if widths_b else [total_a]:
        stop = start + width
        for top in range(start, stop, WIDTH):
            bottom = min(top + WIDTH, stop)
            yield Rectangle(top, bottom, top, bottom)
            if bottom < stop:
                yield Rectangle(top, bottom, bottom, stop)
        start = stop


class LayerMoments:
    """One centred layer, as measures read it: the counterpart of `Features` without rows.

    `weights` rescale the principal directions of whitened rows; None leaves the rows as they are.
    """

    unit = 1.0

    def __init__(self, moments: Moments, index: int, weights: Tensor | None = None) -> None:
        self.moments, self.index, self.weights = moments, index, weights
        self.n, self.d, self.side = moments.n, moments.widths[index], moments.name(index)

    @cached_property
    def second(self) -> Tensor:
        """X'X (d, d), exactly 0 where a feature is constant up to the rounding of sums."""
        second = self.moments.block(self.index, self.index)
        rounding = 4 * torch.finfo(torch.float64).eps * math.sqrt(self.n) * self._mean.abs()
        constant = second.diagonal().clamp(min=0).sqrt() <= rounding
        second[constant] = 0
        second[:, constant] = 0
        return second

    @cached_property
    def norm(self) -> float:
        """Frobenius norm."""
        squares = self.weights.square() if self.weights is not None else self.second.diagonal()
        return math.sqrt(max(0.0, squares.sum().item()))

    @cached_property
    def _mean(self) -> Tensor:
        """Of every feature."""
        span = self.moments.spans[self.index]
        return self.moments.centre[span] + self.moments.sums[span] / self.n

    @cached_property
    def _sizes(self) -> Tensor:
        """Norm of every centred feature."""
        return self.second.diagonal().clamp(min=0).sqrt()

    @cached_property
    def _varying(self) -> Tensor:
        """Which features vary by more than the rounding of the rows, (d,)."""
        return self._sizes > 2 * self.moments.rounding * math.sqrt(self.n) * self._mean.abs()

    @property
    def varies(self) -> bool:
        """Whether rows differ by more than rounding."""
        return bool(self._varying.any())

    def varied(self, measure: str) -> Self:
        """Return self; raise if nothing varies, so that `measure` is undefined."""
        if not self.varies:
            raise InputError(
                f"{measure} is undefined: {self.side} has no variance beyond rounding. Leave this layer out."
            )
        return self

    def check_precision(self) -> None:
        """Raise if float32 products cannot have kept seven digits."""
        spread = self.second.diagonal().sum().item() / self.n
        if not math.isfinite(spread) or (self.varies and not RANGE[0] < spread / self.d < RANGE[1]):
            raise PrecisionError(
                f"{self.side}: its values are too large or too small for float32 products (mean square "
                f"{spread / self.d:.1e}). Rescale them, or use accumulator(..., dtype=torch.float64)."
            )

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        if self.moments.dtype is not torch.float64:
            raise PrecisionError("Whitening needs float64 products. Use accumulator(..., dtype=torch.float64).")
        values, vectors = torch.linalg.eigh(self.second)
        s, vectors = values.flip(0).clamp(min=0).sqrt(), vectors.flip(1)
        # squaring has lost what was below 1e-8 of the largest, whatever the precision of the rows
        unseen = SEEN * s[0]
        lost = self._varying & (self._sizes <= unseen)
        if lost.any():
            raise InputError(
                f"{self.side}: feature {int(lost.nonzero()[0])} varies by less than {SEEN:g} of the largest direction, "
                "too little for sums of products. Compare in memory (a larger memory_limit, or fewer rows), or "
                "standardize the features first."
            )
        least = rounding_lengths(vectors.T, self._sizes, self._mean, self.n, self.moments.rounding)
        kept = s > torch.maximum(least, unseen)
        if not kept.any():
            raise InputError(f"{self.side} has no direction that varies beyond rounding. Leave this layer out.")
        return s[kept], vectors[:, kept]

    @property
    def spectrum(self) -> Spectrum:
        """Singular values and right singular vectors, up to the numerical rank."""
        s, vectors = self._eigen
        return Spectrum(s, vectors.T)

    @cached_property
    def _whitener(self) -> Tensor:
        """The matrix (d, r) that turns rows of X into rows of U."""
        s, vectors = self._eigen
        return vectors / s

    def overlap(self, other: LayerMoments) -> Tensor:
        """U'V of the left singular vectors of both, (r, r of other)."""
        return self._whitener.T @ self.moments.block(self.index, other.index) @ other._whitener

    def reweighted(self, weights: Callable[[Tensor], Tensor]) -> LayerMoments:
        """U diag(weights(s)) in place of U diag(s) V'."""
        return LayerMoments(self.moments, self.index, weights(self.spectrum.s))

    def product(self, other: LayerMoments) -> Tensor:
        """X'Y (d, d of other)."""
        if self.weights is None or other.weights is None:
            return self.moments.block(self.index, other.index).to(self.moments.dtype)
        return self.weights[:, None] * self.overlap(other) * other.weights

    @staticmethod
    def products(xs: Sequence[LayerMoments], ys: Sequence[LayerMoments]) -> Iterator[tuple[int, int, Tensor]]:
        """X_i'Y_j of all pairs; where ys are xs only those with j >= i."""
        same = same_layers(xs, ys)
        for i, x in enumerate(xs):
            for j in range(i if same else 0, len(ys)):
                yield i, j, x.product(ys[j])
