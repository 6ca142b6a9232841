"""Signals that end a command become one KeyboardInterrupt, as Ctrl-C does, which nothing on the way can swallow."""

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
AGAIN = 0.05  # seconds after which an interrupt that was lost is raised again


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise KeyboardInterrupt once; later ones do not disturb the cleaning up.

    So does SIGBREAK on Windows, which Ctrl-Break and the closing of a console send.

    Python drops an exception that is raised in a destructor or a callback of the garbage collector. Where that happens
    to the interrupt, or to the one of Ctrl-C, it is raised again. A signal that the process was started to ignore, as
    nohup does, stays ignored.
    """
    told = False
    reminders: list[threading.Thread] = []

    def interrupt(*_: object) -> None:
        nonlocal told
        if not told:
            told = True
            raise KeyboardInterrupt

    def remind() -> None:
        while True:
            time.sleep(AGAIN)
            if told:
                return
            tell_main_thread()  # more than once: one that comes just before a system call does not end it

    def lost(about: Any) -> None:
        nonlocal told
        if not issubclass(about.exc_type, KeyboardInterrupt):
            hook(about)
            return
        told = False
        reminders.append(threading.Thread(target=remind, daemon=True))
        reminders[-1].start()

    hook, sys.unraisablehook = sys.unraisablehook, lost
    heard = [number for number in ENDING if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        told = True
        for reminder in reminders:  # before its signal would end the process
            reminder.join()
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def tell_main_thread() -> None:
    """That it is to end: for real where that can be done, so that it does not sleep on."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        _thread.interrupt_main(signal.SIGTERM)
