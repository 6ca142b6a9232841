"""Grids of a measure after documents are permuted or left out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from repsim_nb.measures import DegenerateWarning, Measure
from repsim_nb.uncertainty.documents import Documents


class Grids(Protocol):
    """The source of grids for null and interval; every grid is (len(xs), len(ys))."""

    def permuted(self, arrangements: Iterable[Sequence[np.ndarray]]) -> Iterator[np.ndarray]:
        """Yield the grid for each permutation of the documents of y."""

    def without(self, blocks: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the grid without each block of rows; `blocks` is the block of each row, (n_rows,)."""


class Recomputed:
    """Grids of any measure, recomputed every time.

    Parameters with one value per row (groups, labels) keep their places when documents are permuted, and lose the
    rows that are left out.
    """

    def __init__(self, measure: Measure, xs: Sequence[Tensor], ys: Sequence[Tensor], documents: Documents) -> None:
        self.measure, self.xs, self.ys, self.documents = measure, xs, ys, documents

    def permuted(self, arrangements: Iterable[Sequence[np.ndarray]]) -> Iterator[np.ndarray]:
        """See `Grids`."""
        left = [self.measure.prepare(x) for x in self.xs]
        for arrangement in arrangements:
            order = torch.from_numpy(self.documents.order(arrangement))
            yield _grid(self.measure, left, [self.measure.prepare(y[order.to(y.device)], "y") for y in self.ys])

    def without(self, blocks: np.ndarray) -> Iterator[np.ndarray]:
        """See `Grids`."""
        for block in range(blocks.max() + 1):
            kept = torch.from_numpy(np.flatnonzero(blocks != block))
            measure = self.measure.configured(**of_rows(self.measure.params, blocks != block))
            left = [measure.prepare(x[kept.to(x.device)]) for x in self.xs]
            same = self.ys is self.xs
            yield _grid(measure, left, left if same else [measure.prepare(y[kept.to(y.device)], "y") for y in self.ys])


def _grid(measure: Measure, left: list[Any], right: list[Any]) -> np.ndarray:
    with warnings.catch_warnings():  # already warned for the observed grid
        warnings.simplefilter("ignore", DegenerateWarning)
        return measure.grid(left, right)


def of_rows(params: Mapping[str, Any], kept: np.ndarray) -> dict[str, Any]:
    """Restrict parameters with one value per row to the kept rows, bool (n_rows,)."""
    return {name: np.asarray(value)[kept] if _per_row(value, len(kept)) else value for name, value in params.items()}


def _per_row(value: Any, n: int) -> bool:
    return not isinstance(value, str) and hasattr(value, "__len__") and len(value) == n
