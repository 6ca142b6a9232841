"""Outputs of a notebook: figures as SVG and PNG, tables as CSV and NetCDF, each pair under one stem."""

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
    """Write `stem.svg`, `stem.png` and `stem.caption.txt` to the folder of the current run.

    Parameters
    ----------
    figure
        A Figure, or one of its Axes.
    stem
        File name without suffix.
    caption
        One or two sentences that make the figure understandable on its own; also its alt text.
    folder
        A folder other than that of the run, created if missing.

    Raises
    ------
    InputError
        If `figure` is not a figure, or the folder is not writable.
    """
    needs("save_figure", "matplotlib")
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    whole = figure.get_figure() if isinstance(figure, Axes) else figure
    if not isinstance(whole, Figure):
        raise InputError(f"save_figure expects a matplotlib Figure or Axes, got {type(figure).__name__}.")
    folder = output_dir() if folder is None else folder
    for ending in ("svg", "png"):
        with atomic(folder / f"{stem}.{ending}") as path:
            whole.savefig(path, format=ending, dpi=PNG_DPI)
    with atomic(folder / f"{stem}.caption.txt") as path:
        path.write_text(caption.strip() + "\n", encoding="utf-8")


def save_table(table: xr.DataArray | xr.Dataset | pd.DataFrame, stem: str, folder: Path | None = None) -> None:
    """Write `stem.csv` (one line per cell) and `stem.nc` (with labels and provenance) to the folder of the run.

    Parameters
    ----------
    table
        The labelled table to write.
    stem
        File name without suffix.
    folder
        A folder other than that of the run, created if missing.

    Raises
    ------
    InputError
        If `table` is not a labelled table, or the folder is not writable.
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
        raise InputError(f"save_table expects a DataArray, Dataset or DataFrame, got {type(table).__name__}.")
    folder = output_dir() if folder is None else folder
    with atomic(folder / f"{stem}.csv") as path:
        frame.to_csv(path)
    write_netcdf(labelled, folder / f"{stem}.nc")
