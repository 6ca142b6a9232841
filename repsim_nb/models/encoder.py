"""Hugging Face text encoders (BERT, RoBERTa, DistilBERT, MPNet, ModernBERT, T5 and similar), run in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models.batch import Batch
from repsim_nb.models.config import longest, sizes
from repsim_nb.models.model import Hidden, Logits, Model, Tap
from repsim_nb.models.parts import outputs_tapped, shallow, tapped, with_submodule
from repsim_nb.models.positions import RESIDUAL
from repsim_nb.models.probe import probe
from repsim_nb.models.trial import Whole, check_parts, run_whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
else:
    PreTrainedModel = PreTrainedTokenizerBase = Any  # see model.py


INSIDE = {  # site -> path in a block of the module whose output it is, by architecture
    "attn_out": (
        "attention.output.dense",
        "attention.out_lin",
        "attention.attn.o",
        "attn.Wo",
        "layer.0.SelfAttention.o",
    ),
    "mlp_out": ("output.dense", "ffn", "mlp", "layer.1.DenseReluDense"),
    "pre_residual": ("output.dense", "ffn", "mlp", "layer.1.DenseReluDense"),  # the MLP is added last
}


class EncoderModel(Model):
    """A transformers encoder whose parts can be run separately.

    The output of its head depends on the model: logits (sequences, length, vocabulary) for a masked language model,
    otherwise what transformers calls last_hidden_state, (sequences, length, d_model), which is layer n_layers after
    the final norm, if there is one. Poolers, which only some checkpoints include, are ignored.

    As in `CausalModel`, a part is run by the architecture's own forward, with fewer blocks and with embeddings that
    return the given state.
    """

    kind = "encoder"
    sites = (RESIDUAL, *INSIDE)
    module: PreTrainedModel

    def __init__(
        self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: dict[str, Any]
    ) -> None:
        super().__init__(name, model, tokenizer, source)
        self.n_layers, self.d_model = sizes(name, model)
        self.context = min(_max_length(model), tokenizer.model_max_length)
        self._trunk_name, self._blocks_name, self._norm_name = _anatomy(name, model, self.n_layers)
        if not self._trunk_name and getattr(model, "pooler", None) is not None:
            model.pooler = nn.Identity()  # transformers initialises a missing one at random
        self._trunk = model.get_submodule(self._trunk_name)
        blocks = list(self._trunk.get_submodule(self._blocks_name).children())
        self.neutral = probe(self, check_parts(self, blocks, self._whole), blocks)

    def _whole(self, batch: Batch) -> Whole:
        out = run_whole(self.module, input_ids=batch.ids, **self._seen(batch))
        return Whole(out.logits if self._trunk_name else out.last_hidden_state, getattr(out, "hidden_states", None))

    def _seen(self, batch: Batch) -> dict[str, Tensor]:
        """The attention mask and, for architectures that need them, token types."""
        mask = {"attention_mask": batch.mask.long()}
        if not getattr(self.module.config, "type_vocab_size", 0) > 1:
            return mask
        types = torch.zeros_like(batch.ids) if batch.types is None else batch.types
        return mask | {"token_type_ids": types}

    def _part(self, k: int, m: int, hidden: Tensor | None, norm: bool = False) -> nn.Module:
        """A shallow copy of the trunk with only blocks k+1..m, in which `hidden` replaces the embeddings."""
        every = list(self._trunk.get_submodule(self._blocks_name).children())
        blocks = every[k:m]
        if blocks and k > 0:
            blocks[0] = _as_first_block(blocks[0], every[0])
        part = with_submodule(self._trunk, self._blocks_name, nn.ModuleList(blocks))
        if self._norm_name and not norm:
            part = with_submodule(part, self._norm_name, nn.Identity())
        if hidden is not None:
            for name in [name for name, _ in part.named_children() if name.startswith("embeddings")]:
                part = with_submodule(part, name, _GivenEmbeddings(hidden))
        return part

    def embed(self, batch: Batch) -> Hidden:
        """Layer 0, (sequences, length, d_model)."""
        return self._part(0, 0, None)(input_ids=batch.ids, **self._seen(batch)).last_hidden_state.to(self.device)

    def _blocks(self, hidden: Hidden, k: int, m: int, batch: Batch, tap: Tap | None) -> Hidden:
        part = self._part(k, m, hidden)
        with tapped(list(part.get_submodule(self._blocks_name).children()), k, tap):
            out = part(inputs_embeds=hidden, **self._seen(batch)).last_hidden_state.to(self.device)
        if tap is not None:
            tap(m, out)
        return out

    def _read_inside(self, batch: Batch, layers: list[int], tap: Tap, site: str) -> None:
        blocks = list(self._trunk.get_submodule(self._blocks_name).children())
        with outputs_tapped({layer: _inside(blocks[layer - 1], site) for layer in layers}, tap):
            self.run(self.embed(batch), 0, layers[-1], batch)

    def head(self, hidden: Hidden, batch: Batch) -> Logits:
        """The output from layer n_layers, final norm included: logits or states (see the class)."""
        self._check(hidden, batch)
        part = self._part(0, 0, hidden, norm=True)
        if not self._trunk_name:
            return part(inputs_embeds=hidden, **self._seen(batch)).last_hidden_state.to(self.device)
        whole = with_submodule(self.module, self._trunk_name, part)
        return whole(inputs_embeds=hidden, **self._seen(batch)).logits.to(self.device)

    def pooled(self, batch: Batch) -> Bool[Tensor, "sequences length"]:
        """Mask of the tokens that rows="mean" averages over: all except padding, as in sentence-transformers."""
        return batch.mask

    def _states(self, batch: Batch) -> Hidden:
        return self.logits(batch)  # encoders published with a pooling have no prediction head


class _GivenEmbeddings(nn.Module):
    """Embeddings that return a given state, whatever the input."""

    def __init__(self, hidden: Tensor):
        super().__init__()
        self.hidden = hidden

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """Return the given state."""
        return self.hidden


def _as_first_block(block: nn.Module, first: nn.Module) -> nn.Module:
    """Adapt a block so that it can be the first one.

    In T5 only the first block has the relative position bias and passes it on. If a part begins with another block,
    that block gets the bias of the first.
    """
    own = dict(block.named_modules())
    for path, bias in first.named_modules():
        owner, _, name = path.rpartition(".")
        if name == "relative_attention_bias" and path not in own:
            attention = shallow(own[owner])
            attention._modules[name] = bias
            attention.__dict__["has_relative_attention_bias"] = True
            block = with_submodule(block, owner, attention)
    return block


def _inside(block: nn.Module, site: str) -> nn.Module:
    """The module of a block whose output is read at a site."""
    modules = dict(block.named_modules())
    found = [modules[path] for path in INSIDE[site] if path in modules]
    if not found:
        raise InputError(
            f"A {type(block).__name__} has none of {', '.join(INSIDE[site])}, so {site} cannot be read there."
        )
    return found[0]


def _max_length(model: PreTrainedModel) -> int:
    """Maximum sequence length; RoBERTa's positions start after the id of its padding token."""
    embedding = next((m for n, m in model.named_modules() if n.endswith("position_embeddings")), None)
    before = getattr(embedding, "padding_idx", None)
    return longest(model.config) - (0 if before is None else before + 1)


