"""The base install measures; what only notebooks need is missing by name, with the line that installs it."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from repsim_nb.errors import InputError, MissingExtraError, needs

TOP = Path(__file__).parent.parent
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LAB_ALONE = ("app/server.py", "runs/kernel.py", "widgets/")  # imported behind a call of `needs`
INSTALL = 'pip install "repsim-nb[lab]"'


def imported_as(requirements):
    """Names as they are imported; extras of this package aside."""
    names = {re.match(r"[\w.-]+", requirement)[0].replace("-", "_") for requirement in requirements}
    return names - {"repsim_nb"}


BASE = imported_as(PROJECT["dependencies"])
LAB = imported_as(PROJECT["optional-dependencies"]["lab"])
WITH_LAB = {"IPython", "jupyter_client", "nbclient", "traitlets", "wandb"}  # what those bring along


def modules():
    package = TOP / "repsim_nb"
    return [(str(file.relative_to(package).as_posix()), file) for file in sorted(package.rglob("*.py"))]


def imports(tree):
    """Third-party packages that a piece of code imports."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        yield from {name.split(".")[0] for name in names} - {"repsim_nb"} - sys.stdlib_module_names


def at_run_time(body):
    """Statements without those for type checkers alone."""
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from node.orelse
        else:
            yield node


def test_modules_of_the_base_install_import_base_dependencies_alone():
    for name, file in modules():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        top = [node for node in at_run_time(tree.body) if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
        strange = {found for node in top for found in imports(node)} - BASE
        assert not strange or name.startswith(LAB_ALONE), f"{name} imports {strange} at its top"


def test_functions_that_import_a_package_of_an_extra_name_it_first():
    """In the function itself or, for folders that need it as a whole, where the folder is imported."""
    for name, file in modules():
        source = file.read_text(encoding="utf-8")
        inner = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
        lazy = {found for node in inner for found in imports(node)} & LAB
        if lazy and not name.startswith((*LAB_ALONE, "figures/", "survey/")):
            assert "needs(" in source or "needs_notebooks(" in source, f"{name} imports {lazy}"


def test_every_package_is_in_one_list_and_the_development_install_has_them_all():
    extras = PROJECT["optional-dependencies"]
    assert not BASE & LAB
    assert "repsim-nb[lab,app,topology,cluster,docs]" in extras["dev"]
    assert "repsim-nb[lab]" in extras["app"]
    assert "repsim-nb[lab]" in extras["docs"]
    assert {"jupyterlab", "ipywidgets", "papermill", "matplotlib", "transformer_lens", "datasets"} <= LAB


def test_needs_names_the_first_package_that_is_missing():
    needs("nothing")
    needs("this", "numpy", "json")
    with pytest.raises(MissingExtraError) as caught:
        needs("RTD", "numpy", "absent", "other", extra="topology")
    assert str(caught.value) == 'RTD needs absent, which is not installed: pip install "repsim-nb[topology]"'
    assert caught.value.name == "absent"
    assert isinstance(caught.value, InputError), "the command line says these in one line"
    assert isinstance(caught.value, ImportError)


BLOCKED = """
import importlib.abc, json, sys, warnings

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

MISSING = set(json.loads(sys.argv[1]))
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in MISSING else found(name, package)
sys.meta_path.insert(0, Blocker())
import repsim_nb as rs

def told(call):
    try:
        return f"no error: {call()!r}"
    except rs.InputError as error:
        return f"{type(error).__name__}: {error}"
"""
WORKS = """
from pathlib import Path
from repsim_nb.cli.command import main

texts = [f"one two {i} three four {i * i} five" for i in range(40)]
neox, wider, gelu = (rs.load_model(n) for n in ("tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-gelu-3l-s0"))
bert = rs.load_model("tiny-bert-nli-00")
frames = [rs.list_models(), rs.list_measures(), rs.list_corpora(), rs.list_notebooks()]
assert all(len(frame) for frame in frames)
acts = rs.extract(neox, texts, n_rows=100)
assert rs.extract(gelu, texts, n_rows=30)[3].shape == (30, 64)
assert rs.extract(bert, texts, rows="cls", n_rows=20)[6].shape == (20, 48)
assert rs.compare(neox, wider, texts, n_rows=100, null=19, interval=True).shape == (3, 3)
assert rs.compare(acts).shape == (3, 3)
assert rs.compare_all({"a": acts, "b": acts})["b", "a"].shape == (3, 3)
rs.compare_models(["tiny-neox-w32-d4-s1", "tiny-neox-w32-d4-s2"], corpora=texts, n_rows=50)
assert rs.estimate(neox, wider, texts).rows
stitched = rs.stitch(neox, wider, layer=1, corpus=texts, fit="least_squares")
for out in ("x.csv", "x.nc"):
    file = Path(sys.argv[2], out)
    text = Path(sys.argv[2], "text.txt")
    text.write_text("\\n\\n".join(texts))
    given = ["compare", neox.name, wider.name, "--corpus", str(text), "--n-rows", "50", "--out", str(file)]
    assert main(given) == 0
    assert file.is_file()
for what in ("models", "corpora", "measures", "notebooks"):
    assert main(["list", what]) == 0
assert main(["show", "00_start_here"]) == 0
loaded = MISSING & set(sys.modules)
assert not loaded, loaded
"""


def blocked(program, *arguments):
    """What a process prints for which the packages of [lab] are not installed."""
    missing = json.dumps(sorted(LAB | WITH_LAB | {"voila"}))
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + program, missing, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300, cwd=TOP,
    )  # fmt: skip


