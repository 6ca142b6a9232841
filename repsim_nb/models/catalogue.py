"""The catalogue of models that can be picked, and the one way to load any of them."""

from __future__ import annotations

import copy
import json
import os
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.checkpoint import read_metadata, weight_files
from repsim_nb.models.hub import download
from repsim_nb.models.model import Model
from repsim_nb.models.native import ARCHITECTURE
from repsim_nb.models.native_files import OLDER_WEIGHTS, TOKENIZER_FILES, load_native
from repsim_nb.resources import data_dir

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

LOADABLE = "causal language model or sequence classifier"
DTYPES = ("float32", "bfloat16", "float16")
PICKLES = "pytorch_model*.bin"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
TOY_MODELS = {  # the paper's, by their TransformerLens names; of the older ones of that format that the hub holds
    f"{activation.lower()}-{depth}l": f"NeelNanda/{activation}_{depth}L512W_C4_Code"
    for activation in ("GELU", "SoLU")
    for depth in (3, 4)
}


def list_models() -> pd.DataFrame:
    """The models that can be loaded by name, embedded ones first, then those on the hub (index: name).

    What is not known before a download is NA.

    Columns: family, kind, source, needs_download, n_layers, d_model, activation (of its MLPs), n_parameters, bytes,
    tokens_seen, loss (nats per token on held-out text), bits_per_byte, unigram_loss and unigram_bits_per_byte (of the
    training frequencies on the same text), untrained_loss (the same network before its first step), revisions
    (checkpoints, as in name@step500).
    Classifiers have none of these losses but accuracy, the share of held-out pairs labelled right; for the sub-cases
    that their corpus holds out of distribution see `accuracies`.
    """
    import pandas as pd

    names = _embedded()
    if not names:
        raise InputError(f"No embedded model in '{data_dir()}': this checkout is incomplete. Clone or install again.")
    rows = [*map(_describe, names), *map(_describe_toy, TOY_MODELS)]
    return pd.DataFrame(rows).set_index("name").convert_dtypes()  # with NA: integers stay integers


