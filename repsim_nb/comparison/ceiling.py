"""The noise ceiling: how similar two models can be expected to be if nothing but noise tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.rows import MIN_BLOCKS, Rows
from repsim_nb.comparison.sides import as_side, layers_of
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter

if TYPE_CHECKING:
    import xarray as xr


@named_arguments(as_parameter)
def noise_ceiling(
    a: Mapping[int, Any] | Any,
    b: Mapping[int, Any] | Any,
    seeds: Sequence[Mapping[int, Any] | Any] = (),
    measure: str | Measure = "cka",
    *,
    groups: Sequence[Any] | np.ndarray | None = None,
    n_splits: int = 10,
    seed: int = 0,
) -> xr.Dataset:
    """Compute what two models would reach, at equal layers, if only the rows or only the seed told them apart.

    Parameters
    ----------
    a, b
        Activations of the two models that are compared, or arrays, with aligned rows, as in `compare`.
    seeds
        Activations on the same rows of two or more models of one recipe that differ in their seeds; usually a is one of
        them. Empty: no ceiling of seeds.
    measure
        As in `compare`.
    groups
        The document of each row. None takes them from the activations, or lets each row be one.
    n_splits
        Random divisions of the documents into two halves.
    seed
        Seed of the divisions.

    Returns
    -------
    xarray.Dataset
        Dim layer: all that a and b have in common. halves: the bound that means "same", less (for a dissimilarity:
        plus) the mean difference between the values of a and b on two halves of the documents; absent if the measure
        has no such bound. seeds, if given: mean value over all pairs of seeds.

    Raises
    ------
    InputError
        If the models have no layer in common, rows that are not aligned or fewer than 5 documents; if there is a single
        seed; or if the measure has no bound that means "same" and there are no seeds.

    Notes
    -----
    A value above the ceiling of the seeds says that the two models differ no more than two runs of one recipe do. It is
    the mean of few pairs, and another set of seeds gives another one. A value above the ceiling of the halves cannot be
    told from that of identical models with half the rows: with many documents, the mean difference between halves is
    1.6 standard errors of the value from all rows.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(400, 4))
    >>> near, far = ({0: x + scale * rng.normal(size=x.shape)} for scale in (0.1, 1))
    >>> ceiling = noise_ceiling({0: x}, far, seeds=[{0: x}, near])
    >>> ceiling.seeds.values.round(2), ceiling.halves.values.round(2)
    (array([0.99]), array([0.97]))

    References
    ----------
    Nili et al. 2014, "A toolbox for representational similarity analysis", on noise ceilings over subjects.
    """
    import xarray as xr

    chosen = get_measure(measure)
    similar = chosen.direction == "similarity"
    same = chosen.bounds[similar]
    if not np.isfinite(same) and not seeds:
        raise InputError(f"{chosen.name} has no bound that means the same, so it has only that of seeds. Pass seeds.")
    if len(seeds) == 1:
        raise InputError(
            "A ceiling of seeds needs at least two models of one recipe; got one. Leave seeds out for none."
        )
    given = {"a": a, "b": b, **{f"seed {i}": acts for i, acts in enumerate(seeds)}}
    sides = {name: layers_of(as_side(acts, name), "all") for name, acts in given.items()}
    rows = Rows.of(sides, groups, Controls())
    if len(rows.documents) < MIN_BLOCKS:
        raise InputError(f"A ceiling needs at least {MIN_BLOCKS} documents; there are {len(rows.documents)}.")
    one, two, *runs = (side.acts for side in rows.sides)
    layers = [layer for layer in one if all(layer in other for other in (two, *runs))]
    if not layers:
        raise InputError(f"The models have no layer in common: {list(one)} and {list(two)}.")
    rng = np.random.default_rng(seed)
    apart = np.zeros(len(layers))
    for _ in range(n_splits):
        first = rng.permutation(len(rows.documents)) < len(rows.documents) // 2
        halves = [np.flatnonzero(first[rows.documents.codes] == side) for side in (True, False)]
        values = np.array([[chosen(one[at][half], two[at][half]) for at in layers] for half in halves])
        apart += np.abs(values[0] - values[1]) / n_splits
    found = {"halves": ("layer", same - apart if similar else same + apart)} if np.isfinite(same) else {}
    if runs:
        pairs = list(combinations(runs, 2))
        found["seeds"] = ("layer", np.array([np.mean([chosen(x[at], y[at]) for x, y in pairs]) for at in layers]))
    about = {"measure": chosen.name, "direction": chosen.direction, "n_splits": n_splits, "n_seeds": len(runs)}
    return xr.Dataset(found, {"layer": layers}, about)
