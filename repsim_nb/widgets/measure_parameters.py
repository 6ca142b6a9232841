"""Controls for the parameters of a measure, from their annotations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import ipywidgets as widgets

from repsim_nb.measures import Measure
from repsim_nb.widgets.picker import FULL, Picker


class Parameters(widgets.VBox):
    """A control for each parameter that can be entered.

    Parameters
    ----------
    picker
        The picker that holds it, which shows what is wrong with an entry.
    entered
        Called with the name of a parameter and the value that the user entered.
    """

    def __init__(self, picker: Picker, entered: Callable[[str, Any], None]):
        self._picker, self._entered = picker, entered
        self._by_name: dict[str, widgets.Widget] = {}
        super().__init__(layout=FULL)

    def offer(self, measure: Measure | None) -> None:
        """Make the controls of a measure; none for None."""
        hints = {} if measure is None else get_type_hints(type(measure), include_extras=True)
        values = {} if measure is None else measure.params
        offered = {name: hints[name] for name in values if _has_control(hints.get(name, Any))}
        self._by_name = {name: _control(name, hint, values[name]) for name, hint in offered.items()}
        for name, control in self._by_name.items():
            self._picker.when(control, partial(self._enter, name))
        self.children = tuple(self._by_name.values())

    def show(self, measure: Measure) -> None:
        """Set the controls to the values of this measure."""
        with self._picker.updating():
            for name, control in self._by_name.items():
                value = measure.params.get(name)
                control.value = ("" if value is None else str(value)) if isinstance(control, widgets.Text) else value

    def _enter(self, name: str, change: Any) -> None:
        value = entered = change.new
        if isinstance(self._by_name[name], widgets.Text):
            value = int(entered) if entered.strip().isdigit() else entered.strip() or None
        self._entered(name, value)


def can_be_entered(measure: Measure) -> bool:
    """Whether a measure has a parameter with a control."""
    hints = get_type_hints(type(measure), include_extras=True)
    return any(_has_control(hints.get(name, Any)) for name in measure.params)


def _has_control(hint: Any) -> bool:
    """Whether values of this annotation can be entered; one label per row cannot."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_origin(hint) is Literal or bare in (bool, int, float) or NoneType in get_args(hint)


def _control(name: str, hint: Any, value: Any) -> widgets.Widget:
    """A control for a parameter with this annotation."""
    about = {"description": name, "tooltip": f"Parameter {name}", "layout": FULL}
    if get_origin(hint) is Literal:
        return widgets.Dropdown(options=get_args(hint), value=value, **about)
    if hint is bool:
        return widgets.Checkbox(value, indent=False, **about)
    kind, limits = get_args(hint) if get_origin(hint) is Annotated else (hint, None)
    if kind in (int, float):
        low, high = (limits.low, min(limits.high, 1e9)) if limits else (-1e9, 1e9)
        field = widgets.BoundedIntText if kind is int else widgets.BoundedFloatText
        made = field(value, min=kind(low), max=kind(high), **about)
        made.continuous_update = False
        return made
    return widgets.Text(placeholder="none", continuous_update=False, **about)
