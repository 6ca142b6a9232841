"""Layers as positions in the residual stream: 0 is the embedding output, l comes after block l."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

from repsim_nb.errors import InputError

RESIDUAL = "resid_post"
MLP_ACTIVATIONS = "mlp_act"  # the only site of another width than the residual stream


def positions(
    name: str, n_layers: int, layers: str | SupportsIndex | Iterable[SupportsIndex], site: str = RESIDUAL
) -> list[int]:
    """`Model.positions` for a model with that name and depth that has `site`."""
    if isinstance(layers, str):
        if layers != "all":
            raise InputError(f'layers={layers!r}; expected "all", a layer or a list of layers.')
        return list(range(0 if site == RESIDUAL else 1, n_layers + 1))
    layers = as_layers(layers)
    asked: list[Any] = list(layers) if isinstance(layers, Iterable) else [layers]
    total = n_layers + 1
    wrong = [p for p in asked if not isinstance(p, int) or not -total <= p < total]
    if wrong or not asked:
        raise InputError(
            f"Layer {wrong[0]!r} does not exist in {name}; its layers are 0 (embedding) to {n_layers}."
            if wrong
            else 'layers is empty; expected "all", a layer or a list of layers.'
        )
    if site != RESIDUAL and any(p % total == 0 for p in asked):
        raise InputError(f"Layer 0 is the embedding, which has no {site}; layers of {site} start at 1.")
    return [p % total for p in asked]


def as_layers(layers: Any) -> Any:
    """Convert NumPy integers in a layer argument to Python ints; leave everything else unchanged."""
    if isinstance(layers, str):
        return layers
    one = _whole(layers)
    return one if isinstance(one, int) or not isinstance(layers, Iterable) else [_whole(layer) for layer in layers]


def _whole(number: Any) -> Any:
    try:
        return operator.index(number)
    except TypeError:
        return number
