"""Finished cells of a table on disk: one small file each, and locks, so that processes can share a table."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from repsim_nb.stitching.fitting import Seam
from repsim_nb.stitching.ground import Ground
from repsim_nb.system.atomic import atomic, make_folder

CELLS = 4  # format version of stored cells; increase when their content changes
USER = "user"  # prefix of the lock that each process with a table holds


def cells_folder(out: Path, about: dict[str, Any]) -> Path:
    """Folder next to the result for finished cells, named by what they share.

    A table with more models reuses what an interrupted one with fewer models left behind.
    """
    digest = hashlib.sha256(json.dumps(about | {"cells": CELLS}, sort_keys=True).encode()).hexdigest()[:12]
    return out.absolute().with_name(f".{out.name}.{digest}")


def cell_file(folder: Path, ground: Ground, seam: Seam) -> Path:
    """A small file named by everything else that the cell's values depend on."""
    whose = [ground.identity(seam.sender), ground.identity(seam.receiver), ground.task.key(seam.receiver), seam.shuffle]
    return folder / f"{hashlib.sha256(json.dumps(whose).encode()).hexdigest()[:32]}-{seam.layer}-{seam.into}.json"


def read_cell(file: Path) -> dict[str, Any] | None:
    """A finished cell, or None."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def write_cell(file: Path, cell: dict[str, Any]) -> None:
    """Keep a finished cell."""
    with atomic(file) as path:
        path.write_text(json.dumps(cell), encoding="utf-8")


@contextmanager
def claimed(files: Sequence[Path], wait: bool) -> Iterator[bool]:
    """Hold the cells of one cut, so that no other process fits them too; the system lets go of them if this one dies.

    Yields False if another process holds them and `wait` is False.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(_lock_file(files))
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _lock_file(files: Sequence[Path]) -> Path:
    """One for the cells of a cut, whichever entries are asked for."""
    make_folder(files[0].parent)
    return files[0].with_name(f".{files[0].stem.rsplit('-', 1)[0]}.lock")


@contextmanager
def in_use(folder: Path | None) -> Iterator[None]:
    """Mark the folder as used by this process; remove it at the end of a whole table unless another one uses it."""
    from filelock import FileLock

    if folder is None:
        yield
        return
    make_folder(folder)
    own = folder / f".{USER}-{os.getpid()}-{uuid4().hex[:8]}.lock"
    with FileLock(own):
        yield
    own.unlink(missing_ok=True)
    with ExitStack() as held:
        alone = all(_free(held, path) for path in folder.glob(f".{USER}-*.lock"))
    if alone:
        shutil.rmtree(folder, ignore_errors=True)


def _free(held: ExitStack, path: Path) -> bool:
    """Whether no process holds this lock; it is then held here."""
    from filelock import FileLock, Timeout

    try:
        held.enter_context(FileLock(path, timeout=0))
    except Timeout:
        return False
    return True
