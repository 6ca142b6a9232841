"""Progress of long loops: a progress bar, or a watcher that can also stop the loop."""

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
    """Yield the items one by one, with a progress bar unless the loop is watched.

    Parameters
    ----------
    items
        The items to iterate over.
    what
        Label of the bar: what is being done.
    unit
        Name of one item.
    shown
        Whether to show the bar.
    total
        Number of items, for iterables without a length.
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
    """Inside this context, in this thread only, loops call `by(what, done, of)` instead of showing a bar.

    The call comes before each step and after the last one. An exception raised by it ends the loop.

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
