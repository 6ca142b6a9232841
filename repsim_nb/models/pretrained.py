"""Load a `Model` from files in Hugging Face's format, with transformers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.checkpoint import pickled_tensors, tensors_of, weight_files
from repsim_nb.models.checkpoint_folder import naming, refusing
from repsim_nb.models.config import model_type, quantisation, trained_as
from repsim_nb.models.fit import MASKED_HEADS, check_fit, check_taken, is_plain
from repsim_nb.models.model import Model
from repsim_nb.models.sentence_files import ENCODERS, Layout
from repsim_nb.models.survey_table import warn_unless_surveyed
from repsim_nb.models.tokenizer import NO_CODE, VERY_LONG, check_tokenizer, load_tokenizer, quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

LOADABLE = "causal language model, sequence classifier or text encoder"
OPTIONS = ("device_map", "max_memory", "offload_folder", "quantization_config", "attn_implementation")
REFUSED = {  # options of transformers that users cannot set, and why
    "trust_remote_code": "code from a repository is never run",
    "use_safetensors": "only tensors are read, from safetensors if a repository has them",
    "weights_only": "only tensors are read, from safetensors if a repository has them",
    "token": "log in with `hf auth login` or set HF_TOKEN",
    "revision": "pass revision=... to load_model",
    "dtype": "pass dtype=... to load_model",
    "torch_dtype": "pass dtype=... to load_model",
    "ignore_mismatched_sizes": "weights that do not fit are an error and never become random numbers",
}
LANGUAGE_HEADS = ("ForCausalLM", "LMHeadModel")


@dataclass(frozen=True)
class How:
    """How to load a model.

    Attributes
    ----------
    device
        Target device.
    dtype
        "float32", "bfloat16" or "float16".
    tokenizer
        Replacement for the model's own tokenizer.
    options
        Options for transformers' from_pretrained; "device_map" and "quantization_config" override the device.
    """

    device: torch.device
    dtype: str
    tokenizer: PreTrainedTokenizerBase | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def placed_by_transformers(self) -> bool:
        """Whether the options place the model, so that it is not moved afterwards."""
        return "device_map" in self.options or "quantization_config" in self.options


def check_options(options: Mapping[str, Any]) -> None:
    """Check that only options for placement and precision are passed to transformers.

    Raises
    ------
    InputError
        If there is any other option.
    """
    for name in options:
        if name in REFUSED:
            raise InputError(f"options={{{name!r}: ...}} is not supported: {REFUSED[name]}.")
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS)


def kind_of(name: str, config: Mapping[str, Any]) -> str:
    """The kind of model that a config.json describes: "causal", "classifier" or "encoder".

    Raises
    ------
    InputError
        If it is anything else: a model for images or audio, for another task, or unknown to transformers.
    """
    from transformers.models.auto import modeling_auto as auto

    with naming(f"Cannot load {name!r}"):
        head, kind = trained_as(config), model_type(config)
    if head.endswith("ForSequenceClassification"):
        return "classifier"
    if head.endswith(LANGUAGE_HEADS):
        return "causal"
    if head in ENCODERS.values():
        return "encoder"
    if not config.get("is_encoder_decoder"):
        reads_text = kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        if reads_text and (not head or head.endswith((*MASKED_HEADS, "Model"))):
            return "encoder"
        if not head and kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            return "causal"
    if not (head or kind):
        raise InputError(f"Cannot load {name!r}: its config.json names neither an architecture nor a model_type.")
    what = head or f"model of type {kind!r}"
    raise InputError(f"{name!r} is a {what}; expected a {LOADABLE}.")


def load_pretrained(
    folder: Path, config: Mapping[str, Any], name: str, how: How, about: dict[str, Any], layout: Layout
) -> Model:
    """Load the model in `folder` with the given config.

    If `about` says "pickled", weights are read from pickles, tensors only. `layout` describes the folder the model was
    published in.

    Raises
    ------
    InputError
        If weights or tokenizer are broken or missing, weights do not match the network or are not plain numbers, the
        kind of model is not supported, or transformers rejects an option.
    """
    import torch
    import transformers

    pickled = about.get("pickled", False)
    loader: Any = getattr(transformers, _class_for(kind_of(name, config), config))
    with naming(f"Cannot load {name!r}", _advice(folder)):
        tensors = pickled_tensors(folder) if pickled else tensors_of(weight_files(folder))
        quantised = quantisation(config)
    how_read = f" with the options {', '.join(how.options)}" if how.options else ""
    how_read += f", its weights quantised with {quantised}" if quantised else ""
    with naming(f"Cannot load {name!r} as a {LOADABLE}{how_read}", _advice(folder)):
        with quiet():
            own = _config(folder, how)
            if not quantised:
                check_fit(_empty(loader, own), tensors)
            module, report = loader.from_pretrained(
                folder,
                config=own,
                dtype=getattr(torch, how.dtype),
                use_safetensors=not pickled,
                weights_only=True,
                output_loading_info=True,
                **NO_CODE,
                **{key: value for key, value in how.options.items() if key != "attn_implementation"},
            )
        check_taken(module, report, tensors)
        if quantised and is_plain(module):  # the file may mix precisions
            torch.nn.Module.to(module, getattr(torch, how.dtype))
        placed = module if how.placed_by_transformers else module.to(how.device)
    with naming(f"Cannot load {name!r}", _advice(folder)):
        tokenizer = how.tokenizer or layout.tokenizer(load_tokenizer(folder))
    with refusing(f"Cannot load {name!r}", _advice(folder)):
        return _as_published(as_model(name, placed, tokenizer, about), layout)


def _advice(folder: Path) -> str:
    return f"See the config.json in '{folder}', and copy or download the model again if it is broken."


def _config(folder: Path, how: How) -> PreTrainedConfig:
    """The config as transformers reads it, with the attention implementation that the caller requested, if any."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, **NO_CODE)
    if asked := how.options.get("attn_implementation"):
        config._attn_implementation = asked  # for all nested configs
    return config


