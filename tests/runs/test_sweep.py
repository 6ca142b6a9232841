"""A sweep runs every cell once, within cores and memory, goes on where it was killed, and hides no failure."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

import repsim_nb as rs
from repsim_nb.cli.command import main
from repsim_nb.errors import InputError
from repsim_nb.runs import cells, sweep
from repsim_nb.runs.notebooks import find_notebook
from repsim_nb.runs.results_folder import write_record
from repsim_nb.system.atomic import OWNER, claim
from tests.support.notebook_files import write

PARAMETERS = 'k: int = 3\nnames: list[str] = ["a"]\nword: str = "x"  # x | y | odd-one\nmb: int = 0\n'
SAVE = """\
import os, pathlib
from repsim_nb.runs import output_dir
with open(os.environ["LOG"], "a") as log: print(k, word, file=log)
(output_dir() / "values.csv").write_text(f"layer,k\\n0,{k * 10}\\n1,{k * 10 + 1}\\n")
"""
FAIL = "assert (k, word) != (2, 'y') or os.path.exists(os.environ['LOG'] + '.mended'), 'bad luck'"


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def ran(log):
    return sorted(log.read_text().split("\n")[:-1])


def visible(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_grid_is_run_summed_up_and_only_what_failed_is_run_again(tmp_path, log, capsys):
    path = write(tmp_path, "nb", SAVE, FAIL, parameters=PARAMETERS)
    command = ["sweep", str(path), "-p", "k", "1,2", "-p", "word", "x,y", "--jobs", "2", "--out", str(tmp_path / "out")]
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert "4 cells, 0 already done; 2 at a time" in printed
    assert "k=2,word=y: failed (exit code 1): in cell 5 of 5" in printed
    assert printed.splitlines()[-1].startswith("3 of 4 cells done: ")
    table = pd.read_csv(tmp_path / "out" / "sweep.csv", keep_default_na=False)
    assert table[["k", "word"]].values.tolist() == [[1, "x"], [1, "y"], [2, "x"], [2, "y"]]
    assert table.status.tolist() == ["done"] * 3 + ["failed"]
    assert table.exit_code.tolist() == [0, 0, 0, 1]
    assert "AssertionError: bad luck" in table.error[3]
    assert table.folder[3] == "k=2,word=y.failed"
    values = pd.read_csv(tmp_path / "out" / "tables" / "values.csv")
    assert values.columns.tolist() == ["parameter_k", "word", "layer", "k"]
    assert values.values.tolist() == [[k, w, i, k * 10 + i] for k, w in [(1, "x"), (1, "y"), (2, "x")] for i in (0, 1)]
    assert "(k=1,word=x)" in (tmp_path / "out" / "index.html").read_text()

    Path(f"{log}.mended").touch()
    again = rs.sweep_notebook(path, {"k": [1, 2], "word": ["x", "y"]}, tmp_path / "out")
    assert again.status.tolist() == ["done"] * 4
    assert ran(log) == ["1 x", "1 y", "2 x", "2 y", "2 y"], "finished cells are not run again"
    assert len(pd.read_csv(tmp_path / "out" / "tables" / "values.csv")) == 8
    assert [name for name in visible(tmp_path / "out") if "failed" in name] == []

    write(tmp_path, "nb", SAVE, parameters=PARAMETERS)  # another notebook of the same name
    cells = sweep._cells(sweep.find_notebook(path), {"k": [1], "word": ["x"]}, tmp_path / "out")
    assert [cell.finished for cell in cells] == [False]


def finished_cell(tmp_path, notebook, k, **files):
    """A cell that is done, without having run."""
    cell = sweep.Cell(find_notebook(notebook), {"k": k}, tmp_path / f"k={k}", exit_code=0)
    cell.folder.mkdir(parents=True)
    write_record(
        cell.folder, {"given": ["k"], "parameters": {"k": k}, "notebook_sha256": cell.notebook.sha256, "seconds": 1.0}
    )
    for stem, text in files.items():
        (cell.folder / f"{stem}.csv").write_text(text)
    return cell


def test_tables_of_the_user_stay_and_empty_ones_are_left_out(tmp_path):
    path = write(tmp_path, "nb", parameters=PARAMETERS)
    out = tmp_path / "out"
    (out / "tables").mkdir(parents=True)
    (out / "tables" / "mine.csv").write_text("a\n1\n")
    both = [finished_cell(out, path, 1, values="x\n1\n", gone="x\n1\n"), finished_cell(out, path, 2, values="", no="")]
    sweep._write_summary(both, out)
    assert visible(out / "tables") == [sweep.TABLE_RECORD, "gone.csv", "mine.csv", "values.csv"]
    assert pd.read_csv(out / "tables" / "values.csv").k.tolist() == [1]
    (both[0].folder / "gone.csv").unlink()
    sweep._write_summary(both, out)
    assert visible(out / "tables") == [sweep.TABLE_RECORD, "mine.csv", "values.csv"]
    assert json.loads((out / "tables" / sweep.TABLE_RECORD).read_text()) == ["values"]


def test_a_notebook_that_is_only_opened_and_saved_keeps_finished_cells(tmp_path):
    path = write(tmp_path, "nb", "print(k)", parameters=PARAMETERS)
    cell = finished_cell(tmp_path / "out", path, 1)
    content = json.loads(path.read_text())
    content["cells"][-1] |= {"execution_count": 7, "outputs": [{"output_type": "stream", "name": "s", "text": "1"}]}
    path.write_text(json.dumps(content, indent=3))
    assert cell.finished
    content["cells"][-1]["source"] = "print(k + 1)"
    path.write_text(json.dumps(content))
    assert not cell.finished


def test_a_cell_removes_drafts_of_processes_that_are_gone_alone(tmp_path, monkeypatch):
    path = write(tmp_path, "nb", parameters=PARAMETERS)
    cell = sweep.Cell(find_notebook(path), {"k": 1}, tmp_path / "out" / "k=1")
    drafts = {
        name: tmp_path / "out" / f".k=1.{name}.partial" for name in ("mine", "gone", "again", "far", "new", "old")
    }
    for draft in drafts.values():
        draft.mkdir(parents=True)
    claim(drafts["mine"])
    host, pid, since = json.loads((drafts["mine"] / OWNER).read_text())
    for name, owner in {"gone": [host, 2**30, since], "again": [host, pid, since - 9], "far": ["far", 1, 1.0]}.items():
        (drafts[name] / OWNER).write_text(json.dumps(owner))
    os.utime(drafts["old"], (1, 1))
    monkeypatch.setattr("repsim_nb.runs.execution.run_notebook", lambda *_, **__: None)
    assert cells.run_cell(None, cell.unit) == cells.Outcome(0)
    assert [name for name, draft in drafts.items() if draft.exists()] == ["mine", "far", "new"]


def test_a_cell_that_was_stopped_does_not_report_an_earlier_attempt(tmp_path):
    path = write(tmp_path, "nb", parameters=PARAMETERS)
    cell = sweep.Cell(find_notebook(path), {"k": 1}, tmp_path / "k=1", -15, cells.TOO_LARGE)
    cell.failed.mkdir()
    write_record(cell.failed, {"error": "in cell 1: bad luck", "seconds": 3.0})
    assert [cell.line()[name] for name in ("seconds", "error", "folder")] == [None, cells.TOO_LARGE, ""]
    cell.exit_code, cell.error = 1, "Notebook 'nb' failed"
    assert cell.line()["error"] == "in cell 1: bad luck"


def test_a_killed_sweep_takes_its_cells_along_and_goes_on(tmp_path, log):
    path = write(
        tmp_path,
        "nb",
        SAVE,
        "import time\ntime.sleep(60 if k == 2 and not os.path.exists(os.environ['LOG'] + '.mended') else 0)",
        parameters=PARAMETERS,
    )
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "repsim_nb",
        "sweep",
        str(path),
        "-p",
        "k",
        "1,2",
        "--out",
        str(out),
        "--jobs",
        "1",
    ]
    own = {**os.environ, "PYTHONPATH": str(Path(rs.__file__).parent.parent)}
    with subprocess.Popen(command, env=own, cwd=tmp_path, stdout=subprocess.DEVNULL) as running:
        while not (log.exists() and "2 x" in ran(log)):
            assert running.poll() is None
            time.sleep(0.05)
        cells = psutil.Process(running.pid).children(recursive=True)
        assert len(cells) == 2, "a cell and its kernel"
        running.kill()
    assert psutil.wait_procs(cells, timeout=120)[1] == []
    assert visible(out) == ["index.html", "k=1"]
    Path(f"{log}.mended").touch()
    table = rs.sweep_notebook(path, {"k": [1, 2]}, out)
    assert table.status.tolist() == ["done", "done"]
    assert ran(log) == ["1 x", "2 x", "2 x"]
    assert json.loads((out / "k=2" / "run.json").read_text())["parameters"]["k"] == 2


HOLDS_MEMORY = """
import json, sys, time
from pathlib import Path
from repsim_nb.system.atomic import OWNER, claim
from repsim_nb.runs.results_folder import write_record
from repsim_nb.runs.notebooks import find_notebook
cell = json.loads(sys.argv[1])
given = cell["parameters"]
held = b"1" * (given["mb"] * 10**6)
time.sleep(1)
folder = Path(cell["out"], cell["folder"])
folder.mkdir()
sha256 = find_notebook(cell["notebook"]).sha256
write_record(folder, {"given": sorted(given), "parameters": given, "notebook_sha256": sha256, "seconds": 1.0})
"""


def test_cells_that_do_not_fit_together_take_turns_and_one_too_large_fails(tmp_path, monkeypatch):
    path = write(tmp_path, "nb", parameters=PARAMETERS)
    started, start = [], sweep.Cell.start
    monkeypatch.setattr(cells, "_PROGRAM", HOLDS_MEMORY)  # without a kernel, which takes seconds to start
    monkeypatch.setattr(sweep.Cell, "start", lambda one, e: (started.append(one.parameters["mb"]), start(one, e))[1])
    table = rs.sweep_notebook(path, {"mb": [500, 501, 2000]}, tmp_path / "out", jobs=2, memory=950e6)
    assert table.status.tolist() == ["done", "done", "failed"]
    assert table.error[2] == "needs more than the memory limit"
    assert table.exit_code[2] != 0
    assert started == [500, 501, 2000], "none is started before there is room for it"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["-p", "kk", "1"], "Unknown parameter 'kk'. Did you mean 'k'?"),
        (["-p", "k", "1,many"], "'k' expects int, received 'many'"),
        (["-p", "word", "x,zz"], "Unknown value 'zz'"),
        (["-p", "k", "1,1"], "The cell k=1 is in the grid twice"),
        (["-p", "k", "1", "-p", "k", "2"], "given twice"),
        (["-p", "k", "1", "--jobs", "0"], "jobs=0; expected a positive number"),
        (["-p", "k", "1", "--memory", "-3"], "memory=-3.0; expected a positive number"),
        (["-p", "k", "1", "--out", "FILE"], "Cannot create the folder"),
        ([], "-p"),
    ],
)
def test_nothing_runs_when_the_grid_is_wrong(tmp_path, capsys, monkeypatch, given, message):
    monkeypatch.setattr(sweep, "run_cells", lambda *_: pytest.fail("a cell was run"))
    path = write(tmp_path, "nb", parameters=PARAMETERS)
    (tmp_path / "file").touch()
    given = [str(tmp_path / "file" / "out") if word == "FILE" else word for word in given]
    try:
        code = main(["sweep", str(path), "--out", str(tmp_path / "out"), *given])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert visible(tmp_path) == ["file", "nb.ipynb"]


def test_the_python_function_takes_lists_of_values(tmp_path):
    path = write(tmp_path, "nb", parameters=PARAMETERS)
    for grid, message in [({}, "at least one parameter"), ({"word": "xy"}, "expected a list"), ({"k": ["1"]}, "int")]:
        with pytest.raises(InputError, match=message):
            rs.sweep_notebook(path, grid, tmp_path / "out")


def test_folders_say_the_values_and_differ_where_the_values_do():
    assert sweep._label({"k": 1, "rate": 0.5}) == "k=1,rate=0.5"
    odd = [sweep._label({"names": names}) for names in (["a", "b"], ["a b"], ["a", "b" * 200])]
    assert len(set(odd)) == 3
    assert all(len(name) < 100 and not set(name) & set("/ '[]") for name in odd)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupted_sweep_stops_its_cells(tmp_path, log):
    path = write(tmp_path, "nb", SAVE, "import time; time.sleep(60)", parameters=PARAMETERS)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "repsim_nb", "sweep", str(path), "-p", "k", "1", "--out", str(out)]
    own = {**os.environ, "PYTHONPATH": str(Path(rs.__file__).parent.parent)}
    with subprocess.Popen(command, env=own, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as running:
        while not log.exists():
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        stderr = running.communicate(timeout=120)[1]
    assert (running.returncode, stderr) == (130, "interrupted\n")
    assert visible(out) == []


@pytest.mark.parametrize("record", [[], {"run": 7}, {"notebook": "nb", "parameters": [1]}, {"given": ["k"]}])
def test_a_cell_with_a_record_of_another_program_is_not_finished(tmp_path, record):
    path = write(tmp_path, "nb", parameters=PARAMETERS)
    cell = finished_cell(tmp_path, path, 1)
    assert cell.finished
    if isinstance(record, dict) and "given" in record:  # one that fits but for its parameters
        record = {**record, "notebook_sha256": cell.notebook.sha256}
    (cell.folder / "run.json").write_text(json.dumps(record))
    assert not cell.finished
    assert cells._status_line(cell).startswith("k=1: done")


@pytest.mark.parametrize("record", ["", "[", "3", '{"a": 1}', '[["values"]]'])
def test_a_record_of_tables_that_cannot_be_read_loses_no_finished_work(tmp_path, record):
    path = write(tmp_path, "nb", parameters=PARAMETERS)
    (tmp_path / "out" / "tables").mkdir(parents=True)
    (tmp_path / "out" / "tables" / sweep.TABLE_RECORD).write_text(record)
    foreign = tmp_path / "out" / "theirs"
    foreign.mkdir()
    (foreign / "run.json").write_text('{"title": "theirs", "seconds": "many"}')
    table = sweep._write_summary([finished_cell(tmp_path / "out", path, 1, values="x\n1\n")], tmp_path / "out")
    assert table.status.tolist() == ["done"]
    assert pd.read_csv(tmp_path / "out" / "tables" / "values.csv").x.tolist() == [1]


def test_a_file_that_is_no_table_is_left_out_and_said(tmp_path):
    path = write(tmp_path, "nb", parameters=PARAMETERS)
    done = [finished_cell(tmp_path, path, 1, values="x\n1\n"), finished_cell(tmp_path, path, 2, values='x\n1,2\n"3')]
    with pytest.warns(UserWarning, match=r"k=2.*values.csv is not a table"):
        sweep._write_summary(done, tmp_path)
    assert pd.read_csv(tmp_path / "tables" / "values.csv").k.tolist() == [1]


def test_a_cell_has_no_name_of_a_failed_one():
    names = [sweep._label({"word": word}) for word in ("x", "x.failed")]
    assert names[0] == "word=x"
    assert not names[1].endswith(".failed")
