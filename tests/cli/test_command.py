"""The command line: fast to start, one clear line for bad input, nothing half-written."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import repsim_nb
from repsim_nb.cli.command import main
from repsim_nb.cli.tables import aligned
from tests.support.command_line import refused
from tests.support.notebook_files import save, write

HERE = Path(repsim_nb.__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE)}


def python(*arguments, **options):
    options = {"env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 240, **options}
    return subprocess.run([sys.executable, *arguments], check=False, **options)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list", "notebooks"]])
def test_it_starts_without_the_heavy_packages(arguments):
    heavy = "import sys; from repsim_nb.cli.command import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    heavy += "print({'torch', 'pandas', 'papermill', 'matplotlib', 'transformers'} & set(sys.modules))"
    printed = python("-c", heavy, *arguments)
    assert printed.stdout.splitlines()[-1] == "set()", printed.stderr


def test_it_is_also_a_module(tmp_path):
    assert python("-m", "repsim_nb", "--version", cwd=tmp_path).stdout == f"repsim-nb {repsim_nb.__version__}\n"


def test_notebooks_are_listed_and_shown(capsys, tmp_path, monkeypatch):
    path = write(tmp_path, "nb")
    monkeypatch.setattr("repsim_nb.runs.notebooks.notebooks_dir", lambda: tmp_path)
    assert main(["list", "notebooks", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "name,title,claim",
        "nb,The title of nb,Rows agree (Brown et al. 2023).",
    ]
    for name in ("nb", str(path)):
        assert main(["show", name]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("The title of nb\n\nRows agree")
        assert ["preset", "str", "'default'", "quick | default | paper"] in [
            re.split("  +", line) for line in printed.splitlines()
        ]


def test_tables_of_the_package_are_printed(capsys, monkeypatch):
    frame = pd.DataFrame(
        {"bounds": [(-1.0, 1 / 3)], "x": [np.nan], "y": [0.123456]}, index=pd.Index(["cka"], name="name")
    )
    monkeypatch.setitem(vars(repsim_nb), "list_measures", lambda: frame)
    assert main(["list", "measures"]) == 0
    assert capsys.readouterr().out == "name  bounds      x  y\ncka   -1, 0.3333     0.1235\n"


def test_what_is_not_known_of_a_model_is_left_empty(capsys):
    assert main(["list", "models", "--family", "solu"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 17
    assert not {"NA", "nan", "None"} & set(re.split(r"\W", "".join(lines)))
    line = next(line for line in lines if line.startswith("solu-4l "))
    known = ["solu-4l", "solu", "causal", "hub", "True", "4", "512", "64", "solu_ln"]
    assert [cell for cell in re.split("  +", line) if cell][: len(known)] == known
    assert main(["list", "models", "--csv"]) == 0
    rows = list(csv.reader(capsys.readouterr().out.splitlines()))
    row = dict(zip(rows[0], next(row for row in rows if row[0] == "solu-4l"), strict=True))
    assert (row["activation"], row["d_head"], row["loss"], row["accuracy"]) == ("solu_ln", "64", "", "")
    assert len(rows[0]) == len(header.split())


def test_list_shows_models_family_by_family(capsys):
    assert main(["list", "models"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["family", "models"]
    (line,) = (line for line in lines if line.startswith("tiny-bert-nli "))
    assert line.split()[1:3] == ["40", "classifier"]
    assert line.endswith("tiny-bert-nli-39"), "nothing is shortened outside a terminal"
    assert "chooses among models" in refused(capsys, "list", "corpora", "--family", "solu")
    assert "Did you mean 'solu'" in refused(capsys, "list", "models", "--family", "soul")


def test_a_table_fits_the_terminal():
    text = aligned(["name", "about"], [["a", "word " * 40], ["b", "short"]], width=40)
    assert [len(line) <= 40 for line in text.splitlines()] == [True] * 3
    assert text.splitlines()[1].endswith("…")
    assert "short" in text


OTHERS = {"OTHER": "nb", "UPPER": "NB", "FAILED": "nb.failed"}  # notebooks in another folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "--all"),
        (["run", "--all", "nb"], "--all"),
        (["run", "unknown"], "Unknown notebook 'unknown'"),
        (["run", "missing.ipynb"], "no notebook file missing.ipynb"),
        (["run", "NB", "-p", "n_row", "3"], "Unknown parameter 'n_row'. Did you mean 'n_rows'?"),
        (["run", "NB", "-p", "n_rows", "many"], "'n_rows' expects int | None, received 'many'"),
        (["run", "NB", "-p", "preset", "quik"], "Did you mean 'quick'?"),
        (["run", "NB", "-p", "rate", "1", "-p", "rate", "2"], "twice"),
        (["run", "NB", "-p", "rate"], "expected 2 arguments"),
        (["run", "NB", "-p", "rate=1"], "write -p rate 1, without the equals sign"),
        (["run", "NB", "-p", "rate=1", "-p", "n_rows=2"], "write -p rate 1, without the equals sign"),
        (["run", "NB", "-p", "n_rows", "-1e3"], "'n_rows' expects int | None, received '-1e3'"),
        (["run", "NB", "-p", "preset", "-quick"], "'-quick'"),
        (["compare", "a", "b", "--out", "x.nc", "--layers-a", "-1e3,-2"], "got '-1e3,-2'"),
        (["compare", "a", "b", "--out", "x.nc", "--n-rows", "-1e3"], "n_rows=-1000"),
        (["sweep", "NB", "-p", "rate", "1", "--memory", "-1e9"], "memory=-1000000000.0; expected a positive number"),
        (["run", "NB", "NB"], "would go to the same folder"),
        (["run", "NB", "OTHER"], "would go to the same folder"),
        (["run", "NB", "UPPER"], "would go to the same folder"),
        (["run", "FAILED"], "reserved for folders of failed and skipped runs"),
        (["run", "NB", "--out", "FILE/out"], "Cannot create the folder"),
        (["show", "unknown"], "Unknown notebook"),
        (["list", "model"], "'model'"),
        (["fly"], "'fly'"),
        ([], "COMMAND"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, tmp_path, arguments, message):
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    places = {"NB": str(write(tmp_path, "nb")), "FILE/out": str(tmp_path / "file" / "out")}
    places |= {name: str(write(tmp_path / "other", stem)) for name, stem in OTHERS.items()}
    assert message in refused(capsys, *(places.get(argument, argument) for argument in arguments))


def test_all_goes_on_after_a_failure_and_sets_a_parameter_where_it_exists(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("repsim_nb.runs.notebooks.notebooks_dir", lambda: tmp_path)
    write(tmp_path, "a", "raise RuntimeError('no luck')")
    write(tmp_path, "b", save("one", "what it shows") + "assert k == 7", parameters="k: int = 3")
    out = tmp_path / "out"

    assert "Did you mean 'k'" in refused(capsys, "run", "--all", "-p", "kk", "7", "--out", str(out))
    assert main(["run", "--all", "-p", "k", "7", "--out", str(out)]) == 1

    printed = capsys.readouterr()
    assert "Notebook 'a' failed in cell 4 of 4, `raise RuntimeError('no luck')`: RuntimeError: no luck" in printed.err
    assert "1 of 2 notebooks failed: a" in printed.err
    assert "[2/2] b: 2 figure files, 1 tables in" in printed.out
    assert sorted(path.name for path in out.iterdir()) == ["a.failed", "b", "index.html"]
    assert (out / "index.html").read_text().count("<img") == 1


def test_notebooks_run_side_by_side_in_processes_of_their_own(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("repsim_nb.runs.notebooks.notebooks_dir", lambda: tmp_path)
    meet = "import time\n(output_dir().parent / '%s').touch()\nend = time.time() + 60\n"
    meet += "while not (output_dir().parent / '%s').exists(): assert time.time() < end; time.sleep(0.05)"
    head = "from repsim_nb.runs import output_dir\n"
    write(tmp_path, "a", head + meet % ("a was here", "b was here"), "raise RuntimeError('no luck')")
    write(tmp_path, "b", head + meet % ("b was here", "a was here"), save("one", "what it shows"))
    out = tmp_path / "out"
    assert main(["run", "--all", "--jobs", "2", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert "b: done in" in printed.out
    assert "a: failed (exit code 1): in cell 5 of 5, `raise RuntimeError('no luck')`: RuntimeError" in printed.out
    assert "1 of 2 notebooks failed: a" in printed.err
    assert {"a.failed", "b", "index.html"} <= {path.name for path in out.iterdir()}
    assert "expected a positive number" in refused(capsys, "run", "--all", "--jobs", "0", "--out", str(out))


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_nothing(tmp_path, stop):
    path = write(tmp_path, "nb", save("one"), "import os, time; print(os.getpid()); time.sleep(60)")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "repsim_nb", "run", str(path), "--out", str(out)]
    heard = partial(signal.signal, stop, signal.SIG_DFL)  # a test run in the background may have been told to ignore it
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=-1, stderr=-1, text=True, cwd=tmp_path, preexec_fn=heard
    ) as running:
        while not list(out.glob(".*/one.csv")):
            assert running.poll() is None, running.communicate()
            time.sleep(0.05)
        running.send_signal(stop)
        printed = running.communicate(timeout=120)
    assert running.returncode == 130
    assert printed == ("", "interrupted\n")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "text", "value"),
    [
        ("rate: float = 0.0", "-1e-3", -1e-3),
        ("rate: float = 0.0", "-.5E+2", -50.0),
        ("rate: float = 0.0", "-inf", float("-inf")),
        ("rate: list[float] = []", "-1e-3,-2", [-1e-3, -2.0]),
        ("k: int = 0", "-3", -3),
        ("word: str = ''", "-p", "-p"),
        ("word: str = ''", "--out", "--out"),
        ("word: str = ''", "-", "-"),
        ("word: str = ''", "a=b", "a=b"),
        ("word: str = ''", "{k} %s $HOME \\n \n \"'", "{k} %s $HOME \\n \n \"'"),
        ("wörter: list[str] | None = None", "None", None),
    ],
)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_value_is_taken_as_it_is_given(monkeypatch, tmp_path, command, line, text, value):
    from repsim_nb.cli import command as module
    from repsim_nb.runs import sweep

    def run(path, values, *rest, **more):
        received.append(values)
        raise KeyboardInterrupt

    received = []
    monkeypatch.setattr(module, "run_notebook", run)
    monkeypatch.setattr(sweep, "sweep_notebook", run)
    name = line.split(":")[0]
    path = write(tmp_path, "nb", parameters=line)
    assert main([command, "-p", name, text, str(path)]) == 130
    swept = value if isinstance(value, list) else [value]
    swept = [value] if "list" in line else swept
    assert received == [{name: value if command == "run" else swept}]


FULL = """
import resource, sys
import numpy as np, xarray as xr
import repsim_nb
from repsim_nb.cli.command import main

