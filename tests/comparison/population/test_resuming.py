"""A population that is killed resumes: nothing is extracted or computed twice, and the numbers are the same."""

import gc
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.activations import in_turn
from repsim_nb.activations.extraction import Plan
from repsim_nb.comparison.population import CHEAP
from repsim_nb.comparison.population.squares import BestLayers, Square
from repsim_nb.models.content import content_sha256

TWELVE = [
    *(f"tiny-neox-{shape}" for shape in ("w32-d2", "w64-d2", "w128-d2", "w32-d4", "w64-d4", "w32-d2@step0")),
    *("tiny-gelu-3l-s0", "tiny-gelu-3l-s1", "tiny-gelu-4l-s0", "tiny-solu-3l-s0", "tiny-solu-3l-s1", "tiny-solu-4l-s0"),
]
CORPORA = {
    "prose": [f"Sentence number {i} has its own words, such as {'a' * (i % 7)} or {i * i}." for i in range(30)],
    "code": [f"def f{i}(x):\n    return x * {i} + {i * i}\n" for i in range(30)],
}
KILLED = """\
import os, signal, sys
import repsim_nb as rs
from tests.comparison.population import test_resuming as asked

count = 0
def last_words(function, after):
    def counted(*given):
        global count
        count += 1
        if count > after:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given)
    return counted

kind, after, store = sys.argv[1], int(sys.argv[2]), sys.argv[3]
setattr(rs.Store, kind, last_words(getattr(rs.Store, kind), after))
asked.small(store)
"""


def small(store=None, layers="last"):
    return rs.compare_models(TWELVE[:3], ["cka", "procrustes"], CORPORA, layers=layers, n_rows=90, store=store)


@pytest.fixture
def counts(monkeypatch):
    """How often a model is run in a text, and a square is computed."""
    done = {"runs": 0, "squares": 0}

    def counted(owner, name, what):
        original = getattr(owner, name)

        def count(*given, **how):
            done[what] += 1
            return original(*given, **how)

        monkeypatch.setattr(owner, name, count)

    counted(Plan, "run", "runs")
    counted(Square, "computed", "squares")
    counted(BestLayers, "computed", "squares")
    return done


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("kind", "after", "left"), [("keep", 2, (4, 4)), ("keep_result", 3, (0, 1))])
def test_compare_models_killed_in_the_middle_resumes_with_what_is_missing(kind, after, left, counts, tmp_path):
    own = {**os.environ, "PYTHONPATH": str(Path(rs.__file__).parent.parent)}
    words = [sys.executable, "-c", KILLED, kind, str(after), str(tmp_path)]
    assert subprocess.run(words, env=own, check=False, capture_output=True).returncode == -signal.SIGKILL
    resumed = small(tmp_path)
    assert (counts["runs"], counts["squares"]) == left
    xr.testing.assert_identical(resumed, small())
    counts.update(runs=0, squares=0)
    xr.testing.assert_identical(small(tmp_path), resumed)
    assert (counts["runs"], counts["squares"]) == (0, 0)


def test_compare_models_computes_only_what_a_store_lacks(counts, tmp_path):
    how = {"layers": "best", "n_rows": 60, "store": tmp_path}
    one = rs.compare_models(TWELVE[:2], "cka", CORPORA["prose"], **how)
    assert counts == {"runs": 2, "squares": 3}
    both = rs.compare_models(TWELVE[:2], ["cka", "rsa"], CORPORA["prose"], **how)
    assert counts == {"runs": 2, "squares": 6}
    xr.testing.assert_equal(both.cka.drop_vars(["rsa_layer_a", "rsa_layer_b"]), one.cka)
    rs.compare_models(TWELVE[:3], "cka", CORPORA["prose"], **how)
    assert counts == {"runs": 3, "squares": 9}, "a third model has three pairs, and those of two are there"
    rs.compare_models(TWELVE[:2], "cka", CORPORA["prose"], **how, null=19)
    assert counts == {"runs": 3, "squares": 12}
    rs.compare_models(TWELVE[:2], "cka", CORPORA["prose"], **how, standardize=True)
    assert counts == {"runs": 3, "squares": 15}
    rs.Store(tmp_path).clear()
    assert not list(tmp_path.glob("**/*.npz"))


def test_a_damaged_result_is_computed_again(counts, tmp_path):
    how = {"layers": "last", "n_rows": 60, "store": tmp_path}
    before = rs.compare_models(TWELVE[:2], "cka", CORPORA["prose"], **how)
    square_and_whole = list(tmp_path.glob("results/*.npz"))
    assert len(square_and_whole) == 2
    for path in square_and_whole:
        path.write_bytes(path.read_bytes()[:100])
    xr.testing.assert_equal(rs.compare_models(TWELVE[:2], "cka", CORPORA["prose"], **how), before)
    assert counts == {"runs": 2, "squares": 2}


def test_compare_models_holds_one_of_many_models_at_a_time(monkeypatch, tmp_path):
    alive, load = [], in_turn.load_model

    def watched(name):
        gc.collect()
        assert not [each for each in alive if each() is not None]
        model = load(name)
        alive.append(weakref.ref(model.module))
        return model

    monkeypatch.setattr(in_turn, "load_model", watched)
    several = TWELVE[::2]
    found = rs.compare_models(several, CHEAP, CORPORA, layers="last", n_rows=160)
    tokenizers = {content_sha256(name, weights=False) for name in several}
    assert len(alive) == len(tokenizers) + 6, "once for each tokenizer, and each to run it on both texts"
    assert list(found) == list(CHEAP)
    assert dict(found.sizes) == {"corpus": 2, "model_a": 6, "model_b": 6}
    assert all(np.isfinite(values).all() for values in found.values())