def _anatomy(name: str, model: PreTrainedModel, n_layers: int) -> tuple[str, str, str]:
    """Module paths of an architecture: trunk ("" is the model itself), blocks in it, final norm in it ("" if none)."""
    trunk = model.base_model_prefix if hasattr(model, model.base_model_prefix) else ""
    inside = model.get_submodule(trunk)
    alone = hasattr(inside, "shared") and not hasattr(inside, "decoder")  # T5's encoder
    if hasattr(inside, "embeddings") or alone:
        for path, module in inside.named_modules():
            if isinstance(module, nn.ModuleList) and len(module) == n_layers:
                return trunk, path, _find_final_norm(inside, path)
    raise InputError(
        f"{name} ({type(model).__name__}) has no embeddings followed by a stack of {n_layers} blocks. "
        "This architecture is not supported."
    )


def _find_final_norm(trunk: nn.Module, blocks: str) -> str:
    """Path of the norm that follows the blocks, next to them or next to a module that contains them; "" for none."""
    path = blocks
    while path:
        parent, _, own = path.rpartition(".")
        children = [child for child, _ in trunk.get_submodule(parent).named_children()]
        for child in children[children.index(own) + 1 :]:
            if "norm" in child.lower() or child.startswith("ln"):
                return f"{parent}.{child}".lstrip(".")
        path = parent
    return ""
