"""The choices of what a population shows of its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from repsim_nb.errors import InputError
from repsim_nb.widgets.choice import Choice
from repsim_nb.widgets.population import squares_shown
from repsim_nb.widgets.population.asked import Asked
from repsim_nb.widgets.population.colours import Colours, columns_of
from repsim_nb.widgets.population.over_steps import SPANS, UNTIL, Moment, steps_of_models
from repsim_nb.widgets.step_slider import StepSlider
from repsim_nb.widgets.views import box

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SAVED = ("measure", "place", "text", "colour", "step", "span")


class ShownChoices(widgets.VBox):
    """A measure, a place, a text, colours, and a training step where the models are checkpoints of several.

    Parameters
    ----------
    redraw, turn
        Called when something else is to be shown, and when only the step or the span has changed.
    """

    def __init__(self, redraw: Callable[[Any], None], turn: Callable[[Any], None]):
        self._result: xr.Dataset | None = None
        self._columns: dict[str, dict[str, Any]] = {}
        self._steps: dict[str, int] = {}
        self._busy = False  # while choices are set here
        self.measure = Choice(description="measure", tooltip="The measure that is shown")
        self.place = Choice(description="layers", tooltip="Which layers are shown")
        self.text = Choice(description="text", tooltip="The text that is shown")
        self.colour = Choice(description="colour by", tooltip="What the colours of the map mean")
        self.calibrated = widgets.Checkbox(description="calibrated scores", indent=False)
        self.step = StepSlider(description="training step", tooltip="The step whose checkpoints are shown")
        self.span = Choice(
            options=[*SPANS.items()], value=UNTIL, description="models", tooltip="Which checkpoints are shown at a step"
        )
        of_result = (self.measure, self.place, self.text, self.colour, self.calibrated)
        self._over = box("repsim-over", self.step, self.span)
        super().__init__([box("repsim-shown", *of_result), self._over])
        for control in of_result:
            control.observe(self._unless_busy(redraw), "value")
        for control in (self.step, self.span):
            control.observe(self._unless_busy(turn), "value")

    def offer(self, result: xr.Dataset, asked: Asked, table: pd.DataFrame | None, wanted: dict[str, Any]) -> None:
        """Offer what a new result holds; what was chosen or is `wanted` stays chosen if it does."""
        self._result, self._columns = result, columns_of(asked.models, table)
        self._steps = steps_of_models(asked.models, table)
        names, places = [str(name) for name in result.data_vars], squares_shown.places(result)
        offered: dict[str, list[tuple[str, Any]]] = {
            "measure": [(result[name].attrs["long_name"], name) for name in names],
            "place": [(squares_shown.in_words(result, place), place) for place in places],
            "text": [(name, name) for name in squares_shown.texts(result)],
            "colour": [("one colour", None), *((name, name) for name in self._columns)],
        }
        self._busy = True
        try:
            for name, options in offered.items():
                control = getattr(self, name)
                control.options = options
                control.layout.display = "" if len(options) > 1 else "none"
                values = [value for _, value in options]
                first = values[-1] if name == "place" and values else (values or [None])[0]
                first = next(iter(self._columns)) if name == "colour" and self._columns else first
                kept = wanted.get(name, control.value)
                control.value = kept if kept in values and kept is not None else first
            self.calibrated.layout.display = "" if asked.uncertainty.resampled else "none"
            self._offer_steps(wanted)
        finally:
            self._busy = False

    def _offer_steps(self, wanted: dict[str, Any]) -> None:
        steps = sorted(set(self._steps.values()))
        kept = wanted.get("step", self.step.value if self.step.steps else None)
        self._over.layout.display = "" if steps else "none"
        self.span.value = wanted.get("span", self.span.value)
        with self.step.hold_sync():
            self.step.steps = steps
            if steps:
                self.step.value = self.step.shown = kept if kept in steps else steps[-1]

    @property
    def values(self) -> dict[str, Any]:
        """What is chosen, by name, for a saved state."""
        return {name: getattr(self, name).value for name in SAVED} | {"step": self.moment.step}

    @property
    def moment(self) -> Moment:
        """The training step that is shown."""
        return Moment(self._steps, self.step.value if self._steps else None, self.span.value)

    def check_step(self, change: Any) -> None:
        """Undo the choice of a step that is not there.

        Raises
        ------
        InputError
            It is not there.
        """
        steps = self.step.steps
        if change.owner is self.step and change.new not in steps:
            self._busy = True
            self.step.value = change.old
            self._busy = False
            raise InputError(f"step={change.new}; the models have the steps {', '.join(map(str, steps))}.")

    @property
    def table(self) -> xr.DataArray:
        """The model x model table that is shown."""
        assert self._result is not None
        return squares_shown.one(self._result, self.measure.value, self.place.value, self.text.value)

    @property
    def select(self) -> dict[str, Any]:
        """Arguments of `sel` for it."""
        assert self._result is not None
        select = squares_shown.selection(self._result, self.place.value, self.text.value)
        return {str(name): value for name, value in select.items()}

    @property
    def title(self) -> str:
        """What it is, in words."""
        assert self._result is not None
        parts = [f"dissimilarity by {self._result[self.measure.value].attrs['long_name']}"]
        if self.place.value is not None:
            parts.append(squares_shown.in_words(self._result, self.place.value))
        if self.text.value is not None:
            parts.append(str(self.text.value))
        return ", ".join(parts)

    @property
    def colours(self) -> Colours:
        """The colours of the models."""
        column = self.colour.value
        return Colours(column, self._columns.get(column)) if column else Colours()

    def _unless_busy(self, act: Callable[[Any], None]) -> Callable[[Any], None]:
        def heard(change: Any) -> None:
            if self._busy:
                return
            try:
                act(change)
            finally:
                self.step.shown = self.step.value  # so that what plays goes on

        return heard
