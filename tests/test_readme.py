"""README: short, true, and no more than a door to the manual."""

import re
from pathlib import Path

import pytest

from repsim_nb.runs.notebooks import notebooks
from repsim_nb.system.shipped import checkout
from tests.support.examples import run_example

README = checkout() / "README.md"
TEXT = README.read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.S)
FINDING = re.compile(r"^\| (\d\d) \| (.*) \| (.*) \| (.*) \|$", re.M)
VERDICT = re.compile("holds|does not hold|cannot be told")


@pytest.mark.parametrize("code", PYTHON)
def test_the_examples_run(code, tmp_path, monkeypatch):
    run_example(code, "README.md", tmp_path, monkeypatch)
    if "savefig" in code:
        assert (tmp_path / "map.svg").stat().st_size > 1000


def test_the_only_example_is_ten_lines():
    (code,) = PYTHON
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_it_is_read_in_a_few_minutes():
    prose = re.sub(r"```.*?```|<img[^>]*>", "", TEXT, flags=re.S)
    assert 500 < len(prose.split()) < 800
    assert TEXT.count("<img ") == 1


def test_the_commands_to_set_up_come_first():
    commands = re.search(r"```bash\n(.*?)```", TEXT, re.S).group(1).splitlines()
    assert [line.split("#")[0].split() for line in commands] == [["make", t] for t in ("figures", "test", "lab")]
    assert TEXT.index("```bash") < TEXT.index("```python")


def test_every_file_and_notebook_it_names_exists():
    for path in re.findall(r"\]\((?!http)([^)]+)\)", TEXT) + re.findall(r'src="([^"]+)"', TEXT):
        assert Path(README.parent, path).exists(), path
    for path in re.findall(r"`((?:notebooks|data)/[^`]+)`", TEXT):
        assert Path(README.parent, path).exists(), path
    assert re.findall(r"\| `(\d\d_\w+)` \|", TEXT) == [book.name for book in notebooks()]


def test_its_findings_are_those_of_the_manual():
    sections = re.split(r"^## (\d\d) ", (checkout() / "docs" / "findings" / "claims.md").read_text("utf-8"), flags=re.M)
    manual = {
        name: [line for line in text.splitlines() if line.startswith("| ")]
        for name, text in zip(sections[1::2], sections[2::2], strict=True)
    }
    rows = FINDING.findall(TEXT)
    assert len(rows) >= 8
    for notebook, claim, estimate, verdict in rows:
        numbers = re.findall(r"\d\.\d+", estimate)
        found = {number: [row for row in manual[notebook] if number in row] for number in numbers}
        assert found
        assert all(found.values()), claim
        said = {word for rows in found.values() for row in rows for word in VERDICT.findall(row.rsplit(" | ", 1)[1])}
        assert set(VERDICT.findall(verdict)) == said, claim
