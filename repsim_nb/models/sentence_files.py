"""Read a sentence-transformers folder: its modules, their settings and their weights.

Every setting is either applied, known to have no effect here, or refused by name. Unsupported settings of the tokenizer
or encoder are refused on loading. Those of later modules are refused only when sentence vectors are requested, since
layers can be read without them.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint_folder import AGAIN, MODULES, check_folder, check_modules, read_json
from repsim_nb.models.sentences import (
    MODES,
    SENTENCE,
    TOKENS,
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    SentenceHead,
)
from repsim_nb.models.tokenizer import VERY_LONG

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
else:
    PreTrainedTokenizerBase = Any  # see model.py

ENCODERS = {  # model_type of an encoder-decoder -> class with only its encoder
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
}
ABOUT = "config_sentence_transformers.json"
TRANSFORMER_CONFIGS = tuple(  # the first existing one is read
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
WEIGHTED = ("Dense", "LayerNorm")
KNOWN_MODULES = ("Pooling", "Normalize", "Dropout", *WEIGHTED)
OLDER_MODES = {  # key in a Pooling config -> mode, in the order of concatenation
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS: tuple[str, ...] = (
    "Identity",
    "Tanh",
    "ReLU",
    "ReLU6",
    "LeakyReLU",
    "ELU",
    "SELU",
    "CELU",
    "GELU",
    "SiLU",
    "Mish",
)
ACTIVATIONS += ("Sigmoid", "LogSigmoid", "Softplus", "Softsign", "Hardtanh", "Hardsigmoid", "Hardswish", "Tanhshrink")
ACTIVATION_NAMES = {  # as in a Dense config; looked up here and never imported
    f"torch.nn.{home}{name}": name
    for name in ACTIVATIONS
    for home in ("", "modules.linear." if name == "Identity" else "modules.activation.")
}
HARMLESS = {  # transformers arguments in a Transformer config that change no values here
    "model": ("trust_remote_code", "torch_dtype", "dtype", "attn_implementation", "add_pooling_layer"),
    "processor": ("trust_remote_code", "model_max_length", "padding_side", "use_fast"),
    "config": ("trust_remote_code", "use_cache"),
}
OLDER_ARGUMENTS = {"model_args": "model", "tokenizer_args": "processor", "config_args": "config"}
TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
WITHOUT_PROMPT = (
    "hkunlp/instructor-base",
    "hkunlp/instructor-large",
    "hkunlp/instructor-xl",
)  # whatever their config says


@dataclass(frozen=True)
class Module:
    """One line of modules.json.

    Attributes
    ----------
    kind
        Class name in sentence-transformers, or the full name of any other class.
    path
        Folder relative to the model's folder.
    config
        Content of its config.json.
    """

    kind: str
    path: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """Layout of a sentence-embedding model: its encoder, and the modules and settings it was published with.

    Attributes
    ----------
    folder
        Folder of the whole model.
    encoder
        Folder of the encoder, relative to `folder`.
    modules
        Modules after the encoder.
    head
        All settings, without modules.
    embeds
        Whether the encoder returns token states; otherwise its config.json decides what it is.
    published
        Whether there is a modules.json.
    """

    folder: Path
    encoder: str = ""
    modules: tuple[Module, ...] = ()
    head: SentenceHead = field(default_factory=lambda: SentenceHead(()))
    embeds: bool = False
    published: bool = False

    @property
    def weighted(self) -> list[str]:
        """Folders of modules with weights, relative to the model's folder."""
        return [module.path for module in self.modules if module.kind in WEIGHTED]

    def config(self, config: dict[str, Any]) -> dict[str, Any]:
        """A config.json without the head, which sentence-transformers does not load; for T5 that of its encoder."""
        if not self.embeds:
            return config
        encoder = ENCODERS.get(str(config.get("model_type")))
        return {**config, "architectures": [encoder] if encoder else []}

    def tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        """The encoder's tokenizer, modified to lowercase text if the model requires it."""
        from tokenizers import normalizers

        if self.head.do_lower_case and tokenizer.is_fast:
            own: Any = tokenizer.backend_tokenizer.normalizer
            several = isinstance(own, normalizers.Sequence)
            steps = list(own) if several else [own] if own is not None else []
            if not any(isinstance(step, normalizers.Lowercase) for step in steps):
                tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])
        return tokenizer

    def read_head(self, dtype: torch.dtype, longest: int, repository: str = "") -> SentenceHead | None:
        """Read everything after the encoder, weights included; None for a folder without modules.json.

        Parameters
        ----------
        dtype
            Precision of the weights, equal to that of the encoder.
        longest
            Default maximum length in tokens.
        repository
            Repository on the hub.

        Raises
        ------
        InputError
            If the config or weights of a module are broken.
        """
        if not self.published:
            return None
        known = [m for m in self.modules if m.kind in KNOWN_MODULES]
        refused = [*self.head.refused, *(f"the module {m.kind}" for m in self.modules if m not in known)]
        modules: list[Any] = []
        for module in known:
            if module.kind == "Dropout":  # only for training
                continue
            try:
                read = _read_module(self.folder / module.path, module, dtype)
            except _UnsupportedError as error:
                refused.append(str(error))
                continue
            if isinstance(read, Pooling) and repository in WITHOUT_PROMPT:
                read = replace(read, include_prompt=False)
            modules.append(read)
        cut = self.head.max_seq_length or longest
        cut_off = cut if cut < VERY_LONG else None
        return replace(self.head, modules=tuple(modules), max_seq_length=cut_off, refused=tuple(refused))


