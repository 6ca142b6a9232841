"""How much memory is available, and human-readable sizes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from repsim_nb.errors import InputError

SHARE = 0.5  # default limit, as a share of available memory
CGROUPS, OWN_CGROUPS = "/sys/fs/cgroup", "/proc/self/cgroup"
LIMIT = "REPSIM_NB_MEMORY"  # environment variable that overrides the default limit, in bytes


def available_memory() -> int | None:
    """Bytes this process can still allocate: free memory or what its container allows; None if unknown."""
    known = [bytes_ for bytes_ in (_free(), _container_headroom()) if bytes_ is not None]
    return min(known, default=None)


def _free() -> int | None:
    """Bytes available without swapping, on Linux, macOS and Windows."""
    import psutil

    try:
        return int(psutil.virtual_memory().available)
    except (psutil.Error, OSError, RuntimeError, ValueError):  # for example a sandbox that hides /proc
        return None


def _container_headroom() -> int | None:
    """Bytes left in the tightest control group (version 2 or 1) that this process belongs to."""
    left = [bytes_ for folder, names in _groups() if (bytes_ := _group_headroom(folder, *names)) is not None]
    return min(left, default=None)


def _groups() -> list[tuple[Path, tuple[str, str, str]]]:
    """Folders of the control groups, from this process's own upwards, with their file names (see `_group_headroom`).

    Inside a container its own group may be mounted at the root, so the path that /proc reports may not exist.
    """
    two, one = Path(CGROUPS), Path(CGROUPS, "memory")
    try:
        lines = Path(OWN_CGROUPS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    own = {kinds: Path(path) for _, kinds, path in (line.split(":", 2) for line in lines if line.count(":") > 1)}
    found = []
    for top, path, names in (
        (two, own.get("", Path("/")), ("memory.max", "memory.current", "inactive_file")),
        (one, own.get("memory", Path("/")), ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ):
        found += [(top / part.relative_to("/"), names) for part in (path, *path.parents)]
    return found


def _group_headroom(folder: Path, most: str, used: str, reclaimable: str) -> int | None:
    """Bytes left in one group. Reclaimable page cache counts as free."""
    try:
        limit, taken, stat = ((folder / name).read_text(encoding="ascii") for name in (most, used, "memory.stat"))
        page_cache = dict(line.split(maxsplit=1) for line in stat.splitlines()).get(reclaimable, "0")
        return None if limit.strip() == "max" else max(0, int(limit) - int(taken) + int(page_cache))
    except (OSError, ValueError):
        return None


def limit_bytes(given: int | None) -> int | None:
    """The memory limit: `given`, else REPSIM_NB_MEMORY, else half of what is available now; None if unknown."""
    if given is None and os.environ.get(LIMIT):
        return _from_environment(os.environ[LIMIT])
    if given is None:
        available = available_memory()
        return None if available is None else int(SHARE * available)
    if isinstance(given, bool) or not given > 0:
        raise InputError(f"memory_limit={given!r}; expected a positive number of bytes, such as 4e9.")
    return int(given)


def _from_environment(text: str) -> int:
    try:
        return limit_bytes(int(float(text))) or 0
    except (ValueError, OverflowError):
        raise InputError(f"{LIMIT}={text!r}; expected a positive number of bytes, such as 4e9.") from None


def most_rows(needed: Callable[[int], int], n: int, limit: int) -> int:
    """The largest number of rows, up to n, that fits in `limit` bytes; `needed` must not decrease with rows.

    >>> most_rows(lambda rows: 8 * rows**2, 1000, 8 * 100**2)
    100
    """
    low, high = 0, n + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if needed(middle) <= limit else (low, middle)
    return low


def readable_size(bytes_: int) -> str:
    """Format a number of bytes, as in "1.5 GB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= factor:
            return f"{bytes_ / factor:.3g} {unit}"
    return f"{bytes_} bytes"
