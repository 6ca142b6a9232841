"""Every notebook runs as users run it, and leaves what it promises."""

import nbformat
import pandas as pd
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.system.shipped import notebooks_dir

NOTEBOOKS = sorted(p.stem for p in notebooks_dir().glob("*.ipynb"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_headless_on_the_quick_preset(name, tmp_path):
    run = rs.run_notebook(name, {"preset": "quick"}, out=tmp_path)
    folder = tmp_path / name
    for stem in {p.stem for p in folder.glob("*.svg")} | {p.stem for p in folder.glob("*.png")}:
        assert (folder / f"{stem}.svg").stat().st_size > 1000
        assert (folder / f"{stem}.png").stat().st_size > 1000
        assert len((folder / f"{stem}.caption.txt").read_text()) > 40
    assert list(folder.glob("*.svg"))
    tables = list(folder.glob("*.csv"))
    assert tables
    for table in tables:
        assert len(pd.read_csv(table))
        xr.open_dataset(table.with_suffix(".nc"), engine="h5netcdf").close()
    assert run.seconds < 120


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_committed_without_outputs_and_in_the_agreed_form(name):
    notebook = nbformat.read(notebooks_dir() / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert 'preset: str = "default"  # quick | default | paper' in tagged[0].source
    assert notebook.cells[0].cell_type == "markdown"
    text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "verdict" in text.lower()
