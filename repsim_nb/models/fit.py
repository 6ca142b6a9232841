"""Check that the weights of a checkpoint match the network that its config describes, completely and exactly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint import FLOATS, Tensor, as_tensor, is_buffer, listed, not_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MASKED_HEADS = ("ForMaskedLM", "ForPreTraining")
MASKS = 2**28  # values that a network may have besides its weights: masks and position tables
SCALE = re.compile("scale|absmax|scb", re.IGNORECASE)


def check_fit(network: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
    """Check that the network of a config is about as large as its weights, tensor by tensor if names agree.

    This runs first because transformers would allocate memory for the whole network.
    """
    expected = network.state_dict()
    own = {name: expected.get(_named(network, name, expected)) for name in tensors}

    def harmless(name: str) -> bool:
        weight = own[name]
        return is_buffer(name, tensors[name]) if weight is None else not weight.is_floating_point()

    if strange := [name for name in not_weights(tensors) if not harmless(name)]:
        raise InputError(
            f"{len(strange)} of its tensors are not floating-point numbers of 16 bits or more: {listed(strange)} "
            f"({tensors[strange[0]].dtype}; expected {', '.join(FLOATS)}). They look quantised, but its config.json "
            "has no quantization_config. Load a version in float32, bfloat16 or float16."
        )
    wrong = [
        f"{name} {tensors[name].shape} for {tuple(weight.shape)}"
        for name, weight in own.items()
        if weight is not None and tuple(weight.shape) != tensors[name].shape
    ]
    if wrong:
        raise InputError(
            f"{len(wrong)} of its tensors have a shape that does not match its config.json: {listed(wrong)}. Copy or "
            "download both again."
        )
    there = sum(tensor.size for tensor in tensors.values())
    needed = sum(weight.numel() for weight in network.parameters())
    fixed = sum(buffer.numel() for buffer in network.buffers())
    if needed > 2 * there or fixed > 2 * there + MASKS:
        raise InputError(
            f"the checkpoint lacks most of the weights of {type(network).__name__}: it has {there:,} values, and its "
            f"config.json describes {needed:,} weights and {fixed:,} constants. Copy or download both again."
        )


def check_taken(module: PreTrainedModel, report: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise for missing and unused weights, about which transformers only warns.

    transformers fills missing weights with random numbers and drops unused ones. Both are errors here, except for
    weights that do not matter: poolers, heads for other tasks, and masks and positions in older files.
    """
    trunk = module.base_model
    prefix = f"{module.base_model_prefix}."
    encoder = type(module).__name__.endswith((*MASKED_HEADS, "Model")) and "LMHead" not in type(module).__name__
    pooled = getattr(trunk, "pooler", None) is not None and not encoder
    lacking = [key for key in report["missing_keys"] if pooled or not key.removeprefix(prefix).startswith("pooler.")]
    if lacking:
        raise InputError(
            f"the checkpoint lacks {len(lacking)} of the weights that {type(module).__name__} needs, for example "
            f"{min(lacking)}."
        )
    parts = {name for name, _ in module.named_modules()}
    blocks = {name for name, _ in trunk.named_children()}

    def stray(key: str) -> bool:
        inner = key.removeprefix(prefix)
        first = inner.partition(".")[0]
        known = tensors.get(key) or tensors.get(inner) or tensors.get(prefix + key)
        if is_buffer(key, known) or (first == "pooler" and not pooled):
            return False
        return inner != key or first in blocks or key.rpartition(".")[0] in parts

    _check_scaled(module, tensors)
    if left := sorted(filter(stray, report["unexpected_keys"])):
        raise InputError(
            f"{len(left)} of its tensors have no place in the network that its config.json describes: {listed(left)}. "
            "Either the config belongs to another model, for example one with fewer layers, or the weights are "
            "quantised and it does not say so. Copy or download both again."
        )


def _check_scaled(module: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
    """Check that integers and 8-bit floats that are read as plain numbers have a scale."""
    taken, bare = module.state_dict(), []
    for name in not_weights(tensors):
        own = _named(module, name, taken)
        path = name.rpartition(".")[0]
        scaled = any(SCALE.search(other) for other in tensors if other.startswith(f"{path}.") and other != name)
        if own not in taken or scaled or is_buffer(name, None):
            continue
        owner = type(module.get_submodule(own.rpartition(".")[0]))
        if as_tensor(taken[own]).dtype in FLOATS or owner.__module__.startswith("torch.nn."):
            bare.append(name)
    if bare:
        raise InputError(
            f"{len(bare)} of its quantised tensors have no scale: {listed(bare)} "
            f"({tensors[bare[0]].dtype}). Load a version in float32, bfloat16 or float16."
        )


def _named(network: PreTrainedModel, name: str, expected: Mapping[str, Any]) -> str:
    """Name of a tensor in the network: checkpoints of a trunk lack its prefix, those with a head have it."""
    prefix = f"{network.base_model_prefix}."
    return next((n for n in (name, prefix + name, name.removeprefix(prefix)) if n in expected), name)


def is_plain(module: PreTrainedModel) -> bool:
    """Whether all of a network's weights are ordinary floating-point numbers."""
    return not not_weights({name: as_tensor(weight) for name, weight in module.named_parameters()})
