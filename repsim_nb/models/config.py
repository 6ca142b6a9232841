"""Read a model's config.json, and check its sizes and names before they are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint_folder import AGAIN, read_json

CONFIG = "config.json"
LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "num_decoder_layers")
WIDTHS = ("hidden_size", "d_model", "n_embd", "vocab_size", "d_vocab", "head_dim", "d_head", "d_kv")
HEADS = ("num_attention_heads", "num_key_value_heads", "n_head", "n_heads", "num_heads")
POSITIVE = (*LAYERS, *WIDTHS, *HEADS)
SIZES = (*WIDTHS, "n_ctx", "n_inner", "n_positions", "max_seq_len", "d_ff", "d_inner", "d_mlp", "ffn_dim")
MOST_LAYERS = 4096  # thirty times as many as the deepest published language models
MOST_COUNTED = 10**6  # heads, experts, labels
LARGEST = 10**9
KERNELS = {  # config entry -> implementations that need only PyTorch
    "attn_implementation": ("eager", "sdpa", "flex_attention"),
    "experts_implementation": ("eager", "grouped_mm", "batched_mm"),
}
PATCHES = ("use_kernels", "kernel_config", "fusion_config")
LENGTHS = ("max_position_embeddings", "max_seq_len")  # config names, by architecture
DEFAULT_CONTEXT = 2048  # for models whose config gives no context length
OTHER_WEIGHTS = "transformers_weights"  # names a file that transformers reads instead of the usual one


def read_config(folder: Path, what: str = "", attention: object = None) -> dict[str, Any]:
    """Read and check the config.json in a folder.

    Parameters
    ----------
    folder
        The folder.
    what
        Name of the model, for error messages.
    attention
        Attention implementation requested by the caller, which overrides that of the config.

    Raises
    ------
    InputError
        If the file is missing or not JSON, has impossible sizes, or names code from the hub.
    """
    file = folder / CONFIG
    if not file.is_file():
        inner = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        instead = f" Name a folder in it, such as {inner[-1]!r}." if inner else ""
        raise InputError(f"'{what or folder}' is not a model checkpoint: it has no {CONFIG}.{instead}")
    config = read_json(file)
    if not isinstance(config, dict):
        raise InputError(f"'{file}' is a {type(config).__name__}; expected names and values, as in {{}}. {AGAIN}")
    _check_sizes(file, config)
    _check_code(file, config, attention)
    return config


def trained_as(config: Mapping[str, Any]) -> str:
    """The first architecture in a config, or "".

    Raises
    ------
    InputError
        If the entry is not a list of names.
    """
    names = config.get("architectures") or []
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError(f'its {CONFIG} has architectures={names!r:.80}; expected a list such as ["BertModel"].')
    return names[0] if names else ""


def model_type(config: Mapping[str, Any]) -> str:
    """The model type in a config, or "".

    Raises
    ------
    InputError
        If the entry is not a name.
    """
    name = config.get("model_type") or ""
    if not isinstance(name, str):
        raise InputError(f'its {CONFIG} has model_type={name!r:.80}; expected a name such as "bert".')
    return name


def quantisation(config: Mapping[str, Any]) -> str:
    """The quantisation method in a config, or "".

    Raises
    ------
    InputError
        If transformers does not know the method, in which case it would read the weights as if not quantised.
    """
    text = config.get("text_config")
    said = config.get("quantization_config") or (text.get("quantization_config") if isinstance(text, dict) else None)
    if not said:
        return ""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as KNOWN

    method = said.get("quant_method") if isinstance(said, dict) else None
    if isinstance(said, dict) and (said.get("load_in_8bit") or said.get("load_in_4bit")):
        method = "bitsandbytes"
    known = sorted({name.removesuffix("_4bit").removesuffix("_8bit") for name in KNOWN})
    if not isinstance(method, str) or method not in known:
        raise InputError(
            f"its {CONFIG} says that its weights are quantised with {method!r:.80}; transformers supports "
            f"{', '.join(known)}. Load a version of the model in float32, bfloat16 or float16."
        )
    return method


def _check_sizes(file: Path, config: Mapping[str, Any]) -> None:
    for key, value, _ in _entries(config):
        numbers = value if isinstance(value, list) else [value]
        whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
        if key in POSITIVE and value is not None and not (whole and all(number > 0 for number in numbers)):
            raise InputError(f"'{file}' has {key}={value!r:.80}; expected a positive integer. {AGAIN}")
        most = _most(key)
        if whole and most and any(number > most for number in numbers):
            raise InputError(f"'{file}' has {key}={value!r:.80}; no network has more than {most:,}. {AGAIN}")


def _most(key: str) -> int:
    """Maximum value for a config entry with this name; 0 if it is not a size."""
    if key in LAYERS or key.endswith(("_layers", "_blocks")):
        return MOST_LAYERS
    if key in HEADS or key.endswith(("_heads", "_experts", "_groups", "_labels")):
        return MOST_COUNTED
    if key in SIZES or key.endswith(("_size", "_dim", "_rank", "_embeddings", "_positions")):
        return LARGEST
    return 0


def _check_code(file: Path, config: Mapping[str, Any], attention: object) -> None:
    """Refuse kernels named in a config: with the package `kernels`, transformers would download and run them."""
    if config.get(OTHER_WEIGHTS):
        raise InputError(
            f"'{file}' has {OTHER_WEIGHTS}={config[OTHER_WEIGHTS]!r:.80}, which is not supported. Rename the "
            "weights to model.safetensors and remove this entry."
        )
    for key, value, listed in _entries(config):
        if key in PATCHES and value:
            raise InputError(f"'{file}' has {key}={value!r:.80}, which replaces code and is never run. Remove it.")
        name = key.strip("_").removesuffix("_internal")
        if name not in KERNELS or (name == "attn_implementation" and attention and not listed):
            continue
        for asked in _leaves(value):
            if asked is not None and asked not in KERNELS[name]:
                advice = "pass options={'attn_implementation': 'sdpa'}, or that name to run it" if "attn" in key else ""
                raise InputError(
                    f"'{file}' has {key}={asked!r:.80}, code that transformers may download from the hub and run. Only "
                    f"{', '.join(KERNELS[name])} are accepted from a config: {advice or 'remove it'}."
                )


def _entries(config: object, listed: bool = False) -> Iterator[tuple[str, Any, bool]]:
    """Every name and value in a config and its nested configs, and whether that config is an item of a list."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield str(key), value, listed
            yield from _entries(value, listed)
    elif isinstance(config, list):
        for value in config:
            yield from _entries(value, True)


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(one)
    else:
        yield value


def longest(config: Any) -> int:
    """Context length in tokens from a config, or a default for architectures whose config has none."""
    lengths = (getattr(config, name, None) for name in LENGTHS)
    return next((length for length in lengths if isinstance(length, int)), DEFAULT_CONTEXT)


def sizes(name: str, module: Any) -> tuple[int, int]:
    """Depth and width from the config of a transformers model.

    Raises
    ------
    InputError
        If the config has neither: the model is not a single stack of blocks of equal width.
    """
    config = module.config.get_text_config()
    depth, width = (getattr(config, size, None) for size in ("num_hidden_layers", "hidden_size"))
    if not (isinstance(depth, int) and isinstance(width, int)):
        raise InputError(
            f"{name} ({type(module).__name__}) has no num_hidden_layers and hidden_size in its config. "
            "This architecture is not supported."
        )
    return depth, width
