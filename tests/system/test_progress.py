"""Long loops tell how far they are, how long they take, and what would be cheaper."""

import pytest

from repsim_nb.system import progress
from repsim_nb.system.progress import steps, watched


@pytest.fixture
def clock(monkeypatch):
    """A clock that the items move."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_steps_count_the_sizes_of_items():
    seen = []
    with watched(lambda *step: seen.append(step)):
        assert [*steps("abc", "reading", "token", sizes=[5, 3, 2])] == ["a", "b", "c"]
    assert seen == [("reading", 0, 10), ("reading", 5, 10), ("reading", 8, 10), ("reading", 10, 10)]


@pytest.mark.parametrize(("first", "said"), [(20.0, True), (10.0, False)])
def test_steps_say_what_is_cheaper_where_the_first_item_shows_that_it_takes_over_a_minute(first, said, clock, capsys):
    for each in steps([first, 1, 1], "reading", sizes=[5, 10, 5], cheaper="Cheaper: read less."):
        clock[0] += each
    assert ("reading: about 1 min. Cheaper: read less." in capsys.readouterr().err) is said


@pytest.mark.parametrize("how", [{"shown": False, "cheaper": "Read less."}, {}])
def test_steps_say_nothing_where_nothing_is_to_be_shown_or_nothing_is_cheaper(how, clock, capsys):
    for _ in steps([1, 1], "reading", **how):
        clock[0] += 1000
    assert "min" not in capsys.readouterr().err
