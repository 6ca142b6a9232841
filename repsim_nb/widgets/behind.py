"""Details of the selected cell, computed in the background and shown when ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from repsim_nb.errors import InputError
from repsim_nb.widgets.answer import Cache
from repsim_nb.widgets.details import Closeup, StitchPanel, closeup_as_html, look, run_stitch
from repsim_nb.widgets.question import Question
from repsim_nb.widgets.views import Pair, box, heading
from repsim_nb.widgets.work import Work

if TYPE_CHECKING:
    import xarray as xr

TOO_LARGE = (
    '<p class="repsim-note">Activations of this size are not kept in memory, so there is no close-up. '
    "Choose fewer rows or layers.</p>"
)


class Behind(widgets.Box):
    """The selected pair of layers, its close-up, and a stitch on demand; hidden until `show`.

    Parameters
    ----------
    work
        Runs close-ups and stitches.
    kept
        The cache of models and activations.
    changed
        Called when a stitch has been made.

    Attributes
    ----------
    stitched
        The arguments of the stitch shown; None if there is none.
    seen
        Every close-up and stitch made for the results, by (name of the map, pair of layers): HTML by kind.
    """

    def __init__(self, work: Work, cache: Cache, changed: Callable[[], None]):
        self._work, self._cache, self._changed = work, cache, changed
        self._asked: tuple[Question, str, Pair, str] | None = None
        self.seen: dict[tuple[str, Pair], dict[str, list[str]]] = {}
        self.pair, self.closeup, self.stitch = widgets.HTML(), Closeup(), StitchPanel(self._start_stitch)
        self.pair.add_class("repsim-pair")
        panels = box("repsim-panels", self.closeup.points, self.closeup.tokens, self.stitch)
        super().__init__([self.pair, panels])
        self.add_class("repsim-details")
        self.clear()

    def clear(self) -> None:
        """Select no pair, and stop what is running for the last one."""
        self._work.give_up("look", "stitch")
        self._asked = None
        self.stitched: dict[str, Any] | None = None
        self.layout.display, self.pair.value = "none", ""
        self.closeup.clear()

    @property
    def panels(self) -> dict[tuple[str, Pair], list[str]]:
        """All that was seen, by (name of the map, pair of layers), as panels side by side."""
        return {where: [*made.get("closeup", []), *made.get("stitch", [])] for where, made in self.seen.items()}

    def show(self, question: Question, b: str, pair: Pair, cell: xr.DataArray, name: str) -> None:
        """Show a pair of layers of the map `name` with its value, and its close-up when it is ready."""
        self._asked = question, b, pair, name
        labels = f"{question.model_a}, layer {pair[0]}", f"{b}, layer {pair[1]}"
        self.stitch.reset(*labels)
        self.pair.value = heading(labels, cell)
        self.layout.display = ""
        if "closeup" in self.seen.get((name, pair), {}):
            self.closeup.show(self.seen[name, pair]["closeup"])
            return
        if not self._cache.holds(question, b):
            self.closeup.points.value = TOO_LARGE
            return

        def done(found: Any, said: list[str]) -> None:
            with self._work.guard():
                panels = closeup_as_html(labels, question.sampling.rows, *found)
                self.seen.setdefault((name, pair), {})["closeup"] = panels
                self.closeup.show(panels)

        self._work.start("look", lambda: look(question, b, pair, self._cache), done)

    def _start_stitch(self) -> None:
        """Stitch the selected pair in the background."""
        work, bar = self._work, self._work.bar
        work.clear()
        with work.guard():
            if self._asked is None:
                raise InputError("Select a cell of the map first. Its layers are stitched.")
            question, b, pair, name = self._asked
            how, prompt = self.stitch.arguments(), self.stitch.prompt.value

            def done(stitched: Any, said: list[str]) -> None:
                self.stitch.show(stitched, prompt)
                self.seen.setdefault((name, pair), {})["stitch"] = [self.stitch.heading.value + self.stitch.found.value]
                self.stitched = how
                self._changed()
                bar.busy = False
                bar.say("Stitched.")

            def failed(error: Exception) -> None:
                bar.busy = False
                bar.say("")
                work.fail(error)

            try:
                bar.busy = True
                bar.say("Stitching")
                work.start("stitch", lambda: run_stitch(question, b, pair, self._cache, how), done, failed)
            except Exception as error:
                failed(error)
