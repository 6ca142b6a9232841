"""A run leaves a whole folder or none, and no error stays hidden."""

import json
import os
import sys
from contextlib import nullcontext
from html.parser import HTMLParser

import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from repsim_nb.errors import InputError
from repsim_nb.runs import RUN_DIR, RunError, output_dir, run_notebook, write_index
from repsim_nb.runs.failures import failures
from repsim_nb.runs.notebooks import calling
from repsim_nb.runs.results_folder import read_record, replaceable
from repsim_nb.system.atomic import OutputError
from tests.support.notebook_files import save, write

INTERPRETER = "import sys, json; print(json.dumps([sys.executable, __import__('repsim_nb').__file__, n_rows, preset]))"


class Page(HTMLParser):
    """Pictures and links of a page."""

    def __init__(self, path):
        super().__init__()
        self.images, self.links = [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.images.append((attributes["src"], attributes["alt"]))
        for name in ("href", "src"):
            if name in attributes:
                self.links.append(attributes[name])


def visible(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_run_leaves_the_executed_copy_its_figures_tables_and_record(tmp_path, monkeypatch):
    decoy = tmp_path / "jupyter" / "kernels" / "python3"
    decoy.mkdir(parents=True)
    (decoy / "kernel.json").write_text('{"argv": ["/nowhere/python"], "display_name": "decoy", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "nb", save("one {x}", "Rises & <falls>"), INTERPRETER)

    run = run_notebook(path, {"n_rows": 5, "preset": "quick"}, out=tmp_path / "out {braces}")

    out = tmp_path / "out {braces}"
    files = ["nb.ipynb", "one {x}.caption.txt", "one {x}.csv", "one {x}.png", "one {x}.svg", "run.json"]
    assert visible(out) == ["index.html", "nb", *(f"nb/{file}" for file in files)]
    assert [figure.suffix for figure in run.figures] == [".svg", ".png"]
    assert [table.name for table in run.tables] == ["one {x}.csv"]
    executed = json.loads(run.notebook.read_text())
    printed = json.loads("".join(executed["cells"][-1]["outputs"][0]["text"]))
    assert printed == [sys.executable, sys.modules["repsim_nb"].__file__, 5, "quick"]
    assert executed["metadata"]["papermill"]["output_path"] == "nb.ipynb"
    record = json.loads((run.folder / "run.json").read_text())
    assert record["parameters"]["n_rows"] == 5
    assert record["parameters"]["rate"] == 0.5
    assert record["given"] == ["n_rows", "preset"]
    assert record["versions"]["python"] == sys.version.split()[0]
    assert 0 < record["seconds"] == run.seconds

    page = Page(out / "index.html")
    assert page.images == [("nb/one%20%7Bx%7D.svg", "Rises & <falls>")]


def test_a_failing_cell_fails_the_run_and_leaves_the_earlier_folder_alone(tmp_path):
    path = write(tmp_path, "nb", save("one"))
    run_notebook(path, out=tmp_path / "out")
    before = visible(tmp_path / "out")
    write(tmp_path, "nb", save("two"), "# a comment\nraise RuntimeError('the \\n reason')", "print('never')")

    with pytest.raises(RunError) as error:
        run_notebook(path, {"n_rows": 3}, out=tmp_path / "out")

    message = str(error.value)
    assert "cell 5 of 6, `raise RuntimeError('the \\n reason')`: RuntimeError: the" in message
    assert error.value.folder == tmp_path / "out" / "nb.failed"
    kept = [name for name in visible(tmp_path / "out") if not name.startswith("nb.failed")]
    assert kept == before, "the earlier run is untouched, nothing temporary is left"
    assert (error.value.folder / "nb.ipynb").is_file()
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Failed in cell 5 of 6" in page

    write(tmp_path, "nb", save("two"))
    run_notebook(path, out=tmp_path / "out")
    assert visible(tmp_path / "out") == sorted(name.replace("one", "two") for name in before), "replaced as a whole"


HIDDEN = {
    "with Output()": "import ipywidgets as w\nbox = w.VBox([w.Output()])\nwith box.children[0]:\n    1 / 0\nbox",
    "interact": "import ipywidgets as w\n_ = w.interact(lambda k: 1 / k, k=w.IntSlider(0, 0, 3))",
    "a thread": "import threading, time; t = threading.Thread(target=lambda: 1 / 0)\nt.start(); time.sleep(0.5)",
    "an early exit": "raise SystemExit(0)",
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_an_error_that_leaves_papermill_green_fails_the_run(tmp_path, kind):
    path = write(tmp_path, "nb", HIDDEN[kind], "print('reached')")
    with pytest.raises(RunError, match=r"cell 4 of 5, `.*(ZeroDivisionError: division by zero|SystemExit: 0)"):
        run_notebook(path, out=tmp_path)
    assert not (tmp_path / "nb").exists()


def test_errors_are_found_where_they_lie_and_only_where_they_count():
    def cell(tags=(), outputs=()):
        return {"cell_type": "code", "source": "f()", "metadata": {"tags": list(tags)}, "outputs": list(outputs)}

    error = {"output_type": "error", "ename": "ValueError", "evalue": "\x1b[31mno\x1b[0m"}
    warning = {"output_type": "stream", "name": "stderr", "text": ["UserWarning: careful"]}
    lost = "Exception in thread tqdm_monitor:\nTraceback (most recent call last):\n  File\nRuntimeError: Set changed\n"
    watchdog = {"output_type": "stream", "name": "stderr", "text": [lost]}
    thread = {"output_type": "stream", "name": "stderr", "text": [lost, lost.replace("tqdm_monitor", "mine")]}
    view = {"output_type": "display_data", "data": {"application/vnd.jupyter.widget-view+json": {"model_id": "box"}}}
    state = {"lone": {"state": {"outputs": [error]}}, "in": {"state": {"outputs": [error]}}}
    state["box"] = {"state": {"children": ["IPY_MODEL_in"]}}
    notebook = {
        "cells": [
            cell(["injected-parameters"]),
            cell(["raises-exception"], [error]),
            cell(outputs=[warning, watchdog, view]),
            cell(outputs=[thread]),
        ],
        "metadata": {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": state}}},
    }
    assert [(f.place, f.reason) for f in failures(notebook)] == [
        ("inside a widget of cell 2 of 3, `f()`", "ValueError: no"),
        ("in cell 3 of 3, `f()`", "RuntimeError: Set changed"),
        ("inside a widget", "ValueError: no"),
    ]


@pytest.mark.parametrize(("lost", "starts"), [(2, 3), (3, 3)])
def test_a_kernel_whose_ports_were_taken_is_started_again(tmp_path, monkeypatch, lost, starts):
    original, tried = papermill.execute_notebook, []

    def execute(*given, **options):
        tried.append(given)
        if len(tried) <= lost:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return original(*given, **options)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    path = write(tmp_path, "nb", "print(1)")
    with pytest.raises(RuntimeError, match="before replying") if lost == starts else nullcontext():
        assert run_notebook(path, out=tmp_path).seconds > 0
    assert len(tried) == starts


def test_a_kernel_that_dies_is_a_failure(tmp_path):
    path = write(tmp_path, "nb", "import os; os._exit(1)")
    with pytest.raises(RunError, match=r"cell 4 of 4.*the kernel died"):
        run_notebook(path, out=tmp_path)


def test_nothing_runs_when_the_input_is_wrong(tmp_path):
    path = write(tmp_path, "nb", "open('ran', 'w')")
    out = tmp_path / "out"
    with pytest.raises(InputError, match="n_rows"):
        run_notebook(path, {"n_row": 3}, out=out)
    with pytest.raises(InputError, match="expects int"):
        run_notebook(path, {"n_rows": "3"}, out=out)
    with pytest.raises(FileNotFoundError, match=r"missing\.ipynb"):
        run_notebook(tmp_path / "missing.ipynb", out=out)
    with pytest.raises(InputError, match="Unknown notebook 'missing'"):
        run_notebook("missing", out=out)
    assert not out.exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_run(tmp_path):
    path = write(tmp_path, "nb")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"Cannot create the folder .*not a directory"):
        run_notebook(path, out=tmp_path / "file" / "out")


def test_a_folder_that_no_run_made_is_never_replaced(tmp_path):
    path = write(tmp_path, "nb")
    (tmp_path / "nb").mkdir()
    (tmp_path / "nb" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not the folder of a run"):
        run_notebook(path, out=tmp_path)
    assert (tmp_path / "nb" / "thesis.txt").read_text() == "mine"


def test_the_index_shows_every_figure_of_every_run_once(tmp_path):
    for run in ("a", "b", ".c.partial"):
        folder = tmp_path / run
        folder.mkdir()
        (folder / "run.json").write_text(
            json.dumps({"title": f"Title <{run}>", "parameters": {"k": 3}, "seconds": 2.5})
        )
        for stem in ("one", "two"):
            for suffix in ("svg", "png", "nc"):
                (folder / f"{stem}.{suffix}").touch()
    (tmp_path / "b" / "two.svg").unlink()
    (tmp_path / "a" / "one.caption.txt").write_text('What "it" shows.\n')
    page = Page(write_index(tmp_path))
    assert page.images == [
        ("a/one.svg", 'What "it" shows.'),
        ("a/two.svg", "two"),
        ("b/one.svg", "one"),
        ("b/two.png", "two"),
    ]
    for link in page.links:
        assert link.startswith("#") or (tmp_path / link).is_file(), f"{link} leads nowhere or outside"
    text = (tmp_path / "index.html").read_text()
    assert "Title &lt;a&gt;" in text
    assert "2.5 s" in text
    assert "http" not in text


def test_an_interactive_session_saves_beside_the_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(RUN_DIR, raising=False)
    monkeypatch.setenv("JPY_SESSION_NAME", "some/folder/03_nb.ipynb")
    folder = output_dir()
    assert folder.as_posix() == "results/03_nb"
    (folder / "one.svg").touch()
    assert output_dir() == folder
    assert Page(write_index("results")).images == [("03_nb/one.svg", "one")]
    monkeypatch.setenv(RUN_DIR, str(tmp_path))
    assert output_dir() == tmp_path


ODD = "a $HOME ${OTHER} $$ $UNSET {n_rows} {{x}} %d %(x)s ~ [1]*? \\ ' \" \n é 🦊"
VALUES = [
    "$HOME",
    "{n_rows} {{x}}",
    "%d %(x)s",
    "\\",
    "\\n",
    "\n\t\r",
    "'\"",
    "'" * 3,
    '"' * 3,
    "\u2028 é 🦊 \0",
    "None",
    "",
]


@pytest.mark.skipif(sys.platform == "win32", reason="characters of file names")
def test_run_notebook_fills_in_nothing_in_names_paths_and_values(tmp_path, monkeypatch):
    monkeypatch.setenv("OTHER", str(tmp_path / "elsewhere"))
    path = write(tmp_path, ODD, save("one"), "import json; print(json.dumps(measures))")
    before = visible(tmp_path)
    run = run_notebook(path, {"measures": VALUES}, out=tmp_path / f"out {ODD}")
    assert run.folder == tmp_path / f"out {ODD}" / ODD
    assert [file.name for file in (*run.figures, *run.tables)] == ["one.svg", "one.png", "one.csv"]
    printed = json.loads("".join(json.loads(run.notebook.read_text())["cells"][-1]["outputs"][0]["text"]))
    assert printed == VALUES
    assert read_record(run.folder)["parameters"]["measures"] == VALUES
    assert [name for name in visible(tmp_path) if not name.startswith(f"out {ODD}")] == before


SAVES = """\
import os
import pandas as pd
from repsim_nb.runs import save_table as keep
os.environ["REPSIM_NB_RUN_DIR"] = os.environ["ELSEWHERE"]
keep(pd.DataFrame({"a": [1]}), "table")
"""


@pytest.mark.parametrize(
    ("there", "message"),
    [(True, "save_table was called, but the folder of the run contains no such file"), (False, "does not exist")],
)
def test_a_run_that_saved_nothing_of_what_it_was_to_save_has_failed(tmp_path, monkeypatch, there, message):
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    if there:
        (tmp_path / "elsewhere").mkdir()
    path = write(tmp_path, "nb", SAVES)
    with pytest.raises(RunError, match=f"cell 4 of 4.*{message}"):
        run_notebook(path, out=tmp_path / "out")
    assert (tmp_path / "elsewhere").exists() == there
    assert not (tmp_path / "out" / "nb").exists()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from repsim_nb.runs import save_table\nsave_table(t, 'a')", True),
        ("import repsim_nb\nfrom repsim_nb import save_table as s\n%time\nx = s(t, 'a')", True),
        ("from mine import save_table\nsave_table(t, 'a')", False),
        ("from repsim_nb.runs import save_table\nif large:\n    save_table(t, 'a')", False),
        ("from repsim_nb.runs import save_table\ndef f():\n    save_table(t, 'a')", False),
        ("from repsim_nb.runs import save_table\nsave_table(t, 'a', folder=mine)", False),
        ("from repsim_nb.runs import save_table, save_figure\nsave_figure(f, 'a', 'b')", False),
        ("from repsim_nb.runs import save_table\nsave_table(t,", False),
    ],
)
def test_calling_finds_the_cell_that_saves_in_any_case(source, found):
    cells = [new_markdown_cell("save_table(t, 'a')"), new_code_cell(source)]
    assert calling(cells, "save_table") == (1 if found else None)
    cells[1]["metadata"]["tags"] = ["raises-exception"]
    assert calling(cells, "save_table") is None


FOREIGN = [
    [],
    "text",
    {"run": 7, "loss": [0.1]},
    {"title": "theirs", "seconds": "many"},
    {"notebook": "theirs", "parameters": [1, 2]},
    {"notebook": "theirs", "given": {"a": 1}, "versions": "1.0"},
    {"notebook_sha256": 3, "versions": ["a"]},
]


@pytest.mark.parametrize("record", FOREIGN)
def test_a_record_of_another_program_is_left_alone(tmp_path, record):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
        (folder / "one.svg").touch()
    (ours / "run.json").write_text(json.dumps({"notebook": "nb", "parameters": {"k": 3}, "seconds": 2.5}))
    (theirs / "run.json").write_text(json.dumps(record))
    assert Page(write_index(tmp_path)).images == [("ours/one.svg", "one")]
    replaceable(ours)
    with pytest.raises(OutputError, match="not the folder of a run"):
        replaceable(theirs)


@pytest.mark.parametrize(
    "record",
    [
        {
            "title": ["a"],
            "claim": 3,
            "given": [[1], {}],
            "parameters": {"k": {}},
            "revision": 7,
            "started": 3,
            "error": [],
        }
    ],
)
def test_the_index_shows_a_record_whatever_its_fields_hold(tmp_path, record):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text(json.dumps({"notebook": {"a": 1}, **record}))
    assert "Revision 7" in write_index(tmp_path).read_text()


def test_the_index_shows_a_notebook_whose_name_begins_with_a_dot(tmp_path):
    folder = tmp_path / ".nb"
    folder.mkdir()
    (folder / "run.json").write_text('{"notebook": ".nb"}')
    (folder / "one.svg").touch()
    assert Page(write_index(tmp_path)).images == [(".nb/one.svg", "one")]


def test_run_notebook_refuses_a_name_of_failed_runs_and_removes_drafts_of_killed_ones(tmp_path):
    with pytest.raises(InputError, match="reserved for folders of failed and skipped runs"):
        run_notebook(write(tmp_path, "nb.failed"), out=tmp_path / "out")
    left = tmp_path / "out" / ".other.0123abcd.partial"
    left.mkdir(parents=True)
    os.utime(left, (1, 1))
    run_notebook(write(tmp_path, "nb", "1 + 1"), out=tmp_path / "out")
    assert [name for name in visible(tmp_path / "out") if "/" not in name] == ["index.html", "nb"]
