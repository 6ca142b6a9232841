"""Hash the files of a model that lies on this machine, without loading it."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from repsim_nb.models.model import Model
from repsim_nb.models.place import Place, find

MOST_BYTES = 2 * 10**9  # of files with weights: reading more takes longer than it saves
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".gguf")


def content_sha256(given: Any, weights: bool = True) -> str | None:
    """Hash names and contents of a model's files; None for models in memory, elsewhere, or too large to be worth it.

    Parameters
    ----------
    given
        A model, or what `load_model` takes.
    weights
        False leaves out the files with weights: models with equal hashes cut text in the same way.

    Raises
    ------
    InputError, FileNotFoundError
        There is no such model.
    """
    if isinstance(given, Model) or not isinstance(given, str | os.PathLike):
        return None
    place: Place = find(given)
    if place.folder is None or not place.folder.is_dir():
        return None
    files = sorted(path for path in place.folder.rglob("*") if path.is_file())
    files = [path for path in files if weights or path.suffix not in WEIGHTS]
    if sum(path.stat().st_size for path in files) > MOST_BYTES:
        return None
    content = hashlib.sha256()
    for path in files:
        content.update(f"{path.relative_to(place.folder).as_posix()} {path.stat().st_size} ".encode())
        with path.open("rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()