def _empty(loader: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """The network of a config, without memory for its weights or kernels to run it.

    In float32, which leaves torch's default type alone meanwhile; threads that compute would see another.
    """
    import torch

    own = copy.deepcopy(config)
    own._attn_implementation = "eager"
    with torch.device("meta"):
        if hasattr(loader, "from_config"):
            return loader.from_config(own, dtype=torch.float32, **NO_CODE)
        return loader._from_config(own, dtype=torch.float32)


def as_model(name: str, module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, about: dict[str, Any]) -> Model:
    """Wrap a transformers model in the `Model` that fits its class and config."""
    from repsim_nb.models.causal import CausalModel
    from repsim_nb.models.classifier import ClassifierModel
    from repsim_nb.models.encoder import EncoderModel

    own = type(module)
    known = next((kind for kind in own.__mro__ if kind.__module__.startswith("transformers.models.")), own)
    config = module.config.to_dict() | {"architectures": [known.__name__]}  # a subclass can have any name
    kinds: dict[str, type[Model]] = {"causal": CausalModel, "classifier": ClassifierModel, "encoder": EncoderModel}
    check_tokenizer(name, tokenizer, _rows(module))
    model = kinds[kind_of(name, config)](name, module, tokenizer, about)
    warn_unless_surveyed(known.__name__, config["model_type"])
    return model


def _rows(module: PreTrainedModel) -> int | None:
    """Number of rows of the token embedding; None for a network without one."""
    try:
        weight: Any = module.get_input_embeddings().weight
        return int(weight.shape[0])
    except (NotImplementedError, AttributeError):
        return None


def _as_published(model: Model, layout: Layout) -> Model:
    """Set the head and the maximum length with which a sentence-embedding model was published."""
    published = layout.head.max_seq_length
    if published and published < model.context:
        model.context = published
        model.__dict__.pop("windows", None)  # cached for the longer context
    places: Any = getattr(model.module.config, "max_position_embeddings", None)
    longest = min(model.tokenizer.model_max_length, places if places and places > 0 else VERY_LONG)
    model.pooling = layout.read_head(model.dtype, longest, str(model._source.get("repository", "")))
    return model


def _class_for(kind: str, config: Mapping[str, Any]) -> str:
    """Name of the transformers class that loads it."""
    if kind == "encoder":
        head = trained_as(config)
        if head in ENCODERS.values():
            return head
        return "AutoModelForMaskedLM" if head.endswith(MASKED_HEADS) else "AutoModel"
    return {"causal": "AutoModelForCausalLM", "classifier": "AutoModelForSequenceClassification"}[kind]
