"""Units of work: here one after the other, or wherever a `concurrent.futures.Executor` runs them.

A unit is a plain value that names models, revisions and files or carries arrays, and goes to a function of a module.
Whatever it writes, it writes atomically and under a name that its content decides, so that doing it twice does no harm.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from repsim_nb.errors import InputError, UnreachableError
from repsim_nb.system.memory import LIMIT, SHARE, available_memory
from repsim_nb.system.progress import steps, watched
from repsim_nb.system.shard import Shard

S = TypeVar("S")
U = TypeVar("U")
R = TypeVar("R")
IN_FLIGHT = 256  # units submitted at a time; more would fill the memory and the connections of a scheduler
BUNDLE_SECONDS, MAX_BUNDLE = 0.05, 16  # of units that are sent together, since each message to a cluster costs 5 ms
WAKE_SECONDS = 1.0  # between looks at Ctrl-C where waiting cannot be interrupted
PLACE = "_place_in_bundle"  # attribute of an exception
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Warnings that say something of a worker's process, not of what it computed.
OF_WORKERS = (ResourceWarning, DeprecationWarning, PendingDeprecationWarning, ImportWarning)
HOW = (
    'ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) or, from dask.distributed, '
    "Client(...).get_executor(pure=False, retries=2)"
)
_memory: ContextVar[dict[str, tuple[Any, Any]] | None] = ContextVar("memory", default=None)
_of_thread = threading.local()  # what the last call of `mapped` left in a thread of a worker


def checked(given: Any) -> Executor | None:
    """Return an executor, or None.

    Raises
    ------
    InputError
        It is something else.
    """
    if given is None or isinstance(given, Executor):
        return given
    own = "its get_executor(pure=False, retries=2)" if hasattr(given, "get_executor") else f"one such as {HOW}"
    raise InputError(f"executor={given!r} is not a concurrent.futures.Executor. Give None, or {own}.")


def mapped(
    function: Callable[[S, U], R],
    shared: S,
    units: Iterable[U],
    executor: Executor | None = None,
    *,
    what: str,
    unit: str = "unit",
    name: Callable[[U], str] = str,
    total: int | None = None,
    kept: bool = False,
) -> Iterator[R]:
    """Yield `function(shared, unit)` for each unit, in their order, as soon as it and all before it are there.

    Parameters
    ----------
    function
        A function of a module.
    shared
        What all units have in common. It travels once to each worker of a Dask cluster, and with each unit to others.
    units
        What each has of its own. Only some at a time are submitted, and after the first of them those that take
        milliseconds in bundles.
    executor
        Where the units run; it is not shut down. None runs them here, one after the other.
    what, unit
        Words of the progress bar: what is being done, and the name of one unit.
    name
        The name of a unit in messages.
    total
        Number of units, for iterables without a length.
    kept
        Whether units keep their results on disk, so that a `Shard` may do its share and leave the rest to others.

    Raises
    ------
    Exception
        The first one that a unit raises, with the unit's name as a note; the other units are cancelled.
    ShareDone
        The executor is a `Shard`, and its share is done.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(mapped(pow, 2, [3, 1, 2], pool, what="powers"))
    [8, 2, 4]
    """
    if isinstance(executor, Shard) and kept:
        every = list(units)
        own = executor.take(every)
        for _ in mapped(function, shared, own, what=what, unit=unit, name=name):
            pass
        raise executor.done(len(own), len(every))
    if executor is not None:
        yield from _elsewhere(function, shared, units, executor, what, unit, name, total)
        return
    memory: dict[str, tuple[Any, Any]] = {}
    for one in steps(units, what, unit, total=total):
        with _naming(what, name, [one]):
            result = _remembering(function, shared, one, memory)
        yield result


def remembered(kind: str, make: Callable[[], R], key: Any = None) -> R:
    """Return what `make` returned for an earlier unit of the same call of `mapped` in this thread, or make it.

    One thing of each kind is kept, so that a worker loads a model once for units in a row that use it, and holds no
    more than one. `key` tells things of one kind apart.
    """
    memory = _memory.get()
    if memory is None:
        return make()
    if kind not in memory or memory[kind][0] != key:
        memory.pop(kind, None)  # before the next one is made, so that both need not fit
        memory[kind] = key, make()
    found: R = memory[kind][1]
    return found


def _elsewhere(
    function: Callable[[S, U], R],
    shared: S,
    units: Iterable[U],
    executor: Executor,
    what: str,
    unit: str,
    name: Callable[[U], str],
    total: int | None,
) -> Iterator[R]:
    task = _Task(function, uuid.uuid4().hex, _process(), getattr(executor, "_max_workers", 1))
    sent = _sent(shared, executor)
    if total is None and isinstance(units, Sized):
        total = len(units)
    waiting: dict[int, tuple[list[U], Future[_Bundle]]] = {}
    ready: dict[int, _Bundle] = {}
    ended: SimpleQueue[int] = SimpleQueue()

    def results() -> Iterator[R]:
        rest, submitted, following, size, room = iter(units), 0, 0, 1, IN_FLIGHT
        while True:
            while room >= size and (bundle := list(islice(rest, size))):
                future = executor.submit(task, sent, bundle)
                waiting[submitted] = bundle, future
                future.add_done_callback(partial(_put, ended, submitted))
                submitted, room = submitted + 1, room - len(bundle)
            if not waiting:
                return
            number = _next(ended)
            bundle, future = waiting.pop(number)
            with _naming(what, name, bundle):
                ready[number] = future.result().sound()
            size = ready[number].worth_sending
            while following in ready:
                for done in ready.pop(following).done:
                    room += 1
                    yield done.here()
                following += 1

    try:
        yield from steps(results(), what, unit, total=total)
    finally:
        for _, future in waiting.values():
            future.cancel()


def _sent(shared: Any, executor: Executor) -> Any:
    """What is passed to `submit`: for Dask a future, which the scheduler keeps once, also when workers die."""
    client = getattr(executor, "_client", None)
    if client is None or not hasattr(client, "scheduler_info"):
        return shared
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")  # it is sent once
        return client.submit(_same, shared, pure=False)


def _same(shared: S) -> S:
    return shared


def _put(ended: SimpleQueue[int], number: int, _: Any) -> None:
    ended.put(number)


def _next(ended: SimpleQueue[int]) -> int:
    while True:
        try:
            return ended.get(timeout=WAKE_SECONDS)
        except Empty:
            continue


@contextmanager
def _naming(what: str, name: Callable[[U], str], bundle: Sequence[U]) -> Iterator[None]:
    """Add the name of the unit to an exception as a note."""
    try:
        yield
    except BrokenExecutor as error:
        error.add_note(
            "A worker of this pool died, perhaps because memory ran out, and the pool with it. Call again with a new "
            "executor. One of dask.distributed does such units again by itself."
        )
        raise
    except Exception as error:
        error.add_note(f"In {what}: {name(bundle[getattr(error, PLACE, 0)])}.")
        raise


def _remembering(function: Callable[[S, U], R], shared: S, unit: U, memory: dict[str, tuple[Any, Any]]) -> R:
    token = _memory.set(memory)
    try:
        return function(shared, unit)
    finally:
        _memory.reset(token)


@dataclass(frozen=True)
class _Done:
    """What a unit returned, and the warnings it gave in another process: (warning, category, file, line)."""

    value: Any
    warned: tuple[tuple[Any, ...], ...] = ()

    def here(self) -> Any:
        """The value; warns here too."""
        for warning, category, file, line in self.warned:
            warnings.warn_explicit(warning, category, file, line)
        return self.value


@dataclass(frozen=True)
class _Bundle:
    """Results of units that were sent together, the seconds that all took, and the error that ended them early."""

    done: list[_Done]
    seconds: float
    wrong: InputError | None = None

    def sound(self) -> _Bundle:
        """This bundle; raises its error."""
        if self.wrong is not None:
            raise self.wrong
        return self

    @property
    def worth_sending(self) -> int:
        """How many such units are worth a message."""
        each = self.seconds / len(self.done)
        return MAX_BUNDLE if each * MAX_BUNDLE < BUNDLE_SECONDS else max(1, int(BUNDLE_SECONDS / each))


@dataclass(frozen=True)
class _Task:
    """A function as a worker runs it on one or more units."""

    function: Callable[[Any, Any], Any]
    call: str  # of `mapped`; what units remember ends with it
    home: tuple[int, str]  # the process that asks
    workers: int  # of a pool, which share the memory of this machine

    @property
    def __name__(self) -> str:
        return self.function.__name__

    def __call__(self, shared: Any, bundle: Sequence[Any]) -> _Bundle:
        start, done = time.perf_counter(), list[_Done]()
        for place, unit in enumerate(bundle):
            try:
                done.append(self._one(shared, unit))
            except Exception as error:
                setattr(error, PLACE, place)
                if not isinstance(error, InputError) or isinstance(error, UnreachableError):
                    raise
                return _Bundle(done, time.perf_counter() - start, error)  # an engine that retries would meet it again
        return _Bundle(done, time.perf_counter() - start)

    def _one(self, shared: Any, unit: Any) -> _Done:
        if getattr(_of_thread, "call", None) != self.call:
            _of_thread.call, _of_thread.memory = self.call, {}
        with watched(lambda *_: None):
            if self.home == _process():
                return _Done(_remembering(self.function, shared, unit, _of_thread.memory))
            _limit(self.workers)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    value = _remembering(self.function, shared, unit, _of_thread.memory)
                except Exception as error:
                    raise _portable(error) from None
        told = [w for w in caught if not issubclass(w.category, OF_WORKERS)]
        return _Done(value, tuple((w.message, w.category, w.filename, w.lineno) for w in told))


_OWN = uuid.uuid4().hex  # of this process, unless it was forked


def _process() -> tuple[int, str]:
    """What no other process has, on any machine."""
    return os.getpid(), _OWN


def _limit(workers: int) -> None:
    """One thread, and this worker's share of the memory, unless the environment of the worker says otherwise."""
    for name in THREADS:
        os.environ.setdefault(name, "1")
    threads = os.environ[THREADS[0]].split(",")[0]  # OpenMP takes a list, one number for each level
    torch = sys.modules.get("torch")
    if torch is not None and threads.isdecimal() and torch.get_num_threads() != int(threads):
        torch.set_num_threads(int(threads))
    if LIMIT not in os.environ:
        share = _of_dask_worker() or (available_memory() or sys.maxsize) // workers
        os.environ[LIMIT] = str(int(SHARE * share))


def _of_dask_worker() -> int | None:
    """Bytes that the Dask worker of this process gives each of its threads; None if it is none, or has no limit."""
    distributed = sys.modules.get("distributed")
    try:
        worker = distributed.get_worker() if distributed is not None else None
    except ValueError:  # another process that only uses a cluster
        return None
    limit = worker.memory_manager.memory_limit if worker is not None else None
    return limit // worker.state.nthreads if worker is not None and limit else None


def _portable(error: Exception) -> Exception:
    """The same exception, or one with its words if it does not survive the way to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
