"""Downloads from the Hugging Face hub, and in one line why one failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repsim_nb.errors import InputError

LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def download(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Where the files that match `patterns` lie after a download, a folder named by their commit.

    Whole snapshots are asked for even where one file is wanted: for a file, huggingface_hub tries for half a minute
    before it says that there is no network.

    Raises:
        InputError: no such repository or revision, no access, no network.
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
            return f"the hub has no such repository, or it is private. Check the name; if it is private, {LOG_IN}."
        case errors.RevisionNotFoundError():
            return f"it has no revision {revision!r}. See {page}/tree/main for its branches, tags and commits."
        case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled():
            return (
                f"it is not in the cache and {constants.ENDPOINT} cannot be reached. "
                "Check the connection, and that HF_HUB_OFFLINE is not set."
            )
    if status == 401:
        return f"the hub does not accept your token. To replace it, {LOG_IN}."
    return " ".join(str(error).split()) or type(error).__name__
