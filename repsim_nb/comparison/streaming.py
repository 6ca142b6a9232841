"""Comparison in one pass over the corpus, holding sums: memory does not grow with rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from repsim_nb.activations import Activations, Sampling
from repsim_nb.activations.extraction import Plan, plan_aligned
from repsim_nb.comparison.result import labelled
from repsim_nb.comparison.sides import Layers, check_models, two_sides
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.accumulation import Accumulator
from repsim_nb.measures.moments import PrecisionError
from repsim_nb.measures.registry import as_parameter
from repsim_nb.models import Model, Packing
from repsim_nb.system.memory import limit_bytes, readable_size
from repsim_nb.system.progress import steps
from repsim_nb.system.resources import Resources

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.corpora import Corpus


@named_arguments(as_parameter)
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
    rows_per_document: int | None = None,
    seed: int = 0,
    packing: str | Packing = "documents",
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
) -> xr.DataArray:
    """`compare` of two models in one pass, holding sums instead of activations.

    Parameters
    ----------
    a, b
        Models or names. b=None compares a with itself.
    corpus, measure, layers_a, layers_b, site, rows, n_rows, rows_per_document, seed, packing
        As in `compare`.
    memory_limit, batch_tokens
        What may be used, see `system.resources.Resources`.

    Returns
    -------
    xarray.DataArray
        Dims ("layer_a", "layer_b"), as from `compare`.

    Raises
    ------
    InputError
        A measure that needs all rows at once, sums beyond memory_limit, or what `compare` raises.

    Notes
    -----
    The rows, and so the values, are those of `compare` with the same arguments. Minibatch CKA is the exception: it
    depends on the order of rows, which here is that of the batches the models run.

    Examples
    --------
    >>> stream("tiny-neox-w32-d2", n_rows=300).shape
    (3, 3)
    """
    check_models(a, b)
    models, layers = two_sides(a, b, layers_a, layers_b)
    sampling = Sampling(corpus, site, rows, n_rows, rows_per_document, seed, packing)
    resources = Resources(memory_limit=memory_limit, batch_tokens=batch_tokens)
    return streamed(models, layers, get_measure(measure), sampling, resources)


def streamed(
    models: Sequence[Model | str],
    layers: Sequence[Layers],
    measure: Measure,
    sampling: Sampling,
    resources: Resources,
) -> xr.DataArray:
    """`stream`, its options as they travel: of one model with itself, or two."""
    plans = plan_aligned(models, layers, sampling, resources)
    try:
        values = measure.from_moments(accumulate(plans, measure))
    except PrecisionError:  # rare, as when one row is far beyond all others; costs a second pass
        values = measure.from_moments(accumulate(plans, measure, torch.float64))
    outlines = [
        Activations({layer: torch.empty(len(plan), 0) for layer in plan.layers}, plan.rows, plan.provenance)
        for plan in plans
    ]
    return labelled(values, measure, outlines[0], outlines[-1])


def accumulate(plans: Sequence[Plan], measure: Measure, dtype: torch.dtype | None = None) -> Accumulator:
    """The sums that `measure` needs, over all rows of one plan (a model with itself) or two.

    What parts of a corpus give, here or elsewhere, adds up: `accumulate(...) + accumulate(...)`.
    """
    widths = [dict.fromkeys(plan.layers, plan.model.d_model) for plan in plans]
    sums = empty_sums(measure, widths, dtype)
    limit = limit_bytes(plans[0].resources.memory_limit)
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
