"""Comparison in one pass over the corpus that keeps running sums, so memory does not grow with the number of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
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
from repsim_nb.models.sending import check_sendable
from repsim_nb.system.executor import mapped, remembered
from repsim_nb.system.memory import limit_bytes, readable_size
from repsim_nb.system.progress import steps
from repsim_nb.system.resources import Resources

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.corpora import Corpus

PARTS = 64  # about, of the batches, as units of work on an executor


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
    executor: Executor | None = None,
) -> xr.DataArray:
    """Compare two models in one pass, keeping running sums instead of activations.

    Parameters
    ----------
    a, b
        Models or names of models. b=None compares a with itself.
    corpus, measure, layers_a, layers_b, site, rows, n_rows, rows_per_document, seed, packing
        As in `compare`.
    memory_limit, batch_tokens, executor
        Resources; see `system.resources.Resources`. An executor runs parts of the batches, and needs names of models.

    Returns
    -------
    xarray.DataArray
        Dims ("layer_a", "layer_b"), as returned by `compare`.

    Raises
    ------
    InputError
        If the measure needs all rows at once or its sums exceed memory_limit; also whatever `compare` raises.

    Notes
    -----
    Rows and values equal those of `compare` with the same arguments. The exception is minibatch CKA, which depends on
    the order of rows: here they come in the order in which the models run their batches. A streamed result has no null
    and no interval, so it says nothing about sampling error.

    Examples
    --------
    >>> stream("tiny-neox-w32-d2", n_rows=300).shape
    (3, 3)
    """
    check_models(a, b)
    models, layers = two_sides(a, b, layers_a, layers_b)
    sampling = Sampling(corpus, site, rows, n_rows, rows_per_document, seed, packing)
    resources = Resources(memory_limit=memory_limit, batch_tokens=batch_tokens, executor=executor)
    return streamed(models, layers, get_measure(measure), sampling, resources)


def streamed(
    models: Sequence[Model | str],
    layers: Sequence[Layers],
    measure: Measure,
    sampling: Sampling,
    resources: Resources,
) -> xr.DataArray:
    """`stream` with its options as objects, for one model with itself or two models."""
    if resources.executor is not None:
        check_sendable(models, resources.executor)
        if getattr(measure, "batch", None) is not None:
            raise InputError(
                f"{measure!r} compares the rows of a batch with each other, and parts would cut batches. Leave out "
                "executor, or batch."
            )
        return _streamed_in_parts(_Pass(models, layers, measure, sampling, resources.alone), resources.executor)
    plans = plan_aligned(models, layers, sampling, resources)
    try:
        values = measure.from_moments(accumulate(plans, measure))
    except PrecisionError:  # rare, for example one row far larger than all others; costs a second pass
        values = measure.from_moments(accumulate(plans, measure, torch.float64))
    outlines = [_outline(plan) for plan in plans]
    return labelled(values, measure, outlines[0], outlines[-1])


def _outline(plan: Plan) -> Activations:
    """Rows and layers without values."""
    return Activations({layer: torch.empty(len(plan), 0) for layer in plan.layers}, plan.rows, plan.provenance)


@dataclass(frozen=True)
class _Pass:
    """What all parts of one streamed comparison have in common."""

    models: Sequence[Model | str]
    layers: Sequence[Layers]
    measure: Measure
    sampling: Sampling
    resources: Resources
    dtype: torch.dtype | None = None

    def plans(self) -> list[Plan]:
        """Plans of the models, made once per worker."""
        return remembered("plans", lambda: plan_aligned(self.models, self.layers, self.sampling, self.resources))


def _planned(job: _Pass, _: None) -> tuple[int, list[Activations]]:
    """The number of batches, and the outlines of the models."""
    plans = job.plans()
    return len(plans[0].batches()), [_outline(plan) for plan in plans]


def _summed(job: _Pass, part: range) -> tuple[Accumulator, list[Any]]:
    """Sums over some batches, and what they are of."""
    plans = job.plans()
    return accumulate(plans, job.measure, job.dtype, part), [plan.provenance for plan in plans]


def _streamed_in_parts(job: _Pass, executor: Executor) -> xr.DataArray:
    """`streamed` on an executor: each worker plans for itself, and parts of the batches add up as a tree."""
    ((batches, outlines),) = mapped(_planned, job, [None], executor, what="planning")
    size = max(1, batches // PARTS)
    parts = [range(start, min(start + size, batches)) for start in range(0, batches, size)]

    def values(dtype: torch.dtype | None = None) -> np.ndarray:
        name = " and ".join(map(str, job.models))
        done = mapped(_summed, replace(job, dtype=dtype), parts, executor, what=name, unit="part")
        return job.measure.from_moments(_tree(_of(outlines, done)))

    try:
        found = values()
    except PrecisionError:  # as in `streamed`
        found = values(torch.float64)
    return labelled(found, job.measure, outlines[0], outlines[-1])


def _of(outlines: Sequence[Activations], parts: Iterable[tuple[Accumulator, list[Any]]]) -> Iterator[Accumulator]:
    """Sums of all parts, if they are of the same models and text."""
    for sums, provenance in parts:
        if provenance != [outline.provenance for outline in outlines]:
            raise InputError(
                f"The workers ran different models or texts: {provenance} and {[o.provenance for o in outlines]}. Pin "
                "revisions, and install the same packages everywhere."
            )
        yield sums


def _tree(parts: Iterable[Accumulator]) -> Accumulator:
    """Add neighbours, then their sums, and so on; holds few at a time, and rounds less than adding one to the next."""
    waiting: list[tuple[int, Accumulator]] = []
    for one in parts:
        waiting.append((1, one))
        while len(waiting) > 1 and waiting[-2][0] == waiting[-1][0]:
            size, right = waiting.pop()
            waiting[-1] = (2 * size, waiting[-1][1].__iadd__(right))
    _, total = waiting.pop()
    for _, left in reversed(waiting):
        left += total
        total = left
    return total


def accumulate(
    plans: Sequence[Plan], measure: Measure, dtype: torch.dtype | None = None, part: range | None = None
) -> Accumulator:
    """Accumulate the sums that `measure` needs over all rows of one plan (a model with itself) or two.

    With `part`, only over the rows of these batches of the first plan.

    Results for parts of a corpus can be added: `accumulate(...) + accumulate(...)`.
    """
    widths = [dict.fromkeys(plan.layers, plan.model.width(plan.sampling.site)) for plan in plans]
    sums = empty_sums(measure, widths, dtype)
    limit = limit_bytes(plans[0].resources.memory_limit)
    if limit is not None and sums.nbytes > limit:
        _raise_over_limit(measure, sums.nbytes, limit)
    name = " and ".join(plan.model.name for plan in plans)
    batches = plans[0].batches()
    for index in steps(batches if part is None else batches[part.start : part.stop], name):
        sums.add(*(plan.run(index, progress=False) for plan in plans))
    return sums


def empty_sums(measure: Measure, widths: list[dict[int, int]], dtype: torch.dtype | None = None) -> Accumulator:
    """Empty sums for one side with itself, or two sides."""
    return measure.accumulator(widths[0], widths[1] if len(widths) == 2 else None, dtype)


def _raise_over_limit(measure: Measure, needed: int, limit: int) -> None:
    batches = ', or use get_measure("cka", batch=256), which needs almost no memory' if measure.name == "cka" else ""
    raise InputError(
        f"{measure.name} needs {readable_size(needed)} when streamed; the limit is {readable_size(limit)}. Raise "
        f"memory_limit, or choose fewer layers{batches}."
    )
