"""The content of a checkpoint, read from the headers of its files only."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint_folder import AGAIN, inside, read_json, refusing

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
LONGEST_HEADER = 100_000_000  # bytes, the limit of safetensors itself
FLOATS = ("F64", "F32", "F16", "BF16")  # types that need no scale
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "C64": 64, "F8_E8M0": 8}
BITS |= {f"F8_{kind}": 8 for kind in ("E4M3", "E5M2", "E4M3FNUZ", "E5M2FNUZ")}
BITS |= {f"{kind}{bits}": bits for kind in "UIF" for bits in (16, 32, 64)} | {"BF16": 16}
BUFFERS = re.compile(r"(^|\.)(position_ids|token_type_ids|masked_bias|inv_freq|num_batches_tracked|version)$")


@dataclass(frozen=True)
class Tensor:
    """A tensor of a checkpoint without its values: type (as named by safetensors) and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def is_mask(self) -> bool:
        """Whether it is a causal mask, (1, 1, length, length), which older files store in every block."""
        return self.dtype == "BOOL" or (len(self.shape) == 4 and self.shape[:2] == (1, 1))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, all checked for completeness, in the order of transformers.

    That is model.safetensors, else all shards of an index, else all files with that suffix.

    Raises
    ------
    InputError
        If there are none, one is truncated or outside the folder, a shard is missing, or two shards have the same
        tensor.
    """
    index = folder / INDEX
    if (folder / WEIGHTS).is_file():
        files = [folder / WEIGHTS]
    elif index.is_file():
        files = [folder / name for name in shards(index)]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [*folder.glob("*.bin"), *folder.glob("*.pt")]
        why = f"only {pickles[0].name}, which is not loaded; convert it to safetensors" if pickles else "no weights"
        raise InputError(f"'{folder}' has {why} (expected a file such as model.safetensors).")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"'{folder}' lacks {len(missing)} of the {len(files)} files with its weights, for example {missing[0]}. "
            f"{AGAIN}"
        )
    tensors_of(files)
    return files


def shards(index: Path) -> list[str]:
    """Names of the weight files listed in an index; they must be in its folder.

    Raises
    ------
    InputError
        If the index is broken, or names files elsewhere.
    """
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names:
        raise InputError(f"'{index}' is not an index of weights. {AGAIN}")
    for name in names.values():
        inside(index.parent, name, index)
    wrong = [name for name in names.values() if not name.endswith((".safetensors", ".bin"))]
    if wrong:
        raise InputError(f"'{index}' names {wrong[0]!r:.80}, which is not a weight file by its name. {AGAIN}")
    return sorted(set(names.values()))


def tensors_of(files: list[Path]) -> dict[str, Tensor]:
    """All tensors of safetensors files by name, without their values.

    Raises
    ------
    InputError
        If a file is broken, or two files have a tensor with the same name.
    """
    found: dict[str, Tensor] = {}
    for file in files:
        own = {name: Tensor(about["dtype"], tuple(about["shape"])) for name, about in _tensors(_header(file)).items()}
        if twice := found.keys() & own.keys():
            raise InputError(f"'{file}' contains {min(twice)!r}, and so does another shard. {AGAIN}")
        found |= own
    return found


def pickled_tensors(folder: Path) -> dict[str, Tensor]:
    """`tensors_of` for pickles written by torch.save, without running code or reading values.

    Raises
    ------
    InputError
        If a file is broken or contains more than tensors, or an index names files elsewhere.
    """
    import torch

    index = folder / PICKLE_INDEX
    names = [PICKLE] if (folder / PICKLE).is_file() or not index.is_file() else shards(index)
    found: dict[str, Tensor] = {}
    try:
        for name in names:
            own = torch.load(folder / name, map_location="meta", weights_only=True)
            found |= {key: as_tensor(value) for key, value in own.items()}
    except Exception as error:  # UnpicklingError for code; a broken file can raise anything
        raise InputError(
            "its weights are broken or contain more than tensors, so nothing was read. Convert the model to "
            "safetensors and load that."
        ) from error
    return found


def as_tensor(value: Any) -> Tensor:
    """Describe a torch tensor as a safetensors header would."""
    import torch

    kinds = {"float": "F", "bfloat": "BF", "int": "I", "uint": "U", "bool": "BOOL", "complex": "C"}
    word, bits = re.fullmatch(r"torch\.([a-z]+)(.*)", str(value.dtype)).groups()  # type: ignore[union-attr]
    quantised = isinstance(value, torch.Tensor) and value.is_quantized
    return Tensor(str(value.dtype) if quantised else f"{kinds.get(word, word)}{bits}".upper(), tuple(value.shape))


def not_weights(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that cannot be weights by themselves: integers, and floats too short to do without a scale."""
    return [name for name, tensor in tensors.items() if tensor.dtype not in FLOATS]


def is_buffer(name: str, tensor: Tensor | None) -> bool:
    """Whether an unused tensor is a mask, positions or the like, which older files store and newer code computes."""
    return bool(BUFFERS.search(name)) or (tensor is not None and tensor.is_mask)


def listed(names: list[str]) -> str:
    """Join the first three names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def read_metadata(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file, plus "parameters", the number of its values without masks."""
    values = sum(tensor.size for tensor in tensors_of([file]).values() if not tensor.is_mask)
    return _header(file).get("__metadata__", {}) | {"parameters": str(values)}


def _tensors(header: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: about for name, about in header.items() if name != "__metadata__"}


def _header(file: Path) -> dict[str, Any]:
    with refusing(f"'{file}' cannot be read", AGAIN), file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        total = file.stat().st_size
        header = None
        if 0 <= length <= min(total - 8, LONGEST_HEADER):
            try:
                header = json.loads(stream.read(length))
            except (ValueError, RecursionError):
                header = None
        if isinstance(header, dict) and (wrong := _wrong(header, total - 8 - length)) != "":
            if wrong is None:
                return header
            raise InputError(f"'{file}' is not a safetensors file: {wrong}. {AGAIN}")
    raise InputError(f"'{file}' is truncated or not a safetensors file ({total:,} bytes). {AGAIN}")


def _wrong(header: Mapping[str, Any], total: int) -> str | None:
    """What is wrong with a header that `total` bytes follow: None if nothing, "" if the length does not match."""
    about = header.get("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        return "its metadata is not a mapping of strings"
    spans = []
    for name, tensor in _tensors(header).items():
        match tensor:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]} if dtype in BITS:
                if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
                    return f"it gives {name!r:.80} the shape {shape!r:.80}"
                if (end - start) * 8 != math.prod(shape) * BITS[dtype]:
                    return f"it gives {name!r:.80} of shape {shape!r:.80} and type {dtype} {end - start:,} bytes"
                spans.append((start, end, name))
            case _:
                return f"it describes {name!r:.80} as {tensor!r:.80}"
    reached = 0
    for start, end, name in sorted(spans):
        if start != reached:
            return f"{name!r:.80} begins at byte {start:,}, where {reached:,} is expected"
        reached = end
    return None if reached == total else ""
