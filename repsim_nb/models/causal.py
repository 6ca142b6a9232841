"""Hugging Face causal language models, run in parts."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from repsim_nb.errors import InputError, needs
from repsim_nb.models.batch import Batch
from repsim_nb.models.causal_blocks import CausalBlocks
from repsim_nb.models.config import longest, sizes
from repsim_nb.models.model import Hidden, Logits, Tap
from repsim_nb.models.parts import hidden_enters, shallow, tapped, with_submodule
from repsim_nb.models.probe import probe, rotary_state, turning
from repsim_nb.models.trial import Whole, check_parts, run_whole

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
else:
    TransformerBridge = PreTrainedModel = PreTrainedTokenizerBase = Any  # see model.py


class CausalModel(CausalBlocks):
    """A transformers causal model whose parts can be run separately.

    A part is run by the architecture's own forward with a shorter list of blocks. Masks and positions are therefore
    its own, values equal those of transformers bit by bit, and blocks outside the part cost nothing.
    """

    kind = "causal"

    def __init__(
        self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: dict[str, Any]
    ) -> None:
        super().__init__(name, model, tokenizer, source)
        self.n_layers, self.d_model = sizes(name, model)
        self.context = min(longest(model.config.get_text_config()), tokenizer.model_max_length)
        self._trunk_name, self._blocks_name, self._norm_name = _anatomy(name, model, self.n_layers)
        self._trunk = model.get_submodule(self._trunk_name)
        self._rotary = [m for m in self._trunk.modules() if turning(m)]
        blocks = self._stack()
        self.neutral = probe(self, check_parts(self, blocks, self._whole), blocks)

    @property
    def n_heads(self) -> int:
        """Number of query heads of a block; 0 if the config states no one number."""
        config: Any = self.module.config
        heads = getattr(config.get_text_config(), "num_attention_heads", 0)
        return heads if isinstance(heads, int) else 0

    def _stack(self) -> list[nn.Module]:
        return list(self._trunk.get_submodule(self._blocks_name).children())

    @cached_property
    def bridge(self) -> TransformerBridge:
        """The same model as a TransformerLens bridge, for hooks inside its blocks; a copy made on first access."""
        needs(f"The bridge of {self.name}", "transformer_lens")
        from transformer_lens.model_bridge import TransformerBridge

        own = copy.deepcopy(self.module)  # the bridge changes its model in place
        return TransformerBridge.boot_transformers(
            self.name, hf_model=own, tokenizer=self.tokenizer, device=self.device, dtype=self.dtype
        )

    def _whole(self, batch: Batch) -> Whole:
        given = {"input_ids": batch.ids, "attention_mask": batch.mask.long()}
        with rotary_state(self._rotary):
            out = run_whole(self.module, use_cache=False, **given)
        return Whole(out.logits, getattr(out, "hidden_states", None))

    def _part(self, k: int, m: int, norm: bool) -> nn.Module:
        """A shallow copy of the trunk with only blocks k+1..m, sharing parameters with the original."""
        part = shallow(self._trunk)
        part._modules[self._blocks_name] = nn.ModuleList(self._stack()[k:m])
        config: Any = copy.copy(self._trunk.config)
        if getattr(config, "layer_types", None):  # some look up the type of a block by its index
            config.__dict__["layer_types"] = config.layer_types[k:m]
            part.__dict__["config"] = config
        if not norm:
            part._modules[self._norm_name] = nn.Identity()
        return part

    def _forward(self, part: nn.Module, **given: Tensor) -> Tensor:
        """Run without a mask: padding is on the right, where no token attends, and masked attention is much slower."""
        with rotary_state(self._rotary):
            return part(attention_mask=None, use_cache=False, **given).last_hidden_state.to(self.device)

    def embed(self, batch: Batch) -> Hidden:
        """Layer 0, (sequences, length, d_model)."""
        return self._forward(self._part(0, 0, norm=False), input_ids=batch.ids)

    def _blocks(self, hidden: Hidden, k: int, m: int, batch: Batch, tap: Tap | None) -> Hidden:
        part = self._part(k, m, norm=False)
        blocks = list(part.get_submodule(self._blocks_name).children())
        with hidden_enters(blocks[0], hidden), tapped(blocks, k, tap):
            out = self._forward(part, inputs_embeds=hidden)
        if tap is not None:
            tap(m, out)
        return out

    def _states(self, batch: Batch) -> Hidden:
        return self._forward(self._trunk, input_ids=batch.ids)

    def head(self, hidden: Hidden, batch: Batch) -> Logits:
        """Logits (sequences, length, vocabulary) from layer n_layers, final norm included."""
        self._check(hidden, batch)
        part = self._part(0, 0, norm=True)
        whole = with_submodule(self.module, self._trunk_name, part)
        with rotary_state(self._rotary), hidden_enters(part.get_submodule(self._norm_name), hidden):
            return whole(inputs_embeds=hidden, attention_mask=None, use_cache=False).logits.to(self.device)


def _anatomy(name: str, model: nn.Module, n_layers: int) -> tuple[str, str, str]:
    """Module paths of an architecture: trunk, and blocks and final norm inside the trunk."""
    stacks = [n for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    if stacks and "." in stacks[0]:
        trunk, blocks = stacks[0].rsplit(".", 1)
        children = [child for child, _ in model.get_submodule(trunk).named_children()]
        norms = [n for n in children if ("norm" in n or n.startswith("ln")) and "emb" not in n]
        if norms:
            return trunk, blocks, norms[-1]
    raise InputError(
        f"{name} ({type(model).__name__}) has no stack of {n_layers} blocks followed by one norm. "
        "This architecture is not supported."
    )
