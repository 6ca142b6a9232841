"""Write what a population shows to files."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from repsim_nb.figures import model_map
from repsim_nb.runs.outputs import save_figure, save_table
from repsim_nb.runs.results_folder import output_dir
from repsim_nb.widgets.bounds import limited, reachable
from repsim_nb.widgets.picture import empty
from repsim_nb.widgets.population.squares_shown import both_ways

if TYPE_CHECKING:
    import xarray as xr


def write(
    result: xr.Dataset,
    table: xr.DataArray,
    title: str,
    groups: Mapping[str, str],
    to: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Write the map of models as SVG and PNG with a caption, and all numbers as CSV and NetCDF; return the files.

    `to` is a folder; None is that of the current run, or in the app "results" in its folder.
    """
    folder = output_dir() if to is None and not limited() else reachable(to or "results")
    stem, apart = f"population-{table.name}", both_ways(table)
    figure = model_map(apart, empty(4.8, 4.4), groups=dict(groups) or None)
    save_figure(figure, stem, f"Map of {len(apart)} models by {title}, classical scaling of all pairs.", folder)
    save_table(result, stem, folder)
    return sorted(folder.glob(f"{glob.escape(stem)}.*"))
