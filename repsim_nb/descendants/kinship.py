"""A base and its descendant: what has to agree before they are compared, and the parts that both have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models import Model, load_model
from repsim_nb.models.shape import shape_of

EMBEDDING, HEAD = "embedding", "head"
SIZES = ("n_layers", "d_model", "d_mlp")
KINDS_OF_MODELS = ("causal", "classifier")


@dataclass(frozen=True)
class Kin:
    """Two models of one shape, one tokenizer and one kind.

    Raises
    ------
    InputError
        If they differ in any of these.
    """

    base: Model
    tuned: Model

    def __post_init__(self) -> None:
        base, tuned = self.base, self.tuned
        check_shapes(base, tuned)
        if base.kind != tuned.kind or base.kind not in KINDS_OF_MODELS:
            raise InputError(
                f"{base.name} is of kind {base.kind!r}, {tuned.name} of kind {tuned.kind!r}; diff expects two causal "
                "models or two classifiers. Compare others with rs.compare."
            )
        if base.windows.text_key != tuned.windows.text_key:
            raise InputError(
                f"{base.name} and {tuned.name} have different tokenizers, so neither is a descendant whose parts fit "
                "the other. Compare them with rs.compare, or stitch them with rs.stitch."
            )

    @property
    def parts(self) -> list[str]:
        """The parts of both, the embedding first and the head last."""
        return part_names(self.base.n_layers)

    @cached_property
    def changed(self) -> frozenset[str]:
        """The parts with a parameter that differs."""
        if self.base is self.tuned:
            return frozenset()
        ours, theirs = (parameters_by_part(model) for model in (self.base, self.tuned))
        return frozenset(part for part in self.parts if not _equal(ours[part], theirs[part]))


def _equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name].to(value.device)) for name, value in ours.items()
    )


def loaded(base: Model | str, tuned: Model | str) -> Kin:
    """Both models, their shapes compared before any weights are read."""
    check_shapes(base, tuned)
    first = load_model(base)
    return Kin(first, first if isinstance(tuned, str) and tuned == base else load_model(tuned))


def check_shapes(base: Model | str, tuned: Model | str) -> None:
    """Raise unless both have as many blocks of the same width."""
    shapes = [shape_of(model) for model in (base, tuned)]
    sizes = [tuple(getattr(shape, name) for name in SIZES) for shape in shapes]
    if sizes[0] != sizes[1]:
        told = " and ".join(
            f"{shape.name} has {shape.n_layers} blocks of width {shape.d_model} (MLP {shape.d_mlp})" for shape in shapes
        )
        raise InputError(
            f"{told}: a descendant has the shape of its base. Compare models of any shape with rs.compare, or stitch "
            "them with rs.stitch."
        )


def part_names(n_layers: int) -> list[str]:
    """The embedding, "block 1" to the last, and the head."""
    return [EMBEDDING, *(f"block {number}" for number in range(1, n_layers + 1)), HEAD]


def parameters_by_part(model: Model) -> dict[str, dict[str, Tensor]]:
    """Part -> name -> parameter. Block l leads to layer l; what comes after the blocks, final norm first, is the head.

    A matrix that embedding and head share counts in both.
    """
    module = model.module
    stacks = {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, nn.ModuleList | nn.Sequential) and len(part) == model.n_layers
    }
    if not stacks:
        raise InputError(f"{model.name} ({type(module).__name__}) has no stack of {model.n_layers} blocks.")
    place = next(iter(stacks))
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in part_names(model.n_layers)}
    passed = False
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if name.startswith(f"{place}."):
            number = int(name[len(place) + 1 :].split(".")[0])
            parts[f"block {number + 1}"][name] = parameter
            passed = True
        else:
            parts[HEAD if passed else EMBEDDING][name] = parameter
    return parts