grid = xr.DataArray(np.random.default_rng(0).random((200, 200)), dims=("layer_a", "layer_b"), name="cka")
repsim_nb.estimate = lambda *given, **how: "an estimate"
repsim_nb.compare = lambda *given, **how: grid
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
sys.exit(main(["compare", "a", "b", "--out", sys.argv[1]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
@pytest.mark.parametrize("suffix", ["nc", "png"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, suffix):
    out = tmp_path / f"x.{suffix}"
    out.write_text("before")
    done = python("-c", FULL, str(out))
    assert (done.returncode, done.stdout) == (2, "an estimate\n")
    assert done.stderr == (
        f"repsim-nb: error: Cannot write {out}: file too large. Free some space, or choose another folder.\n"
    )
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(out.name, "before")]


def test_the_zoo_is_listed_and_built(capsys, tmp_path, monkeypatch):
    from repsim_nb import zoo

    frame = pd.DataFrame({"steps": [5]}, index=pd.Index(["tiny"], name="name"))
    monkeypatch.setattr(zoo, "list_recipes", lambda: frame)
    monkeypatch.setattr(zoo, "build", lambda name, out: Path(out, name))
    assert main(["zoo", "list"]) == 0
    assert capsys.readouterr().out == "name  steps\ntiny  5\n"
    assert main(["zoo", "build", "tiny", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'tiny'}\n"
    assert "zoo list" in refused(capsys, "zoo", "build")


def test_a_closed_pipe_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    done = python("-m", "repsim_nb", "list", "notebooks", capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
