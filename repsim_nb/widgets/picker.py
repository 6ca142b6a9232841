"""Base of all pickers: a styled box with a heading and a `value` that Python can read, set and observe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from repsim_nb.widgets.assignment import Parts
from repsim_nb.widgets.guard import Alert

STYLE = Path(__file__).with_name("style.css")
FULL = {"width": "100%", "min_width": "0"}  # a dict, so that each control has its own Layout
NARROW = {"description_width": "initial"}


class Picker(Parts):
    """A titled group of controls. A subclass has a trait `value`, and keeps it and its controls in sync.

    Controls are one below the other, which is also the order of the Tab key. Bad values raise when set from Python, and
    are shown in `alert` when entered.
    """

    def __init__(self, title: str, kind: str, controls: list[widgets.Widget]):
        self.heading = widgets.HTML(f'<div class="repsim-title">{escape(title)}</div>')
        self.alert = Alert()
        self._busy = False
        super().__init__([Frame(title), self.heading, *controls, self.alert])
        self.add_class("repsim")
        self.add_class("repsim-picker")
        self.add_class(f"repsim-{kind}-picker")

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Inside, controls are set from the value and do not set it in turn."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    def when(self, control: widgets.Widget, do: Callable[[Any], None]) -> None:
        """Call `do(change)` when the user changes the control."""

        def entered(change: Any) -> None:
            if not self._busy:
                self.alert.clear()
                with self.alert.guarding():
                    do(change)

        control.observe(entered, "value")


class Frame(anywidget.AnyWidget):
    """An invisible widget that gives the one around it the package's style, key handling and a name."""

    _esm = Path(__file__).with_name("frame.js")
    _css = STYLE
    label = traitlets.Unicode().tag(sync=True)

    def __init__(self, label: str):
        super().__init__(label=label, layout={"display": "none"})


def facts(pairs: dict[str, str]) -> str:
    """Names and values as an HTML list of terms."""
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs.items() if v)
    return f'<dl class="repsim-facts">{items}</dl>'
