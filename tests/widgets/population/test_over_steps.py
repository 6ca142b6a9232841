"""A population of checkpoints: which models a step shows, where they stand, and what is saved of it."""

import json

import numpy as np
import pandas as pd
import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.widgets.population import crowd
from repsim_nb.widgets.population.colours import Colours
from repsim_nb.widgets.population.over_steps import AT, Moment, steps_of_models
from tests.widgets.test_saved_page import data_of

RUNS, LAST = ("tiny-neox-w64-d2", "tiny-neox-w32-d2"), "tiny-neox-w32-d4"
MODELS = [f"{run}@step{step}" for run in RUNS for step in (0, 1500)] + [LAST]
BEGIN, END = [MODELS[0], MODELS[2]], [MODELS[1], MODELS[3]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    shown = rs.Population(MODELS, "cka", n_rows=60, store=tmp_path_factory.mktemp("store"))
    shown.run()
    shown.wait()
    return shown


@pytest.fixture(autouse=True)
def at_the_end(request):
    if "run" in request.fixturenames:
        population = request.getfixturevalue("run")
        population.pair, population.span.value, population.step.value = None, "until", 1500


def points(run):
    return {point["name"]: point for point in run._views.crowd.view["points"]}


def test_population_shows_checkpoints_up_to_the_step_and_each_stays_in_its_place(run):
    assert (run.step.steps, run.step.value) == ([0, 1500], 1500)
    whole, colours = points(run), run._views.matrix.view["colours"]
    assert all(point["here"] for point in whole.values())
    assert {name for name, point in whole.items() if point["past"]} == {*BEGIN}
    run.step.value = 0
    now = points(run)
    assert {name for name, point in now.items() if point["here"]} == {*BEGIN, LAST}
    assert {name: (p["x"], p["y"]) for name, p in now.items()} == {name: (p["x"], p["y"]) for name, p in whole.items()}
    assert run._views.crowd.view["title"].endswith(", up to step 0")
    names, grid = run._views._ordered, run._views.matrix.view
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            later = bool({a, b} & {*END})
            assert (grid["values"][i][j] == "", "comes later" in grid["readouts"][i][j]) == (later, later)
            assert grid["colours"][i][j] == ("transparent" if later else colours[i][j])
    assert run.step.shown == 0


def test_population_shows_the_models_at_the_step_alone_in_the_colours_of_all(run):
    square = run.result["cka"].transpose("model_a", "model_b").to_pandas()
    whole = {
        (a, b): run._views.matrix.view["colours"][i][j]
        for i, a in enumerate(run._views._ordered)
        for j, b in enumerate(run._views._ordered)
    }
    run.step.value, run.span.value = 0, "at"
    names, grid = run._views._ordered, run._views.matrix.view
    assert sorted(names) == sorted([*BEGIN, LAST])
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            assert float(grid["values"][i][j]) == pytest.approx(square.loc[a, b], abs=0.005)
            assert grid["colours"][i][j] == whole[a, b]
    assert np.shape(grid["readouts"]) == (3, 3)
    assert not [line for line in run._views.crowd.view["lines"] if len(line) > 1]


def test_population_keeps_a_pair_of_which_one_is_not_shown(run):
    run.pair = MODELS[0], LAST
    run.wait()
    below = run.explorer
    run.span.value = "at"
    assert run._views.matrix.selected == []
    run.step.value = 0
    assert [run._views._ordered[place] for place in run._views.matrix.selected] == [MODELS[0], LAST]
    assert run.explorer is below, "a step computes nothing"


def test_population_draws_no_model_anew_for_a_step(run, monkeypatch):
    for name in ("crowd.view_of", "matrix.view_of"):
        monkeypatch.setattr(f"repsim_nb.widgets.population.{name}", lambda *given, **more: 1 / 0)
    for step in (0, 1500, 0):
        run.step.value = step
    assert run.error == ""


def test_population_saves_step_and_span_in_state_code_and_page(run, tmp_path):
    run.step.value, run.span.value = 0, "at"
    saved, code = run.state, run.code
    assert (json.loads(saved)["step"], json.loads(saved)["span"]) == (0, "at")
    run.step.value, run.span.value = 1500, "until"
    run.state = saved
    run.run()
    run.wait()
    assert run.state == saved
    made = {"result": run.result}
    exec("\n".join(line for line in code.splitlines() if "rs.compare_models" not in line), made)
    assert sorted(made["shown"]) == sorted([*BEGIN, LAST])
    assert made["at_step"].shape == (3, 3)
    held = data_of(run.save_html(tmp_path / "a.html").read_text(encoding="utf-8"))["population"]
    assert (held["steps"]["steps"], held["steps"]["value"], len(held["each"])) == ([0, 1500], 0, 2)
    assert held["each"][0]["matrix"] == run._views.matrix.view
    assert sorted(held["each"][1]["names"]) == sorted([*END, LAST])


def test_population_refuses_a_step_and_a_span_that_are_not_there(run):
    run.step.value = 7
    assert "step=7; the models have the steps 0, 1500" in run.error
    assert run.step.value == 1500
    run.step.value = 0
    assert run.error == ""
    with pytest.raises(InputError, match="span is 'since'; expected one of until, at"):
        run.state = json.dumps(json.loads(run.state) | {"span": "since"})


def test_steps_of_models_are_those_of_the_table_or_of_revisions_and_at_least_two():
    assert steps_of_models([*RUNS], None) == {}
    assert steps_of_models([MODELS[0], MODELS[2], LAST], None) == {}
    assert steps_of_models(MODELS, None) == {MODELS[0]: 0, MODELS[1]: 1500, MODELS[2]: 0, MODELS[3]: 1500}
    table = pd.DataFrame({"step": [10.0, 20.0]}, index=[*RUNS])
    assert steps_of_models([*RUNS, LAST], table) == {RUNS[0]: 10, RUNS[1]: 20}
    assert steps_of_models([*RUNS], pd.DataFrame({"step": ["10.0", "unknown"]}, index=[*RUNS])) == {}
    moment = Moment({"a": 1, "b": 2}, 2, AT)
    assert [each.among(["a", "b", "c"]) for each in moment.every] == [["a", "c"], ["b", "c"]]


def test_at_moment_joins_the_checkpoints_of_a_run_as_far_as_it_has_come():
    names, place = [f"run@step{step}" for step in (0, 1, 2)], np.array([0.0, 1.0, 3.0])
    whole = crowd.view_of(pd.DataFrame(abs(np.subtract.outer(place, place)), names, names), "", Colours(), [names])
    steps = {name: at for at, name in enumerate(names)}
    for step in (0, 1, 2):
        (line,) = crowd.at_moment(whole, Moment(steps, step), [names])["lines"]
        assert line == whole["lines"][0][: step + 1]


def test_names_on_the_map_stand_where_they_cover_no_other_point():
    names, place = ["a", "b", "far"], np.array([0.0, 0.3, 10.0])
    view = crowd.view_of(pd.DataFrame(abs(np.subtract.outer(place, place)), names, names), "", Colours())
    sides = {point["name"]: point["named"] for point in view["points"]}
    assert {sides["a"], sides["b"]} == {"left", "right"}
    assert sides["far"]
