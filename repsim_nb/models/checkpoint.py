"""What a safetensors checkpoint says of itself, read from its header alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from repsim_nb.errors import InputError


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model directory, each checked to be whole.

    Raises:
        InputError: none there, or one is truncated.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [*folder.glob("*.bin"), *folder.glob("*.pt")]
        why = "only pickled weights, which are never loaded; convert them to safetensors" if pickles else "no weights"
        raise InputError(f"'{folder}' holds {why} (expected a file such as model.safetensors).")
    for file in files:
        _header(file)
    return files


def read_metadata(file: Path) -> dict[str, str]:
    """The free metadata of a safetensors file, and under "parameters" the number of its values."""
    header = _header(file)
    values = sum(_size(about["shape"]) for key, about in header.items() if key != "__metadata__")
    return header.get("__metadata__", {}) | {"parameters": str(values)}


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
