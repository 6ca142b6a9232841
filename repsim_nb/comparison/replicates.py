"""Maps with some documents left out: what an interval needs for any number that is computed from maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.rows import MIN_BLOCKS, Rows, Side, check_memory
from repsim_nb.comparison.sides import as_side, layers_of
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.system.executor import mapped
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty
from repsim_nb.uncertainty.jackknife import BLOCKS

if TYPE_CHECKING:
    import xarray as xr


@named_arguments(as_parameter)
def replicates(
    activations: Mapping[str, Mapping[int, Any] | Any],
    measure: str | Measure = "cka",
    *,
    seed: int = 0,
    groups: Sequence[Any] | np.ndarray | None = None,
    memory_limit: int | None = None,
    executor: Executor | None = None,
) -> dict[tuple[str, str], xr.DataArray]:
    """Compute the maps of `compare_all` with each of up to 20 groups of documents left out in turn.

    A number computed from maps, such as a mean over cells of many maps, gets its interval over documents by computing
    it from every replicate (`uncertainty.jackknife_grid`). Intervals of single cells come with `compare_all` itself.

    Parameters
    ----------
    activations, measure, groups
        As in `compare_all`.
    seed
        Seed for assigning documents to groups; the same for all pairs.
    memory_limit, executor
        As in `compare_all`.

    Returns
    -------
    dict
        (later model, earlier model) -> DataArray (without, layer_a, layer_b), in the order of `compare_all`.

    Raises
    ------
    InputError
        If there are fewer than 5 documents; also whatever `compare_all` raises.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> replicates({"one": x, "two": 2 * x})["two", "one"].shape
    (20, 1, 1)
    """
    chosen = get_measure(measure)
    if not isinstance(activations, Mapping) or not activations:
        raise InputError("replicates needs activations of at least one model, as {name: activations}.")
    sides = {name: layers_of(as_side(acts, str(name)), "all") for name, acts in activations.items()}
    rows = Rows.of(sides, groups, Controls())
    if len(rows.documents) < MIN_BLOCKS:
        raise InputError(f"Replicates need at least {MIN_BLOCKS} documents; there are {len(rows.documents)}.")
    resources = Resources(memory_limit=memory_limit, executor=executor)
    check_memory(chosen, [[x for side in rows.sides for x in side.tensors]], memory_limit, Uncertainty(interval=True))
    blocks = rows.documents.blocks(BLOCKS, seed)
    if resources.executor is None:
        rows = replace(rows, sides=[side.prepared(chosen) for side in rows.sides])
    pairs = [(i, j) for i in range(len(rows.sides)) for j in range(i + 1)]
    units = [(rows.sides[i], rows.sides[j]) for i, j in pairs]
    every = mapped(
        _replicates, (rows.without_sides(), chosen, blocks), units, resources.executor, what="leaving out", unit="pair"
    )
    names = list(activations)
    return {(names[i], names[j]): found for (i, j), found in zip(pairs, every, strict=True)}


def _replicates(job: tuple[Rows, Measure, np.ndarray], sides: tuple[Side, Side]) -> xr.DataArray:
    """The replicates of one map."""
    import xarray as xr

    rows, measure, blocks = job
    a, b = (side if side.ready else side.prepared(measure) for side in sides)
    values = np.stack(list(rows.grids(a, b, measure).without(blocks)))
    where = {"without": np.arange(len(values)), "layer_a": list(a.acts), "layer_b": list(b.acts)}
    return xr.DataArray(values, where, ("without", "layer_a", "layer_b"), measure.name)
