"""Labelled tables as NetCDF files."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from repsim_nb.system.atomic import atomic

if TYPE_CHECKING:
    import xarray as xr


def write_netcdf(table: xr.DataArray | xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a table to `path` atomically.

    Parameters
    ----------
    table
        A named DataArray, or a Dataset.
    path
        Path of the file. Missing parent folders are created; an existing file is replaced.

    Raises
    ------
    OutputError
        If the file cannot be written: invalid path, no permission or no space left.

    Examples
    --------
    >>> import tempfile, xarray as xr
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp(), "table.nc")
    >>> write_netcdf(xr.DataArray([1.0, 0.5], dims="layer", name="cka"), file)
    >>> xr.load_dataarray(file, engine="h5netcdf").values.tolist()
    [1.0, 0.5]
    """
    with atomic(path) as temporary:
        temporary.write_bytes(netcdf_bytes(table))


def netcdf_bytes(table: xr.DataArray | xr.Dataset) -> memoryview:
    """The content of a NetCDF file, built in memory (which needs the file's size once more).

    Writing to disk directly is not safe: on a full disk the HDF5 library crashes the process with a segmentation
    fault.
    """
    import h5netcdf
    import xarray as xr
    from xarray.backends import H5NetCDFStore

    dataset = table.to_dataset() if isinstance(table, xr.DataArray) else table
    content = io.BytesIO()
    with h5netcdf.File(content, "w") as file:
        dataset.dump_to_store(H5NetCDFStore(file))
    return content.getbuffer()
