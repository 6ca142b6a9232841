"""What an explorer does beside the notebook: it can be watched, cancelled, and fail, and says so."""

import time
import warnings
from threading import Event
from unittest.mock import Mock

import matplotlib.pyplot as plt
import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.system.progress import steps, watched
from repsim_nb.widgets import behind
from repsim_nb.widgets import explorer as explorers
from repsim_nb.widgets.job import Job
from repsim_nb.widgets.picture import empty, inline_svg

A, B = "tiny-neox-w32-d2", "tiny-neox-w64-d2"
TEXTS = tuple(f"Document {i} says: import module_{i} as m{i}; the value of x is {i * 7}." for i in range(12))
SMALL = {"corpus": TEXTS, "n_rows": 80}


class PanicException(BaseException):
    """As the tokenizers library raises it at a bug of its own: no Exception."""


class Interrupted(dict):
    """Jobs, while which are waited for somebody presses Ctrl-C."""

    def values(self):
        raise KeyboardInterrupt


def test_cancelling_leaves_the_last_result_and_takes_effect_at_once(monkeypatch):
    explorer = rs.Explorer(A, B, **SMALL)
    first = explorer.run()
    began = []

    def slow(*args):
        for _ in steps(range(10_000), "slowly"):
            began.append(True)
            time.sleep(0.01)

    monkeypatch.setattr("repsim_nb.widgets.explorer.answers", slow)
    explorer.start()
    while not began:
        time.sleep(0.01)
    assert explorer.status == "running"
    explorer._bar.cancel.click()
    assert explorer.status == "cancelled"
    explorer.wait()  # the thread ends at its next step, long before ten thousand
    assert len(began) < 10_000
    assert explorer.result is first
    assert explorer.error == ""


def test_extraction_can_be_watched_and_stopped():
    seen = []

    class Enough(Exception):
        pass

    def watch(what, done, of):
        seen.append((what, done, of))
        raise Enough

    with pytest.raises(Enough), watched(watch):
        rs.extract(A, corpus=list(TEXTS), n_rows=80)
    assert [step[:2] for step in seen] == [(A, 0)]


def test_a_job_that_was_given_up_says_nothing_any_more():
    said = []
    job = Job(lambda: list(steps(range(3), "x")), lambda *a: said.append(a), said.append, lambda *a: job.give_up())
    job.start()
    job.join()
    assert said == []
    other = Job(lambda: 1, lambda *a: said.append(a), said.append, lambda *a: None)
    other.start()
    other.join()
    assert said == [(1, [])]


def test_a_job_hears_its_own_warnings_and_leaves_those_of_others_alone():
    heard, told, inside, outside = [], [], Event(), Event()

    def work():
        inside.set()
        outside.wait(10)
        warnings.warn("of the job", stacklevel=1)

    job = Job(work, lambda result, said: told.extend(said), told.append, lambda *a: None)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *where, **more: heard.append(str(message))
        job.start()
        inside.wait(10)
        warnings.warn("of a cell", stacklevel=1)
        outside.set()
        job.join()
    assert (told, heard) == (["of the job"], ["of a cell"])


def test_a_picture_leaves_settings_of_figures_alone(monkeypatch):
    ax = empty(1, 1)
    plt.rcParams["svg.hashsalt"] = "mine"
    monkeypatch.setattr(ax.figure, "savefig", lambda out, **how: (plt.rc("font", size=7), out.write("<svg ")))
    inline_svg(ax, "")  # in a thread of its own, while a cell sets the size of the font
    assert (plt.rcParams["font.size"], plt.rcParams["svg.hashsalt"]) == (7, "mine")
    plt.rcdefaults()


def test_giving_up_waits_for_what_is_being_said():
    order, speaking = [], Event()

    def done(*said):
        speaking.set()
        time.sleep(0.2)
        order.append("said")

    job = Job(lambda: 1, done, order.append, lambda *a: None)
    job.start()
    speaking.wait(10)
    job.give_up()
    order.append("given up")
    job.join()
    assert order == ["said", "given up"]


