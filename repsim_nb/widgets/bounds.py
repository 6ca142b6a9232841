"""Which files an explorer may read and write: all, unless it has been limited to a folder."""

from __future__ import annotations

import os
from pathlib import Path

from repsim_nb.errors import InputError

_limits: list[Path | None] = []  # of this process: none, or one folder, or one None for no files at all


def limit(folder: str | os.PathLike[str] | None) -> None:
    """Let explorers of this process read and write below `folder` alone; with None no files at all."""
    _limits[:] = [None if folder is None else Path(folder).resolve(strict=True)]


def limited() -> bool:
    """Whether there is a limit."""
    return bool(_limits)


def reachable(path: str | os.PathLike[str]) -> Path:
    """The path, absolute where there is a limit, with all links and ".." followed.

    Raises
    ------
    InputError
        It, or a link below it, leads out of the folder, or there is none. Whether it exists is not told.
    """
    if not _limits:
        return Path(path).expanduser()
    folder = _limits[0]
    if folder is None:
        raise InputError(
            "This app was started without a folder, so it reads and writes no files. Start it with one: make app "
            "FOLDER=..., or python -m repsim_nb.app --folder ..."
        )
    try:
        found = (folder / Path(path).expanduser()).resolve()
        inside = found.is_relative_to(folder) and all(
            link.resolve().is_relative_to(folder) for link in found.rglob("*") if link.is_symlink()
        )
    except (OSError, RuntimeError, ValueError):  # a circle of links, no such user, a name that can be none
        inside = False
    if not inside:
        raise InputError(f"'{path}' leads out of the folder of this app. Give a path inside it, such as 'mine'.")
    return found


def contained(given: str) -> str:
    """What may be a name, an id on the hub or a path: a path as `reachable` has it, anything else as it is.

    Raises
    ------
    InputError
        As `reachable`.
    """
    if not _limits:
        return given
    path = given.startswith((".", "~")) or os.path.isabs(given) or len(Path(given).parts) > 2 or os.path.exists(given)
    return str(reachable(given)) if path else given
