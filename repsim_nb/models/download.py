"""Downloads from the Hugging Face hub, and in one line why one failed."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from repsim_nb.errors import InputError, nearest
from repsim_nb.models.published import repositories

LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
AGAIN = "Load it again: files that came whole are kept."


def download(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Where the files that match `patterns` lie after a download, a folder named by their commit.

    A file appears there whole or not at all; a connection that breaks is taken up again where it broke, a few times.
    Whole snapshots are asked for even where one file is wanted: for a file, huggingface_hub tries for half a minute
    before it says that there is no network.

    Raises
    ------
    InputError
        No such repository or revision, no access, no network, a full disk.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # the http library below has errors of its own, another from version to version
        raise InputError(f"Cannot download {repository!r}: {_reason(repository, revision, error)}") from None


def _reason(repository: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repository}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case errors.GatedRepoError():
            return f"it is gated. Ask for access at {page}, then {LOG_IN}."
        case errors.RepositoryNotFoundError():
            near = nearest(repository, set(repositories().values()) - {repository}, cutoff=0.8)
            meant = f"Did you mean {near!r}?" if near else "Check the name."
            return f"the hub has no such repository, or it is private. {meant} If it is private, {LOG_IN}."
        case errors.RevisionNotFoundError():
            return f"it has no revision {revision!r}. See {page}/tree/main for its branches, tags and commits."
        case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled():
            return (
                f"it is not in the cache and {constants.ENDPOINT} cannot be reached. "
                "Check the connection, and that HF_HUB_OFFLINE is not set."
            )
        case OSError(errno=errno.ENOSPC):
            return (
                f"the disk of '{constants.HF_HUB_CACHE}' is full. Free some space, or set HF_HOME to a folder on "
                f"another. {AGAIN}"
            )
        case OSError() if "Consistency check failed" in str(error):
            return f"a file came shorter or longer than the hub says that it is. {AGAIN}"
    if status == 401:
        return f"the hub does not accept your token. To replace it, {LOG_IN}."
    if status is not None:
        return f"the hub answered with status {status}. Try again later."
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
        return f"the connection broke ({' '.join(str(error).split()) or type(error).__name__}). {AGAIN}"
    return f"{' '.join(str(error).split()) or type(error).__name__}"
