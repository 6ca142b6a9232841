"""Pick a measure and set its parameters."""

from __future__ import annotations

import math
import re
from functools import partial
from html import escape
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import ipywidgets as widgets
import traitlets

from repsim_nb.errors import unknown
from repsim_nb.measures import Measure, get_measure, list_measures
from repsim_nb.widgets.picker import FULL, Picker, facts

OF_LOGITS = "repsim_nb.measures.functional"  # measures of predictions do not apply to layers


class MeasurePicker(Picker):
    """A measure with its declared properties, and controls for its parameters.

    Parameters
    ----------
    value
        Name of the measure.
    title
        The heading.
    params
        Parameters of the measure.

    Attributes
    ----------
    value
        Trait: the name; setting it resets the parameters to their defaults.
    params
        Trait: the parameters that differ from their defaults.

    Raises
    ------
    InputError
        An unknown measure or parameter, or a value that does not fit.
    """

    value = traitlets.Any("cka", help="name of the measure")
    params = traitlets.Dict(help="parameters that differ from their defaults")

    def __init__(self, value: str = "cka", *, title: str = "Measure", **params: Any):
        self._choice = widgets.Dropdown(
            options=choices(), description="measure", tooltip="How two representations are compared", layout=FULL
        )
        self._about = widgets.HTML()
        self._controls = widgets.VBox(layout=FULL)
        self._by_name: dict[str, widgets.Widget] = {}
        super().__init__(title, "measure", [self._choice, self._controls, self._about])
        self.value = value
        self._rebuild()
        self.params = params
        self._when(self._choice, lambda change: setattr(self, "value", change.new))

    @property
    def measure(self) -> Measure:
        """The measure, configured."""
        return get_measure(self.value, **self.params)

    @traitlets.validate("value")
    def _valid(self, proposal: Any) -> str:
        names = [name for _, name in choices()]
        if proposal["value"] not in names:
            raise unknown("measure", proposal["value"], names, "See list_measures().")
        return proposal["value"]

    @traitlets.validate("params")
    def _valid_params(self, proposal: Any) -> dict[str, Any]:
        given = get_measure(self.value, **proposal["value"]).params
        default = get_measure(self.value).params
        return {name: value for name, value in given.items() if value != default[name]}

    @traitlets.observe("value")
    def _rebuild(self, change: Any = None) -> None:
        self._by_name = {}  # drop those of another measure
        self.params = {}
        measure = get_measure(self.value)
        with self._updating():
            self._choice.value = self.value
        hints = get_type_hints(type(measure), include_extras=True)
        made = {name: _control(name, hints.get(name, Any), value) for name, value in measure.params.items()}
        self._by_name = {name: control for name, control in made.items() if control is not None}
        for name, control in self._by_name.items():
            self._when(control, partial(self._enter, name))
        self._controls.children = tuple(self._by_name.values())
        self._show()

    @traitlets.observe("params")
    def _show(self, change: Any = None) -> None:
        measure = self.measure
        with self._updating():
            for name, control in self._by_name.items():
                value = measure.params.get(name)
                control.value = ("" if value is None else str(value)) if isinstance(control, widgets.Text) else value
        self._about.value = f'<p class="repsim-note">{escape(_first_line(measure))}</p>' + facts(
            {
                "direction": f"{measure.direction}, {_meaning(measure)}",
                "invariances": _invariances(measure),
                "cost": measure.cost,
            }
        )

    def _enter(self, name: str, change: Any) -> None:
        value = entered = change.new
        if isinstance(self._by_name[name], widgets.Text):
            value = int(entered) if entered.strip().isdigit() else entered.strip() or None
        self.params = {**self.params, name: value}


def choices() -> list[tuple[str, str]]:
    """Titles and names of the measures that compare layers."""
    measures = [get_measure(name) for name in list_measures().index]
    return [(m.title, m.name) for m in measures if type(m).__module__ != OF_LOGITS]


def _control(name: str, hint: Any, value: Any) -> widgets.Widget | None:
    """A control for a parameter with this annotation; None if values cannot be entered, such as one label per row."""
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
    if NoneType in get_args(hint):
        return widgets.Text(placeholder="none", continuous_update=False, **about)
    return None


def _first_line(measure: Measure) -> str:
    line = (type(measure).__doc__ or measure.title).strip().splitlines()[0]
    return re.sub(r" \(n, d_[xy]\)", "", line)  # shapes matter only in code


def _meaning(measure: Measure) -> str:
    if measure.direction == "dissimilarity":
        return "0 = same"
    most = measure.bounds[1]
    return f"{most:g} = same, 0 = nothing shared" if math.isfinite(most) else "larger = more alike, 0 = nothing shared"


def _invariances(measure: Measure) -> str:
    x, y = (", ".join(sorted(side)) or "none" for side in (measure.invariances_x, measure.invariances_y))
    return x if x == y else f"of A: {x}; of B: {y}"
