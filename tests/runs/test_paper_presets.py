"""The paper presets run from the first cell to the last, against a hub on this machine with stand-ins."""

import shutil
from pathlib import Path

import platformdirs
import pytest

import repsim_nb as rs
from tests.support import published
from tests.support.hub import Hub, pointing_at

pytestmark = pytest.mark.slow
COUNTS = {  # the only parameters that are not the preset's own: fewer rows, documents and models
    "00_start_here": {"n_rows": 256},
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    published.write_pythia(folder, "70m", steps=("step0",))
    published.write_pythia(folder, "160m", steps=("step0",), pickled=True)
    with Hub(folder) as served:
        yield served


@pytest.fixture
def environment(hub, tmp_path, monkeypatch):
    """That of a kernel which sees this hub only, and whose caches are empty but for the embedded corpus."""
    rs.load_corpus("python-docs")
    kept = Path(platformdirs.user_cache_dir("repsim-nb"), "corpora")
    if kept.is_dir():
        shutil.copytree(kept, tmp_path / "cache" / "repsim-nb" / "corpora")
    own = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name, value in (pointing_at(hub.endpoint, tmp_path / "home") | own).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", COUNTS)
def test_run_notebook_rehearses_the_paper_preset(name, environment, tmp_path):
    run = rs.run_notebook(name, {"preset": "paper"} | COUNTS[name], out=tmp_path)
    assert run.figures
    assert run.tables
