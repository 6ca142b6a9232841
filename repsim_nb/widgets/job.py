"""Work in the background that can be watched, and stopped at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from threading import Lock, RLock, Thread, local
from typing import Any

from repsim_nb.system.progress import watched

_ONE_AT_A_TIME = Lock()  # two jobs would only slow each other down
_HEARD = local()  # `said`: warnings of this thread, in threads of jobs


def _listen() -> None:
    """Collect warnings of jobs for their status, and show all others as before.

    `warnings.catch_warnings` does not work here: it records warnings of every thread, and two that overlap leave the
    recording on for good.
    """
    before = warnings.showwarning
    if getattr(before, "of_jobs", False):
        return

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        said = getattr(_HEARD, "said", None)
        if said is None:
            before(message, category, *where, **more)
        elif issubclass(category, UserWarning):
            said.append(str(message))

    show.of_jobs = True  # type: ignore[attr-defined]
    warnings.showwarning = show


class GivenUp(BaseException):
    """Ends a stopped job at its next step."""


def _as_exception(error: BaseException) -> Exception:
    """The error, wrapped if it is no Exception and raising it again would end more than the job."""
    if isinstance(error, Exception):
        return error
    standing = RuntimeError(f"{type(error).__name__}: {error}")
    standing.__cause__ = error
    return standing


class Job(Thread):
    """Runs `work()` in a thread of its own.

    Parameters
    ----------
    work
        The function to run.
    done
        Called with what it returned and the warnings it gave.
    failed
        Called with any exception that `work` or `done` raised. Those that are no Exception, such as a tokenizer's panic
        or SystemExit, are the cause of a RuntimeError that names them.
    step
        Called before each step with (description, steps done, steps in all).

    Notes
    -----
    Once `give_up` has returned, the job calls nothing any more; its thread ends at the next step of the work.
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
        self._telling = RLock()  # held while `done` or `failed` runs; those may stop other jobs

    def give_up(self) -> None:
        """Stop at the next step, without calling anything."""
        with self._telling:
            self.given_up = True

    def run(self) -> None:
        """What the thread does."""
        try:
            with _ONE_AT_A_TIME, watched(self._watch):
                _listen()
                said: list[str] = []
                _HEARD.said = said
                self._check()
                result = self._work()
            _HEARD.said = None
            with self._telling:
                if not self.given_up:
                    self._done(result, list(dict.fromkeys(said)))
        except GivenUp:
            pass
        except BaseException as error:
            with self._telling:
                if not self.given_up:
                    self._failed(_as_exception(error))

    def _watch(self, what: str, done: int, of: int) -> None:
        self._check()
        self._step(what, done, of)

    def _check(self) -> None:
        if self.given_up:
            raise GivenUp
