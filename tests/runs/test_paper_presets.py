"""The paper presets run from the first cell to the last, against a hub on this machine with stand-ins."""

import shutil
from pathlib import Path

import platformdirs
import pytest

import repsim_nb as rs
from tests.support import published
from tests.support.hub import Hub, pointing_at

pytestmark = pytest.mark.slow
MANY = [*(f"EleutherAI/pythia-{size}-deduped" for size in ("70m", "160m", "410m", "2.8b", "6.9b"))]
ENCODERS = (
    *("BAAI/bge-large-en-v1.5", "WhereIsAI/UAE-Large-V1", "BAAI/bge-small-en-v1.5"),
    *("intfloat/e5-small-v2", "intfloat/e5-base-v2"),
)
COUNTS = {  # the only parameters that are not the preset's own: fewer rows, documents and models
    "00_start_here": {"n_rows": 256},
    "01_activation_asymmetry": {"n_fit": 48, "n_report": 16, "steps": 10},
    "02_locating_generalization": {"size": 3, "n_rows": 64, "pairs": 50, "measures": ["procrustes"]},
    "03_scaling_families": {"n_rows": 64, "n_sequences": 4, "length": 32, "n_null": 19},
    "04_measures_compared": {"n_rows": 64, "measures": ["cka", "procrustes", "cca", "rsa", "mutual_knn"]},
    "05_a_real_model": {"n_documents": 12, "length": 24, "n_null": 19},
    "06_convergence": {
        "runs": {"70m": ["EleutherAI/pythia-70m-deduped"], "160m": ["EleutherAI/pythia-160m-deduped"]},
        "steps": [0, 512, 143_000],
        "sites": ["ov"],
        "n_rows": 64,
        "few_rows": 32,
    },
    "07_embedding_models": {
        "models": [*ENCODERS],
        "families": dict(zip(ENCODERS, ("bge", "UAE", "bge", "e5", "e5"), strict=True)),
        "corpora": ["BeIR/arguana", "BeIR/scifact"],
        "limit": 30,
    },
    "08_many_models": {
        "models": MANY,
        "families": dict.fromkeys(MANY[:3], "NeoX architecture") | dict.fromkeys(MANY[3:], "other"),
        "measures": ["cka", "procrustes", "rsa", "jaccard"],
        "n_rows": 30,
        "few_rows": 12,
        "n_null": 19,
    },
    "09_stitching_across_families": {
        "models": MANY[:3],
        "layers": [1, 2],
        "into": [1, 2],
        "steps": 20,
        "n_fit": 48,
        "n_report": 8,
        "measures": ["cka"],
    },
    "10_what_finetuning_changed": {"n_rows": 64, "n_report": 4, "n_null": 19},
}
STEPS = ("step0", *(f"step{2**power}" for power in range(10)), "step1000", "step10000", "step143000")
DEDUPED = ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    published.write_pythia(folder, "70m", steps=STEPS)
    published.write_pythia(folder, "160m", steps=STEPS, pickled=True)
    for size in DEDUPED:
        more = ("step512", "step143000") if size in DEDUPED[:2] else ()
        published.write_pythia(folder, size, "-deduped", steps=("step0", *more) if size in DEDUPED[:3] else ())
    published.write_toys(folder)
    published.write_qwen(folder)
    published.write_feathers(folder, (*published.FEATHERS[:3], *published.FEATHERS[10:13]))
    for write in (
        *(published.write_pile, published.write_mnli, published.write_hans),
        *(published.write_winogrande, published.write_humaneval),
    ):
        write(folder)
    for seed, name in enumerate(ENCODERS):
        published.write_sentence_encoder(folder, name, seed)
    for name in ("arguana", "scifact"):
        published.write_beir(folder, name)
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


def test_every_paper_preset_is_rehearsed():
    books = rs.list_notebooks()
    with_one = {name for name, path in books.path.items() if '"paper": {' in Path(path).read_text().replace("\\", "")}
    assert with_one == set(COUNTS)


@pytest.mark.rehearsal
@pytest.mark.parametrize("name", COUNTS)
def test_run_notebook_rehearses_the_paper_preset(name, environment, tmp_path):
    run = rs.run_notebook(name, {"preset": "paper"} | COUNTS[name], out=tmp_path)
    assert run.figures
    assert run.tables
