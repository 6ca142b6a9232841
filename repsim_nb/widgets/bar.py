"""The bar of an explorer: run and cancel, how far a run has come, and what it would take."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import ipywidgets as widgets


class Bar(widgets.Box):
    """Two buttons, a bar of progress, and two lines of text.

    Parameters
    ----------
    run, cancel
        Called when their buttons are pressed.
    """

    def __init__(self, run: Callable[[], None], cancel: Callable[[], None]):
        self.run = widgets.Button(description="Run", tooltip="Compare all chosen layers", button_style="primary")
        self.cancel = widgets.Button(description="Cancel", tooltip="Stop; the last result stays", disabled=True)
        self.progress = widgets.FloatProgress(0.0, min=0.0, max=1.0)
        self.said, self.estimate = widgets.HTML(), widgets.HTML()
        self.progress.layout.display = "none"
        named = {"run": self.run, "cancel": self.cancel, "progress": self.progress}
        named |= {"status": self.said, "estimate": self.estimate}
        for name, part in named.items():
            part.add_class(f"repsim-{name}")
        super().__init__([*named.values()])
        self.add_class("repsim-bar")
        self.run.on_click(lambda _: run())
        self.cancel.on_click(lambda _: cancel())

    @property
    def busy(self) -> bool:
        """Whether there is something to cancel; setting it begins or ends the bar of progress."""
        return not self.cancel.disabled

    @busy.setter
    def busy(self, busy: bool) -> None:
        self.cancel.disabled = not busy
        self.progress.value = 0.0
        self.progress.layout.display = "" if busy else "none"

    def say(self, text: str) -> None:
        """What is under way, or has been done."""
        self.said.value = f'<div role="status">{escape(text)}</div>'

    def step(self, what: str, at: int, of: int) -> None:
        """How far it has come."""
        self.progress.value = at / of if of else 0.0
        self.say(f"{what}: {at} of {of}")

    def tell_cost(self, words: str) -> None:
        """What a run would take."""
        self.estimate.value = f'<span class="repsim-note">{escape(words)}</span>'
