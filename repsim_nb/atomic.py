"""Output that is there completely or not at all.

`atomic` and `atomic_folder` hand out a temporary path beside the final one, and put it in place only when the block
has ended without an exception. Ctrl-C counts as one.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from repsim_nb.errors import InputError


class OutputError(InputError):
    """The place given for an output cannot be written."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file name with the suffix of `path`, which becomes `path` when the block succeeds.

    Missing parents are created. Raises OutputError before the block when `path` cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = _beside(writable(path))
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary empty folder, which replaces the folder `path` when the block succeeds.

    Missing parents are created. Raises OutputError before the block when the folder cannot be made.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = _beside(path)
    make_folder(temporary)
    try:
        yield temporary
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """`path` itself, a folder that is made with its parents where it is missing; OutputError where that fails."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {folder}: {_reason(error)}. Choose another.") from error
    return folder


def writable(path: str | os.PathLike[str]) -> Path:
    """`path` itself, when a file can be written there; OutputError otherwise, also when its folder is missing.

    Leaves no trace.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"Cannot write {path}: it is a folder. Give the name of a file.")
    probe = _beside(path)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {_reason(error)}. Choose a folder that can be written.") from error
    return path


def replace_folder(new: Path, path: Path) -> None:
    """Rename the folder `new` to `path`; what was there is removed, after the new one is in place."""
    if not path.exists():
        new.rename(path)
        return
    old = _beside(path)
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{uuid4().hex[:8]}.partial{path.suffix}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
