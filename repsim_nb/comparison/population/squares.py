"""Units of work of a population: the square of all pairs at one place, or one pair at its most similar layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from repsim_nb.activations import Store
from repsim_nb.activations.store import code_sha256
from repsim_nb.comparison.population.exchanged import Exchange, against
from repsim_nb.comparison.population.members import Member, of_one_dtype
from repsim_nb.comparison.result import recorded_params
from repsim_nb.measures import Measure
from repsim_nb.measures.registry import Prepared
from repsim_nb.system.executor import remembered
from repsim_nb.system.versions import versions

FORMAT = 1  # of stored results; increase when their content changes
HASHED_PACKAGES = ("measures", "uncertainty", "comparison")  # subpackages whose code the values depend on
Found = dict[str, np.ndarray]


@dataclass(frozen=True)
class Square:
    """All pairs of members at one place, the n-th of the layers that each of them compares.

    Attributes
    ----------
    where
        The place in words, for messages.
    measure
        The measure, with its groups.
    members
        All members.
    place
        Index into the layers of each.
    exchange
        How to compute a null, or None.
    """

    where: str
    measure: Measure
    members: tuple[Member, ...] = field(repr=False)
    place: int
    exchange: Exchange | None = field(repr=False, default=None)

    def __str__(self) -> str:
        return f"{self.measure.name} at {self.where}"

    @property
    def parts(self) -> list[tuple[Member, list[int]]]:
        """Every member with the layers to read."""
        return [(member, [member.layers[self.place]]) for member in self.members]

    def with_members(self, members: Mapping[str, Member]) -> Square:
        """The same, with its members as they are in a mapping of their names."""
        return replace(self, members=tuple(members[member.name] for member in self.members))

    def computed(self) -> Found:
        """`value` (members, members) and what a null adds."""
        rows = _read(self)
        ready = _prepared(self.measure, rows, self.parts)
        value = self.measure.dissimilarities(ready, ready)
        if self.exchange is None:
            return {"value": value}
        return {"value": value, **against(value, self.exchange.grids(ready, ready, rows), self.measure)}


@dataclass(frozen=True)
class BestLayers:
    """One pair of members at their most similar layers, x from the first.

    A maximum over many pairs of layers is large by chance. The null is that of the maximum: each exchange of documents
    has its own most similar layers.
    """

    where: str
    measure: Measure
    members: tuple[Member, ...] = field(repr=False)
    exchange: Exchange | None = field(repr=False, default=None)

    def __str__(self) -> str:
        return f"{self.measure.name} of {self.where}"

    @property
    def parts(self) -> list[tuple[Member, list[int]]]:
        """Both members with all their layers; one member for a model with itself."""
        own = self.members[:1] if self.members[0] is self.members[-1] else self.members
        return [(member, list(member.layers)) for member in own]

    def with_members(self, members: Mapping[str, Member]) -> BestLayers:
        """The same, with its members as they are in a mapping of their names."""
        a, b = (members[member.name] for member in self.members)
        return replace(self, members=(a, b))

    def computed(self) -> Found:
        """`value`, `layer_a` and `layer_b`, one number each, and what a null adds."""
        rows = _read(self)
        names = [(member, [layer]) for member, layers in self.parts for layer in layers]
        ready = _prepared(self.measure, rows, names)
        first = len(self.parts[0][1])
        xs, ys, moved = (ready[:first], ready[first:], rows[first:]) if len(self.parts) > 1 else (ready, ready, rows)
        grid = self.measure.dissimilarities(xs, ys)
        i, j = np.unravel_index(grid.argmin(), grid.shape)
        a, b = self.members
        value = np.array(grid[i, j])
        found = {"value": value, "layer_a": np.array(a.layers[i]), "layer_b": np.array(b.layers[j])}
        if self.exchange is None:
            return found
        lowest = (np.array(of.min()) for of in self.exchange.grids(xs, ys, moved))
        return found | against(value, lowest, self.measure)


Unit = Square | BestLayers


def finished(store: Store | None, unit: Unit) -> Found:
    """What a unit computes, from the store if it is there, else computed and stored."""
    if store is None:
        return unit.computed()
    key = key_of(unit)
    found = store.find_result(key)
    if found is None:
        found = unit.computed()
        store.keep_result(key, found)
    return found


def key_of(unit: Unit) -> dict[str, Any]:
    """Everything that the values of a unit depend on."""
    exchange, first = unit.exchange, unit.members[0]
    return {
        "format": FORMAT,
        "kind": type(unit).__name__,
        "measure": [unit.measure.name, recorded_params(unit.measure)],
        "layers": [[member.identity(layer) for layer in layers] for member, layers in unit.parts],
        "controls": None if first.kept is None else [first.controls.settings, first.kept.tolist()],
        "exchange": None if exchange is None else [exchange.documents.codes.tolist(), exchange.count, exchange.seed],
        "versions": versions(),
        "code": code_sha256(HASHED_PACKAGES),
    }


def _read(unit: Unit) -> list[Tensor]:
    """The layers of a unit, read once for all measures of a place."""

    def read() -> list[Tensor]:
        return of_one_dtype([member.read(layer) for member, layers in unit.parts for layer in layers])

    return remembered("layers", read, key=unit.where)


def _prepared(measure: Measure, rows: Sequence[Any], parts: Sequence[tuple[Member, list[int]]]) -> list[Prepared]:
    names = [f"layer {layer} of {member.name}" for member, (layer,) in parts]
    return [measure.prepare(x, name) for x, name in zip(rows, names, strict=True)]