class _UnsupportedError(Exception):
    """An unsupported setting of a module."""


def read_layout(folder: Path) -> Layout:
    """Read the layout of `folder`; without modules.json, that of an ordinary checkpoint.

    Raises
    ------
    InputError
        If modules.json is broken or does not begin with a Transformer, or a setting of tokenizer or encoder is not
        supported.
    """
    file = folder / MODULES
    if not file.is_file():
        return Layout(folder)
    check_modules(folder)
    lines = read_json(file)
    modules = [_module(line) for line in lines]
    kinds = [module.kind for module in modules]
    names = [line["name"] for line in lines if "name" in line]
    if any(names.count(name) > 1 for name in names):
        raise InputError(f"'{file}' has two modules with the same name: {names}. {AGAIN}")
    if kinds[:1] != ["Transformer"]:
        raise InputError(f"'{file}' begins with {kinds[:1]}; expected a Transformer, then a Pooling.")
    about = _json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
    encoder = modules[0].path
    settings = _transformer_settings(folder / encoder)
    refused, embeds = _unsupported_settings(settings, about)
    prompts, default = _prompts(folder / ABOUT, about), about.get("default_prompt_name")
    if default is not None and default not in list(prompts):
        raise InputError(
            f"'{folder / ABOUT}' has the default prompt {default!r}, which is not one of its prompts: "
            f"{', '.join(prompts)}."
        )
    head = SentenceHead(
        (),
        prompts,
        default,
        _positive_integer(folder / ABOUT, about, "truncate_dim"),
        _positive_integer(folder / encoder, settings, "max_seq_length"),
        bool(settings.get("do_lower_case")),
        refused,
    )
    behind = []
    for module in modules[1:]:
        if (folder / module.path).is_dir():
            check_folder(folder / module.path, folder)
        config = folder / module.path / "config.json"
        needed = module.kind in ("Pooling", *WEIGHTED)
        if needed and not module.path:
            raise InputError(f"'{file}' has no folder for its {module.kind} module, which needs settings. {AGAIN}")
        behind.append(replace(module, config=_json(config) if needed or _has_own_config(module, config) else {}))
    return Layout(folder, encoder, tuple(behind), head, embeds, published=True)


