"""Pick layers of one model: all, a range, or one."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
import traitlets

from repsim_nb.errors import InputError
from repsim_nb.widgets.choice import Choice
from repsim_nb.widgets.picker import FULL, Picker

ALL, RANGE, ONE = "all", "range", "one"
UNKNOWN = 4  # positions after the embedding to offer for a model of unknown depth


class LayerPicker(Picker):
    """All layers, a range or a single one; each is named with its relative depth.

    Parameters
    ----------
    n_layers
        Blocks of the model; positions run from 0, the embedding, to n_layers. None if unknown: any position may be set,
        and a few are offered.
    value
        "all" or positions.
    title
        The heading.

    Attributes
    ----------
    value
        Trait: "all" or a tuple of positions in ascending order.
    n_layers
        Trait: when it changes, the choice keeps its relative depth, or its positions if the depth was unknown.

    Raises
    ------
    InputError
        The model does not have these positions.
    """

    value = traitlets.Any("all", help='"all" or a tuple of positions')
    n_layers = traitlets.Int(4, min=0, allow_none=True)

    def __init__(self, n_layers: int | None = 4, value: Any = ALL, *, title: str = "Layers"):
        self._which = widgets.Dropdown(
            options=[("all layers", ALL), ("a range", RANGE), ("one layer", ONE)],
            description="layers",
            tooltip="Positions in the residual stream; 0 is the embedding, l comes after block l",
            layout=FULL,
        )
        self._first = Choice(description="from", tooltip="First layer, with its relative depth", layout=FULL)
        self._last = Choice(description="to", tooltip="Last layer, with its relative depth", layout=FULL)
        super().__init__(title, "layer", [self._which, self._first, self._last])
        self.n_layers = n_layers
        self._offer()
        self.value = value
        self._show()
        for control in (self._which, self._first, self._last):
            self.when(control, self._choose)

    @property
    def positions(self) -> tuple[int, ...]:
        """The chosen positions, one by one."""
        return tuple(range(self._top + 1)) if self.value == ALL else self.value

    @property
    def _top(self) -> int:
        """The last position to offer."""
        if self.n_layers is not None:
            return self.n_layers
        return UNKNOWN if self.value == ALL else max(UNKNOWN, *self.value)

    @property
    def depth(self) -> tuple[float, float]:
        """Relative depth of the first and the last chosen layer, 0 to 1."""
        return self.positions[0] / max(self._top, 1), self.positions[-1] / max(self._top, 1)

    @depth.setter
    def depth(self, ends: tuple[float, float]) -> None:
        try:
            low, high = (float(end) for end in ends)
        except (TypeError, ValueError):
            low, high = 1.0, 0.0  # refused
        if not 0 <= low <= high <= 1:
            raise InputError(f"depth={ends!r}; expected two shares of the depth, 0 <= first <= last <= 1.")
        self.value = tuple(range(round(low * self._top), round(high * self._top) + 1))

    @traitlets.validate("value")
    def _valid(self, proposal: Any) -> str | tuple[int, ...]:
        given = proposal["value"]
        if isinstance(given, str) and given == ALL:
            return ALL
        asked = (given,) if isinstance(given, int) else given
        if isinstance(asked, str) or not hasattr(asked, "__iter__"):
            raise InputError(f'layers={given!r} was given; expected "all", a position or a list of positions.')
        asked, top = list(asked), float("inf") if self.n_layers is None else self.n_layers
        wrong = [p for p in asked if isinstance(p, bool) or not isinstance(p, int) or not 0 <= p <= top]
        if wrong or not asked:
            raise InputError(
                f"Layer {wrong[0]!r} does not exist: positions are 0 (embedding) to {self.n_layers or 'the last'}."
                if wrong
                else 'layers is empty; expected "all", a position or a list of positions.'
            )
        return tuple(sorted(set(asked)))

    @traitlets.observe("n_layers")
    def _renumber(self, change: Any) -> None:
        kept = self.value
        if kept != ALL and change.new is not None:
            scale = change.new / change.old if change.old else 1  # depth was unknown: keep the positions
            kept = tuple(sorted({min(change.new, round(p * scale)) for p in kept}))
        self._offer()
        self.value = kept
        self._show()

    def _offer(self) -> None:
        deep = (lambda p: f"{p}  ({p / max(self._top, 1):.0%} deep)") if self.n_layers is not None else str
        options: list[Any] = [(deep(p), p) for p in range(self._top + 1)]
        with self.updating():
            self._first.options = self._last.options = options

    @traitlets.observe("value")
    def _show(self, change: Any = None) -> None:
        if self.n_layers is None:
            self._offer()
        positions = self.positions
        which = ALL if self.value == ALL else ONE if len(positions) == 1 else RANGE
        with self.updating():
            self._which.value = which
            self._first.value, self._last.value = positions[0], positions[-1]
            self._first.layout.display = "none" if which == ALL else ""
            self._last.layout.display = "" if which == RANGE else "none"
            self._first.description = "layer" if which == ONE else "from"

    def _choose(self, change: Any) -> None:
        try:
            self._take(change)
        finally:
            self._show()  # a refused choice is undone

    def _take(self, change: Any) -> None:
        if self._which.value == ALL:
            self.value = ALL
        elif self._which.value == ONE:
            self.value = (self._first.value,)
        else:
            first, last = self._first.value, self._last.value
            if change.owner is self._which and first == last:
                last = self._top
            if first > last:  # the end that was moved takes the other along
                first, last = (first, first) if change.owner is self._first else (last, last)
            self.value = tuple(range(first, last + 1)) if first < last else (first,)
