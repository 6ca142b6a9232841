"""What an explorer does beside the notebook, and where it tells how that goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from repsim_nb.widgets.bar import Bar
from repsim_nb.widgets.guard import Alert
from repsim_nb.widgets.job import Job


class Work:
    """Jobs by name, each in place of the last of its name; errors of jobs and of callbacks are shown alike.

    Parameters
    ----------
    bar
        Tells how far a job has come.
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
        """Every callback runs in here: what it raises is shown."""
        with self.alert.guarding():
            yield
        if self.alert.error is not None:
            self._told(self.alert.text)

    def clear(self) -> None:
        """Something new is tried: what went wrong before is no news."""
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
        """Start a job, see `Job`; the bar tells how far it is, unless it is a quiet one."""
        self.give_up(name)
        job = Job(work, done, failed or self.fail, (lambda *_: None) if quiet else self.bar.step)
        job.start()
        self._jobs[name] = job

    def give_up(self, *names: str) -> None:
        """Stop these jobs, as far as there are any."""
        for name in names:
            if name in self._jobs:
                self._jobs[name].give_up()

    def wait(self) -> None:
        """Until nothing runs any more."""
        while any(job.is_alive() for job in [*self._jobs.values()]):
            for job in [*self._jobs.values()]:
                job.join()
