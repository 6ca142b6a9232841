"""Text encoders of Hugging Face (BERT, RoBERTa, DistilBERT, MPNet, ModernBERT, T5 and their like), run part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models.batch import Batch
from repsim_nb.models.model import RESIDUAL, Hidden, Logits, Model, Tap, longest, sizes
from repsim_nb.models.parts import outputs_tapped, shallow, tapped, with_submodule
from repsim_nb.models.probe import probe
from repsim_nb.models.trial import Whole, check_parts, run_whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
else:
    PreTrainedModel = PreTrainedTokenizerBase = Any  # see model.py


INSIDE = {  # site -> the module of a block whose output it is, by architecture
    "attn_out": (
        "attention.output.dense",
        "attention.out_lin",
        "attention.attn.o",
        "attn.Wo",
        "layer.0.SelfAttention.o",
    ),
    "mlp_out": ("output.dense", "ffn", "mlp", "layer.1.DenseReluDense"),
    "pre_residual": ("output.dense", "ffn", "mlp", "layer.1.DenseReluDense"),  # what is added last is the MLP
}


class EncoderModel(Model):
    """An encoder of transformers whose parts can be run alone.

    What its head gives depends on what it was trained for: a masked language model's logits (sequences, length,
    vocabulary); otherwise what transformers calls last_hidden_state, (sequences, length, d_model): position n_layers
    and, where the architecture has one, its final norm. Poolers, which only some checkpoints come with, are left out.

    Parts are run, as in `CausalModel`, by the architecture's own forward: with fewer blocks, and with embeddings that
    hand on what is given.
    """

    kind = "encoder"
    sites = (RESIDUAL, *INSIDE)
    module: PreTrainedModel

    def __init__(
        self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: dict[str, Any]
    ) -> None:
        super().__init__(name, model, tokenizer, source)
        self.n_layers, self.d_model = sizes(name, model)
        self.context = min(_places(model), tokenizer.model_max_length)
        self._trunk_name, self._blocks_name, self._norm_name = _anatomy(name, model, self.n_layers)
        if not self._trunk_name and getattr(model, "pooler", None) is not None:
            model.pooler = nn.Identity()  # where a checkpoint lacks one, transformers would make it up
        self._trunk = model.get_submodule(self._trunk_name)
        blocks = list(self._trunk.get_submodule(self._blocks_name).children())
        self.neutral = probe(self, check_parts(self, blocks, self._whole), blocks)

    def _whole(self, batch: Batch) -> Whole:
        out = run_whole(self.module, input_ids=batch.ids, **self._seen(batch))
        return Whole(out.logits if self._trunk_name else out.last_hidden_state, getattr(out, "hidden_states", None))

    def _seen(self, batch: Batch) -> dict[str, Tensor]:
        """Which tokens are real, and, for architectures that ask, which text of a pair they are of."""
        mask = {"attention_mask": batch.mask.long()}
        if not getattr(self.module.config, "type_vocab_size", 0) > 1:
            return mask
        types = torch.zeros_like(batch.ids) if batch.types is None else batch.types
        return mask | {"token_type_ids": types}

    def _part(self, k: int, m: int, hidden: Tensor | None, norm: bool = False) -> nn.Module:
        """A shallow copy of the trunk with blocks k+1..m only, into which `hidden` goes in place of embedded tokens."""
        every = list(self._trunk.get_submodule(self._blocks_name).children())
        blocks = every[k:m]
        if blocks and k > 0:
            blocks[0] = _standing_first(blocks[0], every[0])
        part = with_submodule(self._trunk, self._blocks_name, nn.ModuleList(blocks))
        if self._norm_name and not norm:
            part = with_submodule(part, self._norm_name, nn.Identity())
        if hidden is not None:
            for name in [name for name, _ in part.named_children() if name.startswith("embeddings")]:
                part = with_submodule(part, name, _Given(hidden))
        return part

    def embed(self, batch: Batch) -> Hidden:
        """Position 0: (sequences, length, d_model)."""
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
        """From position n_layers, final norm included: logits, or what the encoder gives (see the class)."""
        self._check(hidden, batch)
        part = self._part(0, 0, hidden, norm=True)
        if not self._trunk_name:
            return part(inputs_embeds=hidden, **self._seen(batch)).last_hidden_state.to(self.device)
        whole = with_submodule(self.module, self._trunk_name, part)
        return whole(inputs_embeds=hidden, **self._seen(batch)).logits.to(self.device)

    def pooled(self, batch: Batch) -> Bool[Tensor, "sequences length"]:
        """True at the tokens that rows="mean" takes the mean over: all but padding, as sentence-transformers does."""
        return batch.mask

    def _states(self, batch: Batch) -> Hidden:
        return self.logits(batch)  # of encoders that predict nothing, as all that are published with a pooling


class _Given(nn.Module):
    """Embeddings that are known already, whatever is asked."""

    def __init__(self, hidden: Tensor):
        super().__init__()
        self.hidden = hidden

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """The given."""
        return self.hidden


def _standing_first(block: nn.Module, first: nn.Module) -> nn.Module:
    """A block as it computes where no block is before it.

    T5's first block alone knows the bias of relative positions and hands it on; where a part begins with another block,
    that one takes it from the first.
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
    """The module of a block whose output a site is."""
    modules = dict(block.named_modules())
    found = [modules[path] for path in INSIDE[site] if path in modules]
    if not found:
        raise InputError(
            f"A {type(block).__name__} has none of {', '.join(INSIDE[site])}, so that {site} cannot be read there."
        )
    return found[0]


def _places(model: PreTrainedModel) -> int:
    """Longest sequence; RoBERTa's positions begin behind the number of its padding token."""
    embedding = next((m for n, m in model.named_modules() if n.endswith("position_embeddings")), None)
    before = getattr(embedding, "padding_idx", None)
    return longest(model.config) - (0 if before is None else before + 1)


def _anatomy(name: str, model: PreTrainedModel, n_layers: int) -> tuple[str, str, str]:
    """Where an architecture keeps its trunk ("" is the model itself), and in it its blocks and final norm, if any."""
    trunk = model.base_model_prefix if hasattr(model, model.base_model_prefix) else ""
    inside = model.get_submodule(trunk)
    alone = hasattr(inside, "shared") and not hasattr(inside, "decoder")  # T5's encoder
    if hasattr(inside, "embeddings") or alone:
        for path, module in inside.named_modules():
            if isinstance(module, nn.ModuleList) and len(module) == n_layers:
                return trunk, path, _norm_behind(inside, path)
    raise InputError(
        f"{name} ({type(model).__name__}) has no embeddings followed by a stack of {n_layers} blocks. "
        "This architecture is not supported."
    )


def _norm_behind(trunk: nn.Module, blocks: str) -> str:
    """Where a trunk keeps the norm that follows its blocks: beside them, or beside what they are in; "" for none."""
    path = blocks
    while path:
        parent, _, own = path.rpartition(".")
        children = [child for child, _ in trunk.get_submodule(parent).named_children()]
        for child in children[children.index(own) + 1 :]:
            if "norm" in child.lower() or child.startswith("ln"):
                return f"{parent}.{child}".lstrip(".")
        path = parent
    return ""
