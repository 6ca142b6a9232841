"""Units of work come out the same, in order, wherever they run; what goes wrong there is said here."""

import os
import threading
import time
import warnings
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from repsim_nb.errors import InputError, MissingExtraError
from repsim_nb.system.executor import IN_FLIGHT, _Bundle, _Done, checked, mapped, remembered
from repsim_nb.system.memory import LIMIT
from repsim_nb.system.progress import watched
from repsim_nb.system.resources import Resources
from tests.support.clusters import die_once, spawned


class StrangeError(RuntimeError):
    """It cannot be made again from its message, as pickles do."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def square(_, x):
    return x * x


def about_worker(*_):
    return os.getpid(), torch.get_num_threads(), float(os.environ[LIMIT])


def late(_, seconds):
    time.sleep(seconds)
    return seconds


def failing(_, x):
    if x == 3:
        raise InputError("three is wrong")
    if x == 4:
        raise StrangeError("one", "two")
    if x == 5:
        raise MissingExtraError("needs it", name="it")
    time.sleep(0.01)
    return x


def warning(_, x):
    warnings.warn(f"{x} is odd", UserWarning, stacklevel=1)
    return x


def making(_, key):
    made = []
    remembered("model", lambda: made.append(key) or key, key)
    return made, threading.get_ident(), os.getpid()


def dying(_, mark):
    die_once(mark)
    return "survived"


@pytest.fixture(scope="module")
def pool():
    with spawned() as executor:
        yield executor


@pytest.fixture(params=["here", "pool"])
def anywhere(request):
    return None if request.param == "here" else request.getfixturevalue("pool")


def test_mapped_yields_results_in_order_wherever_it_runs(anywhere):
    assert list(mapped(square, None, range(20), anywhere, what="squares")) == [x * x for x in range(20)]
    assert list(mapped(square, None, iter([]), anywhere, what="squares")) == []


def test_mapped_yields_what_is_ready_before_all_are(pool):
    results = mapped(late, None, [0, 0, 0.5, 3], pool, what="naps")
    start = time.monotonic()
    assert [next(results), next(results)] == [0, 0]
    assert time.monotonic() - start < 3
    assert list(results) == [0.5, 3]


def test_mapped_names_the_unit_that_failed(anywhere):
    with pytest.raises(InputError, match="three is wrong") as caught:
        list(mapped(failing, None, [1, 2, 3, 6], anywhere, what="numbers", name=lambda x: f"number {x}"))
    assert caught.value.__notes__ == ["In numbers: number 3."]


def test_mapped_brings_an_error_home_that_cannot_be_pickled(pool):
    with pytest.raises(RuntimeError, match="StrangeError: one and two"):
        list(mapped(failing, None, [4], pool, what="numbers"))
    with pytest.raises(MissingExtraError) as caught:
        list(mapped(failing, None, [5], pool, what="numbers"))
    assert caught.value.name == "it"
    assert list(mapped(square, None, [2], pool, what="squares")) == [4], "the pool is whole"


def test_mapped_raises_the_first_error_without_waiting_for_units_before_it_and_cancels_the_rest():
    started = []

    def work(_, x):
        started.append(x)
        if x == 1:
            raise InputError("bad")
        release.wait(10)

    release = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(InputError, match="bad"):
            list(mapped(work, None, range(100), pool, what="work"))
        release.set()
    assert len(started) < 10


def test_mapped_cancels_what_nobody_waits_for():
    futures = []

    class Never(Executor):
        def submit(self, *_):
            futures.append(Future())
            if len(futures) == 1:
                futures[0].set_result(_Bundle([_Done(7)], 0.0))
            return futures[-1]

    results = mapped(square, None, range(5), Never(), what="squares")
    assert next(results) == 7
    results.close()
    assert [future.cancelled() for future in futures] == [False, True, True, True, True]


def test_mapped_submits_only_some_units_at_a_time():
    most = 0

    class Counting(ThreadPoolExecutor):
        def submit(self, *args):
            nonlocal most
            most = max(most, taken - given)
            return super().submit(*args)

    def units():
        nonlocal taken
        while taken < 3 * IN_FLIGHT:
            taken += 1
            yield taken

    taken = given = 0
    with Counting(1) as pool:
        for _ in mapped(square, None, units(), pool, what="squares", total=3 * IN_FLIGHT):
            given += 1
    assert given == 3 * IN_FLIGHT
    assert most <= IN_FLIGHT


def late_failing(_, x):
    if x == 3 * IN_FLIGHT - 2:
        raise InputError("too late")
    return x


def test_mapped_names_the_unit_that_failed_among_those_sent_together(anywhere):
    units = range(3 * IN_FLIGHT)
    with pytest.raises(InputError, match="too late") as caught:
        list(mapped(late_failing, None, units, anywhere, what="numbers", name=lambda x: f"number {x}"))
    assert caught.value.__notes__ == [f"In numbers: number {3 * IN_FLIGHT - 2}."]


def test_mapped_sends_many_tiny_units_together_but_not_those_that_take_longer():
    submitted = []

    class Counting(ThreadPoolExecutor):
        def submit(self, task, shared, bundle):
            submitted.append(len(bundle))
            return super().submit(task, shared, bundle)

    for function, units, most in ((square, range(3 * IN_FLIGHT), 16), (late, [0.06] * (IN_FLIGHT + 40), 1)):
        submitted.clear()
        with Counting(40) as pool:
            results = list(mapped(function, None, units, pool, what="units"))
        assert results == [x * x if function is square else x for x in units]
        assert sum(submitted) == len(units)
        assert max(submitted) == most


def test_mapped_gives_workers_one_thread_and_their_share_of_memory(pool, monkeypatch):
    monkeypatch.delenv(LIMIT, raising=False)
    before = torch.get_num_threads()
    for process, threads, memory in mapped(about_worker, None, range(4), pool, what="workers"):
        assert process != os.getpid()
        assert threads == 1
        assert 0 < memory < 1e14
    assert torch.get_num_threads() == before
    assert LIMIT not in os.environ


def test_mapped_repeats_warnings_here(anywhere):
    with pytest.warns(UserWarning, match="is odd") as caught:
        assert list(mapped(warning, None, [1, 3], anywhere, what="numbers")) == [1, 3]
    assert [str(w.message) for w in caught] == ["1 is odd", "3 is odd"]
    assert caught[0].filename == __file__


def test_mapped_tells_watchers(anywhere):
    told = []
    with watched(lambda *step: told.append(step)):
        list(mapped(square, None, [1, 2], anywhere, what="squares"))
    assert told == [("squares", 0, 2), ("squares", 1, 2), ("squares", 2, 2)]


def test_remembered_is_made_once_for_units_in_a_row_and_forgotten_after_the_call(anywhere):
    for _ in range(2):
        found = list(mapped(making, None, ["a", "a", "a", "b", "b", "a"], anywhere, what="models"))
        firsts = {tuple(where): made for made, *where in reversed(found)}
        assert all(firsts.values()), "nothing is left in a worker from the call before"
        if anywhere is None:
            assert [bool(made) for made, *_ in found] == [True, False, False, True, False, True]


def test_mapped_says_what_to_do_when_a_worker_of_a_pool_dies(tmp_path):
    with spawned(1) as pool, pytest.raises(BrokenProcessPool) as caught:
        list(mapped(dying, None, [str(tmp_path / "mark")], pool, what="lives"))
    assert "Call again with a new executor" in caught.value.__notes__[0]


@pytest.mark.parametrize("given", ["dask", 2, print, ThreadPoolExecutor])
def test_checked_says_how_to_make_an_executor(given):
    for function in (checked, lambda executor: Resources(executor=executor)):
        with pytest.raises(InputError, match=r"is not a concurrent.*ProcessPoolExecutor.*get_executor"):
            function(given)


def test_checked_takes_any_executor():
    class Client:
        def get_executor(self): ...

    with ThreadPoolExecutor(1) as pool:
        assert Resources(executor=pool).executor is pool
        assert Resources(3, 10, 4, pool).alone == Resources(3, 10, 4)
    with pytest.raises(InputError, match=r"Give None, or its get_executor\("):
        checked(Client())
