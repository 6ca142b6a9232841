"""A TransformerLens model in memory, `TransformerBridge` or `HookedTransformer`, run with its own forward.

Blocks run one by one with `start_at_layer` and `stop_at_layer`, so the numbers are the model's own: whatever was
folded, centred or hooked stays as it is.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models.batch import Batch
from repsim_nb.models.causal_blocks import CausalBlocks
from repsim_nb.models.model import Hidden, Logits, Tap
from repsim_nb.models.probe import probe
from repsim_nb.models.tokenizer import check_tokenizer
from repsim_nb.models.trial import Whole, check_parts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
else:
    PreTrainedTokenizerBase = Any  # see model.py

CLASSES = ("TransformerBridge", "HookedTransformer")


def is_hooked(module: nn.Module) -> bool:
    """Whether a module is a TransformerLens model, of any version; without importing TransformerLens.

    Examples
    --------
    >>> is_hooked(nn.Linear(2, 2))
    False
    """
    return any(
        kind.__name__ in CLASSES and kind.__module__.split(".")[0] == "transformer_lens"
        for kind in type(module).__mro__
    )


def load_hooked(
    module: Any, tokenizer: PreTrainedTokenizerBase | None, device: torch.device, dtype: torch.dtype
) -> HookedModel:
    """Return a `Model` around a copy of a TransformerLens model.

    Raises
    ------
    InputError
        No tokenizer or one of another vocabulary, or a model that looks ahead or cannot be run part by part.
    """
    config, kind = module.cfg, type(module).__name__
    name = getattr(config, "model_name", None) or kind
    if config.attention_dir != "causal":
        raise InputError(
            f"The {kind} in memory, {name}, has {config.attention_dir} attention; expected a causal language model. "
            "Pass load_model the transformers model it was made from."
        )
    tokenizer = tokenizer or module.tokenizer
    if tokenizer is None:
        raise InputError(f"The {kind} in memory, {name}, has no tokenizer. Pass tokenizer=... as well.")
    check_tokenizer(name, tokenizer, config.d_vocab)
    own = _copied(module)
    for change in (device, dtype):
        own.to(change, print_details=False)
    source = {"source": "memory", "revision": "none", "transformer_lens": version("transformer-lens"), "class": kind}
    return HookedModel(name, own, tokenizer, source)


def _copied(module: nn.Module) -> Any:
    """Copy a module; attention patterns left from the last run, which carry gradients, are detached first."""
    left = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    return copy.deepcopy(module, {id(value): value.detach() for value in left if not value.is_leaf})


class _ReachedError(Exception):
    """The last block has run; what follows is not needed."""


class HookedModel(CausalBlocks):
    """A causal TransformerLens model."""

    kind = "causal"

    def __init__(self, name: str, module: Any, tokenizer: PreTrainedTokenizerBase, source: dict[str, Any]) -> None:
        super().__init__(name, module, tokenizer, source)
        self.n_layers, self.d_model = module.cfg.n_layers, module.cfg.d_model
        self.context = min(module.cfg.n_ctx, tokenizer.model_max_length)
        blocks = list(module.blocks)
        trial = check_parts(self, blocks, lambda batch: Whole(module(batch.ids), None))
        if hasattr(getattr(module, "config", None), "get_text_config"):  # of transformers
            self.neutral = probe(self, trial, blocks)

    @property
    def n_heads(self) -> int:
        """Number of query heads of a block."""
        return int(self._own.cfg.n_heads)

    def _stack(self) -> list[nn.Module]:
        return list(self._own.blocks)

    def _through(self, batch: Batch, layer: int) -> None:
        self._own(batch.ids)  # with start_at_layer, earlier blocks run as well

    @property
    def bridge(self) -> nn.Module:
        """The TransformerLens model itself, for hooks inside its blocks."""
        return self.module

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding."""
        return int(self._own.cfg.d_vocab)

    @property
    def pad(self) -> int:
        """The token id at padded positions, which no token attends to."""
        padding = self.tokenizer.pad_token_id
        return padding if padding is not None and 0 <= padding < self.vocabulary else 0

    @property
    def _own(self) -> Any:
        return self.module

    @property
    def _last(self) -> str:
        return f"blocks.{self.n_layers - 1}.hook_resid_post"

    def embed(self, batch: Batch) -> Hidden:
        """Position 0: (sequences, length, d_model)."""
        return self._own(batch.ids, stop_at_layer=0)

    def _blocks(self, hidden: Hidden, k: int, m: int, batch: Batch, tap: Tap | None) -> Hidden:
        for layer in range(k, m):
            if tap is not None:
                tap(layer, hidden)
            hidden = self._block(layer, hidden)
        if tap is not None:
            tap(m, hidden)
        return hidden

    def _block(self, layer: int, hidden: Tensor) -> Tensor:
        if layer + 1 < self.n_layers:
            return self._own(hidden, start_at_layer=layer, stop_at_layer=layer + 1)
        seen: list[Tensor] = []

        def reached(value: Tensor, hook: Any) -> None:
            seen.append(value)
            raise _ReachedError  # a bridge goes on to run the head

        with suppress(_ReachedError):
            self._own.run_with_hooks(hidden, start_at_layer=layer, fwd_hooks=[(self._last, reached)])
        return seen[0]

    def head(self, hidden: Hidden, batch: Batch) -> Logits:
        """Logits (sequences, length, vocabulary) from position n_layers, final norm included.

        The last block runs as well, and its result is replaced.
        """
        self._check(hidden, batch)
        return self._own.run_with_hooks(
            hidden, start_at_layer=self.n_layers - 1, fwd_hooks=[(self._last, lambda value, hook: hidden)]
        )
