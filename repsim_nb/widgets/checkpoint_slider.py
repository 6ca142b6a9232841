"""The layer x layer map at each checkpoint of a training run, with a slider over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from repsim_nb.depth import maps_of
from repsim_nb.errors import InputError
from repsim_nb.figures.scales import check
from repsim_nb.widgets.assignment import Parts
from repsim_nb.widgets.guard import Alert
from repsim_nb.widgets.map import LayerMap, view_of
from repsim_nb.widgets.picker import Frame
from repsim_nb.widgets.step_slider import StepSlider
from repsim_nb.widgets.views import shared_limits

if TYPE_CHECKING:
    import xarray as xr


class CheckpointSlider(Parts):
    """The map of every layer against every layer at one checkpoint, all checkpoints on one colour scale.

    The slider moves with the mouse, or with the arrow keys, Home and End, and a button plays the steps. A chosen cell
    stays chosen, so that its value can be followed over training.

    Parameters
    ----------
    course
        Result of `depth.over_training` with maps=True.
    step
        The step to begin with; None is the first.

    Attributes
    ----------
    step
        Trait: the step whose map is shown.
    slider, layer_map
        The slider and the map.

    Raises
    ------
    InputError
        The course has no maps, or values that cannot be drawn; there is no such step.

    Examples
    --------
    >>> from repsim_nb.depth import over_training
    >>> shown = CheckpointSlider(over_training("tiny-neox-w32-d2", ["step0"], n_rows=100, maps=True))
    >>> shown.step, shown.result.dims
    (0, ('layer_a', 'layer_b'))
    """

    step = traitlets.Int(help="the step whose map is shown")

    def __init__(self, course: xr.Dataset, step: int | None = None):
        self._results = maps_of(course)
        for result in self._results.values():
            check(result, "CheckpointSlider")
        self._limits = shared_limits(self._results.values())
        self._views: dict[int, dict[str, Any]] = {}
        steps = list(self._results)
        self.slider = StepSlider(
            steps=steps,
            value=steps[0],
            shown=steps[0],
            description="training step",
            tooltip="The checkpoint whose map is shown",
        )
        self.layer_map, self.alert = LayerMap(self._results[steps[0]], self._limits), Alert()
        self._views[steps[0]] = self.layer_map.view
        super().__init__([Frame("Map over training"), self.slider, self.layer_map, self.alert])
        self.add_class("repsim")
        self.add_class("repsim-checkpoints")
        self.step = steps[0] if step is None else step
        self.slider.observe(self._moved, "value")

    @property
    def result(self) -> xr.DataArray:
        """The map that is shown, as `compare` returns it."""
        return self._results[self.step]

    def _moved(self, change: Any) -> None:
        self.alert.clear()
        with self.alert.guarding():
            self.step = change.new
        self.slider.shown = change.new

    @traitlets.validate("step")
    def _valid(self, proposal: Any) -> int:
        given = proposal["value"]
        if given not in self._results:
            raise InputError(f"step={given!r}; the course has the steps {', '.join(map(str, self._results))}.")
        return int(given)

    @traitlets.observe("step")
    def _show(self, change: Any) -> None:
        with self.alert.guarding():
            if change.new not in self._views:
                self._views[change.new] = view_of(self._results[change.new], self._limits)
            self.layer_map.view = self._views[change.new]
            self.slider.value = self.slider.shown = change.new
