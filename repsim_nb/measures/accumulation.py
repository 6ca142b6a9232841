"""Sums over rows, batch by batch: rows of two stacks of layers go in, and memory does not grow with their number."""

import json
import os
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.arrays import as_matrix
from repsim_nb.measures.features import column_sums
from repsim_nb.system.atomic import atomic

Layers = Mapping[int, int]  # layer -> width


class Accumulator:
    """Sums over the rows of all layers of a and all layers of b, or of a alone, to compare it with itself.

    Accumulators over parts of the rows add up to the one over all: `first + second`, or `first += second` in place.
    `save` and `load` carry one to another process or machine.

    Parameters
    ----------
    layers_a, layers_b
        Layer -> width; layers_b=None compares a with itself.

    Notes
    -----
    Sums are kept on the CPU, whatever device the rows are on.
    """

    kind: ClassVar[str]
    version = 1

    def __init__(self, layers_a: Layers, layers_b: Layers | None, dtype: torch.dtype, capacity: int) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"{type(self).__name__} multiplies in float32 or float64, got dtype={dtype}.")
        self.layers_a = _widths(layers_a, "a")
        self.layers_b = None if layers_b is None else _widths(layers_b, "b")
        self.widths = [*self.layers_a.values(), *(self.layers_b or {}).values()]
        ends = list(accumulate(self.widths))
        self.spans = [slice(end - width, end) for end, width in zip(ends, self.widths, strict=True)]
        self.dtype = dtype
        self.capacity = capacity
        self.rounding = 0.0  # relative, of the least precise rows so far
        self.origin = torch.zeros(sum(self.widths), dtype=torch.float64)  # subtracted from rows before they lose digits
        self._digested = self._waiting = 0
        self._rows: Tensor | None = None  # (capacity, sum of widths), filled up to _waiting

    def __repr__(self) -> str:
        b = "itself" if self.layers_b is None else f"{len(self.layers_b)}"
        return f"{type(self).__name__}({len(self.layers_a)} x {b} layers, {self.n:,} rows)"

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: the sums, without the room for waiting rows."""
        self.settle()
        return vars(self) | {"_rows": None}

    @property
    def n(self) -> int:
        """Rows so far."""
        return self._digested + self._waiting

    @property
    def sides(self) -> tuple[range, range]:
        """Places of a's layers and of b's among all layers, which are those of a, then those of b."""
        count = len(self.layers_a)
        return range(count), range(count) if self.layers_b is None else range(count, len(self.widths))

    def name(self, layer: int) -> str:
        """What messages call the layer at this place among all layers."""
        count = len(self.layers_a)
        return f"layer {list(self.layers_a)[layer]} of a" if layer < count else f"layer {self._name_b(layer)} of b"

    def _name_b(self, layer: int) -> int:
        assert self.layers_b is not None
        return list(self.layers_b)[layer - len(self.layers_a)]

    def add(self, a: Mapping[int, Any], b: Mapping[int, Any] | None = None) -> Self:
        """Add more rows; returns itself.

        Parameters
        ----------
        a, b
            Layer -> (rows, width), for the layers this was made for; row i of all is the same stimulus. b=None if this
            was made for a alone.

        Raises
        ------
        InputError
            Other layers or widths, unequal numbers of rows, values that are not finite.
        """
        if (b is None) != (self.layers_b is None):
            raise InputError(
                f"{self!r} was made for {'a alone' if self.layers_b is None else 'a and b'}: add rows of the same."
            )
        rows = _checked(a, self.layers_a, "a") + ([] if b is None else _checked(b, self.layers_b or {}, "b"))
        if len({len(x) for x in rows}) > 1:
            counts = sorted({len(x) for x in rows})
            raise InputError(f"Layers have {counts} rows; row i of all must be the same stimulus.")
        self.rounding = max(self.rounding, *(torch.finfo(x.dtype).eps for x in rows))
        start, count = 0, len(rows[0])
        while start < count:
            start += self._take([x[start:] for x in rows])
        return self

    def _take(self, rows: list[Tensor]) -> int:
        """Copy as many rows as fit, digest them when full, and return how many were copied.

        Rows of higher precision than the products are shifted by the mean of the first ones before they are rounded.
        """
        if self._rows is None:
            self._rows = torch.empty(self.capacity, sum(self.widths), dtype=self.dtype)
            if any(x.dtype.itemsize > self.dtype.itemsize for x in rows):
                self.origin = torch.cat([column_sums(x) / len(x) for x in rows]).cpu()
        stop = min(self.capacity, self._waiting + len(rows[0]))
        for span, x in zip(self.spans, rows, strict=True):
            part, origin = x[: stop - self._waiting], self.origin[span].to(x.device)
            self._rows[self._waiting : stop, span] = part - origin if origin.any() else part
        taken, self._waiting = stop - self._waiting, stop
        if self._waiting == self.capacity:
            self._release(self._digest(self._rows))
        return taken

    def _release(self, count: int) -> None:
        """Forget the first `count` waiting rows, which have been digested."""
        assert self._rows is not None
        rest = self._waiting - count
        if rest:
            self._rows[:rest] = self._rows[count : self._waiting].clone()
        self._waiting, self._digested = rest, self._digested + count

    def __add__(self, other: Self) -> Self:
        return self._copy().__iadd__(other)

    def __iadd__(self, other: Self) -> Self:
        self._check_mergeable(other)
        self.settle()
        other.settle()
        if other.n:
            self._merge(other)
            self._digested += other.n
            self.rounding = max(self.rounding, other.rounding)
        return self

    def _check_mergeable(self, other: Self) -> None:
        mine, others = self._signature(), other._signature() if isinstance(other, Accumulator) else {}
        for what, value in mine.items():
            if others.get(what) != value:
                raise InputError(
                    f"Only accumulators with the same settings add up: {what} is {value} here and {others.get(what)} "
                    "there."
                )

    def _signature(self) -> dict[str, Any]:
        """What two accumulators must share to add up, and what `load` builds an empty one from."""
        return {
            "kind": self.kind,
            "version": self.version,
            "layers_a": list(map(list, self.layers_a.items())),
            "layers_b": None if self.layers_b is None else list(map(list, self.layers_b.items())),
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, either completely or not at all."""
        self.settle()
        about = {**self._signature(), "n": self._digested, "rounding": self.rounding}
        with atomic(path) as temporary:
            tensors = {name: t.contiguous() for name, t in self._tensors().items()}
            save_file(tensors, temporary, metadata={"repsim_nb": json.dumps(about)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            The file holds something else.
        """
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {}).get("repsim_nb", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise InputError(f"'{os.fspath(path)}' is not readable as a safetensors file: {error}") from error
        if (about.get("kind"), about.get("version")) != (cls.kind, cls.version):
            raise InputError(
                f"'{os.fspath(path)}' holds {about.get('kind', 'something else')!r} of version "
                f"{about.get('version')}, expected {cls.kind!r} of version {cls.version}."
            )
        empty = cls._empty(about)
        empty._digested, empty.rounding = about["n"], about["rounding"]
        empty._restore(tensors)
        return empty

    # What an accumulator implements.

    @property
    def nbytes(self) -> int:
        """Most bytes ever held; known before the first row."""
        raise NotImplementedError

    def _digest(self, rows: Tensor) -> int:
        """Add rows (m, sum of widths) to the sums, perhaps overwriting them; return how many of the first were used."""
        raise NotImplementedError

    def settle(self) -> None:
        """Digest all waiting rows."""
        raise NotImplementedError

    def _merge(self, other: Self) -> None:
        raise NotImplementedError

    def _copy(self) -> Self:
        """A copy with equal sums that shares no memory."""
        self.settle()
        copy = self._empty(self._signature())
        copy._digested, copy.rounding = self._digested, self.rounding
        copy._restore({name: t.clone() for name, t in self._tensors().items()})
        return copy

    def _tensors(self) -> dict[str, Tensor]:
        raise NotImplementedError

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        raise NotImplementedError

    @classmethod
    def _empty(cls, signature: Mapping[str, Any]) -> Self:
        raise NotImplementedError


def _widths(layers: Layers, side: str) -> dict[int, int]:
    if not isinstance(layers, Mapping) or not layers:
        raise InputError(f"layers_{side} must map at least one layer to its width, got {layers!r}.")
    wrong = {layer: width for layer, width in layers.items() if not isinstance(width, int) or width < 1}
    if wrong:
        raise InputError(f"layers_{side}: widths must be positive whole numbers, got {wrong}.")
    return dict(layers)


def _checked(rows: Mapping[int, Any], layers: Layers, side: str) -> list[Tensor]:
    if list(rows) != list(layers):
        raise InputError(f"{side} has layers {list(rows)}, expected {list(layers)} in this order.")
    matrices = [as_matrix(rows[layer], f"layer {layer} of {side}") for layer in layers]
    for layer, x in zip(layers, matrices, strict=True):
        if x.shape[1] != layers[layer]:
            raise InputError(f"Layer {layer} of {side} has width {x.shape[1]}, expected {layers[layer]}.")
    return matrices
