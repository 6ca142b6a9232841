"""Turn terminating signals into a single KeyboardInterrupt, like Ctrl-C, that cannot get lost."""

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
RETRY_SECONDS = 0.05  # after which a lost interrupt is raised again


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside this context, SIGTERM and SIGHUP raise KeyboardInterrupt once; later ones do not disturb the cleanup.

    On Windows so does SIGBREAK, which Ctrl-Break and closing a console send.

    Python drops exceptions raised in a destructor or a garbage collector callback. If that happens to the interrupt,
    or to that of Ctrl-C, it is raised again. Signals that were ignored from the start, as with nohup, stay ignored.
    """
    interrupted = swallowed = False
    over = threading.Event()
    reminders: list[threading.Thread] = []

    def interrupt(_: int, frame: FrameType | None) -> None:
        nonlocal interrupted, swallowed
        if frame is not None and frame.f_code is lost.__code__:
            return  # Python would drop it there as well; the reminder comes back
        if swallowed or not interrupted:
            interrupted, swallowed = True, False
            raise KeyboardInterrupt

    def remind() -> None:
        while not over.wait(RETRY_SECONDS):
            if swallowed:
                tell_main_thread()  # repeatedly, since one that arrives just before a system call does not end it

    def lost(about: Any) -> None:
        nonlocal interrupted, swallowed
        if not issubclass(about.exc_type, KeyboardInterrupt):
            hook(about)
            return
        interrupted = True  # nothing may be raised while the reminder starts
        if not reminders:
            reminders.append(threading.Thread(target=remind, daemon=True))
            reminders[0].start()
        swallowed = True

    hook, sys.unraisablehook = sys.unraisablehook, lost
    handled = [number for number in ENDING if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in handled}
    try:
        yield
    finally:
        interrupted, swallowed = True, False
        over.set()
        for reminder in reminders:  # wait for it, since a late signal would end the process
            reminder.join()
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def tell_main_thread() -> None:
    """Send a real signal if possible, so that a sleeping main thread wakes up."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        _thread.interrupt_main(signal.SIGTERM)
