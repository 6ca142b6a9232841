"""From files in Hugging Face's format to a `Model`, with transformers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.model import Model
from repsim_nb.models.sentences import Layout

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOADABLE = "causal language model, sequence classifier or text encoder"
OPTIONS = ("device_map", "max_memory", "offload_folder", "quantization_config", "attn_implementation")
REFUSED = {  # options of transformers that are decided here, and how
    "trust_remote_code": "code from a repository is never run",
    "use_safetensors": "tensors alone are read, from safetensors wherever a repository has them",
    "weights_only": "tensors alone are read, from safetensors wherever a repository has them",
    "token": "log in with `hf auth login` or set HF_TOKEN",
    "revision": "give revision=... to load_model",
    "dtype": "give dtype=... to load_model",
    "torch_dtype": "give dtype=... to load_model",
    "ignore_mismatched_sizes": "weights that do not fit are an error, not random numbers",
}
NO_CODE: dict[str, Any] = {"trust_remote_code": False}  # left out, transformers asks on stdin whether to run it
LANGUAGE_HEADS = ("ForCausalLM", "LMHeadModel")
MASKED_HEADS = ("ForMaskedLM", "ForPreTraining")


@dataclass(frozen=True)
class How:
    """What the caller asked for beside the model itself.

    Attributes:
        device: where it is put.
        dtype: "float32", "bfloat16" or "float16".
        tokenizer: in place of its own.
        options: for transformers' from_pretrained; "device_map" and "quantization_config" decide where it is put.
    """

    device: torch.device
    dtype: str
    tokenizer: PreTrainedTokenizerBase | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def placed_by_transformers(self) -> bool:
        """Whether the options say where, so that nothing is moved afterwards."""
        return "device_map" in self.options or "quantization_config" in self.options


def check_options(options: Mapping[str, Any]) -> None:
    """Only what says where and in how many bits a model is kept is handed on to transformers.

    Raises:
        InputError: anything else.
    """
    for name, value in options.items():
        if name in REFUSED:
            raise InputError(f"options={{{name!r}: ...}} is not taken: {REFUSED[name]}.")
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS)
        if name == "attn_implementation" and "/" in str(value):
            raise InputError(f"attn_implementation={value!r} is code from the hub, which is never run.")


def kind_of(name: str, config: Mapping[str, Any]) -> str:
    """What a config.json says the model is: "causal", "classifier" or "encoder".

    Raises:
        InputError: something else: a model of images or sounds, one of another task, or none that transformers knows.
    """
    from transformers.models.auto import modeling_auto as auto

    trained_as = str((config.get("architectures") or [""])[0])
    model_type = config.get("model_type")
    if trained_as.endswith("ForSequenceClassification"):
        return "classifier"
    if trained_as.endswith(LANGUAGE_HEADS):
        return "causal"
    if not config.get("is_encoder_decoder"):
        reads_text = model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        if reads_text and (not trained_as or trained_as.endswith((*MASKED_HEADS, "Model"))):
            return "encoder"
        if not trained_as and model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            return "causal"
    if not (trained_as or model_type):
        raise InputError(f"Cannot load {name!r}: its config.json names neither an architecture nor a model_type.")
    what = trained_as or f"model of type {model_type!r}"
    raise InputError(f"{name!r} is a {what}; expected a {LOADABLE}.")


def load_pretrained(
    folder: Path, config: Mapping[str, Any], name: str, how: How, about: dict[str, Any], layout: Layout
) -> Model:
    """The model in `folder`, whose config.json says `config`.

    Pickles are read where `about` says "pickled", tensors alone. `layout` is of the folder it was published in.

    Raises:
        InputError: weights or tokenizer that are broken or missing, a kind of model that is not supported, options that
            transformers does not take.
    """
    from pickle import UnpicklingError

    import torch
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    pickled = about.get("pickled", False)
    kind = _class_for(kind_of(name, config), config)
    said, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # what is missing is an error below, not a table of warnings
    logging.disable_progress_bar()  # of reading a few tensors; downloads keep theirs
    own_faults = (ImportError, TypeError, AttributeError, KeyError) if how.options else ()
    try:
        loaded: Any = getattr(transformers, kind).from_pretrained(
            folder,
            dtype=getattr(torch, how.dtype),
            use_safetensors=not pickled,
            weights_only=True,
            output_loading_info=True,
            **NO_CODE,
            **how.options,
        )
        tokenizer = how.tokenizer or transformers.AutoTokenizer.from_pretrained(folder, **NO_CODE)
    except (UnpicklingError, EOFError, RuntimeError) as error:  # code in a pickle, or half of one
        if not pickled:
            raise InputError(f"Cannot load {name!r} as a {LOADABLE}: {reason(error)}") from error
        raise InputError(
            f"Cannot load {name!r}: its weights are broken or hold more than tensors, so none of them was read. "
            "Load a conversion to safetensors."
        ) from error
    except (OSError, ValueError, SafetensorError, *own_faults) as error:
        with_options = f" with the options {', '.join(how.options)}" if how.options else ""
        raise InputError(f"Cannot load {name!r} as a {LOADABLE}{with_options}: {reason(error)}") from error
    finally:
        logging.set_verbosity(said)
        if bars:
            logging.enable_progress_bar()
    module, report = loaded
    _check_complete(name, module, report["missing_keys"])
    model = as_model(name, module if how.placed_by_transformers else module.to(how.device), tokenizer, about)
    return _as_published(model, layout)


def as_model(name: str, module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, about: dict[str, Any]) -> Model:
    """The `Model` around a transformers model, by what its class and its config say that it is."""
    from repsim_nb.models.causal import CausalModel
    from repsim_nb.models.classifier import ClassifierModel
    from repsim_nb.models.encoder import EncoderModel

    own = type(module)
    known = next((kind for kind in own.__mro__ if kind.__module__.startswith("transformers.models.")), own)
    config = module.config.to_dict() | {"architectures": [known.__name__]}  # a subclass may be called anything
    kinds: dict[str, type[Model]] = {"causal": CausalModel, "classifier": ClassifierModel, "encoder": EncoderModel}
    return kinds[kind_of(name, config)](name, module, tokenizer, about)


def _as_published(model: Model, layout: Layout) -> Model:
    """With the pooling and the longest sequence that a sentence-embedding model was published with."""
    from repsim_nb.models.encoder import EncoderModel

    if layout.longest and layout.longest < model.context:
        model.context = layout.longest
        model.__dict__.pop("windows", None)  # made for the longer one
    if isinstance(model, EncoderModel):
        model.pooling = layout.pooling
    return model


def _class_for(kind: str, config: Mapping[str, Any]) -> str:
    """Name of the class of transformers that loads it."""
    if kind == "encoder":
        trained_as = str((config.get("architectures") or [""])[0])
        return "AutoModelForMaskedLM" if trained_as.endswith(MASKED_HEADS) else "AutoModel"
    return {"causal": "AutoModelForCausalLM", "classifier": "AutoModelForSequenceClassification"}[kind]


def _check_complete(name: str, module: PreTrainedModel, missing: Collection[str]) -> None:
    """transformers fills what a checkpoint lacks with random numbers and only warns; here it is an error."""
    pooler = f"{module.base_model_prefix}.pooler." if module.base_model is not module else "pooler."
    encoder = type(module).__name__.endswith((*MASKED_HEADS, "Model")) and "LMHead" not in type(module).__name__
    lacking = sorted(key for key in missing if not (encoder and key.startswith(pooler)))  # it is not used
    if lacking:
        raise InputError(
            f"Cannot load {name!r} as a {LOADABLE}: the checkpoint lacks {len(lacking)} of the weights that "
            f"{type(module).__name__} needs, {lacking[0]} among them."
        )


def reason(error: Exception) -> str:
    """What transformers says, in one line, without advice to run code."""
    if "trust_remote_code" in str(error):
        return "it comes with code of its own, which is never run. Load a model that transformers knows."
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
