"""What a safetensors checkpoint says of itself, read from its header alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from repsim_nb.errors import InputError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model directory, each checked to be whole; all shards where there is an index.

    Raises:
        InputError: none there, one is truncated, or a shard is missing.
    """
    index = folder / INDEX
    files = [folder / name for name in shards(index)] if index.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [*folder.glob("*.bin"), *folder.glob("*.pt")]
        why = f"only {pickles[0].name}, which is not loaded; convert it to safetensors" if pickles else "no weights"
        raise InputError(f"'{folder}' holds {why} (expected a file such as model.safetensors).")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"'{folder}' lacks {len(missing)} of the {len(files)} files that hold its weights, {missing[0]} among them."
            " Copy or download it again."
        )
    for file in files:
        _header(file)
    return files


def shards(index: Path) -> list[str]:
    """Names of the files that an index says the weights are in.

    Raises:
        InputError: an index that is broken.
    """
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"'{index}' is no index of weights. Copy or download it again.") from None


def read_metadata(file: Path) -> dict[str, str]:
    """The free metadata of a safetensors file, and under "parameters" the number of its values but masks."""
    header = _header(file)
    values = sum(
        _size(about["shape"]) for key, about in header.items() if key != "__metadata__" and not _is_mask(about)
    )
    return header.get("__metadata__", {}) | {"parameters": str(values)}


def _is_mask(about: dict[str, Any]) -> bool:
    """Older files hold the mask of causal attention, (1, 1, length, length) in every block, which is no parameter."""
    return about["dtype"] == "BOOL" or (len(about["shape"]) == 4 and about["shape"][:2] == [1, 1])


def _size(shape: list[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        total = file.stat().st_size
        if 0 <= length <= total - 8:
            try:
                header = json.loads(stream.read(length))
            except ValueError:
                header = None
            if isinstance(header, dict):
                ends = [about["data_offsets"][1] for key, about in header.items() if key != "__metadata__"]
                if total == 8 + length + max(ends, default=0):
                    return header
    raise InputError(f"'{file}' is truncated or no safetensors file ({total:,} bytes). Copy or download it again.")
