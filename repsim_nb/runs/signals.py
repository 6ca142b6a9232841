"""Signals that end a command become one KeyboardInterrupt, as Ctrl-C does, which nothing on the way can swallow."""

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
AGAIN = 0.05  # seconds after which an interrupt that was lost is raised again


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise KeyboardInterrupt once; later ones do not disturb the cleaning up.

    Python drops an exception that is raised in a destructor or a callback of the garbage collector. Where that happens
    to the interrupt, or to the one of Ctrl-C, it is raised again. A signal that the process was started to ignore, as
    nohup does, stays ignored.
    """
    told = False

    def interrupt(*_: object) -> None:
        nonlocal told
        if not told:
            told = True
            raise KeyboardInterrupt

    def lost(about: Any) -> None:
        nonlocal told
        if not issubclass(about.exc_type, KeyboardInterrupt):
            hook(about)
            return
        told = False
        again = threading.Timer(AGAIN, _thread.interrupt_main, [signal.SIGTERM])
        again.daemon = True
        again.start()

    hook, sys.unraisablehook = sys.unraisablehook, lost
    heard = [number for number in ENDING if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
