"""Read the activations that TransformerLens users have, an `ActivationCache` or a mapping of hook names, by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations.values import Activations
from repsim_nb.errors import InputError, nearest
from repsim_nb.measures.arrays import as_matrix

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDING = "blocks.0.hook_resid_pre"
SHIFTS = {"hook_resid_post": 1, "hook_resid_pre": 0, "hook_attn_out": 1, "hook_mlp_out": 1}  # block -> layer
IN_BLOCKS = (
    *SHIFTS,
    *("hook_in", "hook_out", "hook_resid_mid", "hook_resid_mid_cross", "hook_normalized_resid_post"),
    *("hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in"),
    *("hook_cross_attn_in", "hook_cross_attn_out"),
)
OF_A_BLOCK = re.compile(r"blocks\.(\d+)\.(\w+)")
A_HOOK = re.compile(r"(\w+\.)*hook_\w+")


def is_cache(given: Any) -> bool:
    """Whether `given` holds activations by hook name rather than by layer number.

    Examples
    --------
    >>> is_cache({"blocks.0.hook_resid_post": [[1.0]]}), is_cache({0: [[1.0]]})
    (True, False)
    """
    if isinstance(given, Activations):
        return False
    if isinstance(given, Mapping):
        return any(isinstance(key, str) for key in given)
    return any(kind.__module__.startswith("transformer_lens.") for kind in type(given).__mro__) and hasattr(
        given, "cache_dict"
    )


def from_cache(cache: Any, mask: Any = None) -> Mapping[int, Tensor]:
    """Convert a TransformerLens `ActivationCache`, or any mapping of hook names, to activations that `compare` takes.

    Parameters
    ----------
    cache
        Hook name -> (batch, position, d_model), or (rows, d_model), all from one batch. `blocks.l.hook_resid_post` is
        layer l + 1 and `blocks.0.hook_resid_pre` layer 0, the embedding output; other hooks are ignored. Without any
        hook_resid_post, one of hook_resid_pre (layer l), hook_attn_out and hook_mlp_out (layer l + 1) is used.
        hook_embed is never used, since most models add positions to it.
    mask
        (batch, position), true at the rows to keep. None keeps all of them.

    Returns
    -------
    Mapping
        Layer -> (n_rows, d_model). For a batch, `Activations` whose documents (for nulls and intervals) are the
        sequences of the batch.

    Raises
    ------
    InputError
        Names that are not hook names, or no layer among them; hooks of several kinds; layers from different batches; a
        mask of another shape, or one that keeps nothing.

    Notes
    -----
    How the number misleads: a cache does not know its attention mask. Without `mask`, padding counts as rows, and these
    are nearly equal to each other. So does the beginning-of-text token, whose norm is far larger than that of other
    tokens in many models. Either can raise a similarity that should be low.

    Examples
    --------
    >>> cache = {f"blocks.{l}.hook_resid_post": np.random.default_rng(l).normal(size=(2, 5, 8)) for l in range(2)}
    >>> acts = from_cache(cache, mask=[[True] * 5, [True, True, True, False, False]])
    >>> {layer: tuple(rows.shape) for layer, rows in acts.items()}
    {1: (8, 8), 2: (8, 8)}
    >>> acts.rows["document"].tolist()
    [0, 0, 0, 0, 0, 1, 1, 1]
    """
    kind, names = _layers(list(cache.keys()))
    values = {layer: cache[name] for layer, name in sorted(names.items())}
    shape = _shape(values, names)
    keep = _kept(mask, shape)
    layers = {}
    for layer, value in values.items():
        rows = as_matrix(value.reshape(-1, value.shape[-1]), names[layer])
        layers[layer] = rows if keep.all() else rows[np.flatnonzero(keep)]
    if len(shape) == 1:
        return layers
    import pandas as pd

    document, position = (index[keep] for index in np.indices(shape))
    places = pd.DataFrame({"document": document, "sequence": document, "position": position, "char_end": position})
    name = getattr(getattr(getattr(cache, "model", None), "cfg", None), "model_name", None) or "cache"
    about = {"model": {"model": name, "source": type(cache).__name__}, "site": kind.removeprefix("hook_")}
    return Activations(layers, places, about | {"rows": "all" if mask is None else "masked", "n_rows": int(keep.sum())})


def _layers(keys: list[Any]) -> tuple[str, dict[int, str]]:
    """The kind of hook to use, and layer -> name."""
    found: dict[str, dict[int, str]] = {}
    for key in keys:
        if not isinstance(key, str) or not (A_HOOK.fullmatch(key) or OF_A_BLOCK.fullmatch(key)):
            raise _no_hook(key)
        if of_a_block := OF_A_BLOCK.fullmatch(key):
            block, hook = int(of_a_block[1]), of_a_block[2]
            if hook not in IN_BLOCKS:
                raise _no_hook(key, nearest(hook, IN_BLOCKS))
            if hook in SHIFTS:
                found.setdefault(hook, {})[block + SHIFTS[hook]] = key
    if posts := found.get("hook_resid_post"):
        return "hook_resid_post", posts | ({0: EMBEDDING} if EMBEDDING in keys else {})
    if len(found) > 1:
        raise InputError(
            f"The activations come from several kinds of hook: {', '.join(sorted(found))}. Pass one kind only."
        )
    if not found:
        raise InputError(
            f"None of the {len(keys)} hooks given holds a layer{f', {keys[0]} among them' if keys else ''}; expected "
            "names such as blocks.3.hook_resid_post. (The embedding output is blocks.0.hook_resid_pre.)"
        )
    return next(iter(found.items()))


def _no_hook(key: Any, near: str | None = None) -> InputError:
    if near is None and isinstance(key, str):
        found = re.search(r"\d+", key)
        choices = [f"blocks.{found[0] if found else 0}.{hook}" for hook in SHIFTS]
        full = nearest(key, choices)
    else:
        full = near and f"{key.rpartition('.')[0]}.{near}"
    advice = f"Did you mean {full!r}?" if full else "One is blocks.3.hook_resid_post."
    return InputError(
        f"{key!r} is not a hook name of TransformerLens. {advice} Give activations by layer (0, 1, 2, ...) or by "
        "hook name, not both."
    )


def _shape(values: Mapping[int, Any], names: Mapping[int, str]) -> tuple[int, ...]:
    """(batch, position) or (rows,), the same for all layers."""
    shapes = {layer: tuple(getattr(value, "shape", ())) for layer, value in values.items()}
    first = next(iter(shapes))
    for layer, shape in shapes.items():
        if len(shape) not in (2, 3):
            raise InputError(
                f"{names[layer]} has shape {shape}; expected (batch, position, d_model) or (rows, d_model)."
            )
        if shape[:-1] != shapes[first][:-1]:
            raise InputError(
                f"{names[layer]} has shape {shape} and {names[first]} {shapes[first]}: they come from different "
                "batches. Pass the activations of one run."
            )
    return shapes[first][:-1]


def _kept(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    if mask is None:
        return np.ones(shape, dtype=bool)
    keep = np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask).astype(bool)
    if keep.shape != shape or not keep.any():
        raise InputError(
            f"mask has shape {keep.shape} and keeps {int(keep.sum())} rows; expected shape {shape}, true at the rows "
            "to keep."
        )
    return keep
