"""Background work of an explorer, and where its progress and errors are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from repsim_nb.widgets.bar import Bar
from repsim_nb.widgets.guard import Alert
from repsim_nb.widgets.job import Job


class Work:
    """Jobs by name, each replacing the last of its name; errors of jobs and callbacks are shown in the same way.

    Parameters
    ----------
    bar
        Shows the progress of a job.
    alert
        Shows what went wrong.
    told
        Called with the text of the alert whenever it changes.
    """

    def __init__(self, bar: Bar, alert: Alert, told: Callable[[str], None]):
        self.bar, self.alert, self._told = bar, alert, told
        self._jobs: dict[str, Job] = {}

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Show whatever is raised inside. Every callback runs in here."""
        with self.alert.guarding():
            yield
        if self.alert.error is not None:
            self._told(self.alert.text)

    def clear(self) -> None:
        """Remove the last error, as something new is tried."""
        self.alert.clear()
        self._told("")

    def fail(self, error: Exception) -> None:
        """Show what went wrong."""
        self.alert.show(error)
        self._told(self.alert.text)

    def start(
        self,
        name: str,
        work: Callable[[], Any],
        done: Callable[[Any, list[str]], None],
        failed: Callable[[Exception], None] | None = None,
        quiet: bool = False,
    ) -> None:
        """Start a job, see `Job`; the bar shows its progress unless `quiet`."""
        self.give_up(name)
        job = Job(work, done, failed or self.fail, (lambda *_: None) if quiet else self.bar.step)
        job.start()
        self._jobs[name] = job

    def give_up(self, *names: str) -> None:
        """Stop these jobs, if they are running."""
        for name in names:
            if name in self._jobs:
                self._jobs[name].give_up()

    def wait(self) -> None:
        """Wait until nothing is running."""
        while any(job.is_alive() for job in [*self._jobs.values()]):
            for job in [*self._jobs.values()]:
                job.join()
