"""Pick a measure and set its parameters."""

from __future__ import annotations

import math
import re
from html import escape
from typing import Any

import ipywidgets as widgets
import traitlets

from repsim_nb.errors import unknown
from repsim_nb.measures import Measure, get_measure, list_measures
from repsim_nb.widgets.measure_parameters import Parameters
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
        self._parameters = Parameters(self, lambda name, value: setattr(self, "params", {**self.params, name: value}))
        super().__init__(title, "measure", [self._choice, self._parameters, self._about])
        self.value = value
        self._rebuild()
        self.params = params
        self.when(self._choice, lambda change: setattr(self, "value", change.new))

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
        self._parameters.offer(None)  # drop those of another measure
        self.params = {}
        with self.updating():
            self._choice.value = self.value
        self._parameters.offer(get_measure(self.value))
        self._show()

    @traitlets.observe("params")
    def _show(self, change: Any = None) -> None:
        measure = self.measure
        self._parameters.show(measure)
        self._about.value = f'<p class="repsim-note">{escape(_first_line(measure))}</p>' + facts(
            {
                "direction": f"{measure.direction}, {_meaning(measure)}",
                "invariances": _invariances(measure),
                "cost": measure.cost,
            }
        )


def choices() -> list[tuple[str, str]]:
    """Titles and names of the measures that compare layers."""
    measures = [get_measure(name) for name in list_measures().index]
    return [(m.title, m.name) for m in measures if type(m).__module__ != OF_LOGITS]


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
