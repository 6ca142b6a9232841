"""make: an environment of its own, made once, renewed when the dependencies change."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
FAKE_PYTHON = """#!/bin/sh
echo "$0 $*" >> log
[ "$2" = venv ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python
exit 0
"""


@pytest.fixture
def clone(tmp_path):
    """A clone whose Python only takes note of what it is told."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((TOP / name).read_bytes())
    fake = tmp_path / "fake-python"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    return tmp_path


def make(clone, *arguments):
    """What the Pythons were told, line by line, and what make printed."""
    (clone / "log").write_text("")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "-C", clone, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    return (clone / "log").read_text().splitlines(), done


def test_the_environment_is_made_once_and_renewed_when_the_dependencies_change(clone):
    python = f"PYTHON={clone / 'fake-python'}"
    told, done = make(clone, "test", python)
    assert done.returncode == 0, done.stderr
    assert told == [
        f"{clone / 'fake-python'} -m venv .venv",
        ".venv/bin/python -m pip install --quiet --disable-pip-version-check -e .[dev] -c constraints.txt",
        ".venv/bin/python -m pytest -n 2 -m not rehearsal",
    ]
    assert make(clone, "test", python)[0] == told[2:]
    stamp = (clone / ".venv" / ".installed").stat().st_mtime
    os.utime(clone / "constraints.txt", (stamp + 5, stamp + 5))
    assert make(clone, "test", python)[0] == told[1:]


def test_no_python_is_one_clear_message(clone):
    told, done = make(clone, "test", "PYTHON=")
    assert done.returncode != 0
    assert told == []
    assert "repsim-nb needs Python 3.11 or newer" in done.stderr
    assert "make PYTHON=/path/to/python" in done.stderr


def test_a_python_that_is_too_old_is_passed_over(clone):
    for name, code in (("python3", 1), ("python3.13", 1), ("python3.12", 0), ("python3.11", 0)):
        (clone / "bin").mkdir(exist_ok=True)
        (clone / "bin" / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (clone / "bin" / name).chmod(0o755)
    path = f"PATH={clone / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["env", path, "make", "-C", clone, "-n", "test"], capture_output=True, text=True, check=True, timeout=120
    )
    assert '"python3.12" -m venv .venv' in done.stdout


def test_every_target_needs_the_environment_first(clone):
    for target in ("figures", "test", "docs", "lab", "app", "wheels", "check", "bench", "strip"):
        planned = make(clone, "-n", target, "PYTHON=python")[1].stdout
        assert "pip install" in planned, target
    assert "repsim-nb run --all --jobs 2 --out results" in make(clone, "-n", "PYTHON=python")[1].stdout, (
        "figures is what make alone does"
    )
    assert "-p preset quick" in make(clone, "-n", "figures", "PRESET=quick", "PYTHON=python")[1].stdout


def test_wheels_hold_what_notebooks_need(clone):
    planned = make(clone, "-n", "wheels", "PYTHON=python")[1].stdout
    assert 'pip wheel --disable-pip-version-check ".[lab]" -c constraints.txt -w wheels' in planned
    page = (TOP / "docs" / "how-to" / "offline.md").read_text(encoding="utf-8")
    assert 'pip wheel ".[lab]" -c constraints.txt -w wheels' in page
    assert page.count('--find-links wheels "repsim-nb[lab]"') == 2


def test_an_output_in_a_notebook_fails_the_check(tmp_path):
    nbstripout = [line for line in (TOP / "Makefile").read_text().splitlines() if line.startswith("NBSTRIPOUT := ")]
    options = nbstripout[0].split("nbstripout ", 1)[1]
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    cell = new_code_cell("k: int = 3", metadata={"tags": ["parameters"]})
    path = tmp_path / "nb.ipynb"
    nbformat.write(new_notebook(cells=[cell]), path)
    verify = f"nbstripout {options} --verify {path}"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    assert subprocess.run(verify, shell=True, check=False, env=environment).returncode == 0
    cell.outputs = [new_output("stream", text="7")]
    nbformat.write(new_notebook(cells=[cell]), path)
    assert subprocess.run(verify, shell=True, check=False, env=environment).returncode == 1


def test_conda_and_ci_use_the_same_list_of_dependencies():
    conda = (TOP / "environment.yml").read_text()
    assert "-c constraints.txt" in conda
    assert "-e .[dev]" in conda
    assert os.access(TOP / ".ci" / "run", os.X_OK)
    assert (TOP / ".ci" / "run").read_text().endswith("make check\nmake browser\nmake test\nmake rehearse\n")


def test_ci_covers_the_systems_and_versions_that_the_package_says_it_is_for():
    import yaml

    jobs = yaml.safe_load((TOP / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    steps = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert steps["check"] == ["make check"]
    assert steps["linux-macos"] == ["make browser", "make test PYTHON=python", "make figures"]
    assert steps["windows"][-1] == "python -m pytest -n 2"
    assert not any("make" in step for step in steps["windows"]), "there is no make on Windows"
    matrix = jobs["linux-macos"]["strategy"]["matrix"]
    assert matrix["system"] == ["ubuntu-latest", "macos-latest"]
    assert jobs["windows"]["runs-on"] == "windows-latest"
    said = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["classifiers"]
    versions = [line.rsplit(" ", 1)[1] for line in said if "Python :: 3." in line]
    assert versions == matrix["python"] == jobs["windows"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    used = {step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step}
    assert all(name.partition("@")[2] for name in used), "actions are pinned"


def test_the_citation_names_this_version_and_the_paper():
    import yaml

    citation = yaml.safe_load((TOP / "CITATION.cff").read_text())
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert str(citation["version"]) == project["version"]
    assert citation["license"] == project["license"]
    paper = citation["references"][0]
    assert paper["doi"] == "10.18653/v1/2023.emnlp-main.403"
    assert [author["family-names"] for author in paper["authors"]] == ["Brown", "Godfrey", "Konz", "Tu", "Kvinge"]


def test_a_browser_is_installed_unasked_or_not_at_all(clone):
    (clone / "bin").mkdir()
    tools = {"apt-get": 'echo "apt-get $*" >> log', "id": "echo 0", "sudo": 'echo "sudo $*" >> log; exit 1'}
    for name, does in tools.items():
        (clone / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
        (clone / "bin" / name).chmod(0o755)
    own = f"PATH={clone / 'bin'}"
    told, done = make(clone, "browser", own)
    assert told == ["apt-get update -qq", "apt-get install -qq -y chromium fonts-liberation"]
    (clone / "bin" / "id").write_text("#!/bin/sh\necho 1000\n")
    told, done = make(clone, "browser", own)
    assert told == ["sudo -n apt-get update -qq"]
    assert done.returncode == 0
    assert "Install one (chromium" in done.stderr
    (clone / "bin" / "chromium").write_text("#!/bin/sh\n")
    (clone / "bin" / "chromium").chmod(0o755)
    assert make(clone, "browser", own)[0] == []
