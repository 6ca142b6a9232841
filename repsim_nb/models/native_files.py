"""From files in TransformerLens' native format, embedded, local or on the hub, to a `NativeModel`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint import weight_files
from repsim_nb.models.native import Native, NativeConfig, NativeModel, renamed

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
    from transformers import AutoTokenizer

    shape = NativeConfig.read(config)
    weights = renamed(_weights(folder), shape)
    network = Native(shape, head_bias="head.bias" in weights)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    if found != expected:
        wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        raise InputError(
            f"Cannot load {name!r}: {len(wrong)} weights are not as its config.json says; {wrong[0]} has shape "
            f"{found.get(wrong[0], 'none')}, expected {expected.get(wrong[0], 'none')}."
        )
    network.load_state_dict(weights)
    try:
        tokenizer = tokenizer or _with_start(AutoTokenizer.from_pretrained(config.get("tokenizer_name") or folder))
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot load the tokenizer of {name!r}: {str(error).splitlines()[0]}") from error
    return NativeModel(name, network.to(device, getattr(torch, dtype)), tokenizer, about)


def download_native(repository: str, revision: str | None) -> tuple[Path, str]:
    """Where the hub's files lie after a download, and the commit they are of.

    Raises:
        InputError: no such repository or revision, no access, no network.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=["config.json", "*.safetensors", "*final.pth"]
        )
    except (RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise InputError(f"Cannot download '{repository}'{at}: {str(error).splitlines()[0]}") from error
    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"'{repository}' is no model checkpoint: it holds no config.json.")
    return Path(folder), Path(folder).name


def _weights(folder: Path) -> dict[str, Tensor]:
    """Safetensors where there are any; the paper's models exist as .pth only, of which nothing but tensors is read."""
    from safetensors.torch import load_file

    old = sorted(folder.glob("*final.pth"))
    if old and not list(folder.glob("*.safetensors")):
        return torch.load(old[0], map_location="cpu", weights_only=True)
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        weights |= load_file(file)
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