def _embedded() -> list[str]:
    folders = (p.name for p in data_dir().iterdir() if (p / "config.json").exists() and "@" not in p.name)
    return sorted(folders, key=lambda name: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", name)])


def _revisions(name: str) -> list[str]:
    found = (p.name.split("@", 1)[1] for p in data_dir().glob(f"{name}@*") if (p / "config.json").exists())
    return sorted(found, key=lambda r: int(re.sub(r"\D", "", r) or 0))


def _describe(name: str) -> dict[str, Any]:
    folder = data_dir() / name
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = weight_files(folder)[0]
    about = read_metadata(weights)
    measured = _accuracy(about) if "accuracies" in about else _losses(name, about)
    return {
        "name": name,
        "family": about["family"],
        "kind": "classifier" if "accuracies" in about else "causal",
        "source": "embedded",
        "needs_download": False,
        "n_layers": config.get("num_hidden_layers", config.get("n_layers")),
        "d_model": config.get("hidden_size", config.get("d_model")),
        "activation": config.get("hidden_act", config.get("act_fn")),
        "n_parameters": int(about["parameters"]),
        "bytes": weights.stat().st_size,
        **measured,
        "revisions": ", ".join(_revisions(name)),
    }


def _accuracy(about: dict[str, str]) -> dict[str, Any]:
    return {"accuracy": json.loads(about["accuracies"])["test"]}


def _losses(name: str, about: dict[str, str]) -> dict[str, Any]:
    held_out = json.loads(about["held_out"])
    untrained = data_dir() / f"{name}@step0"
    return {
        "tokens_seen": int(about["tokens_seen"]),
        "loss": held_out["nats_per_token"],
        "bits_per_byte": held_out["bits_per_byte"],
        "unigram_loss": held_out["unigram_nats_per_token"],
        "unigram_bits_per_byte": held_out["unigram_bits_per_byte"],
        "untrained_loss": _held_out(untrained)["nats_per_token"] if untrained.is_dir() else float("nan"),
    }


def _held_out(folder: Path) -> dict[str, Any]:
    return json.loads(read_metadata(weight_files(folder)[0])["held_out"])


def _describe_toy(name: str) -> dict[str, Any]:
    """What the name says; the rest is not known before the download."""
    family, depth = name.removesuffix("l").split("-")
    return {
        "name": name,
        "family": family,
        "kind": "causal",
        "source": "hub",
        "needs_download": True,
        "n_layers": int(depth),
        "d_model": 512,
        "activation": family,
    }


def accuracies() -> pd.DataFrame:
    """Accuracies of the embedded classifiers as they were when published (index: name).

    Columns: "test", in distribution, and every sub-case of nli-heuristics out of distribution, as in
    "lexical_overlap/non-entailment/subject_object_swap".
    """
    import pandas as pd

    cards = {name: read_metadata(weight_files(data_dir() / name)[0]) for name in _embedded()}
    rows = {name: json.loads(about["accuracies"]) for name, about in cards.items() if "accuracies" in about}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def load_model(
    name_or_dir_or_module: str | os.PathLike[str] | torch.nn.Module | Model,
    device: str = "auto",
    dtype: str = "float32",
    revision: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Model:
    """Load a causal language model or a sequence classifier as a `Model`.

    Args:
        name_or_dir_or_module: a name from `list_models()`, a local Hugging Face directory, a hub id ("owner/name"; only
            these and the names that need a download use the network), a transformers model in memory (left unchanged),
            or a Model (returned as is).
        device: "auto" (CUDA, then MPS, then CPU), or a torch device.
        dtype: "float32", "bfloat16" or "float16".
        revision: checkpoint or commit; `name@revision` says the same.
        tokenizer: for a model in memory, or in place of the model's own.

    Raises:
        InputError: unknown name or revision, a directory that is no checkpoint, broken weights, a model that is neither
            a causal language model nor a sequence classifier.
        FileNotFoundError: a path that does not exist.
    """
    import torch

    given = name_or_dir_or_module
    if isinstance(given, Model):
        return given
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    place = _device(device)
    if isinstance(given, torch.nn.Module):
        return _from_memory(given, tokenizer, place, dtype)
    name, revision = _split_revision(os.fspath(given), revision)
    embedded = _embedded()
    if name in embedded:
        return _from_directory(_checkpoint(name, revision), name, revision, place, dtype, tokenizer, "embedded")
    path = Path(name).expanduser()
    if path.exists():
        if revision:
            raise InputError(f"'{path}' is a local directory, which has no revisions; received revision {revision!r}.")
        return _from_directory(path, name, None, place, dtype, tokenizer, "directory")
    if isinstance(given, os.PathLike) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"No model directory at '{path}'. Give a path that exists, or a model name.")
    if name in TOY_MODELS or HUB_ID.fullmatch(name):
        return _from_hub(name, revision, place, dtype, tokenizer)
    raise unknown(
        "model", name, [*embedded, *TOY_MODELS], "Or give a local directory, or a hub id such as EleutherAI/pythia-70m."
    )


def _device(asked: str) -> torch.device:
    import torch

    if asked != "auto":
        try:
            return torch.device(asked)
        except RuntimeError:
            raise unknown("device", asked, ["auto", "cpu", "cuda", "mps"]) from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _split_revision(name: str, revision: str | None) -> tuple[str, str | None]:
    base, at, inside = name.rpartition("@")
    if not at or Path(name).exists():
        return name, revision
    if revision is not None and revision != inside:
        raise InputError(f"Two revisions were given, {inside!r} in the name and revision={revision!r}. Give one.")
    return base, inside


def _checkpoint(name: str, revision: str | None) -> Path:
    if revision in (None, "main"):
        return data_dir() / name
    if revision not in _revisions(name):
        raise unknown(f"revision of {name}", revision, ["main", *_revisions(name)])
    return data_dir() / f"{name}@{revision}"


def _from_directory(
    folder: Path,
    name: str,
    revision: str | None,
    device: torch.device,
    dtype: str,
    tokenizer: PreTrainedTokenizerBase | None,
    source: str,
) -> Model:
    if not (folder / "config.json").is_file():
        raise InputError(f"'{folder}' is no model checkpoint: it holds no config.json.")
    about = {"source": source, "revision": revision or "main"}
    full = f"{name}@{revision}" if revision not in (None, "main") else name
    config = _read_config(folder / "config.json")
    if _is_native(config):
        return load_native(folder, config, full, device, dtype, tokenizer, about)
    weight_files(folder)  # raises when absent or truncated
    return _load(str(folder), full, device, dtype, tokenizer, about)


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"'{file}' is not valid JSON: {error}. Copy or download it again.") from None
    return config if isinstance(config, dict) else {}


def _is_native(config: Mapping[str, Any]) -> bool:
    """Whether this is TransformerLens' own format, which older files do not say of themselves."""
    return "model_type" not in config and ("d_vocab" in config or config.get("architecture") == ARCHITECTURE)


