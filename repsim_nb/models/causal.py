"""Causal language models of Hugging Face, through TransformerLens' bridge."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models.batch import Batch
from repsim_nb.models.model import Hidden, Logits, Model, Tap

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
else:
    PreTrainedModel = PreTrainedTokenizerBase = Any  # see model.py


class CausalModel(Model):
    """A bridged causal model whose parts can be run alone.

    The bridge knows where each architecture keeps its blocks and its final norm. Parts are run by handing the
    architecture's own forward a shorter list of blocks, so that masks and positions stay its own business and blocks
    outside the part cost nothing.
    """

    kind = "causal"

    def __init__(
        self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: dict[str, Any]
    ) -> None:
        from transformer_lens.model_bridge import TransformerBridge

        try:
            bridge = TransformerBridge.boot_transformers(name, hf_model=model, tokenizer=tokenizer, device=model.device)
        except ValueError as error:
            raise InputError(
                f"{name} cannot be used as a causal language model: {str(error).splitlines()[0]}"
            ) from error
        super().__init__(name, bridge.original_model, tokenizer, source)
        self.bridge = bridge
        where = {part: component.name for part, component in (bridge.adapter.component_mapping or {}).items()}
        if not where.get("blocks") or not where.get("ln_final"):
            raise InputError(f"{name}: TransformerLens does not say where its blocks and its final norm are.")
        self._trunk_name, self._blocks_name = str(where["blocks"]).rsplit(".", 1)
        self._norm_name = str(where["ln_final"]).rsplit(".", 1)[1]
        self._trunk = self.module.get_submodule(self._trunk_name)
        self.n_layers = bridge.cfg.n_layers
        self.d_model = bridge.cfg.d_model
        self.context = bridge.cfg.n_ctx

    def _part(self, k: int, m: int, norm: bool) -> nn.Module:
        """A shallow copy of the trunk with blocks k+1..m only; parameters are shared, the original is untouched."""
        part = copy.copy(self._trunk)
        part._modules = dict(self._trunk._modules)
        blocks = self._trunk.get_submodule(self._blocks_name)
        part._modules[self._blocks_name] = nn.ModuleList(list(blocks.children())[k:m])
        if not norm:
            part._modules[self._norm_name] = nn.Identity()
        return part

    def _forward(self, part: nn.Module, batch: Batch, **given: Tensor) -> Tensor:
        mask = batch.mask if not batch.mask.all() else None
        return part(attention_mask=mask, use_cache=False, **given).last_hidden_state

    def embed(self, batch: Batch) -> Hidden:
        """Position 0: (sequences, length, d_model)."""
        return self._forward(self._part(0, 0, norm=False), batch, input_ids=batch.ids)

    def _blocks(self, hidden: Hidden, k: int, m: int, batch: Batch, tap: Tap | None) -> Hidden:
        part = self._part(k, m, norm=False)
        blocks = list(part.get_submodule(self._blocks_name).children())
        with _hidden_enters(blocks[0], hidden), _tapped(blocks, k, tap):
            out = self._forward(part, batch, inputs_embeds=hidden)
        if tap is not None:
            tap(m, out)
        return out

    def head(self, hidden: Hidden, batch: Batch) -> Logits:
        """Logits (sequences, length, vocabulary) from position n_layers, final norm included."""
        self._check(hidden, batch)
        part = self._part(0, 0, norm=True)
        whole = copy.copy(self.module)
        whole._modules = dict(self.module._modules)
        if "." in self._trunk_name:
            raise InputError(f"{self.name}: a trunk at {self._trunk_name!r} is not supported yet.")
        whole._modules[self._trunk_name] = part
        with _hidden_enters(part.get_submodule(self._norm_name), hidden):
            return whole(inputs_embeds=hidden, attention_mask=None, use_cache=False).logits


@contextmanager
def _hidden_enters(module: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Inside, `module` receives `hidden` whatever it is called with: some architectures change inputs_embeds first."""
    handle = _register(module, lambda _: hidden)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _tapped(blocks: list[nn.Module], first: int, tap: Tap | None) -> Iterator[None]:
    """Inside, `tap(position, hidden)` is called with the input of every block."""
    if tap is None:
        yield
        return
    handles = []

    def watch(position: int) -> Callable[[Tensor], None]:
        return lambda hidden: tap(position, hidden)

    try:
        for index, block in enumerate(blocks):
            handles.append(_register(block, watch(first + index)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _register(module: nn.Module, see: Callable[[Tensor], Tensor | None]) -> torch.utils.hooks.RemovableHandle:
    """Show `see` the hidden state entering `module`; a tensor it returns takes its place."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            new = see(args[0])
            return ((new, *args[1:]) if new is not None else args), kwargs
        new = see(kwargs["hidden_states"])
        return args, (kwargs | {"hidden_states": new} if new is not None else kwargs)

    return module.register_forward_pre_hook(hook, with_kwargs=True)
