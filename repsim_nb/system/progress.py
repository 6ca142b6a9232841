"""Loops that take a while: a progress bar, or somebody who watches and may stop them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 2.0  # seconds before a bar appears
Watcher = Callable[[str, int, int], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


def steps(
    items: Iterable[T], what: str, unit: str = "batch", shown: bool = True, total: int | None = None
) -> Iterator[T]:
    """The items one by one, under a progress bar unless the loop is watched.

    Parameters
    ----------
    items
        Anything to go through.
    what
        Is being done.
    unit
        What an item is called.
    shown
        False leaves the bar out.
    total
        How many items there are, where they have no length.
    """
    from tqdm.auto import tqdm

    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    watcher = _watcher.get()
    if watcher is None:
        yield from tqdm(items, what, total, leave=False, unit=unit, delay=PATIENCE, disable=not shown)
        return
    for done, item in enumerate(items):
        watcher(what, done, total)
        yield item
    watcher(what, total, total)


@contextmanager
def watched(by: Watcher) -> Iterator[None]:
    """Within, and in this thread alone, loops show no bar: `by(what, done, of)` is called before each step and after
    the last. What it raises ends the loop.

    >>> with watched(lambda *step: print(*step)):
    ...     list(steps("ab", "spelling"))
    spelling 0 2
    spelling 1 2
    spelling 2 2
    ['a', 'b']
    """
    before = _watcher.set(by)
    try:
        yield
    finally:
        _watcher.reset(before)
