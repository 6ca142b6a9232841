"""Output that is there completely or not at all.

`atomic` and `atomic_folder` hand out a temporary path beside the final one, and put it in place only when the block
has ended without an exception. Ctrl-C counts as one.
"""

import errno
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from repsim_nb.errors import InputError
from repsim_nb.system.windows import is_file_name, on_windows


class OutputError(InputError):
    """The place given for an output cannot be written."""


DRAFT = ".*.partial*"  # the names of what is not finished
OWNER = ".owner.json"  # in a draft: the machine, the process and when it began
CLAIMED = 60.0  # seconds in which a draft has an owner, until that is written
PATIENCE = 5.0  # seconds for which others may hold open on Windows what is to be replaced
WRITTEN = 3600.0  # seconds after which nobody is at work any more on a file that has not changed
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file name with the suffix of `path`, which becomes `path` when the block succeeds.

    Missing parents are created. What killed processes have left there is removed. Raises OutputError before the block
    when `path` cannot be written, or after it when there was no space for all of it.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = _beside(writable(path))
    remove_abandoned(path.parent)
    try:
        with _room(path):
            yield temporary
            with open(temporary, "rb+") as written:  # Windows flushes only what may be written to
                os.fsync(written.fileno())
            _moved(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary empty folder, which replaces the folder `path` when the block succeeds.

    As `atomic` is for files.
    """
    path = _named(Path(path))
    make_folder(path.parent)
    remove_abandoned(path.parent)
    temporary = _beside(path)
    make_folder(temporary)
    try:
        with _room(path):
            claim(temporary)
            yield temporary
            disclaim(temporary)
            replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _room(path: Path) -> Iterator[None]:
    """Where the space runs out, which libraries tell in errors of their own, say so in one line."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        reason = next((why for cause in _causes(error) if (why := _no_space(cause))), None)
        if reason is None:
            raise
        raise OutputError(f"Cannot write {path}: {reason}. Free some space, or choose another folder.") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _no_space(error: BaseException) -> str | None:
    if isinstance(error, OSError):
        return _reason(error) if error.errno in _FULL else None
    told = re.search(r"os error (\d+)", str(error))  # of libraries in Rust
    return os.strerror(int(told[1])).lower() if told and int(told[1]) in _FULL else None


def _ours(path: Path) -> bool:
    """Whether the name is one that `_beside` gives, to the letter: what is not finished of somebody else stays."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8}\.partial(\..*)?", path.name, re.DOTALL) is not None


def claim(draft: Path) -> None:
    """Note in a draft that this process is at work on it."""
    import psutil

    owner = [socket.gethostname(), os.getpid(), psutil.Process().create_time()]
    (draft / OWNER).write_text(json.dumps(owner), encoding="utf-8")


def disclaim(draft: Path) -> None:
    """Take the note out again, before the draft takes its place."""
    (draft / OWNER).unlink(missing_ok=True)


def abandoned(draft: Path) -> bool:
    """Whether the process that was at work on a draft is gone, as far as this machine can tell."""
    import psutil

    try:
        if not draft.is_dir():
            return time.time() - draft.stat().st_mtime > WRITTEN
        host, pid, since = json.loads((draft / OWNER).read_text(encoding="utf-8"))
        return bool(host == socket.gethostname() and abs(psutil.Process(pid).create_time() - since) > 1)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:  # it is there, and another user's
        return False
    except (OSError, ValueError):  # begun in this moment, or killed in that one
        return draft.exists() and time.time() - draft.stat().st_mtime > CLAIMED


def remove_abandoned(folder: Path, stem: str | None = None) -> None:
    """Remove the drafts in `folder` whose processes are gone; with a stem, those of any form that are for it alone."""
    with suppress(OSError):  # as where somebody else removes them, or the folder cannot be read
        for path in folder.iterdir():
            mine = _ours(path) if stem is None else path.match(DRAFT) and path.name.startswith(f".{stem}.")
            if mine and abandoned(path):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


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
    path = _named(Path(path))
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
    """Rename the folder `new` to `path`; what was there is removed, after the new one is in place.

    Where others do so at the same time, each succeeds and the last one stays.
    """
    while True:
        old = _beside(path)
        with suppress(FileNotFoundError):
            _moved(path, old)
        try:
            _moved(new, path)
        except BaseException as error:
            if old.exists() and not path.exists():
                old.rename(path)
            if not isinstance(error, OSError) or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)


def _moved(old: Path, new: Path) -> None:
    """Rename, a file in place of another.

    Windows refuses while somebody has it open, such as a virus scanner for a moment, or a spreadsheet for hours.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            os.replace(old, new) if old.is_file() else old.rename(new)
        except PermissionError as error:
            if not on_windows():
                raise
            if time.monotonic() > until:
                raise OutputError(
                    f"Cannot replace {new}: {_reason(error)}. Another program has it open: close it there, and try "
                    "again."
                ) from error
            time.sleep(0.05)
        else:
            return


def _named(path: Path) -> Path:
    """`path` itself; OutputError where Windows would take its name for a device, or give it another."""
    if on_windows() and not is_file_name(path.name):
        raise OutputError(f"Cannot write {path}: Windows has no such file name as {path.name!r}. Choose another.")
    return path


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{uuid4().hex[:8]}.partial{path.suffix}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
