"""Courses of training runs whose checkpoints are too large to ship."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.depth.convergence import Losses
from repsim_nb.errors import InputError
from repsim_nb.system.shipped import data_dir

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Key = tuple[str, str, str]  # site, run, estimator
AGREEMENT = 1e-3  # of CKA; other machines round otherwise
RECIPE = "repsim-nb zoo build RUN --out FOLDER for every run, then notebook 06 with runs, folder=FOLDER and steps"
RANKS = {
    "weight_rank": "Proportional effective rank of the weights",
    "weight_rank_as_released": "The same as computed in the released code of Diehl Martinez et al.",
}


def course_table(
    found: Mapping[Key, xr.Dataset],
    ranks: pd.DataFrame,
    losses: Mapping[str, Losses],
    sizes: Mapping[str, Hashable],
    rates: Mapping[str, float],
) -> xr.Dataset:
    """Join courses of several runs into one table, as `shipped_courses` reads it.

    Parameters
    ----------
    found
        Results of `over_training` against the final model, by site, run and name of the estimator; all of the same
        steps and layers.
    ranks
        Columns weight_rank and weight_rank_as_released, indexed by run, site, step and layer.
    losses
        Run -> step -> held-out loss in nats per token.
    sizes, rates
        Run -> its size, and its peak learning rate.

    Returns
    -------
    xarray.Dataset
        Over (run, site, estimator, step, layer), in float32, with the hashes of all weights in attrs["provenance"].

    Raises
    ------
    InputError
        If there is no course, a combination of site, run and estimator is missing, or courses differ in steps or
        layers.

    Notes
    -----
    The table does not contain what it was made from: whoever reads it relies on the one run whose checkpoints ship.
    """
    import xarray as xr

    places = [list(dict.fromkeys(key[place] for key in found)) for place in range(3)]
    if not found or len(found) != np.prod([len(names) for names in places]):
        raise InputError(f"Expected a course of every site, run and estimator, got {list(found)}.")
    first = next(iter(found.values()))
    for key, course in found.items():
        if not all(np.array_equal(course[dim], first[dim]) for dim in ("step", "layer")):
            raise InputError(f"The course of {key} has other steps or layers than that of {next(iter(found))}.")
    sites, runs, estimators = places
    variables = [v for v in ("similarity", "null_mean", "low", "high") if any(v in of for of in found.values())]
    table = xr.Dataset(
        {v: (("run", "site", "estimator", "step", "layer"), _stacked(found, v, places)) for v in variables},
        {"run": runs, "site": sites, "estimator": estimators, "step": first.step.values, "layer": first.layer.values},
    )
    for variable in variables:
        table[variable].attrs = dict(next(of[variable] for of in found.values() if variable in of).attrs)
    dims = ("run", "site", "step", "layer")
    by_place = ranks.reorder_levels(["run", "site", "step", "layer"])
    for column, title in RANKS.items():
        table[column] = by_place[column].to_xarray().reindex({d: table[d] for d in dims}).transpose(*dims)
        table[column].attrs = {"long_name": title}
    table["loss"] = ("run", "step"), [[dict(losses[run])[step] for step in first.step.values] for run in runs]
    table["loss"].attrs = {"long_name": "Held-out loss", "units": "nats per token"}
    table = table.astype("float32").assign_coords(
        size=("run", [str(sizes[run]) for run in runs]), rate=("run", [float(rates[run]) for run in runs])
    )
    table.attrs = {"provenance": _provenance(found), "recipe": RECIPE}
    return table


def _stacked(found: Mapping[Key, xr.Dataset], variable: str, places: list[list[str]]) -> np.ndarray:
    """Values by run, site and estimator; NaN where an estimator has none, as intervals of the biased one."""
    sites, runs, estimators = places
    shape = next(iter(found.values())).similarity.shape
    nothing = np.full(shape, np.nan)
    return np.array([[[found[s, r, e].get(variable, nothing) for e in estimators] for s in sites] for r in runs])


def _provenance(found: Mapping[Key, xr.Dataset]) -> str:
    """How each estimator was computed, and the hash of the weights of every checkpoint by name, as one JSON string."""
    estimators: dict[str, dict[str, Any]] = {}
    hashes: dict[str, str] = {}
    for (_, _, estimator), course in found.items():
        about = json.loads(course.attrs["provenance"])
        models = [*about.pop("checkpoints"), *about.pop("references")]
        hashes |= {Path(model["model"]).name: model["weights_sha256"] for model in models}
        estimators[estimator] = about | {"sampling": about["sampling"] | {"site": None}}
    return json.dumps({"estimators": estimators, "weights_sha256": hashes}, sort_keys=True)


def shipped_courses(name: str, found: Mapping[Key, xr.Dataset]) -> dict[Key, xr.Dataset] | None:
    """Load courses of further runs from data/tables, if they were computed as `found` was.

    Parameters
    ----------
    name
        File name without suffix.
    found
        Results of `over_training` against the final model, by site, run and name of the estimator.

    Returns
    -------
    dict or None
        All courses in the table at the sites and with the estimators of `found`, in the same form. Their attrs have
        size and rate, the peak learning rate. Three more variables: loss (step), held out, in nats per token; and
        weight_rank and weight_rank_as_released (step, layer), the proportional effective rank of the weights of the
        site with all singular values of the right matrix and as the released code of Diehl Martinez et al. (2024)
        takes it. None if the table lacks a site or an estimator, if no run is in both, or if a run that is in both has
        another course.

    Raises
    ------
    FileNotFoundError
        If there is no table with this name.

    Notes
    -----
    That the runs in both agree shows that text, rows and estimators are those of the table. It does not show it of the
    runs that are only in the table: to check one, train it and compare (attrs["recipe"] of the file says how).
    """
    import xarray as xr

    table = xr.load_dataset(data_dir() / "tables" / f"{name}.nc", engine="h5netcdf")
    sites, estimators = ({key[place]: None for key in found} for place in (0, 2))
    if not set(sites) <= set(table.site.values) or not set(estimators) <= set(table.estimator.values):
        return None
    runs = table.run.values.tolist()
    kept = {(site, run, e): _course(table, site, run, e) for site in sites for run in runs for e in estimators}
    both = [key for key in found if key in kept]
    return kept if both and all(_agree(found[key].similarity, kept[key].similarity) for key in both) else None


def _course(table: xr.Dataset, site: str, run: str, estimator: str) -> xr.Dataset:
    course = table.sel(site=site, run=run, estimator=estimator)
    size, rate = course["size"].item(), course["rate"].item()
    course = course.drop_vars(["site", "run", "estimator", "size", "rate"])
    course.attrs = {"model": run, "against": "final", "size": size, "rate": rate}
    return course if np.isfinite(course.low).all() else course.drop_vars(["low", "high"])


def _agree(one: xr.DataArray, other: xr.DataArray) -> bool:
    """Whether two courses have the same layers and the same values at every step of the first."""
    if not np.isin(one.step, other.step).all() or not np.array_equal(one.layer, other.layer):
        return False
    return np.allclose(one, other.sel(step=one.step), rtol=0, atol=AGREEMENT)
