"""A slider over training steps, one notch for each, that can be played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from repsim_nb.widgets.picker import STYLE

SLIDER = Path(__file__).with_name("step_slider.js")
PACES = [0.5, 1.0, 2.0, 5.0]  # steps per second


class StepSlider(anywidget.AnyWidget):
    """A slider of evenly spaced notches, however the steps are spaced; the browser's own, with its keys.

    A button plays the steps from the chosen one to the last. While they play, the next step is chosen only after the
    last one has been drawn.

    Attributes
    ----------
    steps
        Trait: the steps, ascending. Without any the slider is hidden.
    value
        Trait: the chosen step. Not checked against the steps.
    shown
        Trait: the step that has been drawn last; whoever draws it sets it.
    pace, paces
        Traits: how many steps are played in a second, and what is offered.
    description, tooltip
        Traits: the label and the tooltip.
    """

    _esm = SLIDER
    _css = STYLE
    steps = traitlets.List(traitlets.Int()).tag(sync=True)
    value = traitlets.Int().tag(sync=True)
    shown = traitlets.Int().tag(sync=True)
    pace = traitlets.Float(1).tag(sync=True)
    paces = traitlets.List(traitlets.Float(), PACES).tag(sync=True)
    description = traitlets.Unicode().tag(sync=True)

    @traitlets.observe("steps")
    def _hide(self, change: Any) -> None:
        self.layout.display = "" if self.steps else "none"


def stand_in(steps: list[int], value: int, description: str) -> dict[str, Any]:
    """What the script of a slider needs in a saved page."""
    return {"steps": steps, "value": value, "shown": value, "pace": 1, "paces": PACES, "description": description}
