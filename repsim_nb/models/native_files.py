"""From files in TransformerLens' native format, embedded, local or on the hub, to a `NativeModel`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint import weight_files
from repsim_nb.models.hub import download
from repsim_nb.models.native import Native, NativeConfig, NativeModel, checked, renamed
from repsim_nb.models.pretrained import NO_CODE, reason

OLDER_WEIGHTS = "*final.pth"
TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt")

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_native(
    folder: Path,
    config: Mapping[str, Any],
    name: str,
    device: torch.device,
    dtype: str,
    tokenizer: PreTrainedTokenizerBase | None,
    about: dict[str, Any],
) -> NativeModel:
    """The model in `folder`, whose config.json says `config`.

    Raises:
        InputError: a network that is not supported, weights that are broken, missing or of another shape.
    """
    try:
        network = _network(folder, config)
    except InputError as error:
        raise InputError(f"Cannot load {name!r}: {error}") from None
    tokenizer = tokenizer or _tokenizer(folder, config, name)
    return NativeModel(name, network.to(device, getattr(torch, dtype)), tokenizer, about)


def _network(folder: Path, config: Mapping[str, Any]) -> Native:
    shape = NativeConfig.read(config)
    weights = renamed(_weights(folder), shape)
    network = Native(shape, head_bias="head.bias" in weights)
    network.load_state_dict(checked(weights, network))
    return network


def _tokenizer(folder: Path, config: Mapping[str, Any], name: str) -> PreTrainedTokenizerBase:
    """The one beside the weights; else the one that config.json names, as the toy models have it."""
    from transformers import AutoTokenizer

    named = config.get("tokenizer_name")
    try:
        if named and not (folder / "tokenizer.json").is_file():
            folder = Path(named) if Path(named).is_dir() else download(named, None, TOKENIZER_FILES)
        return _with_start(AutoTokenizer.from_pretrained(folder, **NO_CODE))
    except (OSError, ValueError) as error:  # InputError is a ValueError
        raise InputError(f"Cannot load the tokenizer of {name!r}: {reason(error)} Or pass tokenizer=...") from None


def _weights(folder: Path) -> dict[str, Tensor]:
    """Safetensors where there are any; the paper's models exist as .pth only, of which nothing but tensors is read."""
    from safetensors.torch import load_file

    old = sorted(folder.glob(OLDER_WEIGHTS))
    if old and not list(folder.glob("*.safetensors")):
        return _tensors(old[0])
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        weights |= load_file(file)
    return weights


def _tensors(file: Path) -> dict[str, Tensor]:
    """What torch.save made of a dict of tensors. A pickle can hold code: none is run, and one that does is refused."""
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # UnpicklingError for code; a broken file can raise anything
        weights = None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(
            f"'{file}' is broken or holds more than tensors by name, so none of it was loaded. Download it again, or "
            "save its tensors as safetensors."
        )
    return weights


def _with_start(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """These models were trained with a start token before every sequence; a tokenizer that adds none is told to."""
    if tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] or tokenizer.bos_token is None:
        return tokenizer
    from tokenizers.processors import TemplateProcessing

    start = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, tokenizer.bos_token_id)]
    )
    return tokenizer