def test_the_base_install_lists_loads_extracts_compares_stitches_and_writes(tmp_path):
    done = blocked(WORKS, tmp_path)
    assert done.returncode == 0, done.stderr


ENTRIES = """
from repsim_nb import zoo
from repsim_nb.runs import save_figure
from repsim_nb.cli.command import main

model, native = rs.load_model("tiny-neox-w32-d2"), rs.load_model("tiny-gelu-3l-s0")
calls = {
    "rs.Explorer": lambda: rs.Explorer(),
    "rs.CheckpointSlider": lambda: rs.CheckpointSlider(None),
    "rs.ModelPicker": lambda: rs.ModelPicker(),
    "rs.CorpusPicker": lambda: rs.CorpusPicker(),
    "rs.LayerPicker": lambda: rs.LayerPicker(),
    "rs.MeasurePicker": lambda: rs.MeasurePicker(),
    "rs.figures": lambda: rs.figures.heatmap(None),
    "save_figure": lambda: save_figure(None, "stem", "caption"),
    "run_notebook": lambda: rs.run_notebook("00_start_here"),
    "sweep_notebook": lambda: rs.sweep_notebook("00_start_here", {"seed": [0]}),
    "bridge": lambda: model.bridge,
    "native bridge": lambda: native.bridge,
    "hub": lambda: rs.load_corpus("Salesforce/wikitext"),
    "zoo": lambda: zoo.build("tiny-gelu-3l-s0", sys.argv[2]),
}
print(json.dumps({name: told(call) for name, call in calls.items()}))
commands = [
    ["run", "00_start_here"], ["run", "--all", "--jobs", "2"], ["sweep", "00_start_here", "-p", "seed", "0,1"],
    ["compare", "tiny-neox-w32-d2", "tiny-neox-w64-d4", "--out", sys.argv[2] + "/x.svg"],
]
for command in commands:
    assert main(command) == 2, command
from repsim_nb.app.__main__ import main
try:
    main([])
except SystemExit as stop:
    assert stop.code == 2
"""


def test_what_the_base_install_lacks_is_named_with_the_line_that_installs_it(tmp_path):
    done = blocked(ENTRIES, tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for name, message in said.items():
        assert message.startswith("MissingExtraError: "), (name, message)
        assert message.endswith(f"which is not installed: {INSTALL}"), (name, message)
        assert "\n" not in message
    assert "rs.Explorer and the pickers) needs ipywidgets" in said["rs.Explorer"]
    assert "needs transformer_lens" in said["native bridge"]
    assert "'Salesforce/wikitext' of the hub needs datasets" in said["hub"]
    *commands, app = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(commands) == 4
    assert all(line.endswith(f"which is not installed: {INSTALL}") for line in commands), commands
    assert app.endswith('The app needs voila, which is not installed: pip install "repsim-nb[app]"')
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_the_corpus_says_that_it_lacks_the_docstrings_of_a_package_that_is_not_installed(monkeypatch):
    from repsim_nb.corpora import python_docs

    monkeypatch.setitem(python_docs.PACKAGES, "absent-package", ("",))
    whole = python_docs.versions()
    assert whole["absent-package"] == "not installed"
    assert all(version != "not installed" for name, version in whole.items() if name != "absent-package")
    assert python_docs._home("absent_package") is None
    with pytest.warns(UserWarning, match=r"lacks the docstrings of absent-package, which is not installed"):
        python_docs._warn_if_smaller()
