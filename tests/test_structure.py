"""The tree: imports go one way, a name stands for one thing, and old names say where they went."""

import ast
import importlib
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import repsim_nb
from repsim_nb.moved import MOVED

TOP = Path(repsim_nb.__file__).parent
# What stands further left knows nothing of what stands further right.
ORDER = (
    *("errors", "moved", "system", "measures", "corpora", "models", "activations", "retrieval", "uncertainty"),
    *(
        "comparison",
        "stitching",
        "descendants",
        "weights",
        "groups",
        "depth",
        "zoo",
        "figures",
        "runs",
        "workshop",
        "widgets",
        "survey",
    ),
    *("app", "cli", "__main__"),
)
NAMES = {
    ".".join(("repsim_nb", *path.relative_to(TOP).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in TOP.rglob("*.py")
}
LONGEST = 480  # lines of a module; past about 400 it becomes a folder


def modules():
    return {path: path.relative_to(TOP).with_suffix("").parts for path in TOP.rglob("*.py")}


def imported(path):
    """Modules of the package that a module imports when it runs, wherever in it, type checking apart."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("repsim_nb."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "repsim_nb":
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                found = inner if inner in NAMES else node.module
                if found != "repsim_nb":  # which imports what is asked for, when it is asked for
                    yield found


@pytest.mark.parametrize(
    "path", [path for path in modules() if path.parent != TOP], ids=lambda p: "/".join(p.parts[-2:])
)
def test_imports_go_one_way(path):
    place = ORDER.index(modules()[path][0])
    upward = [name for name in imported(path) if ORDER.index(name.split(".")[1]) > place]
    assert not upward


def test_every_part_has_its_place_in_the_order():
    parts = {parts[0] for parts in modules().values()} - {"__init__"}
    assert parts == set(ORDER)


def test_no_module_reaches_itself_through_its_imports():
    reached = {name: {*imported(path)} & {*NAMES} - {name} for name, path in NAMES.items()}
    open_, done = [], set()

    def visit(name):
        assert name not in open_, " -> ".join([*open_[open_.index(name) :], name])
        if name not in done:
            open_.append(name)
            for other in sorted(reached[name]):
                visit(other)
            done.add(open_.pop())

    for name in sorted(NAMES):
        visit(name)


def test_a_file_name_and_a_class_name_stand_for_one_thing():
    files, classes = defaultdict(list), defaultdict(list)
    for path in modules():
        if path.stem not in ("__init__", "__main__"):
            files[path.name].append(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(path)
    assert {name: paths for name, paths in {**files, **classes}.items() if len(paths) > 1} == {}


def test_no_module_is_too_long_to_be_read():
    long = {"/".join(parts): len(path.read_text(encoding="utf-8").splitlines()) for path, parts in modules().items()}
    assert {name: lines for name, lines in long.items() if lines > LONGEST} == {}


@pytest.mark.parametrize("name", sorted(MOVED))
def test_an_old_name_of_a_module_is_an_error_that_names_the_new_one(name):
    with pytest.raises(ImportError, match=f"repsim_nb.{name} is now repsim_nb.{MOVED[name]}"):
        importlib.import_module(f"repsim_nb.{name}")
    importlib.import_module(f"repsim_nb.{MOVED[name]}")


def test_everything_exported_is_there_and_nothing_heavy_is_imported_for_the_list():
    for name in repsim_nb.__all__:
        assert getattr(repsim_nb, name) is not None
    code = "import sys, repsim_nb; assert not {'torch', 'transformers', 'matplotlib', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_attribute_that_moved_says_where_to():
    with pytest.raises(AttributeError, match=r"repsim_nb\.streaming is now repsim_nb\.comparison\.streaming"):
        _ = repsim_nb.streaming
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = repsim_nb.nothing
