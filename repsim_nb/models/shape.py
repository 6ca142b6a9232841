"""The size of a model, from its config and the headers of its weight files, without reading weights."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint import INDEX, WEIGHTS, shards, tensors_of, weight_files
from repsim_nb.models.checkpoint_folder import refusing
from repsim_nb.models.config import longest
from repsim_nb.models.loading import find_config, is_native, load_model
from repsim_nb.models.model import Model
from repsim_nb.models.packaged import PACKAGED, SOURCE
from repsim_nb.models.place import find
from repsim_nb.models.positions import MLP_ACTIVATIONS, RESIDUAL, positions
from repsim_nb.models.pretrained import kind_of
from repsim_nb.models.tokenizer import NO_CODE, quiet

if TYPE_CHECKING:
    import torch

MLP_WIDTHS = ("intermediate_size", "d_mlp", "ffn_dim", "n_inner", "hidden_dim", "d_ff")  # config names
SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Shape:
    """Widths and depth of a model.

    Attributes
    ----------
    name
        Requested name.
    n_layers, d_model, d_mlp, context
        Values from its config.
    parameters
        Number of weights.
    item
        Bytes per weight.
    """

    name: str
    n_layers: int
    d_model: int
    d_mlp: int
    context: int
    parameters: int
    item: int = 4

    @property
    def weights(self) -> int:
        """Bytes of the weights in memory."""
        return self.parameters * self.item

    @property
    def token_bytes(self) -> int:
        """Approximate bytes that one token needs inside a block: in its MLP, or for rotary queries and keys."""
        return self.item * max(4 * self.d_model + 2 * self.d_mlp, 10 * self.d_model)

    def width(self, site: str = RESIDUAL) -> int:
        """Like `Model.width`, for a model that has `site`."""
        return self.d_mlp if site == MLP_ACTIVATIONS else self.d_model

    def positions(self, layers: str | SupportsIndex | Iterable[SupportsIndex], site: str = RESIDUAL) -> list[int]:
        """Like `Model.positions`, for a model that has `site`."""
        return positions(self.name, self.n_layers, layers, site)


def shape_of(model: Model | str | os.PathLike[str], dtype: str = "float32") -> Shape:
    """The shape of a model, or of what `load_model` would load under that name, in `dtype`.

    For a hub id, only config.json is downloaded.

    Raises
    ------
    InputError
        As for `load_model`, except for problems that only show in the weights.
    FileNotFoundError
        If the path does not exist.
    """
    if not isinstance(model, str | os.PathLike):
        return _shape_of_loaded(load_model(model))
    place = find(model)
    if place.source == SOURCE and place.folder is None:  # not fetched yet: as the catalogue has it
        packaged = PACKAGED[place.name]
        widths = packaged.n_layers, packaged.d_model, packaged.d_mlp, packaged.context
        return Shape(packaged.name, *widths, packaged.n_parameters, SIZES[dtype])
    folder, config = find_config(place)
    with refusing(f"The weights in '{folder}' cannot be read"):
        files = (
            weight_files(folder)
            if _is_complete(folder) or (place.folder and list(folder.glob("*.safetensors")))
            else []
        )
        known = sum(tensor.size for tensor in tensors_of(files).values() if not tensor.is_mask)
    with refusing(f"Cannot read the config of {place.full!r}", f"See the config.json in '{folder}'."):
        if is_native(config):
            return _shape_of_native(place.full, config, known, SIZES[dtype])
        kind_of(place.full, config)
        return _shape_of_transformers(place.full, folder, known, SIZES[dtype])


def _is_complete(folder: Path) -> bool:
    """Whether all weight files exist; after an interrupted download some are missing until loading resumes it."""
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return any(folder.glob("*.safetensors"))
    return all((folder / name).is_file() for name in shards(index))


def _shape_of_loaded(model: Model) -> Shape:
    config = getattr(model.module, "config", None)
    parameters = sum(weights.numel() for weights in model.module.parameters())
    return Shape(
        model.name,
        model.n_layers,
        model.d_model,
        _mlp(config, model.d_model),
        model.context,
        parameters,
        model.dtype.itemsize,
    )


def _shape_of_native(name: str, config: dict[str, Any], known: int, item: int) -> Shape:
    import torch

    from repsim_nb.models.native import Native, NativeConfig

    read = NativeConfig.read(config)
    if not known:
        with torch.device("meta"):
            known = _count(Native(read))
    return Shape(name, read.n_layers, read.d_model, read.d_mlp, read.n_ctx, known, item)


def _shape_of_transformers(name: str, folder: Path, known: int, item: int) -> Shape:
    """Without weight files, count parameters of the network built on torch's "meta" device."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    with quiet():
        whole = AutoConfig.from_pretrained(folder, **NO_CODE)
        if not known:
            trained_as = (whole.architectures or [""])[0]
            kind: Any = AutoModelForCausalLM if trained_as.endswith(("CausalLM", "LMHeadModel")) else AutoModel
            with torch.device("meta"):
                known = _count(kind.from_config(whole, dtype=torch.float32, **NO_CODE))
    config = whole.get_text_config()
    width = config.hidden_size
    shape = Shape(name, config.num_hidden_layers, width, _mlp(config, width), longest(config), known, item)
    for key in ("n_layers", "d_model", "d_mlp", "context"):
        size = getattr(shape, key)
        if not isinstance(size, int) or size < 1:
            raise InputError(f"The config of {name!r} says {key}={size!r:.80}; expected a positive integer.")
    return shape


def _count(network: torch.nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def _mlp(config: Any, width: int) -> int:
    return _first(config, MLP_WIDTHS) or 4 * width


def _first(config: Any, names: Iterable[str]) -> int | None:
    """The first of the attributes that is a number."""
    return next((value for name in names if isinstance(value := getattr(config, name, None), int)), None)
