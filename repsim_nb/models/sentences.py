"""From texts to one vector each, as sentence-transformers computes it: prompt, pooling, and the modules behind it.

Modules hand on tensors by the names that sentence-transformers gives them, as its own modules do: TOKENS is what the
encoder gives, SENTENCE is what comes out in the end.
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
    """One vector of the states of a sequence's tokens.

    Attributes
    ----------
    modes
        Of `MODES`; the vectors of several are joined, in this order.
    include_prompt
        Whether tokens of the prompt take part.
    width
        Of the tokens' states; None takes any.
    """

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    width: int | None = None

    def __call__(self, named: Named, mask: Mask, prompt: int) -> Named:
        """With the vector under SENTENCE; the first `prompt` tokens of every sequence are of the prompt."""
        states = named[TOKENS]
        if self.width not in (None, states.shape[-1]):
            raise InputError(f"The Pooling expects states of width {self.width}; received {states.shape[-1]}.")
        counted = mask.clone()
        if not self.include_prompt:
            counted[:, :prompt] = False
        if not counted.any(1).all():
            raise InputError(
                "A text has no token that the Pooling takes part in: it is empty, or the prompt fills the longest "
                "sequence. Leave it out, or give a shorter prompt."
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
    if mode == "weightedmean":  # by place, counted from the start of the sequence even where a prompt takes no part
        weights = weights * torch.arange(1, counted.shape[1] + 1, device=counted.device)
    total = weights.sum(1, keepdim=True)
    total = total.sqrt() if mode == "mean_sqrt_len_tokens" else total
    return ((states.float() * weights[..., None]).sum(1) / total).to(states.dtype)


@dataclass(frozen=True, eq=False)
class Dense:
    """A linear map and an activation function.

    Attributes
    ----------
    activation
        Name of a class of torch.nn.
    weights
        "weight" and "bias" of the map, and where the input is added on, "residual" if its width is another.
    sha256
        Of the weights.
    source, target
        Names of what is mapped and of the result.
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
        """With the mapped under `target`."""
        given = _taken(named, self.source, self)
        weights = {name: value.to(given.device) for name, value in self.weights.items()}
        width = weights["weight"].shape[1]
        if given.shape[-1] != width:
            raise InputError(f"The Dense module expects vectors of width {width}; received {given.shape[-1]}.")
        activation = getattr(torch.nn, self.activation)()
        mapped = activation(F.linear(given, weights["weight"], weights.get("bias")))
        if self.adds_input:
            mapped = mapped + (F.linear(given, weights["residual"]) if "residual" in weights else given)
        return named | {self.target: mapped}


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """A layer norm of the sentence's vector.

    Attributes
    ----------
    weights
        "weight" and "bias".
    sha256
        Of the weights.
    """

    weights: Named = field(repr=False)
    sha256: str

    def __call__(self, named: Named, mask: Mask, prompt: int) -> Named:
        """With the vector in its norm."""
        given = _taken(named, SENTENCE, self)
        weight, bias = (self.weights[name].to(given.device) for name in ("weight", "bias"))
        if given.shape[-1] != len(weight):
            raise InputError(
                f"The LayerNorm module expects vectors of width {len(weight)}; received {given.shape[-1]}."
            )
        return named | {SENTENCE: F.layer_norm(given, weight.shape, weight, bias)}


@dataclass(frozen=True)
class Normalize:
    """Scaled to length 1; where there is nothing to scale yet, nothing is."""

    source: str = SENTENCE
    target: str = SENTENCE

    def __call__(self, named: Named, mask: Mask, prompt: int) -> Named:
        """With the scaled under `target`."""
        return named | {self.target: F.normalize(named[self.source], dim=-1)} if self.source in named else named


def _taken(named: Named, name: str, module: Any) -> Tensor:
    if name not in named:
        raise InputError(f"The {type(module).__name__} module needs {name!r}, which no module before it makes.")
    return named[name]


@dataclass(frozen=True)
class SentenceHead:
    """How a sentence-embedding model was published to make one vector of a text.

    Attributes
    ----------
    modules
        What is done with the states of the tokens, in order.
    prompts
        Name -> what is put before a text.
    default_prompt_name
        Of the prompt that is put before a text where none is asked for; None for none.
    truncate_dim
        How many numbers of a vector are kept; None keeps all.
    max_seq_length
        At how many tokens, special ones included, a text is cut off; None leaves it to the tokenizer.
    do_lower_case
        Whether text is read in lower case, by the tokenizer.
    refused
        What the published model does that is not done here.
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
        """All that decides the vectors beside the encoder, for provenance."""
        return {
            "modules": [str(module) for module in self.modules],
            "prompts": {name: prompt for name, prompt in self.prompts.items() if prompt},
            "default_prompt_name": self.default_prompt_name,
            "truncate_dim": self.truncate_dim,
            "max_seq_length": self.max_seq_length,
            "do_lower_case": self.do_lower_case,
        }

    def check(self) -> None:
        """Raise an InputError of a published model that does more than is done here."""
        if self.refused:
            raise InputError(
                f"This model's sentence embeddings need {'; '.join(self.refused)}. That is not supported. Rows of its "
                "layers can be read."
            )

    def prompt(self, name: str | None, text: str | None) -> str:
        """What is put before every text: `text`, the prompt of that name, the default prompt or nothing.

        Raises
        ------
        InputError
            A name and a text, or a name that the model does not have.
        """
        if name is not None and text is not None:
            raise InputError(f"prompt_name={name!r} and prompt={text!r} both say what the prompt is. Give one of them.")
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
        """Each text, or pair of texts, behind the prompt, cut off where the published model does.

        Raises
        ------
        InputError
            A text without a token, or one that is longer than the model and not cut off.
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
        """Tokens of the prompt at the start of a text, as sentence-transformers counts them.

        They are those of the prompt alone, the special ones before it included and one behind it left out.
        """
        if not prompt:
            return 0
        ids = self.windows(tokenizer, [prompt], "", context)[0].ids
        return len(ids) - (int(ids[-1]) in tokenizer.all_special_ids)

    def __call__(self, states: Float[Tensor, "sequences length d_model"], mask: Mask, prompt: int = 0) -> Vectors:
        """Vectors of sequences whose first `prompt` tokens are of the prompt.

        Raises
        ------
        InputError
            A published model that does more than is done here, or widths that do not fit.
        """
        self.check()
        named: Named = {TOKENS: states}
        for module in self.modules:
            named = module(named, mask, prompt)
        if SENTENCE not in named or named[SENTENCE].dim() != 2:
            raise InputError("The modules that this model was published with make no vector of a sentence.")
        return named[SENTENCE][..., : self.truncate_dim]


def of_one_length(windows: Sequence[Window], batch_size: int) -> list[list[int]]:
    """Places of windows that run together: of one length, so that nothing is padded, at most `batch_size` at once."""
    by_length: dict[int, list[int]] = {}
    for place, window in enumerate(windows):
        by_length.setdefault(len(window), []).append(place)
    return [
        places[start : start + batch_size]
        for places in by_length.values()
        for start in range(0, len(places), batch_size)
    ]
