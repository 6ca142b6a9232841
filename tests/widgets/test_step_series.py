"""An explorer over training: every step is what `compare` gives, drawn on one scale, played, saved and refused."""

import json

import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.figures.scales import colours
from repsim_nb.widgets.step_series import offered, series
from repsim_nb.widgets.views import shared_limits
from tests.widgets.test_saved_page import data_of

RUN, OTHER = "tiny-neox-w64-d2", "tiny-neox-w32-d2"  # each with the steps 0 and 1500
TEXTS = tuple(f"Document {i} says: import module_{i} as m{i}; the value of x is {i * 7}." for i in range(12))
SMALL = {"corpus": TEXTS, "n_rows": 60, "measure": "procrustes"}


@pytest.fixture(scope="module")
def run():
    explorer = rs.Explorer(RUN, [RUN, OTHER], over="a", **SMALL)
    explorer.run()
    return explorer


@pytest.fixture(autouse=True)
def at_the_end(request):
    if "run" in request.fixturenames:
        explorer = request.getfixturevalue("run")
        explorer.step, explorer.against, explorer.selected = 1500, RUN, None


def test_explorer_over_training_compares_every_step_as_compare_does(run):
    assert [*run.by_step] == [0, 1500]
    for step, results in run.by_step.items():
        for b in (RUN, OTHER):
            direct = rs.compare(f"{RUN}@step{step}", b, list(TEXTS), measure="procrustes", n_rows=60)
            xr.testing.assert_allclose(results[b].drop_attrs(), direct.drop_attrs(), rtol=0, atol=1e-12)
    assert not np.allclose(run.by_step[0][RUN], run.by_step[1500][RUN])


def test_explorer_over_training_draws_all_steps_on_one_scale_and_keeps_the_chosen_cell(run):
    every = [result for results in run.by_step.values() for result in results.values()]
    ends = shared_limits(every)
    assert ends[1] >= max(result.max().item() for result in every)
    run.selected = 1, 2
    run.wait()
    for step in (0, 1500):
        run._views.slider.value = step  # what the browser sends
        view = run._views.maps.by_model[RUN].view
        assert (run.step, run._views.slider.shown, run.selected) == (step, step, (1, 2))
        assert run.result.attrs["model_a"] == f"{RUN}@step{step}"
        assert view["title"] == f"{RUN}@step{step} and {RUN}"
        assert view["colours"] == colours(run.result, ends)[0].tolist()
        assert run._views.maps.by_model[RUN].selected == [1, 2]
        assert f"{RUN}@step{step}, layer 1" in run._behind.pair.value
    run.wait()


def test_explorer_draws_and_computes_a_step_once(run, monkeypatch):
    run.selected = 1, 1
    for step in (0, 1500):
        run.step = step
        run.wait()
    for name in ("view_of", "curves_as_html"):
        monkeypatch.setattr(f"repsim_nb.widgets.layer_views.{name}", lambda *given: 1 / 0)
    monkeypatch.setattr("repsim_nb.widgets.behind.look", lambda *given: 1 / 0)
    shown = []
    for step in (0, 1500, 0):
        run.step = step
        run.wait()
        shown.append((run._views.maps.by_model[RUN].view["title"], run._behind.closeup.tokens.value))
    assert run.error == ""
    assert shown[0] == shown[2] != shown[1]
    assert "<mark>" in shown[1][1]


def test_explorer_over_training_asked_again_loads_no_model(run, monkeypatch):
    monkeypatch.setattr("repsim_nb.widgets.answer.load_model", lambda name: 1 / 0)
    monkeypatch.setattr("repsim_nb.widgets.answer.aligned", lambda *given: 1 / 0)
    assert "2 training steps" in run._bar.estimate.value
    assert "extracted already" in run._bar.estimate.value
    run.step = 0
    run.measure.value = "cka"
    run.run()
    assert run.step == 0, "a run keeps the step"
    run.measure.value = "procrustes"
    run.run()


