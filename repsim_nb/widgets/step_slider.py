"""A slider over training steps, one notch for each."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

from repsim_nb.widgets.picker import STYLE


class StepSlider(anywidget.AnyWidget):
    """A slider of evenly spaced notches, however the steps are spaced; the browser's own, with its keys.

    Attributes
    ----------
    steps
        Trait: the steps, ascending.
    value
        Trait: the chosen step. Not checked against the steps.
    description, tooltip
        Traits: the label and the tooltip.
    """

    _esm = Path(__file__).with_name("step_slider.js")
    _css = STYLE
    steps = traitlets.List(traitlets.Int()).tag(sync=True)
    value = traitlets.Int().tag(sync=True)
    description = traitlets.Unicode().tag(sync=True)
