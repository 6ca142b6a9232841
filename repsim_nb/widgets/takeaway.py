"""What an explorer exports: code, commands, files and its state."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets as widgets

from repsim_nb.errors import InputError
from repsim_nb.figures import heatmap
from repsim_nb.runs.outputs import save_figure, save_table
from repsim_nb.runs.results_folder import output_dir
from repsim_nb.widgets.bounds import limited, reachable
from repsim_nb.widgets.code import CodeButton
from repsim_nb.widgets.picture import empty
from repsim_nb.widgets.views import shared_limits

if TYPE_CHECKING:
    import xarray as xr


class TakeAway(widgets.Box):
    """A row of buttons and fields; the explorer decides what they hold and do."""

    def __init__(self) -> None:
        self.code = CodeButton(
            label="Copy as code", css_class="repsim-code-button", hint="Python code for what is shown"
        )
        self.command = CodeButton(
            label="Run as notebook", css_class="repsim-command-button", hint="Commands for what is shown"
        )
        self.folder = widgets.Text(
            description="folder", placeholder="results of this notebook", tooltip="Where files are written"
        )
        self.export = widgets.Button(description="Export", tooltip="Figure as SVG and PNG, numbers as CSV and NetCDF")
        self.page = widgets.Button(description="Save page", tooltip="One HTML file that needs no kernel")
        self.state = widgets.Text(
            description="state", tooltip="All choices as one line: copy it to save, paste one to restore"
        )
        self.restore = widgets.Button(description="Restore", tooltip="Restore the choices of the saved state")
        more = widgets.ToggleButton(description="State", tooltip="Show all choices as text, to save or restore them")
        saved = (self.state, self.restore)
        more.observe(lambda change: _show(saved, change.new), "value")
        _show(saved, False)
        named = {"folder": self.folder, "export-button": self.export}
        named |= {"page-button": self.page, "state-button": more}
        named |= {"state-text": self.state, "restore-button": self.restore}
        for name, control in named.items():
            control.add_class(f"repsim-{name}")
        super().__init__([self.code, self.command, *named.values()])
        self.add_class("repsim-actions")


def _show(controls: Iterable[widgets.Widget], visible: bool) -> None:
    for control in controls:
        control.layout.display = "" if visible else "none"


def _folder(to: str | os.PathLike[str] | None) -> Path:
    return output_dir() if to is None and not limited() else reachable(to or "results")


def free_page(to: str | os.PathLike[str] | None, stem: str = "explorer") -> Path:
    """A file name for a page that does not exist yet, in a folder as in `write`."""
    names = (f"{stem}.html" if number == 1 else f"{stem}-{number}.html" for number in count(1))
    return next(file for name in names if not (file := _folder(to) / name).exists())


def _free(stem: str, result: xr.DataArray, folder: Path) -> str:
    """The stem, numbered if another result was written under it."""
    names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
    return next(name for name in names if not _holds_another(folder / f"{name}.nc", result))


def _holds_another(file: Path, result: xr.DataArray) -> bool:
    import xarray as xr

    if not file.exists():
        return False
    with xr.open_dataarray(file, engine="h5netcdf") as written:
        return not written.equals(result)


def write(
    results: Mapping[str, xr.DataArray], scale_of: Iterable[xr.DataArray], to: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Write every map as SVG and PNG with a caption, and its numbers as CSV and NetCDF; return the files.

    All maps share the colour scale that fits the results `scale_of`, as on the screen.

    `to` is a folder; None is that of the current run, or in the app "results" in its folder.

    Raises
    ------
    InputError
        There are no maps, or the folder cannot be written to.
    """
    if not results:
        raise InputError("There is nothing to export yet. Run a comparison first.")
    folder = _folder(to)
    limits, stems = shared_limits(scale_of), []
    for b, result in results.items():
        a, title = result.attrs["model_a"], result.attrs["long_name"]
        stem = _free(f"{result.name}--{a}--{b}".replace("/", "_"), result, folder)
        figure = heatmap(result, empty(4.6, 3.8), limits=limits)
        caption = f"{title} of every layer of {a} (rows) and {b} (columns), {result.attrs['n_rows']:,} rows."
        save_figure(figure, stem, caption, folder)
        save_table(result, stem, folder)
        stems.append(stem)
    return sorted(file for stem in stems for file in folder.glob(f"{glob.escape(stem)}.*"))
