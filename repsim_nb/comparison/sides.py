"""The two sides of a comparison: models, activations or arrays, and their layers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from repsim_nb.activations import Activations
from repsim_nb.activations.hooks import from_cache, is_cache
from repsim_nb.errors import InputError
from repsim_nb.measures.arrays import as_matrix, is_array
from repsim_nb.models import Model
from repsim_nb.models.positions import as_layers
from repsim_nb.models.shape import Shape, shape_of

Layers = str | int | Sequence[int]


def as_side(given: Any, name: str) -> Any:
    """Return models and activations unchanged, and wrap a single array as layer 0."""
    if is_array(given):
        return {0: given}
    if is_cache(given):
        return from_cache(given)
    if isinstance(given, list | tuple | set | int | float | None):
        raise InputError(
            f"{name} is a {type(given).__name__}; expected a model or its name, activations (layer -> array of shape "
            "(rows, features)) or a single such array."
        )
    return given


def two_sides(a: Any, b: Any, layers_a: Layers, layers_b: Layers) -> tuple[list[Any], list[Layers]]:
    """Both sides with their layers; only one side if a is compared with itself at the same layers."""
    layers = [as_layers(layers_a), as_layers(layers_b)]
    if layers[0] == layers[1] and (b is None or (b is a and isinstance(a, Mapping))):
        return [a], layers[:1]
    return [a, a if b is None else b], layers


def layers_of(acts: Mapping[int, Any], layers: Layers) -> Mapping[int, Any]:
    """Select layers of activations, at least one."""
    if not isinstance(acts, Mapping):
        raise InputError(f"Expected activations, layer -> array of shape (rows, features), got {type(acts).__name__}.")
    if not acts:
        raise InputError("The activations have no layers: got an empty mapping.")
    if isinstance(layers, str):
        if layers != "all":
            raise InputError(f'layers={layers!r}; expected "all", a layer or a list of layers.')
        return acts
    asked = list(layers) if isinstance(layers, Iterable) else [layers]
    if not asked:
        raise InputError("layers is empty; expected at least one layer.")
    missing = [layer for layer in asked if layer not in acts]
    if missing:
        raise InputError(f"The activations have no layer {missing[0]!r}. Available layers: {list(acts)}.")
    chosen = {layer: acts[layer] for layer in asked}
    return Activations(chosen, acts.rows, acts.provenance) if isinstance(acts, Activations) else chosen


def matrices(acts: Mapping[Any, Any], side: str) -> list[Tensor]:
    """Layers as tensors, validated unless they come from extraction."""
    if isinstance(acts, Activations):
        return list(acts.values())
    return [as_matrix(values, f"layer {layer} of {side}") for layer, values in acts.items()]


def same_rows(a: Activations, b: Activations) -> None:
    """Raise an InputError unless row i is the same place of the same document in both."""
    where = ["document", "char_end"]
    if len(a.rows) != len(b.rows) or not (a.rows[where].to_numpy() == b.rows[where].to_numpy()).all():
        raise InputError(
            f"Row i must be the same place of the same document on both sides, but {a!r} and {b!r} have different "
            "rows. Compare the models in one call, or extract both from one corpus with the same n_rows and seed."
        )


def shapes_and_positions(
    models: Sequence[Model | str], layers: Sequence[Layers], site: str
) -> tuple[list[Shape], list[list[int]]]:
    """Shapes of one or two models, read from their configs, and the requested layers of each."""
    once = {model: shape_of(model) for model in models}  # one object per distinct model
    shapes = [once[model] for model in models]
    return shapes, [shape.positions(which, site) for shape, which in zip(shapes, layers, strict=True)]


def check_models(*sides: Any) -> None:
    """Raise unless every side is a model or the name of one."""
    for side in sides:
        if not isinstance(side, Model | str | os.PathLike | None):
            raise InputError(f"Only models can be streamed, got {type(side).__name__}: compare activations instead.")
