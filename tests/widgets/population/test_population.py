"""The explorer of many models: what it asks, shows, saves and refuses."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.widgets.model_picker import checkpoints_of
from repsim_nb.widgets.population import crowd, matrix
from repsim_nb.widgets.population.colours import Colours, columns_of
from repsim_nb.widgets.population.findings import findings
from repsim_nb.widgets.population.pickers import members_of_family

NAMES = ["tiny-neox-w32-d2", "tiny-neox-w32-d4", "tiny-neox-w64-d2", "tiny-neox-w64-d4", "tiny-gelu-3l-s0"]
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def run(store):
    shown = rs.Population(NAMES, ["cka", "rsa"], n_rows=150, store=store)
    shown.run()
    shown.wait()
    return shown


def population(store, **how):
    return rs.Population(NAMES, ["cka", "rsa"], n_rows=150, store=store, **how)


def test_population_gives_what_compare_models_gives(run, store):
    mine = rs.compare_models(NAMES, ["cka", "rsa"], layers="last", n_rows=150)
    xr.testing.assert_allclose(run.result, mine)
    assert run.status == "done"
    assert run.error == ""


def test_population_runs_as_its_code_says(run):
    said = {}
    exec(run.code, said)
    xr.testing.assert_allclose(said["result"], run.result)


def test_population_goes_down_from_a_pair_to_layers_and_tokens(run):
    run.pair = "tiny-neox-w64-d2", "tiny-gelu-3l-s0"
    run.wait()
    explorer = run.explorer
    assert explorer.result.sizes == {"layer_a": 3, "layer_b": 4}
    again = rs.compare("tiny-neox-w64-d2", "tiny-gelu-3l-s0", n_rows=150)
    xr.testing.assert_allclose(explorer.result.drop_attrs(), again.drop_attrs())
    explorer.selected = 1, 2
    explorer.wait()
    assert "<mark>" in explorer._behind.closeup.tokens.value
    run.pair = None
    assert run.explorer is None
    assert run.comm is not None, "only the explorer is closed"
    assert run._views.crowd.comm is not None


def test_population_shows_one_pair_on_map_and_matrix(run):
    views = run._views
    views.matrix.selected = [0, 3]
    a, b = (views._ordered[place] for place in (0, 3))
    assert run.pair == (a, b)
    assert {views._names[place] for place in views.crowd.chosen} == {a, b}
    views.crowd.chosen = [1, 2]
    assert run.pair == (views._names[1], views._names[2])
    assert [views._ordered[place] for place in views.matrix.selected] == list(run.pair)
    run.pair = None


def test_from_state_restores_what_was_chosen_and_shown(run, store):
    run.measure.value, run.pair = "rsa", tuple(NAMES[:2])
    found = rs.Population.from_state(run.state)
    assert found.asked == run.asked
    found.run()
    assert (found.pair, found.measure.value) == (run.pair, "rsa")
    assert json.loads(found.state) == json.loads(run.state)
    run.measure.value, run.pair = "cka", None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ["tiny-neox-w32-d2"]}, "at least two models"),
        ({"models": ["tiny-neox-w32-d2", "tiny-nex"]}, "tiny-ne"),
        ({"layers": "lst"}, "'last'"),
        ({"pair": ["one"]}, "two models or null"),
        ({"n_rows": "many"}, "an integer"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_from_state_refuses_what_is_wrong(run, change, message):
    with pytest.raises(InputError, match=message):
        rs.Population.from_state(json.dumps(json.loads(run.state) | change))


def test_population_says_what_a_run_takes_and_refuses_what_has_no_effect():
    assert "5 models, 15 pairs · 150 rows" in population(None)._bar.estimate.value
    with pytest.raises(InputError, match="measures"):
        rs.Population(NAMES, mesures="cka")
    with pytest.raises(InputError, match="at least two"):
        rs.Population([NAMES[0]])
    shown = population(None)
    with pytest.raises(InputError, match="Run a comparison first"):
        shown.pair = tuple(NAMES[:2])
    with pytest.raises(InputError, match="nothing to export"):
        shown.export()


def test_population_sets_the_parameters_of_each_measure_in_code_command_and_state():
    population = rs.Population(
        ["tiny-neox-w32-d2", "tiny-neox-w64-d2"], [rs.get_measure("rsa", outer="kendall"), "cka", "procrustes"]
    )
    measures = population.measures
    assert measures.params == {"rsa": {"outer": "kendall"}, "cka": {}, "procrustes": {}}
    assert [name for _, name in measures._of.options] == ["rsa", "cka"], "procrustes has no parameter"
    measures._of.value = "cka"
    measures._parameters._by_name["debiased"].value = False  # as by hand
    assert population.asked.measures == {"rsa": {"outer": "kendall"}, "cka": {"debiased": False}, "procrustes": {}}
    assert "rs.get_measure('cka', debiased=False)" in population.code
    assert "-p rsa.outer kendall -p cka.debiased false" in population.command
    other = rs.Population(["tiny-neox-w32-d2", "tiny-neox-w64-d2"])
    other.state = population.state
    assert other.asked == population.asked
    measures.value = ("cka",)
    assert measures.params == {"cka": {"debiased": False}}, "a measure that is no longer chosen keeps none"
    with pytest.raises(InputError, match="Did you mean 'debiased'"):
        measures.params = {"cka": {"debias": False}}
    with pytest.raises(InputError, match="chosen measure"):
        measures.params = {"rsa": {}}


def test_population_shows_an_error_of_a_run_and_keeps_what_it_had(run):
    before = run.result
    run.measures.layers = "all"
    with pytest.raises(InputError, match="All models need the same layers"):
        run.run()
    assert run.status == "failed"
    assert "All models need the same layers" in run.error
    assert run.result is before
    run.measures.layers = "last"


def test_population_shows_calibrated_scores_where_there_is_a_null(store):
    shown = population(store, null=19)
    shown.run()
    shown.calibrated.value = True
    view, ordered = shown._views.matrix.view, shown._views._ordered
    calibrated = rs.compare_models(NAMES, "cka", layers="last", n_rows=150, null=19).cka_calibrated
    expected = calibrated.sel(model_a=ordered, model_b=ordered).values.round(2)
    assert np.array(view["values"], dtype=float) == pytest.approx(expected, abs=0.006)
    assert "exchanged documents" in view["readouts"][0][1]


def test_population_exports_numbers_and_map(run, tmp_path):
    files = run.export(tmp_path)
    assert {file.suffix for file in files} == {".svg", ".png", ".txt", ".csv", ".nc"}
    with xr.open_dataset(tmp_path / "population-cka.nc", engine="h5netcdf") as written:
        xr.testing.assert_equal(written.load(), run.result)


def test_members_of_family_and_checkpoints_of_name_whole_series():
    assert len(members_of_family("tiny-bert-nli-03")) == 40
    steps = checkpoints_of("tiny-neox-w64-d4")
    assert steps == [f"tiny-neox-w64-d4@step{step}" for step in (0, 50, 150, 500, 1000, 1500)]
    assert columns_of(steps, None)["step"] == {name: int(name.partition("@step")[2]) for name in steps}
    assert checkpoints_of("tiny-bert-nli-03") == ["tiny-bert-nli-03"]


def test_ordered_puts_models_that_are_alike_beside_each_other():
    place = np.array([0.0, 10.0, 0.2, 10.1, 0.1])
    names = list("abcde")
    order = matrix.ordered(pd.DataFrame(np.abs(np.subtract.outer(place, place)), names, names))
    assert {frozenset(order[:3]), frozenset(order[3:])} == {frozenset("ace"), frozenset("bd")} or {
        frozenset(order[2:]),
        frozenset(order[:2]),
    } == {frozenset("ace"), frozenset("bd")}


def test_view_of_places_models_as_their_distances_say():
    corners = np.array([[0, 0], [3, 0], [0, 4], [3, 4]], dtype=float)
    names = ["one", "two", "three", HOSTILE]
    apart = np.linalg.norm(corners[:, None] - corners, axis=-1)
    view = crowd.view_of(pd.DataFrame(apart, names, names), "a distance", Colours(), [names[:3]])
    placed = np.array([[point["x"], point["y"]] for point in view["points"]])
    drawn = np.linalg.norm(placed[:, None] - placed, axis=-1)
    assert drawn / drawn.max() == pytest.approx(apart / apart.max(), abs=1e-3)
    assert "100%" in view["note"]
    assert len(view["lines"][0]) == 3


def test_colours_are_continuous_for_numbers_and_grouped_for_words():
    numbers = Colours("loss", {f"m{k}": 3.0 + k for k in range(8)})
    assert numbers.continuous
    assert numbers.groups == {}
    words = Colours("family", {"a": "x", "b": "y", "c": "x"})
    assert words.groups == {"a": "x", "b": "y", "c": "x"}
    assert words.colour("a") == words.colour("c") != words.colour("b")
    assert words.shape("a") != words.shape("b")


def test_findings_tell_families_that_are_apart_and_escape_names():
    rng = np.random.default_rng(0)
    place = np.concatenate([rng.normal(size=(6, 4)), rng.normal(size=(6, 4)) + 6])
    names = [f"{HOSTILE}{k}" for k in range(12)]
    table = pd.DataFrame(np.linalg.norm(place[:, None] - place, axis=-1), names, names)
    html = findings(
        table, {"one": table, HOSTILE: table + 0.0}, dict(zip(names, "x" * 6 + "y" * 6, strict=True)), HOSTILE
    )
    assert "are more alike" in html
    assert "Mean rank correlation over pairs of models 1.00" in html
    assert "<img" not in html
    assert not re.search(r"nan", html)
