"""The bar of an explorer: run, cancel, progress, and the estimated cost of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape

import ipywidgets as widgets

PAUSE = 0.1


class Bar(widgets.Box):
    """Two buttons, a progress bar, and two lines of text.

    Parameters
    ----------
    run, cancel
        Called when their buttons are pressed.
    """

    def __init__(self, run: Callable[[], None], cancel: Callable[[], None]):
        self.run = widgets.Button(description="Run", tooltip="Compare all chosen layers", button_style="primary")
        self.cancel = widgets.Button(description="Cancel", tooltip="Stop; the last result is kept", disabled=True)
        self.progress = widgets.FloatProgress(0.0, min=0.0, max=1.0)
        self.said, self.estimate = widgets.HTML(), widgets.HTML()
        self.progress.layout.display = "none"
        named = {"run": self.run, "cancel": self.cancel, "progress": self.progress}
        named |= {"status": self.said, "estimate": self.estimate}
        for name, part in named.items():
            part.add_class(f"repsim-{name}")
        super().__init__([*named.values()])
        self.add_class("repsim-bar")
        self._begun = self._told = time.monotonic()
        self.run.on_click(lambda _: run())
        self.cancel.on_click(lambda _: cancel())

    @property
    def busy(self) -> bool:
        """Whether there is something to cancel; setting it shows or hides the progress bar."""
        return not self.cancel.disabled

    @busy.setter
    def busy(self, busy: bool) -> None:
        self.cancel.disabled = not busy
        self.progress.value = 0.0
        self.progress.layout.display = "" if busy else "none"

    def say(self, text: str) -> None:
        """Show what is running, or has been done."""
        self.said.value = f'<div role="status">{escape(text)}</div>'

    def step(self, what: str, at: int, of: int) -> None:
        """Show progress, and the seconds that are left once there is something to tell them from.

        Nothing is sent to the browser more often than every `PAUSE` seconds: a flood of messages delays all others, and
        a slow machine may lose some.
        """
        now = time.monotonic()
        if at == 0:
            self._begun = now
        if now - self._told < PAUSE:
            return
        self._told = now
        self.progress.value = at / of if of else 0.0
        left = (now - self._begun) * (of - at) / at if at else 0.0
        self.say(f"{what}: {at:,} of {of:,}" + (f", about {left:.0f} s left" if left >= 1 else ""))

    def tell_cost(self, words: str) -> None:
        """Show the estimated cost of a run."""
        self.estimate.value = f'<span class="repsim-note">{escape(words)}</span>'
