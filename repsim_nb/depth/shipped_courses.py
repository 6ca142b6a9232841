"""Courses of training runs whose checkpoints are too large to ship."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.system.shipped import data_dir

if TYPE_CHECKING:
    import xarray as xr

Key = tuple[str, str, str]  # site, run, estimator
AGREEMENT = 1e-3  # of CKA; other machines round otherwise


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
        All courses in the table at the sites and with the estimators of `found`, in the same form, with `size` as an
        attribute and three more variables: loss (step), held out, in nats per token; and weight_rank and
        weight_rank_as_released (step, layer), the proportional effective rank of the weights of the site with all
        singular values of the right matrix and as the released code of Diehl Martinez et al. (2024) takes it. None if
        the table lacks a site or an estimator, if no run is in both, or if a run that is in both has another course.

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
    course = table.sel(site=site, run=run, estimator=estimator).drop_vars(["site", "run", "estimator", "size"])
    course.attrs = {"model": run, "against": "final", "size": str(table["size"].sel(run=run).item())}
    return course if course.low.notnull().all() else course.drop_vars(["low", "high"])


def _agree(one: xr.DataArray, other: xr.DataArray) -> bool:
    """Whether two courses have the same layers and the same values at every step of the first."""
    if not np.isin(one.step, other.step).all() or not np.array_equal(one.layer, other.layer):
        return False
    return np.allclose(one, other.sel(step=one.step), rtol=0, atol=AGREEMENT)
