"""A signal ends a command once, whatever happens to swallow it."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from functools import partial

import pytest

from repsim_nb.runs.signals import interruptible

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)


@pytest.fixture(autouse=True)
def unignored():
    """Signals as a terminal leaves them; whoever starts the tests may have them ignored, as nohup does."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Falls:
    """Sends a signal in its destructor, where Python drops the exception that the signal raises."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


def in_a_destructor(number):
    Falls(number)


def in_a_weak_reference(number):
    class Thing:
        pass

    thing = Thing()
    weakref.finalize(thing, signal.raise_signal, number)
    del thing


@pytest.fixture(autouse=True)
def collector_alone():
    """Without what others have it call, such as Dask, which an interrupt in between would leave half done."""
    others = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = others


def in_the_collector(number):
    def collected(*_):
        gc.callbacks.remove(collected)
        signal.raise_signal(number)

    gc.callbacks.append(collected)
    gc.collect()


def lasts(place, number):
    with interruptible():
        place(number)
        time.sleep(30)


@pytest.mark.parametrize("place", [in_a_destructor, in_a_weak_reference, in_the_collector, signal.raise_signal])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_interruptible_raises_again_what_was_swallowed(place, number, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)  # where weakref.finalize tells
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            lasts(place, number)
    finally:
        signal.signal(signal.SIGINT, before)


def test_interruptible_is_not_lost_where_threads_start_slowly(monkeypatch):
    start = threading.Thread.start

    def slowly(thread):
        start(thread)
        time.sleep(0.3)  # as on a crowded machine, where the reminder comes before this returns

    monkeypatch.setattr(threading.Thread, "start", slowly)
    with pytest.raises(KeyboardInterrupt):
        lasts(in_the_collector, signal.SIGTERM)


def test_interruptible_leaves_the_cleaning_up_alone_and_puts_back_what_was_there():
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    hook, cleaned = sys.unraisablehook, []

    def work():
        with interruptible():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGHUP)
                cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert cleaned == [True]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == handlers
    assert sys.unraisablehook is hook


def test_interruptible_goes_on_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


COMMAND = """
import sys, time
from pathlib import Path
import repsim_nb
from repsim_nb import stitching, zoo
import repsim_nb.runs.command_options  # reads the options of what is replaced below
from repsim_nb.system.atomic import atomic_folder
from repsim_nb.cli.command import main

class Falls:
    def __del__(self):
        print("begun", flush=True)
        time.sleep(60)  # the signal comes here, where its exception is dropped

def work(*given, **how):
    with atomic_folder(Path(sys.argv[1], "model")):
        Falls()
        time.sleep(60)

zoo.build = stitching.stitching_table = repsim_nb.compare = work
repsim_nb.estimate = lambda *given, **how: "an estimate"
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (["zoo", "build", "tiny", "--out", "OUT"], signal.SIGTERM),
        (["stitch", "a", "b", "--out", "OUT/x.nc"], signal.SIGHUP),
        (["compare", "a", "b", "--out", "OUT/x.nc"], signal.SIGINT),
    ],
)
def test_a_command_that_a_signal_reaches_in_a_destructor_ends_and_leaves_nothing(tmp_path, command, number):
    given = [word.replace("OUT", str(tmp_path)) for word in command]
    handled = partial(signal.signal, number, signal.SIG_DFL)
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path), *given], env=dict(os.environ), stdout=-1, stderr=-1, text=True,
        preexec_fn=handled,
    ) as running:  # fmt: skip
        while "begun" not in running.stdout.readline():
            assert running.poll() is None, running.stderr.read()
        running.send_signal(number)
        stderr = running.communicate(timeout=50)[1]
    assert (running.returncode, stderr) == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []
