"""How much memory there is, and what a number of bytes is called."""

from __future__ import annotations

import os
from pathlib import Path

from repsim_nb.errors import InputError

SHARE = 0.5  # of the memory that is available, the default limit
LIMIT = "REPSIM_NB_MEMORY"  # the environment variable that sets another default, in bytes


def available_memory() -> int | None:
    """Bytes this process may still take, as far as the system tells: free memory, or what its container leaves."""
    known = [bytes_ for bytes_ in (_free(), _left_in_container()) if bytes_ is not None]
    return min(known, default=None)


def _free() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _left_in_container() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        most = (folder / "memory.max").read_text(encoding="ascii").strip()
        return None if most == "max" else int(most) - int((folder / "memory.current").read_text(encoding="ascii"))
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


def readable_size(bytes_: int) -> str:
    """As in "1.5 GB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= factor:
            return f"{bytes_ / factor:.3g} {unit}"
    return f"{bytes_} bytes"
