"""A built wheel carries data/ and notebooks/, works where no checkout is, and can be built from the source archive."""

import os
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.notebook_files import save, write

TOP = Path(__file__).parent.parent
LIMIT = 90_000_000  # bytes; the package index refuses 100 MB


def call(*arguments, **options):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the source archive, and with the wheel that is built from that archive alone."""
    folder = tmp_path_factory.mktemp("dist")
    isolation = ["--no-isolation"] if find_spec("hatchling") else []
    call("-m", "build", *isolation, "--outdir", folder, TOP, timeout=600)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """The environment of a process that sees the wheel's content and not the checkout."""
    site = tmp_path_factory.mktemp("site")
    call("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel, timeout=300)
    return {**os.environ, "PYTHONPATH": str(site)}


@pytest.mark.slow
def test_the_wheel_holds_every_committed_file_of_data_and_notebooks(wheel):
    listed = subprocess.run(
        ["git", "ls-files", "data", "notebooks"], cwd=TOP, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout, so what is committed is not known")
    inside = {name.removeprefix("repsim_nb/") for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in listed.stdout.split() if not name.endswith(".gitkeep")} <= inside
    assert "py.typed" in inside


@pytest.mark.slow
def test_the_wheel_of_the_source_archive_is_that_of_the_checkout(wheel):
    """File by file, so that it need not be built twice."""
    assert wheel.stat().st_size < LIMIT
    inside = zipfile.ZipFile(wheel)
    names = {name for name in inside.namelist() if ".dist-info/" not in name}
    for name in names:
        shipped = name.removeprefix("repsim_nb/")
        source = TOP / (shipped if shipped.startswith(("data/", "notebooks/")) else name)
        assert inside.read(name) == source.read_bytes(), name
    package = {path.relative_to(TOP).as_posix() for path in (TOP / "repsim_nb").rglob("*.py")}
    assert package <= names


@pytest.mark.slow
def test_the_source_archive_holds_tests_and_manual_and_nothing_that_was_built(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "tests/test_wheel.py",
        "docs/conf.py",
        "docs/index.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "Makefile",
    } <= names
    assert not [name for name in names if name.startswith(("results/", ".venv/", "docs/_build/", "wheels/"))]


@pytest.mark.slow
def test_an_installed_wheel_lists_its_notebooks_and_runs_one(elsewhere, tmp_path):
    where = call(
        "-c",
        "import repsim_nb.system.shipped as s; print(s.checkout(), s.data_dir())",
        env=elsewhere,
        cwd=tmp_path,
    )
    assert where == f"None {elsewhere['PYTHONPATH']}/repsim_nb/data\n"
    names = call("-m", "repsim_nb", "list", "notebooks", "--csv", env=elsewhere, cwd=tmp_path)
    shipped = {path.stem for path in (TOP / "notebooks").glob("*.ipynb")}
    assert {line.split(",")[0] for line in names.splitlines()[1:]} == shipped

    path = write(tmp_path, "nb", save("one"), "import repsim_nb; print(repsim_nb.__file__)")
    call("-m", "repsim_nb", "run", path, env=elsewhere, cwd=tmp_path, timeout=300)
    assert (tmp_path / "results" / "nb" / "one.svg").is_file()
    assert elsewhere["PYTHONPATH"] in (tmp_path / "results" / "nb" / "nb.ipynb").read_text()
