"""Download from the Hugging Face hub, with one-line errors."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from repsim_nb.errors import InputError, nearest
from repsim_nb.models.published import repositories

LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
AGAIN = "Load it again; complete files are kept."


def download(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Download the files that match `patterns`; return their folder, which is named by their commit.

    Files appear complete or not at all, and a broken connection is resumed a few times. This downloads a snapshot even
    for a single file, because for a file huggingface_hub retries for half a minute before reporting that there is no
    network.

    Raises
    ------
    InputError
        If the repository or revision does not exist, there is no access or network, or the disk is full.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # the HTTP library raises its own errors, which change between versions
        raise InputError(f"Cannot download {repository!r}: {_reason(repository, revision, error)}") from None


def _reason(repository: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repository}"
    folder = f"If you meant a folder, there is none at '{repository}'."
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case errors.GatedRepoError():
            return f"it is gated. Ask for access at {page}, then {LOG_IN}."
        case errors.RepositoryNotFoundError():
            near = nearest(repository, set(repositories().values()) - {repository}, cutoff=0.8)
            meant = f"Did you mean {near!r}?" if near else "Check the name."
            return f"the hub has no such repository, or it is private. {meant} If it is private, {LOG_IN}. {folder}"
        case errors.RevisionNotFoundError():
            return f"it has no revision {revision!r}. See {page}/tree/main for its branches, tags and commits."
        case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled():
            return (
                f"it is not in the cache and {constants.ENDPOINT} cannot be reached. "
                f"Check the connection, and that HF_HUB_OFFLINE is not set. {folder}"
            )
        case OSError(errno=errno.ENOSPC):
            return (
                f"the disk of '{constants.HF_HUB_CACHE}' is full. Free some space, or set HF_HOME to a folder on "
                f"another disk. {AGAIN}"
            )
        case OSError() if "Consistency check failed" in str(error):
            return f"the size of a file does not match that on the hub. {AGAIN}"
    if status == 401:
        return f"the hub does not accept your token. To replace it, {LOG_IN}."
    if status is not None:
        return f"the hub answered with status {status}. Try again later."
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
        return f"the connection broke ({' '.join(str(error).split()) or type(error).__name__}). {AGAIN}"
    return f"{' '.join(str(error).split()) or type(error).__name__}"
