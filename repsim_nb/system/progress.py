"""Progress of long loops: a progress bar, or a watcher that can also stop the loop."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 2.0  # seconds before a bar appears
SLOW = 60.0  # seconds from which on a line says what would be cheaper
Watcher = Callable[[str, int, int], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


def steps(
    items: Iterable[T],
    what: str,
    unit: str = "batch",
    shown: bool = True,
    total: int | None = None,
    sizes: Sequence[int] | None = None,
    cheaper: str = "",
) -> Iterator[T]:
    """Yield the items one by one, with a progress bar unless the loop is watched.

    The bar tells the seconds that are left. If the first item shows that all will take more than a minute, a line says
    so first.

    Parameters
    ----------
    items
        The items to iterate over.
    what
        Label of the bar: what is being done.
    unit
        Name of one item, or of what `sizes` counts.
    shown
        Whether to show the bar.
    total
        Number of items, for iterables without a length.
    sizes
        The work of each item, in order, for items that differ: progress is counted in these.
    cheaper
        For the line that is said when it takes more than a minute: what would take less.
    """
    from tqdm.auto import tqdm

    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    each = itertools.repeat(1) if sizes is None else iter(sizes)
    total = total if sizes is None else sum(sizes)
    watcher, done = _watcher.get(), 0
    if watcher is not None:
        for item in items:
            watcher(what, done, total)
            yield item
            done += next(each)
        watcher(what, total, total)
        return
    with tqdm(
        None, what, total, leave=False, unit=unit, unit_scale=sizes is not None, delay=PATIENCE, disable=not shown
    ) as bar:
        start = time.perf_counter()
        for item in items:
            yield item
            size = next(each)
            if not done and shown:
                _say_slow(what, (time.perf_counter() - start) * total / size, cheaper)
            done += size
            bar.update(size)


def _say_slow(what: str, seconds: float, cheaper: str) -> None:
    if seconds > SLOW and cheaper:
        from tqdm.auto import tqdm

        tqdm.write(f"{what}: about {seconds / 60:.0f} min. {cheaper}", file=sys.stderr)


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
