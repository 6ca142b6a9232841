"""Which files an explorer may read and write: all, unless it is limited to a folder."""

from __future__ import annotations

import os
from pathlib import Path

from repsim_nb.errors import InputError

_limits: list[Path | None] = []  # of this process: empty, or one folder, or one None for no files at all


def limit(folder: str | os.PathLike[str] | None) -> None:
    """Let explorers of this process read and write only below `folder`; with None no files at all."""
    _limits[:] = [None if folder is None else Path(folder).resolve(strict=True)]


def limited() -> bool:
    """Whether there is a limit."""
    return bool(_limits)


def reachable(path: str | os.PathLike[str]) -> Path:
    """Return the path; under a limit it is absolute, with all links and ".." resolved.

    Raises
    ------
    InputError
        The path, or a link below it, leads out of the folder, or the app has no folder. The message does not say
        whether the path exists.
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
    except (OSError, RuntimeError, ValueError):  # a circle of links, no such user, an impossible name
        inside = False
    if not inside:
        raise InputError(f"'{path}' leads out of the folder of this app. Give a path inside it, such as 'mine'.")
    return found


def contained(given: str) -> str:
    """Check a name, a hub id or a path: a path as in `reachable`, anything else is returned as it is.

    Raises
    ------
    InputError
        As in `reachable`.
    """
    if not _limits:
        return given
    path = given.startswith((".", "~")) or os.path.isabs(given) or len(Path(given).parts) > 2 or os.path.exists(given)
    return str(reachable(given)) if path else given
