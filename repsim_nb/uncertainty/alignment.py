"""Linear CKA after permuting or leaving out documents, by updates instead of recomputation.

All variants of linear CKA are one expression in the cross-products of centred rows (see `measures.kernels`):

    <K, L> = |X'Y|^2 - <left out of K, left out of L> - 2 a'r

where r are the row sums of L over the pairs that count and a the offsets of K. Permuting documents of Y only changes
X'Y and the pairing of rows of K and L: <K, K>, <L, L>, a and r stay the same. Leaving rows out subtracts their part
from X'Y, and changes r by the sum of these rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures import Prepared
from repsim_nb.measures.cka import CKA
from repsim_nb.measures.features import BLOCK_BYTES
from repsim_nb.measures.kernels import Gram, Groups, kept_selves
from repsim_nb.uncertainty.documents import Documents


class LayersOfSide(NamedTuple):
    """All layers of one side.

    Attributes
    ----------
    rows
        Centred rows of all layers, concatenated, (n, width).
    layer
        Indicator of the layer that each column belongs to, float64 (width, layers).
    left_out
        Entries of the Gram matrices that do not count, float64 (entries, layers).
    row_sums, offsets
        The r and a of the module docstring, float64 (n, layers).
    """

    rows: Tensor
    layer: Tensor
    left_out: Tensor
    row_sums: Tensor
    offsets: Tensor


class Reduced(NamedTuple):
    """Statistics of one side without each block of rows; lists over blocks.

    Attributes
    ----------
    row_sums, offsets
        Float64 (rows kept, layers).
    norms
        <K, K>, float64 (layers,).
    """

    row_sums: list[Tensor]
    offsets: list[Tensor]
    norms: list[Tensor]


class DocumentBlock(NamedTuple):
    """Rows and left-out Gram entries in a block, and the rows outside it."""

    rows: Tensor
    entries: Tensor
    kept: Tensor


class LinearCKA:
    """Grids of linear CKA, see `Grids`.

    Parameters
    ----------
    left, right
        Prepared layers; the same list twice for a comparison with itself.
    documents
        The documents to permute or leave out; if the measure has groups, they must be these documents.
    """

    def __init__(self, left: Sequence[Prepared], right: Sequence[Prepared], documents: Documents) -> None:
        assert isinstance(left[0].measure, CKA)
        self.measure, self.documents = left[0].measure, documents
        ps, qs = ([p.state[0] for p in side] for side in (left, right))
        xs, ys, *selves = kept_selves(ps, qs)
        self.normaliser = torch.from_numpy(np.sqrt(np.outer(*selves)))
        self.xs = self._side(xs)
        self.ys = self.xs if right is left else self._side(ys)

    @staticmethod
    def suits(left: Sequence[Prepared], right: Sequence[Prepared], documents: Documents) -> bool:
        """Whether this is linear CKA with few enough features that products of features beat Gram matrices."""
        measure, n = left[0].measure, left[0].n
        if not isinstance(measure, CKA) or measure.kernel != "linear" or measure.batch is not None:
            return False
        if measure.groups is not None and not np.array_equal(Documents(measure.groups, n).codes, documents.codes):
            return False
        wide_x, wide_y = (sum(p.d for p in side) for side in (left, right))
        return 2 * wide_x * wide_y <= n * (wide_x if right is left else wide_x + wide_y)

    def permuted(self, arrangements: Iterable[Sequence[np.ndarray]]) -> Iterator[np.ndarray]:
        """See `Grids`."""
        xs, ys = self.xs, self.ys
        moved = torch.empty_like(ys.rows)
        fixed = torch.cat([xs.left_out, 2 * xs.offsets])
        for arrangement in arrangements:
            order = self.documents.order(arrangement)
            torch.index_select(ys.rows, 0, self._index(order), out=moved)
            partner = torch.cat([ys.left_out[self._index(self._entries(order))], ys.row_sums[self._index(order)]])
            yield self._cka(_squares(xs, ys, xs.rows, moved) - fixed.T @ partner, self.normaliser)

    def without(self, blocks: np.ndarray, which: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """See `Grids`."""
        xs, ys = self.xs, self.ys
        places = np.arange(self.documents.n)
        cuts = [
            DocumentBlock(
                rows=self._index(places[blocks == block]),
                entries=self._index(self._entries(places)[blocks[self._row_of_entries] == block]),
                kept=self._index(places[blocks != block]),
            )
            for block in (range(blocks.max() + 1) if which is None else which)
        ]
        left = self._reduced(xs, cuts)
        right = left if ys is xs else self._reduced(ys, cuts)
        squares = _squares_without(xs, ys, [cut.rows for cut in cuts])
        left_out = xs.left_out.T @ ys.left_out
        for place, cut in enumerate(cuts):
            out = left_out - xs.left_out[cut.entries].T @ ys.left_out[cut.entries]
            cross = squares[place] - out - 2 * left.offsets[place].T @ right.row_sums[place]
            yield self._cka(cross, torch.outer(left.norms[place], right.norms[place]).sqrt())

    def _side(self, grams: Sequence[Gram]) -> LayersOfSide:
        rows = torch.cat([g.features.rows() for g in grams], dim=1)
        widths = [g.features.d for g in grams]
        layer = torch.block_diag(*(torch.ones(w, 1, dtype=torch.float64) for w in widths)).to(rows.device)
        left_out, row_sums, offsets = (
            torch.stack(columns, dim=1)
            for columns in zip(*((g.left_out, g.row_sums, g.offsets) for g in grams), strict=True)
        )
        if not self.measure.debiased:  # nothing is left out; one zero per row, so that the same code works
            left_out = torch.zeros_like(row_sums)
        return LayersOfSide(rows, layer, left_out, row_sums, offsets)

    def _reduced(self, side: LayersOfSide, cuts: Sequence[DocumentBlock]) -> Reduced:
        sums = torch.stack([side.rows[cut.rows].sum(0, dtype=torch.float64) for cut in cuts], dim=1)  # (width, blocks)
        kept_sums = side.rows.sum(0, dtype=torch.float64)[:, None] - sums
        spans = side.layer.sum(0).int().tolist()
        # The remaining rows no longer sum to 0: row i gains the product of x_i with their sum.
        gained = [
            rows.double() @ total for rows, total in zip(side.rows.split(spans, 1), kept_sums.split(spans), strict=True)
        ]
        gains = torch.stack(gained, dim=1)  # (n, layers, blocks)
        squares = _selves_without(side, [cut.rows for cut in cuts])
        left_out = side.left_out.square().sum(0)
        reduced = Reduced([], [], [])
        for block, cut in enumerate(cuts):
            row_sums = side.row_sums[cut.kept] + gains[cut.kept, :, block]
            offsets = self._offsets(row_sums, cut.kept)
            out = left_out - side.left_out[cut.entries].square().sum(0)
            reduced.row_sums.append(row_sums)
            reduced.offsets.append(offsets)
            reduced.norms.append(squares[block] - out - 2 * (offsets * row_sums).sum(0))
        return reduced

    def _offsets(self, row_sums: Tensor, kept: Tensor) -> Tensor:
        n = len(row_sums)
        if self.measure.groups is not None:
            groups = Groups(self.documents.codes[kept.numpy(force=True)], n)
            return torch.stack([groups.offsets(column) for column in row_sums.T], dim=1)
        out = 1 if self.measure.debiased else 0
        return (row_sums - row_sums.sum(0) / (2 * (n - out))) / (n - 2 * out)

    def _cka(self, cross: Tensor, normaliser: Tensor) -> np.ndarray:
        values = (cross / normaliser.to(cross.device)).numpy(force=True)
        if not np.isfinite(values).all():
            raise InputError("One side is constant without one of the blocks of documents. Use more documents.")
        return values.clip(*self.measure.bounds)

    def _index(self, places: np.ndarray) -> Tensor:
        return torch.from_numpy(places).to(self.xs.rows.device)

    # Entries left out of a Gram matrix: with groups the document blocks, one after the other; else one per row.

    @cached_property
    def _by_document(self) -> np.ndarray:
        if self.measure.groups is None:
            return np.arange(self.documents.n)
        return np.argsort(np.unique(self.measure.groups, return_inverse=True)[1], kind="stable")

    @cached_property
    def _entries_of_row(self) -> np.ndarray:
        ones = np.ones(self.documents.n, dtype=int)
        return ones if self.measure.groups is None else self.documents.sizes[self.documents.codes]

    @cached_property
    def _row_of_entries(self) -> np.ndarray:
        return np.repeat(self._by_document, self._entries_of_row[self._by_document])

    @cached_property
    def _first_entry(self) -> np.ndarray:
        count = self._entries_of_row[self._by_document]
        first = np.empty_like(count)
        first[self._by_document] = np.cumsum(count) - count
        return first

    def _entries(self, order: np.ndarray) -> np.ndarray:
        """The order of entries when rows are reordered by `order`."""
        first, rows = self._first_entry, self._by_document
        moved = np.repeat(first[order[rows]] - first[rows], self._entries_of_row[rows])
        return moved + np.arange(len(moved))

    def entries_of(self, rows: np.ndarray) -> np.ndarray:
        """Entries of rows with equal numbers of entries, (*rows.shape, entries per row)."""
        return self._first_entry[rows][..., None] + np.arange(self._entries_of_row[rows.flat[0]])


def _tiles(side: LayersOfSide, other: LayersOfSide) -> Iterator[tuple[slice, Tensor]]:
    """Columns of `side` for a few layers at a time, so that products with `other` stay small, with their layers."""
    widths = side.layer.sum(0).int().tolist()
    room = BLOCK_BYTES // (other.rows.shape[1] * side.rows.element_size())
    start = layer = 0
    while layer < len(widths):
        first, stop = layer, start
        while layer < len(widths) and (layer == first or stop + widths[layer] - start <= room):
            stop += widths[layer]
            layer += 1
        yield slice(start, stop), side.layer[start:stop, first:layer]
        start = stop


def _squares(xs: LayersOfSide, ys: LayersOfSide, x: Tensor, y: Tensor) -> Tensor:
    """|X_i'Y_j|^2 for all layers, float64 (layers, layers)."""
    bands = [(x[:, columns].T @ y, layer) for columns, layer in _tiles(xs, ys)]
    return torch.cat([layer.T @ band.double().square_() @ ys.layer for band, layer in bands])


def _squares_without(xs: LayersOfSide, ys: LayersOfSide, cuts: Sequence[Tensor]) -> Tensor:
    """|X_i'Y_j|^2 without the rows of each cut, float64 (cuts, layers, layers)."""
    parts = []
    for columns, layer in _tiles(xs, ys):
        x = xs.rows[:, columns]
        whole = x.T @ ys.rows
        bands = (whole - x[rows].T @ ys.rows[rows] for rows in cuts)
        parts.append(torch.stack([layer.T @ band.double().square_() @ ys.layer for band in bands]))
    return torch.cat(parts, dim=1)


def _selves_without(side: LayersOfSide, cuts: Sequence[Tensor]) -> Tensor:
    """|X_i'X_i|^2 without the rows of each cut, float64 (cuts, layers)."""
    columns = []
    for x in side.rows.split(side.layer.sum(0).int().tolist(), dim=1):
        whole = x.T @ x
        columns.append(torch.stack([(whole - x[rows].T @ x[rows]).double().square_().sum() for rows in cuts]))
    return torch.stack(columns, dim=1)
