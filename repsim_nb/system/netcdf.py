"""Labelled tables as NetCDF files."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from repsim_nb.system.atomic import atomic

if TYPE_CHECKING:
    import xarray as xr


def write_netcdf(table: xr.DataArray | xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a table to `path`, as a whole or not at all.

    Parameters
    ----------
    table
        a DataArray that has a name, or a Dataset.
    path
        of the file; missing parents are made, and a file that is there is replaced.

    Raises
    ------
    OutputError
        The file cannot be written: no such place, no permission, no space left.

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
        temporary.write_bytes(as_netcdf(table))


def as_netcdf(table: xr.DataArray | xr.Dataset) -> memoryview:
    """The content of a NetCDF file, made in memory, which takes its size once more.

    The HDF5 library ends the process with a segmentation fault where it cannot write out what it holds to a file, as
    on a full disk.
    """
    import h5netcdf
    import xarray as xr
    from xarray.backends import H5NetCDFStore

    dataset = table.to_dataset() if isinstance(table, xr.DataArray) else table
    content = io.BytesIO()
    with h5netcdf.File(content, "w") as file:
        dataset.dump_to_store(H5NetCDFStore(file))
    return content.getbuffer()
