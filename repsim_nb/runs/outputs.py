"""What a notebook leaves behind: figures as SVG and PNG, tables as CSV and NetCDF, each pair from one stem."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from repsim_nb.errors import InputError, needs
from repsim_nb.runs.results_folder import output_dir
from repsim_nb.system.atomic import atomic
from repsim_nb.system.netcdf import write_netcdf

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PNG_DPI = 160


def save_figure(figure: Figure | Axes, stem: str, caption: str, folder: Path | None = None) -> None:
    """Write `stem.svg`, `stem.png` and `stem.caption.txt` into the folder of the present run.

    Args:
        figure: a Figure, or an Axes of it.
        stem: file name without ending.
        caption: one or two sentences that make the figure understandable alone; also its text alternative.
        folder: another one than that of the run; made if it is missing.

    Raises:
        InputError: no figure was given, or the folder cannot be written to.
    """
    needs("save_figure", "matplotlib")
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    whole = figure.get_figure() if isinstance(figure, Axes) else figure
    if not isinstance(whole, Figure):
        raise InputError(f"save_figure expects a matplotlib Figure or Axes; received {type(figure).__name__}.")
    folder = output_dir() if folder is None else folder
    for ending in ("svg", "png"):
        with atomic(folder / f"{stem}.{ending}") as path:
            whole.savefig(path, format=ending, dpi=PNG_DPI)
    with atomic(folder / f"{stem}.caption.txt") as path:
        path.write_text(caption.strip() + "\n", encoding="utf-8")


def save_table(table: xr.DataArray | xr.Dataset | pd.DataFrame, stem: str, folder: Path | None = None) -> None:
    """Write `stem.csv` (one line per cell) and `stem.nc` (labels and provenance kept) into the folder of the run.

    Args:
        table: what is to be written.
        stem: file name without ending.
        folder: another one than that of the run; made if it is missing.

    Raises:
        InputError: something that is no labelled table, or a folder that cannot be written to.
    """
    import pandas as pd
    import xarray as xr

    if isinstance(table, pd.DataFrame):
        frame, labelled = table, table.to_xarray()
    elif isinstance(table, xr.DataArray):
        frame, labelled = table.to_dataframe(), table.to_dataset()
    elif isinstance(table, xr.Dataset):
        frame, labelled = table.to_dataframe(), table
    else:
        raise InputError(f"save_table expects a DataArray, Dataset or DataFrame; received {type(table).__name__}.")
    folder = output_dir() if folder is None else folder
    with atomic(folder / f"{stem}.csv") as path:
        frame.to_csv(path)
    write_netcdf(labelled, folder / f"{stem}.nc")
