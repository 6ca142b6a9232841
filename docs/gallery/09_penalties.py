"""Stitching penalties.

From the table of all pairs of GeLU and SoLU models that comes with the package.
"""

import xarray as xr

import repsim_nb as rs
from repsim_nb.system.shipped import data_dir

table = xr.load_dataset(data_dir() / "tables" / "stitching-3l-least_squares.nc", engine="h5netcdf")
kinds = {name: "GeLU" if "gelu" in name else "SoLU" for name in table.sender.values.tolist()}
ax = rs.figures.penalties(rs.stitching.penalties_by_kind(table, kinds))