def _has_own_config(module: Module, config: Path) -> bool:
    """Whether the module has a config of its own: older versions write none if there is nothing to set."""
    return module.kind in KNOWN_MODULES and module.path != "" and config.is_file()


def _module(line: Mapping[str, Any]) -> Module:
    package, _, name = line["type"].partition(".")
    known = package == "sentence_transformers"
    return Module(name.rpartition(".")[2] if known else line["type"], line.get("path", ""))


def _transformer_settings(folder: Path) -> dict[str, Any]:
    """Settings of the Transformer in `folder`; unsupported ones that affect tokens or states raise an error."""
    file = next((folder / name for name in TRANSFORMER_CONFIGS if (folder / name).is_file()), None)
    if file is None:
        return {}
    settings = _json(file)
    for older, newer in OLDER_ARGUMENTS.items():
        if older in settings:
            settings[f"{newer}_kwargs"] = settings.pop(older)
    for which, harmless in HARMLESS.items():
        for name, value in (settings.pop(f"{which}_kwargs", None) or {}).items():
            if name not in harmless:
                raise _setting(file, f"{which}_kwargs: {name}", value)
            if name == "model_max_length":
                settings["max_seq_length"] = value
    known = ("max_seq_length", "do_lower_case", "unpad_inputs", *_UNSUPPORTED)
    for name, value in settings.items():
        if name not in known:
            raise _setting(file, name, value)
    return settings


_UNSUPPORTED = {  # setting of a Transformer -> values that have no effect
    "transformer_task": ("feature-extraction",),
    "modality_config": (TEXT_ONLY,),
    "module_output_name": (TOKENS,),
    "processing_kwargs": ({},),
    "query_length": (),
    "document_length": (),
    "query_expansion": (),
}


