"""Load a `NativeModel` from files in TransformerLens' native format: embedded, local or on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint import as_tensor, listed, not_weights, weight_files
from repsim_nb.models.checkpoint_folder import naming, refusing
from repsim_nb.models.download import download
from repsim_nb.models.native import BUFFERS, Native, NativeConfig, NativeModel, checked, renamed
from repsim_nb.models.place import HUB_ID
from repsim_nb.models.tokenizer import NO_CODE, check_tokenizer, own_words

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
    """Load the model in `folder` with the given config.

    Raises
    ------
    InputError
        If the network is not supported, or weights are broken, missing or have the wrong shape.
    """
    with naming(f"Cannot load {name!r}", f"See the files in '{folder}'."):
        network = _network(folder, config)
    tokenizer = tokenizer or native_tokenizer(folder, config, name, about["source"] == "hub")
    check_tokenizer(name, tokenizer, network.config.d_vocab)
    return NativeModel(name, network.to(device, getattr(torch, dtype)), tokenizer, about)


def _network(folder: Path, config: Mapping[str, Any]) -> Native:
    """Build the network, allocating memory only after all shapes are known to match the file."""
    shape = NativeConfig.read(config)
    weights = _weights(folder)
    strange = [
        name
        for name in not_weights({key: as_tensor(value) for key, value in weights.items()})
        if not name.endswith(BUFFERS)
    ]
    if strange:
        raise InputError(
            f"{len(strange)} of its weights are not floating-point numbers of 16 bits or more: {listed(strange)} "
            f"({weights[strange[0]].dtype}). They look quantised, which this format does not support."
        )
    weights = renamed(weights, shape)
    with torch.device("meta"):
        network = Native(shape, head_bias="head.bias" in weights)
    found = checked(weights, network)
    network.to_empty(device="cpu").load_state_dict(found)
    return network


def native_tokenizer(folder: Path, config: Mapping[str, Any], name: str, from_hub: bool) -> PreTrainedTokenizerBase:
    """The tokenizer next to the weights, else the one that config.json names, as for the toy models.

    Raises
    ------
    InputError
        If there is none, or it cannot be downloaded.
    """
    from transformers import AutoTokenizer

    named = config.get("tokenizer_name")
    with refusing(f"Cannot load the tokenizer of {name!r}", "Or pass tokenizer=..."):
        if named and not (folder / "tokenizer.json").is_file():
            local = not from_hub and isinstance(named, str) and Path(named).is_dir()
            if not local and not (isinstance(named, str) and HUB_ID.fullmatch(named)):
                raise ValueError(f"its config.json says tokenizer_name={named!r:.80}; expected a name as 'owner/name'")
            folder = Path(named) if local else _downloaded(named)
        tokenizer = AutoTokenizer.from_pretrained(folder, **NO_CODE)
        if not own_words(tokenizer):
            raise ValueError(f"'{folder}' holds none")
        return _with_start_token(tokenizer)


def _downloaded(repository: str) -> Path:
    try:
        return download(repository, None, TOKENIZER_FILES)
    except InputError as error:
        raise ValueError(str(error)) from None


def _weights(folder: Path) -> dict[str, Tensor]:
    """Read safetensors if there are any, else tensors from .pth, the only format of the paper's models."""
    from safetensors.torch import load_file

    old = sorted(folder.glob(OLDER_WEIGHTS))
    if old and not list(folder.glob("*.safetensors")):
        return _tensors(old[0])
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        weights |= load_file(file)
    return weights


def _tensors(file: Path) -> dict[str, Tensor]:
    """Read a dict of tensors written by torch.save. Pickles with code are refused, and no code is run."""
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # UnpicklingError for code; a broken file can raise anything
        weights = None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(
            f"'{file}' is broken or contains more than named tensors, so nothing was loaded. Download it again, or "
            "save its tensors as safetensors."
        )
    return weights


def _with_start_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Make the tokenizer add a start token, since these models were trained with one before every sequence."""
    if tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] or tokenizer.bos_token is None:
        return tokenizer
    from tokenizers.processors import TemplateProcessing

    start = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, tokenizer.bos_token_id)]
    )
    return tokenizer
