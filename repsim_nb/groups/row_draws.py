"""Dissimilarities on several draws of rows: how much hangs on the rows that were drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.system.shipped import data_dir

if TYPE_CHECKING:
    import xarray as xr

# Of a measure's largest value: shipped values are rounded to 16 bits, and other machines round otherwise
AGREEMENT = 2e-4


def shipped_draws(name: str, first: xr.Dataset) -> xr.Dataset | None:
    """Load further draws of rows for a comparison of models from data/tables, if they are of the same comparison.

    Parameters
    ----------
    name
        File name without suffix.
    first
        The result of `compare_models` with the first draw of rows.

    Returns
    -------
    xarray.Dataset or None
        The variables of `first` with a dimension "draw" in front, all draws in the table, the first as given; or None
        if the table lacks a model, a layer or a measure, or its first draw has other values.

    Raises
    ------
    FileNotFoundError
        If there is no table with this name.

    Notes
    -----
    That all values of the first draw agree shows that models, text, rows and measures are those of the table.
    """
    import xarray as xr

    table = xr.load_dataset(data_dir() / "tables" / f"{name}.nc", engine="h5netcdf")
    places = {dim: first[dim].values for dim in ("layer", "model_a", "model_b")}
    if set(first) - set(table) or any(not np.isin(values, table[dim]).all() for dim, values in places.items()):
        return None
    same = table[list(first)].sel(places)
    for measure, values in first.items():
        reach = AGREEMENT * float(abs(table[measure]).max())
        if not np.allclose(same[measure][0], values, rtol=0, atol=reach):
            return None
    further = [same.isel(draw=i, drop=True) for i in range(1, same.sizes["draw"])]
    return xr.concat([first, *further], "draw", combine_attrs="override")
