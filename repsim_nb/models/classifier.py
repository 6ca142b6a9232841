"""Sequence classifiers of Hugging Face (BERT, RoBERTa, DistilBERT and their like), run part by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models.batch import Batch
from repsim_nb.models.model import RESIDUAL, Hidden, Logits, Model, Tap
from repsim_nb.models.parts import outputs_tapped, tapped, with_submodule

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
else:
    PreTrainedModel = PreTrainedTokenizerBase = Any  # see model.py


INSIDE = {  # site -> the module of a block whose output it is, by architecture
    "attn_out": ("attention.output.dense", "attention.out_lin"),
    "mlp_out": ("output.dense", "ffn"),
    "pre_residual": ("output.dense", "ffn"),  # of these post-norm blocks the MLP is what is added last
}


class ClassifierModel(Model):
    """A classifier of transformers whose parts can be run alone.

    Its head is the pooler, where there is one, and the classifier: logits (sequences, classes). Parts are run, as in
    `CausalModel`, by the architecture's own forward: with fewer blocks, and with embeddings that hand on what is given.
    """

    kind = "classifier"
    made_for = "nli-heuristics"
    sites = (RESIDUAL, *INSIDE)
    module: PreTrainedModel

    def __init__(
        self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: dict[str, Any]
    ) -> None:
        super().__init__(name, model, tokenizer, source)
        config = model.config
        self.n_layers, self.d_model = config.num_hidden_layers, config.hidden_size
        self.context = min(_places(model), tokenizer.model_max_length)
        self._trunk_name, self._blocks_name = _anatomy(name, model, self.n_layers)
        self._trunk = model.get_submodule(self._trunk_name)
        self._check_parts()

    @property
    def labels(self) -> list[str]:
        """Names of the classes, in the order of the logits; may be set where a checkpoint says only LABEL_0 and so on.

        Raises:
            InputError: set to anything but one name for each class, all different.
        """
        names: Any = self.module.config.id2label
        return [names[i] for i in range(len(names))]

    @labels.setter
    def labels(self, names: Sequence[str]) -> None:
        classes = len(self.labels)
        if isinstance(names, str) or len(names) != classes or len(set(names)) != classes:
            raise InputError(
                f"labels={names!r}; {self.name} has {classes} classes, so expected a list of {classes} different names."
            )
        self.module.config.id2label = dict(enumerate(names))
        self.module.config.label2id = {name: i for i, name in enumerate(names)}

    @property
    def provenance(self) -> dict[str, Any]:
        """What identifies this model, names of the classes included."""
        return super().provenance | {"labels": self.labels}

    @torch.no_grad()
    def _check_parts(self) -> None:
        """An architecture that does more between embedding and head than run its blocks would differ here."""
        batch = self.collate(self.windows(["Parts that are joined again must be the whole.", "Short."], 16))
        middle = self.n_layers // 2
        joined = self.head(self.run(self.run(self.embed(batch), 0, middle, batch), middle, self.n_layers, batch), batch)
        whole = self.module(input_ids=batch.ids, **self._seen(batch)).logits
        off = (joined - whole).abs().max() / whole.abs().max()
        if not off < (1e-4 if self.dtype == torch.float32 else 1e-2):
            raise InputError(
                f"{self.name} ({type(self.module).__name__}) cannot be run part by part: joined parts differ from the "
                f"whole by {off:.0e} of the largest logit. This architecture is not supported."
            )

    def _seen(self, batch: Batch) -> dict[str, Tensor]:
        """Which tokens are real, and, for architectures that ask, which text of a pair they are of."""
        mask = {"attention_mask": batch.mask.long()}
        if not getattr(self.module.config, "type_vocab_size", 0) > 1:
            return mask
        types = torch.zeros_like(batch.ids) if batch.types is None else batch.types
        return mask | {"token_type_ids": types}

    def _part(self, k: int, m: int, hidden: Tensor | None) -> nn.Module:
        """A shallow copy of the trunk with blocks k+1..m only, into which `hidden` goes in place of embedded tokens."""
        blocks = list(self._trunk.get_submodule(self._blocks_name).children())[k:m]
        part = with_submodule(self._trunk, self._blocks_name, nn.ModuleList(blocks))
        return part if hidden is None else with_submodule(part, "embeddings", _Given(hidden))

    def embed(self, batch: Batch) -> Hidden:
        """Position 0: (sequences, length, d_model)."""
        return self._part(0, 0, None)(input_ids=batch.ids, **self._seen(batch)).last_hidden_state

    def _blocks(self, hidden: Hidden, k: int, m: int, batch: Batch, tap: Tap | None) -> Hidden:
        part = self._part(k, m, hidden)
        with tapped(list(part.get_submodule(self._blocks_name).children()), k, tap):
            out = part(inputs_embeds=hidden, **self._seen(batch)).last_hidden_state
        if tap is not None:
            tap(m, out)
        return out

    def _read_inside(self, batch: Batch, layers: list[int], tap: Tap, site: str) -> None:
        blocks = list(self._trunk.get_submodule(self._blocks_name).children())
        with outputs_tapped({layer: _inside(blocks[layer - 1], site) for layer in layers}, tap):
            self.run(self.embed(batch), 0, layers[-1], batch)

    def head(self, hidden: Hidden, batch: Batch) -> Logits:
        """Logits (sequences, classes) from position n_layers, pooler included."""
        self._check(hidden, batch)
        whole = with_submodule(self.module, self._trunk_name, self._part(0, 0, hidden))
        return whole(inputs_embeds=hidden, **self._seen(batch)).logits


class _Given(nn.Module):
    """Embeddings that are known already, whatever is asked."""

    def __init__(self, hidden: Tensor):
        super().__init__()
        self.hidden = hidden

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """The given."""
        return self.hidden


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
    return model.config.max_position_embeddings - (0 if before is None else before + 1)


def _anatomy(name: str, model: PreTrainedModel, n_layers: int) -> tuple[str, str]:
    """Where an architecture keeps its trunk, and in it its blocks."""
    trunk = model.base_model_prefix
    if hasattr(model, trunk) and hasattr(getattr(model, trunk), "embeddings"):
        for path, module in getattr(model, trunk).named_modules():
            if isinstance(module, nn.ModuleList) and len(module) == n_layers:
                return trunk, path
    raise InputError(
        f"{name} ({type(model).__name__}) has no embeddings followed by a stack of {n_layers} blocks. "
        "This architecture is not supported."
    )