def _unsupported_settings(settings: Mapping[str, Any], about: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Unsupported settings that sentence vectors would need, and whether the encoder returns token states."""
    refused = [
        f"{name}={settings[name]!r}"
        for name, harmless in _UNSUPPORTED.items()
        if settings.get(name) is not None and settings[name] not in harmless
    ]
    known = ("__version__", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim", "requirements")
    refused += [f"{name}={value!r:.80}" for name, value in about.items() if name not in (*known, "model_type")]
    kind = about.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        refused.append(f"model_type={kind!r}")
    task = settings.get("transformer_task")
    return tuple(refused), kind == "SentenceTransformer" and task in (None, "feature-extraction")


def _prompts(file: Path, about: Mapping[str, Any]) -> dict[str, str]:
    """Prompts by name. Every model has "query" and "document", which are empty by default."""
    prompts = about.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(p, str | None) for p in prompts.values()):
        raise _setting(file, "prompts", prompts)
    return {"query": "", "document": ""} | {name: prompt or "" for name, prompt in prompts.items()}


def _positive_integer(file: Path, settings: Mapping[str, Any], name: str) -> int | None:
    value = settings.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise _setting(file, name, value)
    return value


def _read_module(folder: Path, module: Module, dtype: torch.dtype) -> Pooling | Dense | LayerNorm | Normalize:
    match module.kind:
        case "Pooling":
            return _pooling(module)
        case "Normalize":
            config = _check_keys(module, "module_input_name", "module_output_name")
            return Normalize(*_input_output_names(config))
        case "LayerNorm":
            width = _check_keys(module, "dimension").get("dimension")
            weights, sha256 = _weights(folder, {"norm.weight": (width,), "norm.bias": (width,)}, dtype)
            return LayerNorm({name.removeprefix("norm."): value for name, value in weights.items()}, sha256)
    return _dense(folder, module, dtype)


def _pooling(module: Module) -> Pooling:
    names = ("word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt")
    config = _check_keys(module, *names, *OLDER_MODES)
    older = [mode for key, mode in OLDER_MODES.items() if config.get(key)]
    modes = config.get("pooling_mode", older or "mean")
    modes = [modes] if isinstance(modes, str) or not isinstance(modes, list) else modes
    if not modes or any(mode not in MODES for mode in modes):
        raise _UnsupportedError(f"a Pooling module with pooling_mode={config.get('pooling_mode')!r}")
    width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
    return Pooling(tuple(modes), bool(config.get("include_prompt", True)), width)


def _dense(folder: Path, module: Module, dtype: torch.dtype) -> Dense:
    names = ("in_features", "out_features", "bias", "activation_function", "use_residual")
    config = _check_keys(module, *names, "module_input_name", "module_output_name")
    given = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation = ACTIVATION_NAMES.get(given) if isinstance(given, str) else None
    if activation is None:
        raise _UnsupportedError(f"a Dense module with activation_function={given!r}")
    into, out, adds = config.get("in_features"), config.get("out_features"), bool(config.get("use_residual"))
    shapes: dict[str, tuple[Any, ...]] = {"linear.weight": (out, into)}
    if config.get("bias", True):
        shapes["linear.bias"] = (out,)
    if adds and into != out:
        shapes["residual.weight"] = (out, into)
    weights, sha256 = _weights(folder, shapes, dtype)
    short = {"linear.weight": "weight", "linear.bias": "bias", "residual.weight": "residual"}
    return Dense(
        activation,
        {short[name]: value for name, value in weights.items()},
        sha256,
        *_input_output_names(config),
        adds_input=adds,
    )


def _check_keys(module: Module, *names: str) -> Mapping[str, Any]:
    """Return a module's config if it only has these keys."""
    for name, value in module.config.items():
        if name not in names:
            raise _UnsupportedError(f"a {module.kind} module with {name}={value!r:.80}")
    return module.config


def _input_output_names(config: Mapping[str, Any]) -> tuple[str, str]:
    source = config.get("module_input_name") or SENTENCE
    return source, config.get("module_output_name") or source


def _weights(folder: Path, shapes: Mapping[str, tuple[Any, ...]], dtype: torch.dtype) -> tuple[dict[str, Tensor], str]:
    """Tensors of a module and their hash."""
    weights = _tensors(folder)
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if found != dict(shapes):
        raise InputError(f"'{folder}' has weights of shape {_listed(found)}; its config requires {_listed(shapes)}.")
    if not all(value.is_floating_point() and value.isfinite().all() for value in weights.values()):
        raise InputError(f"'{folder}' has weights that are not finite numbers. {AGAIN}")
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode() + value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return {name: value.to(dtype) for name, value in weights.items()}, digest.hexdigest()[:16]


def _listed(shapes: Mapping[str, tuple[Any, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items())) or "none"


def _tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors in a module's folder: safetensors, or a pickle read without running code."""
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file, older = folder / "model.safetensors", folder / "pytorch_model.bin"
    try:
        if file.is_file():
            return load_file(file)
        if older.is_file():
            weights = torch.load(older, map_location="cpu", weights_only=True)
            if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
                raise UnpicklingError
            warnings.warn(
                f"'{folder}' has its weights only as a pickle. Only tensors are read from it, and no code is run.",
                stacklevel=2,
            )
            return dict(weights)
    except (OSError, SafetensorError, UnpicklingError, EOFError, RuntimeError):
        raise InputError(
            f"The weights in '{folder}' are broken or contain more than tensors, so nothing was read. Copy or download "
            "the model again."
        ) from None
    raise InputError(f"'{folder}' lacks its weights, model.safetensors. {AGAIN}")


def _setting(file: Path, name: str, value: Any) -> InputError:
    return InputError(
        f"'{file}' has {name}={value!r:.80}, which is not supported and may change all values. To read the encoder "
        "without it, copy the encoder's files to a folder without modules.json."
    )


def _json(file: Path) -> dict[str, Any]:
    read = read_json(file)
    if not isinstance(read, dict):
        raise InputError(f"'{file}' is a {type(read).__name__}; expected names and values, as in {{}}. {AGAIN}")
    return read
