"""Every code block of the manual: Python is run, commands are read by the parsers they are for."""

import re
import shlex
import tomllib

import pytest

from repsim_nb.cli.arguments import with_values
from repsim_nb.cli.command import parser
from repsim_nb.system.shipped import checkout
from tests.support.examples import run_example

TOP = checkout()
PAGES = sorted([*(TOP / "docs").rglob("*.md"), *TOP.glob("[CS]*.md")])
PAGES = [page for page in PAGES if "_build" not in page.parts]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
# Commands that only print, and are quick: they are run, not only parsed.
PRINTS = re.compile(r"repsim-nb (list|show|zoo list)\b")


def blocks(*languages):
    """Page and number as an id -> the block."""
    found = {}
    for page in PAGES:
        matching = [code for language, code in BLOCK.findall(page.read_text(encoding="utf-8")) if language in languages]
        found |= {f"{page.relative_to(TOP).as_posix()}:{number}": code for number, code in enumerate(matching, 1)}
    return found


PYTHON, SHELL = blocks("python"), blocks("bash", "")


@pytest.mark.parametrize("where", PYTHON)
def test_python_of_the_manual_runs(where, tmp_path, monkeypatch):
    run_example(PYTHON[where], where, tmp_path, monkeypatch)


def commands(block):
    """The commands of a block, without comments; a line that ends in a backslash goes on."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


ALL = [(where, line) for where, block in SHELL.items() for line in commands(block)]


@pytest.mark.parametrize(("where", "line"), [(w, c) for w, c in ALL if re.search(r"repsim-nb [a-z]", c)])
def test_commands_of_the_manual_are_read_by_the_parser(where, line, tmp_path, monkeypatch):
    command = re.search(r"repsim-nb ([^&|']*)", line)[1].replace("$(cat models.txt)", "a b")
    command = re.sub(r"\$[A-Z_]+", "1", command).replace("$file", "file")
    options = parser().parse_args(with_values(shlex.split(command)))
    assert callable(options.do)
    if PRINTS.match(line):
        assert options.do(options) == 0


def test_targets_of_make_in_the_manual_exist():
    makefile = (TOP / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split())
    used = {name for page in PAGES for name in re.findall(r"(?:^|`)make (\w+)", page.read_text(encoding="utf-8"), re.M)}
    assert used
    assert used <= targets


def test_extras_of_the_manual_exist():
    known = set(tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    used = {
        extra for text in texts for group in re.findall(r'repsim-nb\[([\w,]+)\]"', text) for extra in group.split(",")
    }
    assert {"lab", "app"} <= used <= known


def test_every_section_of_the_manual_has_code_that_runs():
    pages = {where.rpartition(":")[0] for where in PYTHON}
    how_to = {p.relative_to(TOP).as_posix() for p in (TOP / "docs" / "how-to").glob("*.md") if p.stem != "index"}
    assert how_to - pages == {"docs/how-to/offline.md", "docs/how-to/notebooks.md"}, "these have commands only"
