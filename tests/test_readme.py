import re
from pathlib import Path

import pytest

from repsim_nb.system.shipped import checkout
from tests.support.examples import run_example

README = checkout() / "README.md"
TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, re.S))
def test_the_examples_run(code, tmp_path, monkeypatch):
    run_example(code, "README.md", tmp_path, monkeypatch)
    if "savefig" in code:
        assert (tmp_path / "map.svg").stat().st_size > 1000


def test_the_first_example_is_ten_lines():
    first = re.search(r"```python\n(.*?)```", TEXT, re.S).group(1)
    assert len([line for line in first.splitlines() if line.strip()]) <= 10


def test_every_file_and_notebook_it_names_exists():
    for path in re.findall(r"\]\((?!http)([^)]+)\)", TEXT) + re.findall(r'src="([^"]+)"', TEXT):
        assert Path(README.parent, path).exists(), path
    for name in re.findall(r"\| `(\d\d_\w+)` \|", TEXT):
        assert Path(README.parent, "notebooks", f"{name}.ipynb").exists()
    for path in re.findall(r"`((?:notebooks|data)/[^`]+)`", TEXT):
        assert Path(README.parent, path).exists(), path
