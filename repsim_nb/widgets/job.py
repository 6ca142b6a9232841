"""Work that runs beside the notebook, can be watched, and can be given up at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from threading import Lock, RLock, Thread
from typing import Any

from repsim_nb.progress import watched

_ONE_AT_A_TIME = Lock()  # warnings are recorded for the whole process, and two jobs would only slow each other down


class GivenUp(BaseException):
    """Ends a job that was given up, at its next step."""


class Job(Thread):
    """Runs `work()` in a thread of its own.

    Args:
        work: what is to be done.
        done: called with what it returned and the warnings it gave.
        failed: called with the exception that it or `done` raised.
        step: called before each step with (what is done, steps done, steps in all).

    A job that was given up calls nothing any more, from the moment on when `give_up` returns; its thread ends at the
    next step of the work.
    """

    def __init__(
        self,
        work: Callable[[], Any],
        done: Callable[[Any, list[str]], None],
        failed: Callable[[Exception], None],
        step: Callable[[str, int, int], None],
    ):
        super().__init__(daemon=True, name="repsim-nb explorer")
        self._work, self._done, self._failed, self._step = work, done, failed, step
        self.given_up = False
        self._telling = RLock()  # not to be given up while `done` or `failed` is under way; those give up other jobs

    def give_up(self) -> None:
        """Stop at the next step, and say nothing any more."""
        with self._telling:
            self.given_up = True

    def run(self) -> None:
        """What the thread does."""
        try:
            with _ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught, watched(self._watch):
                warnings.simplefilter("always")
                self._check()
                result = self._work()
            said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
            with self._telling:
                if not self.given_up:
                    self._done(result, list(dict.fromkeys(said)))
        except GivenUp:
            pass
        except Exception as error:
            with self._telling:
                if not self.given_up:
                    self._failed(error)

    def _watch(self, what: str, done: int, of: int) -> None:
        self._check()
        self._step(what, done, of)

    def _check(self) -> None:
        if self.given_up:
            raise GivenUp
