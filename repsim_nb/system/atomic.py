"""Atomic writes: an output appears complete or not at all.

`atomic` and `atomic_folder` yield a temporary path next to the final one and move it into place only if the block
ends without an exception (Ctrl-C included).
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
    """An output path cannot be written."""


DRAFT = ".*.partial*"  # name pattern of unfinished outputs
OWNER = ".owner.json"  # inside a draft folder: host, process id and its start time
CLAIM_GRACE = 60.0  # seconds a draft folder may lack its owner file before it counts as abandoned
PATIENCE = 5.0  # seconds that another program on Windows may keep open what is to be replaced
STALE_AFTER = 3600.0  # seconds without a change after which a draft file counts as abandoned
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file name with the suffix of `path`; it becomes `path` if the block succeeds.

    Creates missing parent folders and removes drafts left by killed processes. Raises OutputError before the block if
    `path` cannot be written, or after it if the disk was full.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = _temp_path(writable(path))
    remove_abandoned(path.parent)
    try:
        with _explain_full_disk(path):
            yield temporary
            with open(temporary, "rb+") as written:  # Windows flushes only what may be written to
                os.fsync(written.fileno())
            _moved(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary folder; it replaces the folder `path` if the block succeeds.

    The counterpart of `atomic` for folders.
    """
    path = _named(Path(path))
    make_folder(path.parent)
    remove_abandoned(path.parent)
    temporary = _temp_path(path)
    make_folder(temporary)
    try:
        with _explain_full_disk(path):
            claim(temporary)
            yield temporary
            release(temporary)
            replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _explain_full_disk(path: Path) -> Iterator[None]:
    """Turn the various errors that libraries raise on a full disk into one OutputError."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        reason = next((why for cause in _causes(error) if (why := _full_disk_reason(cause))), None)
        if reason is None:
            raise
        raise OutputError(f"Cannot write {path}: {reason}. Free some space, or choose another folder.") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _full_disk_reason(error: BaseException) -> str | None:
    if isinstance(error, OSError):
        return _reason(error) if error.errno in _FULL else None
    code = re.search(r"os error (\d+)", str(error))  # how libraries written in Rust report it
    return os.strerror(int(code[1])).lower() if code and int(code[1]) in _FULL else None


def _is_draft_name(path: Path) -> bool:
    """Whether `_temp_path` made this name. Strict, so that other programs' temporary files are never removed."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8}\.partial(\..*)?", path.name, re.DOTALL) is not None


def claim(draft: Path) -> None:
    """Record in a draft folder that this process owns it."""
    import psutil

    owner = [socket.gethostname(), os.getpid(), psutil.Process().create_time()]
    (draft / OWNER).write_text(json.dumps(owner), encoding="utf-8")


def release(draft: Path) -> None:
    """Remove the owner file before the draft is moved into place."""
    (draft / OWNER).unlink(missing_ok=True)


def abandoned(draft: Path) -> bool:
    """Whether the process that owned a draft is gone, as far as this machine can tell."""
    import psutil

    try:
        if not draft.is_dir():
            return time.time() - draft.stat().st_mtime > STALE_AFTER
        host, pid, since = json.loads((draft / OWNER).read_text(encoding="utf-8"))
        return bool(host == socket.gethostname() and abs(psutil.Process(pid).create_time() - since) > 1)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:  # it exists but belongs to another user
        return False
    except (OSError, ValueError):  # no owner file yet: just started, or killed before writing it
        return draft.exists() and time.time() - draft.stat().st_mtime > CLAIM_GRACE


def remove_abandoned(folder: Path, stem: str | None = None) -> None:
    """Remove drafts in `folder` whose process is gone. With `stem`, only drafts for that stem, in any name format."""
    with suppress(OSError):  # another process removed them first, or the folder is unreadable
        for path in folder.iterdir():
            mine = _is_draft_name(path) if stem is None else path.match(DRAFT) and path.name.startswith(f".{stem}.")
            if mine and abandoned(path):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create the folder `path` with its parents if missing, and return it; OutputError if that fails."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create the folder {folder}: {_reason(error)}. Choose another.") from error
    return folder


def writable(path: str | os.PathLike[str]) -> Path:
    """Return `path` if a file can be written there; otherwise, or if its folder is missing, raise OutputError.

    Leaves nothing behind.
    """
    path = _named(Path(path))
    if path.is_dir():
        raise OutputError(f"Cannot write {path}: it is a folder. Give a file name.")
    probe = _temp_path(path)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {_reason(error)}. Choose a writable folder.") from error
    return path


def replace_folder(new: Path, path: Path) -> None:
    """Rename the folder `new` to `path`, and remove what was there once the new one is in place.

    If several processes do this at the same time, all succeed and the last one wins.
    """
    while True:
        old = _temp_path(path)
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
    """Rename `old` to `new`, replacing a file.

    Windows refuses while another program has the file open: a virus scanner for a moment, a spreadsheet for hours.
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


def _temp_path(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{uuid4().hex[:8]}.partial{path.suffix}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