def _from_hub(
    name: str, revision: str | None, device: torch.device, dtype: str, tokenizer: PreTrainedTokenizerBase | None
) -> Model:
    full = f"{name}@{revision}" if revision else name
    repository = TOY_MODELS.get(name, name)
    folder = download(repository, revision, ["config.json"])
    if not (folder / "config.json").is_file():
        raise InputError(f"'{repository}' is no model checkpoint: it holds no config.json.")
    config, commit = _read_config(folder / "config.json"), folder.name
    about = {"source": "hub", "repository": repository, "revision": revision or "main", "commit": commit}
    native = _is_native(config)
    weights = ("*.safetensors", OLDER_WEIGHTS) if native else ("model*.safetensors", "*.model")
    download(repository, commit, ["*.json", *TOKENIZER_FILES, *weights])
    if native:
        return load_native(folder, config, full, device, dtype, tokenizer, about)
    pickled = not list(folder.glob("*.safetensors"))
    if pickled:
        download(repository, commit, [PICKLES])
        if not list(folder.glob(PICKLES)):
            raise InputError(f"'{repository}' holds no weights that can be read: no model.safetensors, no {PICKLES}.")
        warnings.warn(
            f"'{repository}' holds its weights as a pickle only. Tensors alone are read from it, no code is run.",
            stacklevel=3,
        )
    return _load(str(folder), full, device, dtype, tokenizer, about | {"pickled": pickled}, pickled)


def _load(
    location: str,
    name: str,
    device: torch.device,
    dtype: str,
    tokenizer: PreTrainedTokenizerBase | None,
    about: dict[str, Any],
    pickled: bool = False,
) -> Model:
    from pickle import UnpicklingError

    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    said = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is an error below, not a table of warnings
    logging.disable_progress_bar()  # of reading a few tensors; downloads keep theirs
    try:
        config = AutoConfig.from_pretrained(location)
        kind = AutoModelForSequenceClassification if _is_classifier(config) else AutoModelForCausalLM
        loaded: Any = kind.from_pretrained(
            location,
            dtype=getattr(torch, dtype),
            use_safetensors=not pickled,
            weights_only=True,
            output_loading_info=True,
        )
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(location)
    except (UnpicklingError, EOFError, RuntimeError) as error:  # code in a pickle, or half of one
        raise InputError(
            f"Cannot load {name!r}: its weights are broken or hold more than tensors, so none of them was read. "
            "Load a conversion to safetensors."
        ) from error
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"Cannot load {name!r} as a {LOADABLE}: {_first_line(error)}") from error
    finally:
        logging.set_verbosity(said)
    module, report = loaded
    _check_complete(name, module, report["missing_keys"])
    return _as_model(name, module.to(device), tokenizer, about)


def _is_classifier(config: PreTrainedConfig) -> bool:
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or [])


def _as_model(name: str, module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, about: dict[str, Any]) -> Model:
    from repsim_nb.models.causal import CausalModel
    from repsim_nb.models.classifier import ClassifierModel

    kind = ClassifierModel if type(module).__name__.endswith("ForSequenceClassification") else CausalModel
    return kind(name, module, tokenizer, about)


def _check_complete(name: str, module: PreTrainedModel, missing: Collection[str]) -> None:
    """transformers fills what a checkpoint lacks with random numbers and only warns; here it is an error."""
    trained_as = (module.config.architectures or [type(module).__name__])[0]
    if not trained_as.endswith(("ForCausalLM", "LMHeadModel", "ForSequenceClassification")):
        raise InputError(
            f"{name!r} is a {trained_as}; only causal language models and sequence classifiers can be loaded."
        )
    if missing:
        raise InputError(
            f"Cannot load {name!r} as a {LOADABLE}: the checkpoint lacks {len(missing)} of the weights that "
            f"{type(module).__name__} needs, {sorted(missing)[0]} among them."
        )


def _from_memory(
    module: torch.nn.Module, tokenizer: PreTrainedTokenizerBase | None, device: torch.device, dtype: str
) -> Model:
    import torch
    from transformers import PreTrainedModel

    if not isinstance(module, PreTrainedModel):
        raise InputError(f"A model in memory must be a transformers PreTrainedModel; received {type(module).__name__}.")
    if tokenizer is None:
        raise InputError("A model in memory comes without a tokenizer: pass tokenizer=... as well.")
    own = copy.deepcopy(module)
    name = module.config.name_or_path or type(module).__name__
    torch.nn.Module.to(own, device, getattr(torch, dtype))
    return _as_model(name, own, tokenizer, {"source": "memory", "revision": "none"})


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
