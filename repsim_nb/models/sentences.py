"""Sentence vectors as computed by sentence-transformers: prompt, pooling and the modules after it.

As in sentence-transformers, modules pass on named tensors: TOKENS is the output of the encoder, SENTENCE the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.batch import Texts, Window
from repsim_nb.models.tokenizer import VERY_LONG

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
else:
    PreTrainedTokenizerBase = Any  # see model.py

TOKENS, SENTENCE = "token_embeddings", "sentence_embedding"
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
Named = dict[str, Tensor]
Mask = Bool[Tensor, "sequences length"]
Vectors = Float[Tensor, "sequences width"]


@dataclass(frozen=True)
class Pooling:
    """Pools the token states of a sequence into one vector.

    Attributes
    ----------
    modes
        One or more of `MODES`, whose vectors are concatenated in this order.
    include_prompt
        Whether to include tokens of the prompt.
    width
        Width of the token states; None accepts any.
    """

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    width: int | None = None

    def __call__(self, named: Named, mask: Mask, prompt: int) -> Named:
        """Add the vector under SENTENCE; the first `prompt` tokens of every sequence belong to the prompt."""
        states = named[TOKENS]
        if self.width not in (None, states.shape[-1]):
            raise InputError(f"The Pooling module expects states of width {self.width}, got {states.shape[-1]}.")
        counted = mask.clone()
        if not self.include_prompt:
            counted[:, :prompt] = False
        if not counted.any(1).all():
            raise InputError(
                "A text has no tokens to pool: it is empty, or the prompt fills the maximum length. Leave it out, or "
                "use a shorter prompt."
            )
        return named | {SENTENCE: torch.cat([_pooled(mode, states, counted) for mode in self.modes], -1)}


def _pooled(mode: str, states: Float[Tensor, "sequences length width"], counted: Mask) -> Vectors:
    sequences, last = torch.arange(len(states)), counted.shape[1] - 1
    match mode:
        case "cls":
            return states[sequences, counted.int().argmax(1).cpu()]
        case "lasttoken":
            return states[sequences, last - counted.flip(1).int().argmax(1).cpu()]
        case "max":
            return states.masked_fill(~counted[..., None], float("-inf")).amax(1)
    weights = counted.float()
    if mode == "weightedmean":  # positions count from the start of the sequence, even if a prompt is excluded
        weights = weights * torch.arange(1, counted.shape[1] + 1, device=counted.device)
    total = weights.sum(1, keepdim=True)
    total = total.sqrt() if mode == "mean_sqrt_len_tokens" else total
    return ((states.float() * weights[..., None]).sum(1) / total).to(states.dtype)


@dataclass(frozen=True, eq=False)
class Dense:
    """A linear map with an activation function.

    Attributes
    ----------
    activation
        Name of a class in torch.nn.
    weights
        "weight" and "bias" of the map; also "residual" if the input is added and has a different width.
    sha256
        Hash of the weights.
    source, target
        Names of input and output.
    adds_input
        Whether the input is added to the result.
    """

    activation: str
    weights: Named = field(repr=False)
    sha256: str
    source: str = SENTENCE
    target: str = SENTENCE
    adds_input: bool = False

    def __call__(self, named: Named, mask: Mask, prompt: int) -> Named:
        """Add the result under `target`."""
        given = _taken(named, self.source, self)
        weights = {name: value.to(given.device) for name, value in self.weights.items()}
        width = weights["weight"].shape[1]
        if given.shape[-1] != width:
            raise InputError(f"The Dense module expects vectors of width {width}, got {given.shape[-1]}.")
        activation = getattr(torch.nn, self.activation)()
        mapped = activation(F.linear(given, weights["weight"], weights.get("bias")))
        if self.adds_input:
            mapped = mapped + (F.linear(given, weights["residual"]) if "residual" in weights else given)
        return named | {self.target: mapped}


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """A layer norm of the sentence vector.

    Attributes
    ----------
    weights
        "weight" and "bias".
    sha256
        Hash of the weights.
    """

    weights: Named = field(repr=False)
    sha256: str

    def __call__(self, named: Named, mask: Mask, prompt: int) -> Named:
        """Normalise the sentence vector."""
        given = _taken(named, SENTENCE, self)
        weight, bias = (self.weights[name].to(given.device) for name in ("weight", "bias"))
        if given.shape[-1] != len(weight):
            raise InputError(f"The LayerNorm module expects vectors of width {len(weight)}, got {given.shape[-1]}.")
        return named | {SENTENCE: F.layer_norm(given, weight.shape, weight, bias)}


@dataclass(frozen=True)
class Normalize:
    """Scales vectors to length 1; does nothing if there is no vector yet."""

    source: str = SENTENCE
    target: str = SENTENCE

    def __call__(self, named: Named, mask: Mask, prompt: int) -> Named:
        """Add the scaled vector under `target`."""
        return named | {self.target: F.normalize(named[self.source], dim=-1)} if self.source in named else named


def _taken(named: Named, name: str, module: Any) -> Tensor:
    if name not in named:
        raise InputError(f"The {type(module).__name__} module needs {name!r}, which no earlier module provides.")
    return named[name]


@dataclass(frozen=True)
class SentenceHead:
    """How a published sentence-embedding model turns a text into one vector.

    Attributes
    ----------
    modules
        Modules applied to the token states, in order.
    prompts
        Name -> prompt to prepend to a text.
    default_prompt_name
        Name of the default prompt; None for no prompt.
    truncate_dim
        Number of dimensions to keep; None keeps all.
    max_seq_length
        Maximum number of tokens of a text, special tokens included; None leaves it to the tokenizer.
    do_lower_case
        Whether the tokenizer lowercases text.
    refused
        Unsupported features of the published model.
    """

    modules: tuple[Pooling | Dense | LayerNorm | Normalize, ...]
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    truncate_dim: int | None = None
    max_seq_length: int | None = None
    do_lower_case: bool = False
    refused: tuple[str, ...] = ()

    @property
    def about(self) -> dict[str, Any]:
        """Everything besides the encoder that determines the vectors, for the provenance."""
        return {
            "modules": [str(module) for module in self.modules],
            "prompts": {name: prompt for name, prompt in self.prompts.items() if prompt},
            "default_prompt_name": self.default_prompt_name,
            "truncate_dim": self.truncate_dim,
            "max_seq_length": self.max_seq_length,
            "do_lower_case": self.do_lower_case,
        }

    def check(self) -> None:
        """Raise InputError if the published model has unsupported features."""
        if self.refused:
            raise InputError(
                f"The sentence embeddings of this model need {'; '.join(self.refused)}, which is not supported. Its "
                "layers can still be read."
            )

    def prompt(self, name: str | None, text: str | None) -> str:
        """The prompt to prepend: `text`, the prompt with this name, the default prompt or none.

        Raises
        ------
        InputError
            If both a name and a text are given, or the model has no prompt with this name.
        """
        if name is not None and text is not None:
            raise InputError(f"Got both prompt_name={name!r} and prompt={text!r}. Use one of them.")
        if text is not None:
            return text
        if name is None:
            name = self.default_prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            raise unknown("prompt", name, self.prompts)
        return self.prompts[name]

    def windows(self, tokenizer: PreTrainedTokenizerBase, texts: Texts, prompt: str, context: int) -> list[Window]:
        """Tokenize each text or pair of texts after the prompt, truncated as in the published model.

        Raises
        ------
        InputError
            If a text has no tokens, or exceeds the context and is not truncated.
        """
        limit = self.max_seq_length or tokenizer.model_max_length
        cut: dict[str, Any] = {"truncation": "longest_first", "max_length": limit} if limit < VERY_LONG else {}
        windows = []
        for i, text in enumerate(texts):
            parts = (text,) if isinstance(text, str) else tuple(text)
            encoded = tokenizer(prompt + parts[0], *parts[1:], **cut)
            ids = np.array(encoded["input_ids"], dtype=np.int64)
            if not 0 < len(ids) <= context:
                raise InputError(
                    f"Text number {i} has {len(ids):,} tokens, prompt and special ones included; expected 1 to "
                    f"{context:,}. Shorten it or leave it out."
                )
            types = encoded.get("token_type_ids")
            types = None if types is None else np.array(types, dtype=np.int64)
            windows.append(Window(i, ids, np.full((len(ids), 2), -1), types))
        return windows

    def prompt_length(self, tokenizer: PreTrainedTokenizerBase, prompt: str, context: int) -> int:
        """Number of prompt tokens at the start of a text, as counted by sentence-transformers.

        Counts the tokens of the prompt alone, including special tokens before it but not one after it.
        """
        if not prompt:
            return 0
        ids = self.windows(tokenizer, [prompt], "", context)[0].ids
        return len(ids) - (int(ids[-1]) in tokenizer.all_special_ids)

    def __call__(self, states: Float[Tensor, "sequences length d_model"], mask: Mask, prompt: int = 0) -> Vectors:
        """Compute vectors of sequences whose first `prompt` tokens belong to the prompt.

        Raises
        ------
        InputError
            If the published model has unsupported features, or widths do not match.
        """
        self.check()
        named: Named = {TOKENS: states}
        for module in self.modules:
            named = module(named, mask, prompt)
        if SENTENCE not in named or named[SENTENCE].dim() != 2:
            raise InputError("The modules of this model produce no sentence vector.")
        return named[SENTENCE][..., : self.truncate_dim]


def of_one_length(windows: Sequence[Window], batch_size: int) -> list[list[int]]:
    """Indices of windows that run together: equal lengths, so that nothing is padded, and at most `batch_size`."""
    by_length: dict[int, list[int]] = {}
    for place, window in enumerate(windows):
        by_length.setdefault(len(window), []).append(place)
    return [
        places[start : start + batch_size]
        for places in by_length.values()
        for start in range(0, len(places), batch_size)
    ]
