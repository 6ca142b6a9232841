"""Grids of a measure after documents are permuted or left out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from repsim_nb.measures import DegenerateWarning, Measure
from repsim_nb.system.executor import mapped
from repsim_nb.system.progress import steps
from repsim_nb.uncertainty.documents import Documents

PARTS = 16  # at most, of permutations or of blocks, as units of work on an executor


class Grids(Protocol):
    """The source of grids for null and interval; every grid is (len(xs), len(ys))."""

    def permuted(self, arrangements: Iterable[Sequence[np.ndarray]]) -> Iterator[np.ndarray]:
        """Yield the grid for each permutation of the documents of y."""

    def without(self, blocks: np.ndarray, which: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Yield the grid without each block of rows, or each in `which`; `blocks` holds the block of each row."""


@dataclass(frozen=True)
class Spread:
    """Grids with a progress bar, or in parts on an executor."""

    of: Grids
    executor: Executor | None = None

    def permuted(self, arrangements: Iterable[Sequence[np.ndarray]], count: int) -> Iterator[np.ndarray]:
        """The grid for each of `count` permutations of the documents of y."""
        if self.executor is None:
            return self.of.permuted(steps(arrangements, "null", "grid", total=count))
        rest = iter(arrangements)
        parts = [list(islice(rest, size)) for size in _sizes(count)]
        return chain.from_iterable(
            mapped(_permuted, self.of, parts, self.executor, what="null", unit="part", name=_counted)
        )

    def without(self, blocks: np.ndarray) -> Iterator[np.ndarray]:
        """The grid without each block of rows."""
        count = int(blocks.max()) + 1
        if self.executor is None:
            return iter(steps(self.of.without(blocks), "interval", "grid", total=count))
        ends = np.cumsum([0, *_sizes(count)]).tolist()
        parts = [range(start, end) for start, end in pairwise(ends)]
        return chain.from_iterable(
            mapped(_without, (self.of, blocks), parts, self.executor, what="interval", unit="part")
        )


def _sizes(count: int) -> list[int]:
    """Sizes of parts of nearly equal size, at most PARTS of them."""
    parts = min(PARTS, count)
    return [count // parts + (part < count % parts) for part in range(parts)]


def _counted(arrangements: Sequence[Any]) -> str:
    return f"{len(arrangements)} permutations"


def _permuted(grids: Grids, arrangements: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    return list(grids.permuted(arrangements))


def _without(shared: tuple[Grids, np.ndarray], which: range) -> list[np.ndarray]:
    grids, blocks = shared
    return list(grids.without(blocks, which))


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

    def without(self, blocks: np.ndarray, which: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """See `Grids`."""
        for block in range(blocks.max() + 1) if which is None else which:
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
