"""Cells of a sweep run on the workers of a pool or a cluster."""

import pandas as pd
import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.runs.cells import Outcome, Unit, run_cell
from tests.support.notebook_files import write

PARAMETERS = "k: int = 3\nmark: str = ''\n"
SAVE = """\
import os, pathlib
from repsim_nb.runs import output_dir
if mark and not pathlib.Path(mark).exists():
    pathlib.Path(mark).touch()
    os.kill(os.getppid(), 9)
    import time; time.sleep(60)  # a kernel ends itself soon after its parent
with open(pathlib.Path(output_dir()).parent.parent / "log", "a") as log: print(k, file=log)
(output_dir() / "values.csv").write_text(f"layer,k\\n0,{k * 10}\\n")
assert k != 7, "bad luck"
"""


def test_sweep_notebook_gives_the_same_tables_on_an_executor(tmp_path, elsewhere, capsys):
    path = write(tmp_path, "nb", SAVE, parameters=PARAMETERS)
    table = rs.sweep_notebook(path, {"k": [1, 7]}, tmp_path / "out", executor=elsewhere, progress=True)
    assert table.status.tolist() == ["done", "failed"]
    assert table.exit_code.tolist() == [0, 1]
    assert "AssertionError: bad luck" in table.error[1]
    assert pd.read_csv(tmp_path / "out" / "tables" / "values.csv").values.tolist() == [[1, 0, 10]]
    assert "[2/2] k=7: failed (exit code 1)" in capsys.readouterr().out
    again = rs.sweep_notebook(path, {"k": [1]}, tmp_path / "out", executor=elsewhere)
    assert again.status.tolist() == ["done"]
    assert sorted((tmp_path / "log").read_text().split()) == ["1", "7"], "what is done is not done again"


def test_sweep_notebook_finishes_on_a_cluster_when_a_worker_is_killed_inside_a_cell(tmp_path, cluster):
    path = write(tmp_path, "nb", SAVE, parameters=PARAMETERS)
    grid = {"k": [1, 2], "mark": [str(tmp_path / "mark")]}
    table = rs.sweep_notebook(path, grid, tmp_path / "out", executor=cluster)
    assert (tmp_path / "mark").exists()
    assert table.status.tolist() == ["done", "done"]
    assert sorted((tmp_path / "log").read_text().split()) == ["1", "2"]
    assert [p.name for p in (tmp_path / "out").iterdir() if "partial" in p.name] == []


def test_run_cell_does_what_is_done_only_once(tmp_path):
    """As after a worker that died before it could say that it had finished."""
    path = write(tmp_path, "nb", SAVE, parameters=PARAMETERS)
    unit = Unit(str(path), {"k": 4}, str(tmp_path / "out"), "k=4")
    (tmp_path / "out").mkdir()
    assert [run_cell(None, unit), run_cell(None, unit)] == [Outcome(0)] * 2
    assert (tmp_path / "log").read_text().split() == ["4"]


def test_sweep_notebook_takes_no_jobs_with_an_executor(tmp_path, pool):
    path = write(tmp_path, "nb", parameters=PARAMETERS)
    with pytest.raises(InputError, match="jobs would have no effect: the executor has workers of its own"):
        rs.sweep_notebook(path, {"k": [1]}, tmp_path / "out", jobs=2, executor=pool)