def test_a_result_that_cannot_be_shown_is_a_failed_run(monkeypatch):
    explorer = rs.Explorer(A, B, **SMALL)
    monkeypatch.setattr(explorer._views.maps, "take", lambda *found: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explorer.run()
    assert explorer.status == "failed"
    assert not explorer._bar.run.disabled


def test_a_stitch_that_fails_is_refused_or_given_up_says_no_more(monkeypatch):
    explorer = rs.Explorer(A, B, **SMALL)
    explorer.run()
    explorer.selected = (1, 1)
    explorer.wait()
    fits = Mock(side_effect=InputError("No fit."))
    monkeypatch.setattr("repsim_nb.widgets.behind.run_stitch", fits)
    prompt, explorer._behind.stitch.prompt.value = explorer._behind.stitch.prompt.value, " "
    explorer._behind.stitch.button.click()
    assert "prompt is empty" in explorer.error
    assert not fits.called
    explorer._behind.stitch.prompt.value = prompt
    explorer._behind.stitch.button.click()
    explorer.wait()
    assert (explorer.error, "Stitching" in explorer._bar.said.value) == ("No fit.", False)
    fits.side_effect = lambda *given: [time.sleep(0.01) for _ in steps(range(10_000), "slowly")]
    explorer._behind.stitch.button.click()
    assert not explorer._bar.cancel.disabled
    explorer.selected = (0, 1)
    explorer.wait()
    assert explorer._bar.cancel.disabled
    assert "Stitching" not in explorer._bar.said.value


def test_the_estimate_never_says_for_good_that_it_is_trying(monkeypatch):
    explorer = rs.Explorer(A, B, **SMALL)
    explorer._repr_mimebundle_()
    explorer.run()
    assert "extracted already" in explorer._bar.estimate.value
    running = Event()

    def slow(*given):
        running.set()
        for _ in steps(range(10_000), "slowly"):
            time.sleep(0.01)

    monkeypatch.setattr("repsim_nb.widgets.explorer.answers", slow)
    explorer.start()
    running.wait(10)
    explorer.corpus.seed = 4
    assert "trying" not in explorer._bar.estimate.value
    explorer.cancel()
    explorer.wait()
    assert "about" in explorer._bar.estimate.value
    monkeypatch.setattr("repsim_nb.widgets.forecast.seconds", lambda *given: 1 / 0)
    explorer.corpus.seed = 5
    explorer.wait()
    assert "time not known" in explorer._bar.estimate.value


@pytest.mark.parametrize(
    "error",
    [PanicException("index out of bounds"), SystemExit(0), KeyboardInterrupt(), GeneratorExit(), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_explorer_is_not_running_any_more_whatever_ended_its_run(monkeypatch, error):
    explorer = rs.Explorer(A, B, **SMALL)
    monkeypatch.setattr(explorers, "answers", Mock(side_effect=error))
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        explorer.run()
    assert explorer.status == "failed"
    assert not explorer._bar.run.disabled
    assert explorer._bar.cancel.disabled
    assert type(error).__name__ in explorer.error
    assert error in (raised.value, raised.value.__cause__)
    monkeypatch.undo()
    explorer.run()
    assert (explorer.status, explorer.error) == ("done", "")
    monkeypatch.setattr(behind, "run_stitch", Mock(side_effect=error))
    monkeypatch.setattr(behind, "look", Mock(side_effect=error))
    explorer.selected = (1, 1)
    explorer.wait()
    assert type(error).__name__ in explorer.error
    explorer._behind.stitch.button.click()
    explorer.wait()
    assert explorer._bar.cancel.disabled
    assert type(error).__name__ in explorer.error


def test_explorer_is_not_running_where_its_run_cannot_begin(monkeypatch):
    explorer = rs.Explorer(A, B, **SMALL)
    explorer.run()
    explorer.selected = (1, 1)
    explorer.wait()
    monkeypatch.setattr(Job, "start", Mock(side_effect=RuntimeError("can't start new thread")))
    with pytest.raises(RuntimeError, match="new thread"):
        explorer.run()
    assert (explorer.status, explorer._bar.run.disabled, explorer._bar.cancel.disabled) == ("failed", False, True)
    explorer._behind.stitch.button.click()
    assert ("new thread" in explorer.error, explorer._bar.cancel.disabled) == (True, True)
    monkeypatch.undo()
    explorer.observe(lambda change: 1 / 0, "status")
    explorer.start()
    explorer.wait()
    assert explorer.status == "failed"


def test_explorer_that_is_interrupted_gives_its_run_up(monkeypatch):
    explorer = rs.Explorer(A, B, **SMALL)
    monkeypatch.setattr(explorers, "answers", lambda *given: [time.sleep(0.01) for _ in steps(range(10_000), "slowly")])
    monkeypatch.setattr(explorer._work, "_jobs", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        explorer.run()
    assert explorer.status == "cancelled"
