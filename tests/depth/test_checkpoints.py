"""Checkpoints of a training run against its end, the step before and another run."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.activations.extraction import Plan
from repsim_nb.depth import checkpoints as module
from repsim_nb.depth import maps_of, over_training
from repsim_nb.depth.checkpoints import step_of
from repsim_nb.errors import InputError

RUN = "tiny-neox-w64-d4"
TEXTS = [f"Document {i} says: import module_{i} as m{i}; the value of x is {i * 7}, not {i**2}." for i in range(25)]
SMALL = {"corpus": TEXTS, "n_rows": 120}


def test_over_training_sorts_its_steps_and_approaches_the_end():
    found = over_training(RUN, ["step500", "step0", "step50"], **SMALL)
    assert found.step.values.tolist() == [0, 50, 500]
    assert found.similarity.dims == ("step", "layer")
    assert (found.similarity.sel(step=500) > found.similarity.sel(step=0)).all()
    assert ((found.effective_rank >= 1) & (found.effective_rank <= 64)).all()
    alone = rs.compare("tiny-neox-w64-d4@step50", "tiny-neox-w64-d4", **SMALL)
    assert np.allclose(found.similarity.sel(step=50), np.diag(alone))


def test_over_training_says_what_has_no_steps():
    with pytest.raises(InputError, match="'main' contains no step number"):
        over_training("tiny-neox-w64-d4", ["main"])
    with pytest.raises(InputError, match="has no checkpoints"):
        over_training("tiny-bert-nli-00")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers_a": [1]}, "no argument 'layers_a'. Did you mean 'layers'"),
        ({"groups": [0, 1]}, "groups would have no effect"),
        ({"against": "previuos"}, "Did you mean 'previous'"),
        ({"against": "previous"}, "needs two checkpoints or more, got tiny-neox-w64-d4@step500 alone"),
        ({"against": ["final"]}, "expected .final., .previous. or another run"),
        ({"against": {0: "tiny-neox-w64-d4@step0"}}, r"has no step 500; it has \[0\]"),
        ({"revisions": ["step500", "step50", "step500"]}, "are both step 500; give each step once"),
        ({"revisions": ["seed1-1000"]}, "several numbers"),
        ({"model": {0: "tiny-neox-w64-d4@step0"}}, "revisions would have no effect: the mapping already says"),
        ({"model": {0: "a", "step0": "b"}, "revisions": None}, "a and b are both step 0"),
        ({"model": {0: "a"}, "revisions": None, "against": "b"}, "Give against a mapping too"),
        ({"model": "owner/name", "revisions": None}, "Of a hub id or folder .* pass revisions"),
        ({"debiased": False}, r'a parameter of the measure: pass measure=get_measure\("cka", debiased='),
        ({"rows": "mean", "rows_per_document": 3}, "rows_per_document would have no effect"),
        ({"packing": "pakced"}, "Did you mean 'packed'"),
        ({"null": 3}, "at least 19"),
        ({"leave_out_norms": 0.5}, "above 1"),
        ({"memory_limit": -1}, "expected a positive number of bytes"),
    ],
    ids=lambda given: ",".join(given) if isinstance(given, dict) else "",
)
def test_over_training_names_what_is_wrong_before_a_model_is_loaded(given, message, monkeypatch):
    monkeypatch.setattr("repsim_nb.depth.checkpoints.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=message):
        over_training(**{"model": "tiny-neox-w64-d4", "revisions": ["step500"], "n_rows": 300, **given})


def test_over_training_takes_the_options_of_compare(tmp_path):
    """Each of them gives what compare gives of the checkpoint and the final model."""
    model, how = "tiny-neox-w64-d4", {"rows": "last", "packing": "packed", "seed": 3, "n_rows": 150}
    sure = {"interval": 0.9, "null": 39, "remove_components": 1}
    course = over_training(model, ["step50"], layers=[1, 3], store=tmp_path, **how, **sure)
    expected = rs.compare(f"{model}@step50", model, layers_a=[1, 3], layers_b=[1, 3], **how, **sure)
    assert course.layer.values.tolist() == [1, 3]
    np.testing.assert_allclose(course.similarity[0], np.diag(expected), atol=1e-12)
    for name in ("low", "high", "null_mean", "p_value"):
        np.testing.assert_allclose(course[name][0], np.diag(expected[name]), atol=1e-12)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_over_training_uses_the_parameters_of_its_measure():
    biased = rs.get_measure("cka", debiased=False)
    plain = over_training(RUN, ["step50"], **SMALL, measure=biased).similarity.squeeze()
    alone = rs.compare("tiny-neox-w64-d4@step50", "tiny-neox-w64-d4", **SMALL, measure=biased)
    assert np.allclose(plain, np.diag(alone))


@pytest.fixture
def runs(monkeypatch):
    """The names of the models that ran, in their order."""
    ran = []

    def run(plan, *args):
        ran.append(plan.model.provenance["model"])
        return real(plan, *args)

    real = Plan.run
    monkeypatch.setattr(Plan, "run", run)
    return ran


def test_over_training_is_one_at_the_end_and_against_itself_at_every_step():
    end = over_training(RUN, [rs.models.checkpoints(RUN)[-1]], **SMALL)
    itself = over_training(RUN, ["step0", "step50"], against=RUN, **SMALL)
    np.testing.assert_allclose(end.similarity, 1, atol=1e-9)
    np.testing.assert_allclose(itself.similarity, 1, atol=1e-9)
    assert itself.reference.values.tolist() == itself.checkpoint.values.tolist() == [f"{RUN}@step0", f"{RUN}@step50"]


def test_over_training_against_the_previous_step_has_no_first_step_and_runs_each_model_once(runs):
    course = over_training(RUN, ["step500", "step0", "step50"], against="previous", **SMALL)
    assert runs == [f"{RUN}@step50", f"{RUN}@step0", f"{RUN}@step500"]
    assert course.step.values.tolist() == [50, 500]
    assert course.reference.values.tolist() == [f"{RUN}@step0", f"{RUN}@step50"]
    assert course.attrs["against"] == "previous"
    for step, other in ((50, 0), (500, 50)):
        expected = rs.compare(f"{RUN}@step{step}", f"{RUN}@step{other}", **SMALL)
        np.testing.assert_allclose(course.similarity.sel(step=step), np.diag(expected), atol=1e-12)


def test_over_training_against_another_run_compares_equal_steps():
    other = "tiny-neox-w32-d8"
    course = over_training(RUN, ["step50", "step500"], against=other, layers=[1, 4], measure="procrustes", **SMALL)
    for step in (50, 500):
        pair = f"{RUN}@step{step}", f"{other}@step{step}"
        expected = rs.compare(*pair, layers_a=[1, 4], layers_b=[1, 4], measure="procrustes", **SMALL)
        np.testing.assert_allclose(course.similarity.sel(step=step), np.diag(expected), atol=1e-12)
    assert course.similarity.attrs["direction"] == "dissimilarity"
    with pytest.raises(InputError, match=r"Pass layers that both have, such as layers=\[0, 1\]"):
        over_training(RUN, ["step50"], against=other, **SMALL)


def test_over_training_refuses_runs_of_different_tokens():
    steps = {0: "tiny-neox-w32-d2"}
    with pytest.raises(InputError, match="have different rows, since their tokenizers or contexts differ"):
        over_training(steps, against={0: "tiny-bert-nli-00"}, layers=[0, 1], **SMALL)


def test_over_training_takes_models_in_memory_by_step():
    held = {step: rs.load_model(f"{RUN}@step{step}") for step in (500, 50)}
    course = over_training(held, **SMALL)
    expected = rs.compare(held[50], held[500], **SMALL)
    assert course.step.values.tolist() == [50, 500]
    np.testing.assert_allclose(course.similarity.sel(step=50), np.diag(expected), atol=1e-12)
    np.testing.assert_allclose(course.similarity.sel(step=500), 1, atol=1e-9)
    by_name = over_training({f"step{step}": f"{RUN}@step{step}" for step in held}, **SMALL)
    np.testing.assert_array_equal(course.similarity, by_name.similarity)
    with ThreadPoolExecutor(1) as pool, pytest.raises(InputError, match="a model in memory, which cannot be sent"):
        over_training(held, executor=pool, **SMALL)


def test_over_training_takes_documents_of_rows_as_compare_does():
    groups = np.arange(120) // 10
    how = {"groups": groups, "interval": 0.9, "null": 19, "between_documents": True, **SMALL}
    course = over_training(RUN, ["step50"], layers=[2, 3], **how)
    expected = rs.compare(f"{RUN}@step50", RUN, layers_a=[2, 3], layers_b=[2, 3], **how)
    alone = over_training(RUN, ["step50"], layers=[2, 3], interval=0.9, **SMALL)
    for name in ("low", "high", "null_mean", "p_value"):
        np.testing.assert_allclose(course[name][0], np.diag(expected[name]), atol=1e-12)
    assert not np.allclose(course.low, alone.low)


def test_over_training_keeps_the_map_of_every_step_as_compare_returns_it(tmp_path):
    how = {"interval": 0.9, "null": 39, **SMALL}
    course = over_training(RUN, ["step0", "step50"], layers=[0, 4], maps=True, **how)
    course.to_netcdf(tmp_path / "course.nc")
    read = xr.load_dataset(tmp_path / "course.nc")
    for found in (maps_of(course), maps_of(read)):
        assert list(found) == [0, 50]
        for step, result in found.items():
            expected = rs.compare(f"{RUN}@step{step}", RUN, layers_a=[0, 4], layers_b=[0, 4], **how)
            xr.testing.assert_allclose(result, expected, atol=1e-12)
            assert result.attrs == expected.attrs
            np.testing.assert_array_equal(np.diag(result), course.similarity.sel(step=step))
    rs.figures.heatmap(found[50])
    with pytest.raises(InputError, match=r"over_training\(..., maps=True\)"):
        maps_of(course.drop_vars("map"))


def test_over_training_holds_one_model_at_a_time(monkeypatch):
    alive, load = weakref.WeakSet(), module.load_model

    def watched(*args, **kwargs):
        gc.collect()
        assert len(alive) == 0
        model = load(*args, **kwargs)
        alive.add(model)
        return model

    monkeypatch.setattr(module, "load_model", watched)
    for against in ("final", "previous"):
        over_training(RUN, ["step0", "step50"], against=against, layers=[1], **SMALL)


@pytest.mark.parametrize("against", ["final", "previous", "tiny-neox-w32-d8"])
def test_over_training_resumes_without_running_a_finished_checkpoint_again(runs, tmp_path, monkeypatch, against):
    how = {"against": against, "layers": [1, 2], "store": tmp_path, **SMALL}
    steps = ["step0", "step50", "step500"]
    compare, done = module.compare_activations, []

    def killed(*args):
        if done:
            raise KeyboardInterrupt
        done.append(args)
        return compare(*args)

    monkeypatch.setattr(module, "compare_activations", killed)
    with pytest.raises(KeyboardInterrupt):
        over_training(RUN, steps, **how)
    monkeypatch.setattr(module, "compare_activations", compare)
    finished = set(runs)
    assert len(finished) == len(runs) == len(list(tmp_path.glob("*.safetensors")))
    runs.clear()
    resumed = over_training(RUN, steps, **how)
    assert not finished & set(runs)
    assert len(set(runs)) == len(runs)
    runs.clear()
    again = over_training(RUN, steps, **how)
    assert runs == []
    xr.testing.assert_identical(again, resumed)


def test_over_training_reads_the_step_in_any_usual_name():
    names = ["step1000", "stage1-step1000-tokens5B", "seed3-step1000", "checkpoint-1000", "step_1k", "1000", 1000]
    assert [step_of(name) for name in names] == [1000] * len(names)


def test_over_training_against_the_previous_step_is_the_same_on_an_executor():
    steps = ["step0", "step50", "step500"]
    here = over_training(RUN, steps, against="previous", layers=[1, 4], **SMALL)
    with ThreadPoolExecutor(1) as pool:
        there = over_training(RUN, steps, against="previous", layers=[1, 4], executor=pool, **SMALL)
    xr.testing.assert_allclose(here, there, atol=1e-9)
