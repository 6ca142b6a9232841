"""The noise ceiling: how similar two models can be expected to be, given how much seeds alone make them differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.result import as_json, recorded_params
from repsim_nb.comparison.rows import Rows
from repsim_nb.comparison.sides import as_side, layers_of
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter

if TYPE_CHECKING:
    import xarray as xr

Seeds = Sequence[Mapping[int, Any] | Any]


@named_arguments(as_parameter)
def noise_ceiling(one: Seeds, other: Seeds = (), measure: str | Measure = "cka") -> xr.Dataset:
    """Compute how similar seeds of a recipe are, and what two recipes could reach if only seeds told them apart.

    Parameters
    ----------
    one
        Activations, or arrays, of two or more models of one recipe that differ in their seeds, with aligned rows.
    other
        The same for the recipe that it is compared with. Empty: only the seeds of the first are compared.
    measure
        As in `compare`.

    Returns
    -------
    xarray.Dataset
        Dim layer, for the layers that all models have. seeds: mean value at equal layers over all pairs of models of
        `one`. With `other` also seeds_other, and for CKA ceiling: the root of the product of both, 0 where one of them
        is negative.

    Raises
    ------
    InputError
        If a recipe has a single model, the models have no layer in common, or their rows are not aligned.

    Notes
    -----
    CKA is the cosine of two kernels. If each kernel is what its recipe has in common plus noise of its own seed, then
    two seeds of a recipe have the share of the common part as their cosine, and two models of different recipes cannot
    on average exceed the root of the product of both shares, which they reach if the common parts are the same.

    The seeds of one recipe alone are a reference, not a bound: a model that is less noisy than they are can be more
    similar to one of them than they are to each other. Wider models often are. Each value is a mean over few pairs, and
    other seeds give other values. Rows add no ceiling: identical models have the value 1 on any rows. How much the
    choice of rows moves a value is what `compare(interval=)` says.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> common = rng.normal(size=(400, 4))
    >>> noisy, clear = ([{0: common + s * rng.normal(size=(400, 4))} for _ in range(2)] for s in (1.0, 0.1))
    >>> {name: round(values.item(), 2) for name, values in noise_ceiling(noisy, clear).items()}
    {'seeds': 0.22, 'seeds_other': 0.98, 'ceiling': 0.46}

    References
    ----------
    Spearman 1904 on attenuation; Nili et al. 2014 on noise ceilings over subjects.
    """
    import xarray as xr

    chosen = get_measure(measure)
    groups = {"one": list(one), "other": list(other)}
    for name, seeds in groups.items():
        if len(seeds) == 1 or (name == "one" and not seeds):
            raise InputError(f"A noise ceiling needs at least two models of each recipe; {name} has {len(seeds)}.")
    given = {f"{name} {i}": acts for name, seeds in groups.items() for i, acts in enumerate(seeds)}
    rows = Rows.of({name: layers_of(as_side(acts, name), "all") for name, acts in given.items()}, None, Controls())
    sides = [side.acts for side in rows.sides]
    layers = [layer for layer in sides[0] if all(layer in side for side in sides)]
    if not layers:
        raise InputError(f"The models have no layer in common: {list(sides[0])} and {list(sides[-1])}.")

    def mean(seeds: list[Any]) -> np.ndarray:
        pairs = list(combinations(seeds, 2))
        return np.array([np.mean([chosen(x[at], y[at]) for x, y in pairs]) for at in layers])

    found = {"seeds": mean(sides[: len(groups["one"])])}
    if groups["other"]:
        found["seeds_other"] = mean(sides[len(groups["one"]) :])
        if chosen.name == "cka":
            found["ceiling"] = np.sqrt(found["seeds"].clip(0) * found["seeds_other"].clip(0))
    about = {"measure": chosen.name, "measure_params": as_json(recorded_params(chosen))}
    return xr.Dataset({name: ("layer", values) for name, values in found.items()}, {"layer": layers}, about)
