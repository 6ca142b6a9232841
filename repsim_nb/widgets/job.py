"""Work that runs beside the notebook, can be watched, and can be given up at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from threading import Lock, RLock, Thread, local
from typing import Any

from repsim_nb.system.progress import watched

_ONE_AT_A_TIME = Lock()  # two jobs would only slow each other down
_HEARD = local()  # `said`: warnings of this thread, in threads of jobs


def _listen() -> None:
    """Have warnings of jobs kept for their status, and all others shown as before.

    `warnings.catch_warnings` will not do: it records those of every thread, and two of them that overlap leave the
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
    """Ends a job that was given up, at its next step."""


def _as_exception(error: BaseException) -> Exception:
    """The error, or what stands for one that would end more than the job if it were raised again."""
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
        What is to be done.
    done
        Called with what it returned and the warnings it gave.
    failed
        Called with the exception that it or `done` raised, whatever it is: a tokenizer's panic and SystemExit, which
        are no Exceptions, as the cause of a RuntimeError that names them.
    step
        Called before each step with (what is done, steps done, steps in all).

    Notes
    -----
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
