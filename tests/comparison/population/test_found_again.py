"""An equal call is answered from the store without loading a model; any other is not."""

import shutil

import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.activations import in_turn
from repsim_nb.system.shipped import data_dir

TEXTS = {"one": [f"def function_{k}(x): return x + {k}" for k in range(40)]}


@pytest.fixture
def loads(monkeypatch):
    loaded, load = [], in_turn.load_model
    monkeypatch.setattr(in_turn, "load_model", lambda name: (loaded.append(str(name)), load(name))[1])
    return loaded


@pytest.fixture
def folders(tmp_path):
    for name in ("tiny-neox-w32-d2", "tiny-neox-w32-d2@step0"):
        shutil.copytree(data_dir() / name, tmp_path / name.replace("@", "-"))
    return [str(tmp_path / "tiny-neox-w32-d2"), str(tmp_path / "tiny-neox-w32-d2-step0")]


def compared(folders, store, **how):
    return rs.compare_models(folders, "cka", TEXTS, n_rows=60, store=store, **how)


def test_compare_models_loads_models_that_differ_in_weights_alone_once_each(folders, loads, tmp_path):
    result = compared(folders, None)
    assert loads == [folders[0], *folders], "the first one also for the tokenizer that both have"
    again = rs.compare_models([rs.load_model(folder) for folder in folders], "cka", TEXTS, n_rows=60)
    xr.testing.assert_equal(result.cka.drop_vars(["model_a", "model_b"]), again.cka.drop_vars(["model_a", "model_b"]))


def test_compare_models_answers_an_equal_call_without_loading_a_model(folders, loads, tmp_path):
    first = compared(folders, tmp_path / "store")
    loads.clear()
    xr.testing.assert_identical(compared(folders, tmp_path / "store"), first)
    assert loads == []


@pytest.mark.parametrize("how", [{"seed": 1}, {"layers": "last"}, {"standardize": True}, {"rows_per_document": 1}])
def test_compare_models_answers_no_other_call(folders, loads, tmp_path, how):
    compared(folders, tmp_path / "store")
    loads.clear()
    xr.testing.assert_equal(compared(folders, tmp_path / "store", **how), compared(folders, None, **how))
    assert loads


def test_compare_models_notices_that_a_file_of_a_model_has_changed(folders, tmp_path):
    first = compared(folders, tmp_path / "store")
    shutil.copy(data_dir() / "tiny-neox-w32-d2-s1" / "model.safetensors", folders[0])
    other = compared(folders, tmp_path / "store")
    assert abs(other.cka - first.cka).max() > 0.01
    xr.testing.assert_equal(other, compared(folders, None))
