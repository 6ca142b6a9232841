"""Comparison in one pass over the corpus, holding sums: memory does not grow with rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from repsim_nb.activations.extraction import (
    Activations,
    Layers,
    Plan,
    plan_aligned,
)
from repsim_nb.comparison.result import labelled
from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.accumulation import Accumulator
from repsim_nb.measures.moments import PrecisionError
from repsim_nb.models import Model, Packing
from repsim_nb.models.model import as_layers
from repsim_nb.system.memory import limit_bytes, readable_size
from repsim_nb.system.progress import steps

if TYPE_CHECKING:
    import xarray as xr

SPECIAL = 4  # tokens around a text, at most
PROBE_TOKENS = 1024  # run to see how fast a model is
PROBE_WIDTH = 768  # of a product, to see how fast this machine multiplies
RETAINED = 2.6  # times what a batch needs at once, malloc keeps of it: 1.9 to 3.2 over six shapes of model
# Work on one pair beyond its product, in d^3 float32 operations: eigenvalues for shapes, whitening for subspaces.
SPECTRAL = {torch.float32: 12, torch.float64: 30}


def stream(
    a: Model | str,
    b: Model | str | None = None,
    corpus: Corpus | str | Sequence[str] | None = None,
    measure: str | Measure = "cka",
    *,
    layers_a: Layers = "all",
    layers_b: Layers = "all",
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    seed: int = 0,
    packing: str | Packing = "documents",
    memory_limit: int | None = None,
    **measure_params: Any,
) -> xr.DataArray:
    """`compare` of two models in one pass, holding sums instead of activations.

    The rows, and so the values, are those of `compare` with the same arguments (minibatch CKA excepted, which depends
    on their order: here that of the batches the models run).

    Args:
        memory_limit: bytes that may be used; None is half of what is available now. The rest is as in `compare`.

    Returns:
        DataArray with dims ("layer_a", "layer_b"), as from `compare`.

    Raises:
        InputError: a measure that needs all rows at once, sums beyond memory_limit, or what `compare` raises.

    >>> stream("tiny-neox-w32-d2", n_rows=300).shape
    (3, 3)
    """
    chosen = get_measure(measure, **measure_params)
    layers_a, layers_b = as_layers(layers_a), as_layers(layers_b)
    plans = plans_of(a, b, corpus, layers_a, layers_b, site, rows, n_rows, seed, packing, memory_limit)
    try:
        values = chosen.from_moments(accumulate(plans, chosen, memory_limit))
    except PrecisionError:  # rare, as when one row is far beyond all others; costs a second pass
        values = chosen.from_moments(accumulate(plans, chosen, memory_limit, torch.float64))
    outlines = [
        Activations({layer: torch.empty(len(plan), 0) for layer in plan.layers}, plan.rows, plan.provenance)
        for plan in plans
    ]
    return labelled(values, chosen, outlines[0], outlines[-1])


def accumulate(
    plans: Sequence[Plan], measure: Measure, memory_limit: int | None = None, dtype: torch.dtype | None = None
) -> Accumulator:
    """The sums that `measure` needs, over all rows of one plan (a model with itself) or two.

    What parts of a corpus give, here or elsewhere, adds up: `accumulate(...) + accumulate(...)`.
    """
    widths = [dict.fromkeys(plan.layers, plan.model.d_model) for plan in plans]
    sums = empty_sums(measure, widths, dtype)
    limit = limit_bytes(memory_limit)
    if limit is not None and sums.nbytes > limit:
        _refuse(measure, sums.nbytes, limit)
    name = " and ".join(plan.model.name for plan in plans)
    for index in steps(plans[0].batches(), name):
        sums.add(*(plan.run(index, progress=False) for plan in plans))
    return sums


def empty_sums(measure: Measure, widths: list[dict[int, int]], dtype: torch.dtype | None = None) -> Accumulator:
    """For one side with itself, or two."""
    return measure.accumulator(widths[0], widths[1] if len(widths) == 2 else None, dtype)


def _refuse(measure: Measure, needed: int, limit: int) -> None:
    batches = ", or give cka batch=256, which keeps next to nothing" if measure.name == "cka" else ""
    raise InputError(
        f"{measure.name} needs {readable_size(needed)} when streamed; the limit is {readable_size(limit)}. Raise "
        f"memory_limit, or choose fewer layers{batches}."
    )


def plans_of(
    a: Model | str,
    b: Model | str | None,
    corpus: Corpus | str | Sequence[str] | None,
    layers_a: Layers,
    layers_b: Layers,
    site: str,
    rows: str,
    n_rows: int,
    seed: int,
    packing: str | Packing,
    memory_limit: int | None = None,
) -> list[Plan]:
    """One plan when a is compared with itself, all its layers; otherwise two."""
    check_models(a, b)
    models, layers = [a, a if b is None else b], [layers_a, layers_b]
    if b is None and layers_a == layers_b:
        models, layers = models[:1], layers[:1]
    return plan_aligned(models, corpus, layers, site, rows, n_rows, seed, packing, memory_limit)


def check_models(*sides: Any) -> None:
    """Raise for what is neither a model nor its name."""
    for side in sides:
        if not isinstance(side, Model | str | os.PathLike | None):
            raise InputError(f"Only models can be streamed, got {type(side).__name__}: compare activations instead.")
