"""What an explorer shows of its results: maps and curves, calibrated or not, at one training step or without any."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from repsim_nb.widgets.answer import ByStep
from repsim_nb.widgets.map import view_of
from repsim_nb.widgets.step_slider import StepSlider
from repsim_nb.widgets.views import Maps, Pair, box, curves_as_html, has_calibrated, shared_limits, shown

if TYPE_CHECKING:
    import xarray as xr


class LayerViews(widgets.VBox):
    """Maps of all models B and the curves beside them, all steps on one scale.

    What was drawn once is kept until there are new results, so that a step that comes again is only sent.

    Parameters
    ----------
    chosen
        Called with (model, pair of layers) when the user chooses a cell.
    moved
        Called with the step to which the user moves the slider.
    changed
        Called when the user ticks or unticks the box.

    Attributes
    ----------
    calibrated
        The box that asks for calibrated scores; hidden if the results have none.
    slider
        The slider over training steps; hidden if there are none.
    maps, curves
        The maps and the curves.
    by_step
        The results, as `answers` returns them.
    step
        The step that is shown; None if there are none.
    """

    def __init__(self, chosen: Callable[[str, Pair], None], moved: Callable[[int], None], changed: Callable[[], None]):
        self.by_step: ByStep = {}
        self.step: int | None = None
        self._limits = (0.0, 1.0)
        self._drawn: dict[Any, Any] = {}
        self._taking = False
        self.calibrated = widgets.Checkbox(description="calibrated scores: 0 = unrelated, 1 = same", indent=False)
        self.calibrated.layout.display = "none"
        self.slider = StepSlider(description="training step", tooltip="The checkpoints whose maps are shown")
        self.slider.layout.display = "none"
        self.maps, self.curves = Maps(chosen), widgets.HTML()
        self.curves.add_class("repsim-curves")
        super().__init__([self.calibrated, self.slider, box("repsim-results", self.maps, self.curves)])
        self.add_class("repsim-layer-views")
        self.calibrated.observe(lambda _: changed(), "value")
        self._moved = moved
        self.slider.observe(self._slide, "value")

    @property
    def results(self) -> dict[str, xr.DataArray]:
        """Model B -> its result at the step that is shown."""
        return self.by_step.get(self.step, {})

    @property
    def drawn(self) -> ByStep:
        """The results as they are drawn: calibrated if that is asked and possible."""
        return {step: shown(results, self.calibrated.value) for step, results in self.by_step.items()}

    @property
    def every(self) -> list[xr.DataArray]:
        """The results of all steps."""
        return [result for results in self.by_step.values() for result in results.values()]

    def take(self, found: ByStep, step: int | None) -> None:
        """Make the maps of new results, beginning with this step, if they have it; `appear` shows them."""
        self.by_step, self.step = found, step if step in found else [*found][-1]
        self.calibrated.layout.display = None if has_calibrated(self.results) else "none"
        self.redraw()
        self._taking = True
        try:
            with self.slider.hold_sync():
                self.slider.steps = [each for each in found if each is not None]
                if self.step is not None:
                    self.slider.value = self.slider.shown = self.step
        finally:
            self._taking = False

    def redraw(self) -> None:
        """Draw all anew, as after a change of what is drawn."""
        self._drawn.clear()
        drawn = self.drawn
        self._limits = shared_limits(result for results in drawn.values() for result in results.values())
        self.maps.take(drawn[self.step], self._limits)

    def appear(self) -> None:
        """Put new maps in place of the old ones."""
        self.maps.appear()

    def turn(self, step: int) -> None:
        """Show another step in the maps that are there."""
        self.step = step
        drawn = shown(self.results, self.calibrated.value)
        self.maps.turn(drawn, {b: self._once((step, b), partial(view_of, drawn[b], self._limits)) for b in drawn})
        self.slider.value = step

    def show(self, against: str, pair: Pair | None) -> None:
        """Mark the selected cell, and draw the curves that belong to it."""
        self.maps.mark(against, pair)
        if self.by_step:
            drawn = shown(self.results, self.calibrated.value)
            limits = self._limits if self.step is not None else None
            draw = partial(curves_as_html, drawn, against, pair, limits)
            self.curves.value = self._once((self.step, against, pair), draw)

    def _slide(self, change: Any) -> None:
        if self._taking:
            return
        try:
            self._moved(change.new)
        finally:
            self.slider.shown = change.new  # so that what plays goes on

    def _once(self, key: Any, draw: Callable[[], Any]) -> Any:
        if key not in self._drawn:
            self._drawn[key] = draw()
        return self._drawn[key]
