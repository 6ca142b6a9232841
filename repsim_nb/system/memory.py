"""How much memory there is, and what a number of bytes is called."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from repsim_nb.errors import InputError

SHARE = 0.5  # of the memory that is available, the default limit
CGROUPS, OWN_CGROUPS = "/sys/fs/cgroup", "/proc/self/cgroup"
LIMIT = "REPSIM_NB_MEMORY"  # the environment variable that sets another default, in bytes


def available_memory() -> int | None:
    """Bytes this process may still take, as far as the system tells: free memory, or what its container leaves."""
    known = [bytes_ for bytes_ in (_free(), _left_in_container()) if bytes_ is not None]
    return min(known, default=None)


def _free() -> int | None:
    """What the system can give without swapping: on Linux, macOS and Windows alike."""
    import psutil

    try:
        return int(psutil.virtual_memory().available)
    except (psutil.Error, OSError, RuntimeError, ValueError):  # as in a sandbox that hides /proc
        return None


def _left_in_container() -> int | None:
    """What the tightest of the control groups that this process is in leaves, of version 2 or 1."""
    left = [bytes_ for folder, names in _groups() if (bytes_ := _left_in_group(folder, *names)) is not None]
    return min(left, default=None)


def _groups() -> list[tuple[Path, tuple[str, str, str]]]:
    """Folders of the control groups, from this process's own up, with the names of files in them: see `_left_in_group`.

    Inside a container its own group may be mounted at the top, and the path that the system tells be missing.
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


def _left_in_group(folder: Path, most: str, used: str, reclaimable: str) -> int | None:
    """Bytes; what the system keeps of files there, and gives away when asked for memory, is free."""
    try:
        limit, taken, told = ((folder / name).read_text(encoding="ascii") for name in (most, used, "memory.stat"))
        kept = dict(line.split(maxsplit=1) for line in told.splitlines()).get(reclaimable, "0")
        return None if limit.strip() == "max" else max(0, int(limit) - int(taken) + int(kept))
    except (OSError, ValueError):
        return None


def limit_bytes(given: int | None) -> int | None:
    """What may be used: as given, or as REPSIM_NB_MEMORY says, or half of what is available now.

    None where the system does not tell.
    """
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
    """The largest number of rows, up to n, whose bytes are within the limit; more rows never need less.

    >>> most_rows(lambda rows: 8 * rows**2, 1000, 8 * 100**2)
    100
    """
    low, high = 0, n + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if needed(middle) <= limit else (low, middle)
    return low


def readable_size(bytes_: int) -> str:
    """As in "1.5 GB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= factor:
            return f"{bytes_ / factor:.3g} {unit}"
    return f"{bytes_} bytes"