def test_explorer_over_training_is_restored_and_copied_with_its_step(run):
    run.step, run.selected = 0, (2, 1)
    run.wait()
    saved = run.state
    assert (json.loads(saved)["over"], json.loads(saved)["step"]) == ("a", 0)
    assert json.loads(rs.Explorer.from_state(saved).state) == json.loads(saved)
    run.step, run.over.value = 1500, None
    run.state = saved
    run.run()
    run.wait()
    assert (run.step, run.selected, run.state) == (0, (2, 1), saved)
    made = {}
    exec(run.code, made)
    xr.testing.assert_allclose(made["result"].drop_attrs(), run.result.drop_attrs(), rtol=0, atol=1e-12)
    assert {*made["results"]} == {(step, b) for step in (0, 1500) for b in (RUN, OTHER)}
    assert made["tokens"].token.iloc[0] in run._behind.closeup.tokens.value
    texts = rs.Explorer(RUN, OTHER, over="both").command
    assert f"repsim-nb compare {RUN}@step1500 {OTHER}@step1500" in texts


def test_save_html_of_a_series_holds_every_step_on_one_scale(run, tmp_path):
    run.step, run.selected = 0, (1, 1)
    run.wait()
    held = data_of(run.save_html(tmp_path / "a.html").read_text(encoding="utf-8"))
    every = [result for results in run.by_step.values() for result in results.values()]
    assert (held["steps"]["steps"], held["steps"]["value"]) == ([0, 1500], 0)
    for one, result in zip(held["maps"], every, strict=True):
        np.testing.assert_allclose(one["numbers"], result.values, rtol=1e-5)
    assert len({json.dumps(one["view"]["scale"]) for one in held["maps"]}) == 1
    assert held["selected"] == [0, 1, 1]


def test_export_of_a_series_writes_the_step_that_is_shown(run, tmp_path):
    run.step = 0
    names = {file.name for file in run.export(tmp_path)}
    assert f"procrustes--{RUN}@step0--{OTHER}.nc" in names
    assert not any("step1500" in name for name in names)


def test_explorer_refuses_steps_and_series_that_are_not_there(run):
    with pytest.raises(InputError, match=r"step=7; the steps are 0, 1500"):
        run.step = 7
    run._views.slider.value = 7
    assert "step=7" in run.error
    run._views.slider.value = 0
    assert (run.error, run.step) == ("", 0)
    with pytest.raises(InputError, match=r'over=.c.; expected None, "a", "b" or "both"'):
        rs.Explorer(RUN, OTHER, over="c")
    with pytest.raises(InputError, match=f"not two training steps of {RUN}@step0"):
        rs.Explorer(f"{RUN}@step0", OTHER, over="a")
    with pytest.raises(InputError, match="no result is over training"):
        rs.Explorer(RUN, OTHER).step = 0
    with pytest.raises(InputError, match="over is 3; expected"):
        run.state = json.dumps(json.loads(run.state) | {"over": 3})


def test_the_menu_offers_what_has_checkpoints_and_lets_go_of_what_has_none():
    explorer = rs.Explorer(RUN, "tiny-gelu-3l-s0")
    assert [value for _, value in explorer.over.options] == [None, "a"]
    explorer.over.value = "a"
    assert explorer.question.over == "a"
    explorer.model_a.value = "tiny-gelu-3l-s1"  # with its last step alone
    assert (explorer.over.value, explorer.question.over, explorer.error) == (None, None, "")
    assert explorer.over.layout.display == "none"


def test_series_holds_the_steps_that_all_models_in_training_have():
    deep = "tiny-neox-w64-d4"
    assert [*series(deep, [RUN], "a")] == [0, 50, 150, 500, 1000, 1500]
    assert series(deep, [RUN, OTHER], "both") == {
        step: (f"{deep}@step{step}", (f"{RUN}@step{step}", f"{OTHER}@step{step}")) for step in (0, 1500)
    }
    assert series(deep, [RUN], "b")[0] == (deep, (f"{RUN}@step0",))
    assert offered("tiny-gelu-3l-s0", ["tiny-gelu-3l-s0"]) == {"as they are chosen": None}
