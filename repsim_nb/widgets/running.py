"""What an explorer and a population share: a run in the background, and choices that are saved and restored."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import traitlets

from repsim_nb.errors import InputError
from repsim_nb.system.memory import readable_size
from repsim_nb.widgets.assignment import Parts
from repsim_nb.widgets.bar import Bar
from repsim_nb.widgets.guard import Alert
from repsim_nb.widgets.takeaway import TakeAway, free_page
from repsim_nb.widgets.work import Work

IDLE, RUNNING, DONE, CANCELLED, FAILED = "idle", "running", "done", "cancelled", "failed"


class Running(Parts):
    """A widget whose Run button computes `result` from what its pickers ask.

    A subclass makes `_bar`, `alert`, `_work` and `_take_away`, and says what is computed (`_job`).
    """

    status = traitlets.Unicode(IDLE, read_only=True)
    error = traitlets.Unicode("", read_only=True)
    state: Any
    result: Any
    _bar: Bar
    alert: Alert
    _work: Work
    _take_away: TakeAway
    _beside: ClassVar[tuple[str, ...]] = ()  # other jobs that `cancel` stops
    _page: ClassVar[str]  # the stem of the pages that its button saves

    @abstractmethod
    def _job(self) -> tuple[Callable[[], Any], Callable[[Any], None]]:
        """What to compute for the choices of this moment, and what shows it."""

    @abstractmethod
    def export(self, folder: str | os.PathLike[str] | None = None) -> list[Path]:
        """Write figures and numbers to a folder."""

    @abstractmethod
    def save_html(self, path: str | os.PathLike[str]) -> Path:
        """Write a page of its own."""

    def run(self) -> Any:
        """Compare, wait, and return `result`.

        Raises
        ------
        InputError
            Or any other error of the run; the widget shows it as well.
        """
        self.start()
        try:
            self.wait()
        except BaseException:  # such as Ctrl-C
            self.cancel()
            raise
        if self.alert.error is not None:
            raise self.alert.error
        result = self.result
        if result is None:
            raise InputError("The run was cancelled before there was a result. Run it again.")
        return result

    def start(self) -> None:
        """Compare in the background, as the Run button does. A run in progress is stopped."""
        self._work.clear()
        with self._work.guard():
            compute, show = self._job()
            began = time.perf_counter()

            def done(found: Any, said: list[str]) -> None:
                show(found)
                self._bar.say(f"Done in {time.perf_counter() - began:.1f} s. {' '.join(said)}")
                self.set_trait("status", DONE)

            def failed(error: Exception) -> None:
                self.set_trait("status", FAILED)
                self._bar.say("")
                self._work.fail(error)

            try:
                self.set_trait("status", RUNNING)
                self._bar.say("Starting")
                self._work.start("run", compute, done, failed)
            except Exception as error:
                failed(error)

    def cancel(self) -> None:
        """Stop a run in progress, and whatever else is computed; earlier results are kept."""
        self._work.give_up("run", *self._beside)
        if self.status == RUNNING:
            self.set_trait("status", CANCELLED)
        self._bar.busy = False
        self._bar.say("Cancelled. The last result is kept." if self.result is not None else "Cancelled.")

    def wait(self) -> None:
        """Wait until nothing runs in the background."""
        self._work.wait()

    @classmethod
    def from_state(cls, text: str) -> Self:
        """Return a widget as it was when its `state` was saved; what was selected is restored after the run.

        Raises
        ------
        InputError
            The text is not a saved state, or names something that does not exist.
        """
        made = cls()
        made.state = text
        return made

    @traitlets.observe("status")
    def _show_status(self, change: Any) -> None:
        self._bar.run.disabled = self.status == RUNNING
        self._bar.busy = self.status == RUNNING

    def _connect(self) -> None:
        """Let the buttons of `_take_away` do what they say."""
        for button, act in (
            (self._take_away.export, self._export_here),
            (self._take_away.page, self._save_page_here),
            (self._take_away.restore, self._restore_here),
        ):
            button.on_click(lambda _, act=act: act())

    def _export_here(self) -> None:
        self._work.clear()
        with self._work.guard():
            files = self.export(self._take_away.folder.value.strip() or None)
            self._bar.say(f"Wrote {len(files)} files to {files[0].parent}.")

    def _save_page_here(self) -> None:
        self._work.clear()
        with self._work.guard():
            file = self.save_html(free_page(self._take_away.folder.value.strip() or None, self._page))
            self._bar.say(f"Wrote {file} ({readable_size(file.stat().st_size)}{self._also_on_page()}).")

    def _also_on_page(self) -> str:
        """More about a page that was saved, in words."""
        return ""

    def _restore_here(self) -> None:
        self._work.clear()
        with self._work.guard():
            self.state = self._take_away.state.value
            self._bar.say("Restored. Press Run.")
