import re
import subprocess
import sys
from pathlib import Path

import pytest

from repsim_nb.system.shipped import checkout

README = checkout() / "README.md"
TEXT = README.read_text(encoding="utf-8")


EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def test_the_first_example_runs_in_an_interpreter_of_its_own(tmp_path):
    subprocess.run([sys.executable, "-c", EXAMPLES[0]], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    assert (tmp_path / "map.svg").stat().st_size > 1000


@pytest.mark.parametrize("code", EXAMPLES[1:])
def test_the_examples_run(code, tmp_path, monkeypatch):
    """In this interpreter, which has imported everything already, and where warnings are errors."""
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": "__main__"})


def test_the_first_example_is_ten_lines():
    assert len([line for line in EXAMPLES[0].splitlines() if line.strip()]) <= 10


def test_every_file_and_notebook_it_names_exists():
    for path in re.findall(r"\]\((?!http)([^)]+)\)", TEXT) + re.findall(r'src="([^"]+)"', TEXT):
        assert Path(README.parent, path).exists(), path
    for name in re.findall(r"\| `(\d\d_\w+)` \|", TEXT):
        assert Path(README.parent, "notebooks", f"{name}.ipynb").exists()
    for path in re.findall(r"`((?:notebooks|data)/[^`]+)`", TEXT):
        assert Path(README.parent, path).exists(), path
