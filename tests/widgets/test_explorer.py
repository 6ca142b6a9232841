"""The explorer, driven by its traits: what it shows is what the package computes."""

import json
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.activations import Sampling
from repsim_nb.errors import InputError
from repsim_nb.system.shipped import data_dir, notebooks_dir
from repsim_nb.widgets.answer import Cache, answer
from repsim_nb.widgets.details import _cost, _recovered
from repsim_nb.widgets.forecast import activation_bytes
from repsim_nb.widgets.map import view_of
from repsim_nb.widgets.question import Question
from repsim_nb.widgets.takeaway import write

A, B, C = "tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-neox-w64-d4"
TEXTS = tuple(f"Document {i} says: import module_{i} as m{i}; the value of x is {i * 7}." for i in range(12))
SMALL = {"corpus": TEXTS, "n_rows": 80}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def shown():
    """An explorer that has compared A with B and with itself."""
    explorer = rs.Explorer(A, [B, A], **SMALL)
    explorer.run()
    return explorer


def test_the_result_is_what_compare_returns(shown):
    direct = rs.compare(A, B, list(TEXTS), n_rows=80)
    xr.testing.assert_allclose(shown.results[B], direct)
    itself = rs.compare(A, corpus=list(TEXTS), n_rows=80)
    xr.testing.assert_allclose(shown.results[A], itself)
    assert shown.result is shown.results[B]
    assert shown.status == "done"


def test_calibrated_scores_are_drawn_when_the_box_is_ticked():
    explorer = rs.Explorer(A, B, null=19, **SMALL)
    assert explorer.calibrated.layout.display == "none"
    result = explorer.run()
    assert explorer.calibrated.layout.display is None
    explorer.selected = (1, 1)
    for ticked, drawn in ((True, result.calibrated), (False, result)):
        explorer.calibrated.value = ticked
        layer_map = explorer._views.maps.by_model[B]
        assert np.allclose(np.array(layer_map.view["values"], dtype=float), drawn.values, atol=0.005)
        assert explorer._views.maps.children == (layer_map,)
        assert explorer.selected == (1, 1)
        assert layer_map.selected == [1, 1]
        assert ("unrelated" in explorer._views.curves.value) is not ticked
    explorer.calibrated.value = True
    explorer.uncertainty.value = False
    explorer.run()
    assert explorer.error == ""
    assert explorer.calibrated.layout.display == "none", "no null, no calibrated scores"
    assert np.allclose(
        np.array(explorer._views.maps.by_model[B].view["values"], dtype=float), explorer.result, atol=0.005
    )


def test_the_map_shows_each_value_with_the_colour_the_heatmap_has(shown):
    view = shown._views.maps.by_model[B].view
    result = shown.results[B]
    assert np.allclose(np.array(view["values"], dtype=float), result.values, atol=0.005)
    ax = rs.figures.heatmap(result, limits=(0, 1))
    ax.figure.canvas.draw()
    painted = ax.collections[0].get_facecolors()
    from matplotlib.colors import to_hex

    assert [to_hex(c) for c in painted] == np.array(view["colours"]).ravel().tolist()
    assert "layer 2 of" in view["readouts"][0][2]
    assert view["scale"]["low"] == "0 = nothing shared"
    assert view["scale"]["high"] == "1 = same"


def test_clicking_on_a_cell_selects_it_and_shows_what_lies_behind(shown):
    shown._views.maps.by_model[B].selected = [1, 2]  # what the browser sends
    assert shown.against == B
    assert shown.selected == (1, 2)
    shown.wait()
    assert "layer 1" in shown._behind.pair.value
    assert "<svg" in shown._behind.closeup.points.value
    assert "of 80 rows" in shown._behind.closeup.points.value
    shown._views.maps.by_model[A].selected = [0, 1]
    assert (shown.against, shown.selected) == (A, (0, 1))
    assert shown._views.maps.by_model[B].selected == []
    shown.against = B
    assert shown.selected is None
    shown.selected = (0, 0)
    assert shown._views.maps.by_model[B].selected == [0, 0]
    shown.wait()


def test_a_pair_that_is_not_on_the_map_cannot_be_selected(shown):
    with pytest.raises(InputError, match="layers of a are"):
        shown.selected = (0, 9)
    with pytest.raises(InputError, match="Run a comparison first"):
        rs.Explorer(A, B).selected = (0, 0)
    with pytest.raises(InputError, match=f"Did you mean '{B}'"):
        shown.against = "tiny-neox-w64-d3"


def test_activations_are_kept_for_the_next_measure(monkeypatch):
    explorer = rs.Explorer(A, B, **SMALL)
    explorer.run()
    monkeypatch.setattr("repsim_nb.widgets.answer.aligned", lambda *a, **k: pytest.fail("extracted again"))
    explorer.measure.value = "procrustes"
    assert explorer.run().name == "procrustes"
    assert "extracted already" in explorer._bar.estimate.value


def test_a_text_is_read_once_when_a_run_starts(monkeypatch):
    read = []

    def load_corpus(*given):
        read.append(given)
        return rs.load_corpus(TEXTS)

    monkeypatch.setattr("repsim_nb.widgets.answer.load_corpus", load_corpus)
    explorer = rs.Explorer(A, [B, A], corpus="owner/name", split="train", n_rows=80)
    explorer._repr_mimebundle_()
    explorer.wait()
    assert read == []
    assert "reads owner/name" in explorer._bar.estimate.value
    explorer.run()
    explorer.selected = (1, 1)
    explorer.wait()
    assert "<svg" in explorer._behind.closeup.points.value
    explorer.run()
    assert read == [("owner/name", "train")]
    assert "reads" not in explorer._bar.estimate.value


def test_a_file_that_was_changed_is_read_again_by_the_next_run(tmp_path):
    file = tmp_path / "text.txt"
    explorer = rs.Explorer(A, B, corpus=str(tmp_path), n_rows=80)
    for texts in (TEXTS, tuple(text.replace("Document", "A text") for text in TEXTS[:9])):
        file.write_text("\n\n".join(texts))
        explorer.run()
        np.testing.assert_allclose(explorer.result, rs.compare(A, B, list(texts), n_rows=80), atol=1e-6)
        explorer.selected = None
        explorer.selected = (1, 1)
        explorer.wait()
        assert explorer.error == ""
        assert "<svg" in explorer._behind.closeup.points.value


def test_what_is_kept_is_bounded_in_bytes():
    cache = Cache(limit=100_000)
    for seed in range(4):
        question = Question(A, (B,), sampling=Sampling(TEXTS, n_rows=80, seed=seed))
        answer(question, B, cache)
        assert cache.holds(question, B)
    assert cache.nbytes <= 100_000
    assert not cache.holds(Question(A, (B,), sampling=Sampling(TEXTS, n_rows=80)), B)


@pytest.mark.filterwarnings("always")  # too few rows are told in the status, unless somebody makes that an error
def test_errors_are_shown_and_raised(monkeypatch):
    explorer = rs.Explorer(A, B, corpus=("one text",), n_rows=80)
    with pytest.raises(InputError):
        explorer.run()
    assert explorer.status == "failed"
    assert 'role="alert"' in explorer.alert.value
    assert explorer.error
    explorer.corpus.value = TEXTS
    explorer.run()
    assert explorer.error == ""
    assert explorer.alert.value == ""


def test_what_a_widget_says_went_wrong_fails_a_headless_run(shown):
    from repsim_nb.runs.failures import failures

    shown.alert.show(InputError("No <such> thing. Do that."))
    states = {w.model_id: {"state": w.get_state()} for w in (shown, shown.alert)}
    states[shown.model_id]["state"]["children"] = [f"IPY_MODEL_{shown.alert.model_id}"]
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": shown.model_id}}
    notebook = {
        "cells": [{"source": "explorer", "metadata": {}, "outputs": [{"output_type": "display_data", "data": view}]}],
        "metadata": {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": states}}},
    }
    (failure,) = failures(notebook)
    assert failure.reason == "No <such> thing. Do that."
    assert failure.place == "inside a widget of cell 1 of 1, `explorer`"
    shown.alert.clear()
    states[shown.alert.model_id]["state"] = shown.alert.get_state()
    assert failures(notebook) == []


def test_a_defect_behind_a_button_is_shown_with_its_kind(shown, monkeypatch):
    monkeypatch.setattr("repsim_nb.widgets.takeaway.save_figure", lambda *a: 1 / 0)
    shown._take_away.export.click()
    assert "ZeroDivisionError" in shown.error
    assert "report" in shown.error
    shown._work.clear()


def test_the_code_reproduces_the_map_and_the_closeup(shown):
    shown.against, shown.selected = B, (1, 2)
    shown.wait()
    made = {}
    exec(shown.code, made)
    xr.testing.assert_allclose(made["result"], shown.result)
    xr.testing.assert_allclose(made["results"][A], shown.results[A])
    assert made["closeup"].index.tolist() == list(range(80))
    assert made["tokens"].token.iloc[0] in shown._behind.closeup.tokens.value


def test_the_command_asks_one_question_whatever_is_picked_meanwhile():
    explorer = rs.Explorer(A, B, **SMALL)
    explorer.run()
    explorer.selected = (1, 1)
    before = explorer.command
    explorer.model_a.value, explorer.corpus.seed = C, 5
    assert explorer.command == before
    explorer.wait()


def test_the_exercise_of_the_notebook_asks_for_a_layer_that_the_map_has():
    notebook = json.loads((notebooks_dir() / "00_start_here.ipynb").read_text(encoding="utf-8"))
    (cell,) = ("".join(c["source"]) for c in notebook["cells"] if "check_nearest_layer(" in "".join(c["source"]))
    for layers, asked in [((0, 1, 2), 1), ((0, 2), 0)]:
        explorer = SimpleNamespace(
            result=xr.DataArray(np.eye(len(layers)), coords={"layer_a": list(layers)}, dims=["layer_a", "layer_b"])
        )
        check = Mock()
        exec(cell, {"explorer": explorer, "check_nearest_layer": check})
        assert check.call_args.kwargs == {"layer": asked}


def test_the_state_restores_what_was_chosen_and_selected(shown):
    shown.against, shown.selected = B, (2, 1)
    shown.wait()
    again = rs.Explorer.from_state(shown.state)
    assert again.question == shown.question
    again.run()
    assert (again.against, again.selected) == (B, (2, 1))
    again.wait()
    other = rs.Explorer()
    other.state = shown.state
    assert other.state == other._take_away.state.value == shown.state  # also before it is run
    assert other.question == shown.question


def test_layers_of_a_folder_are_those_of_its_config_before_and_after_a_run(tmp_path):
    folder = tmp_path / "model"
    folder.symlink_to(data_dir() / "tiny-neox-w64-d8")
    explorer = rs.Explorer(str(folder), B, layers_a=(6,), **SMALL)
    assert explorer.layers_a.n_layers == 8
    explorer.run()
    assert explorer.result.layer_a.values.tolist() == [6]
    assert explorer.question.layers_a == (6,)
    assert rs.Explorer.from_state(explorer.state).question == explorer.question
    unknown = rs.Explorer("owner/name", B, layers_a=(9,))
    assert unknown.layers_a.n_layers is None
    assert rs.Explorer.from_state(unknown.state).question.layers_a == (9,)


def test_export_writes_figures_and_numbers(shown, tmp_path):
    files = shown.export(tmp_path / "new")
    assert {file.suffix for file in files} == {".svg", ".png", ".csv", ".nc", ".txt"}
    assert len(files) == 10  # of two maps
    (netcdf,) = (f for f in files if f.suffix == ".nc" and f.stem.endswith(B))
    with xr.open_dataarray(netcdf, engine="h5netcdf") as written:
        np.testing.assert_array_equal(written.values, shown.results[B].values)
    with pytest.raises(InputError, match="Run a comparison first"):
        rs.Explorer(A, B).export(tmp_path)


def test_export_draws_several_b_on_the_scale_of_the_screen(shown, tmp_path, monkeypatch):
    drawn = []

    def heatmap(result, ax, limits):
        drawn.append(limits)
        return ax

    monkeypatch.setattr("repsim_nb.widgets.takeaway.heatmap", heatmap)
    measured = {b: result.assign_attrs(lower_bound=0.0, upper_bound=np.inf) for b, result in shown.results.items()}
    write(measured, measured.values(), tmp_path)
    assert len({*drawn}) == 1 < len(drawn)
    assert drawn[0][1] >= max(result.max().item() for result in measured.values())


def test_export_never_overwrites_another_result(shown, tmp_path):
    first = shown.export(tmp_path)
    assert shown.export(tmp_path) == first
    other = rs.Explorer(A, B, corpus=TEXTS, n_rows=60)
    other.run()
    assert {file.name.partition(".")[0] for file in other.export(tmp_path)} == {f"cka--{A}--{B}-2"}


def test_the_map_shows_small_values_and_closes_what_it_replaces():
    small = xr.DataArray([[0.0, 2.5e-6]], {"layer_a": [0], "layer_b": [0, 1]}, ("layer_a", "layer_b"), "imd")
    view = view_of(small.assign_attrs(direction="dissimilarity"))
    assert view["values"] == [["0.00", "2.5e-06"]]
    assert view["readouts"][0][1].endswith("2.5e-06")
    explorer = rs.Explorer(A, B, rows="mean", corpus=TEXTS, n_rows=10)
    explorer.run()
    old = explorer._views.maps.by_model[B]
    explorer.run()
    assert old.comm is None
    explorer.selected = (1, 1)
    explorer.wait()
    assert "token" not in (explorer._behind.closeup.points.value + explorer._behind.closeup.tokens.value).replace(
        "repsim-tokens", ""
    )


SITES = ("ov.1", "mlp_act")  # without a layer 0; of a width that the catalogue does not have


@pytest.mark.parametrize(("level", "says"), [(0.9, "90% interval"), (0.95, "95% interval"), (None, "; interval")])
def test_the_map_names_the_level_of_an_interval(level, says):
    x = np.random.default_rng(0).normal(size=(20, 3))
    made = {} if level is None else {"uncertainty": {"interval": {"level": level}}}
    result = rs.compare({0: x}, {0: x**3})
    result = result.assign_coords(low=result - 0.1, high=result + 0.1).assign_attrs(provenance=json.dumps(made))
    assert says in view_of(result)["readouts"][0][0]


def test_the_estimate_says_rows_bytes_and_downloads(monkeypatch):
    monkeypatch.setattr("repsim_nb.models.loading.download", lambda *a, **k: pytest.fail("downloaded"))
    explorer = rs.Explorer(A, B, n_rows=500)
    # 3 layers of width 32 and 3 of width 64, in float32
    assert activation_bytes(explorer.question) == 4 * 500 * (3 * 32 + 3 * 64)
    assert "500 rows" in explorer._bar.estimate.value
    assert "576 kB of activations" in explorer._bar.estimate.value
    assert activation_bytes(Question(A, (A,), sampling=Sampling(n_rows=500))) == 4 * 500 * 3 * 32  # one side
    inside = {site: activation_bytes(Question(A, (A,), sampling=Sampling(site=site, n_rows=500))) for site in SITES}
    assert inside == {"ov.1": 4 * 500 * 2 * 32, "mlp_act": None}
    explorer.models_b.value = "gelu-3l"
    assert "downloads gelu-3l" in explorer._bar.estimate.value
    explorer.models_b.value = ("EleutherAI/pythia-70m", B)
    assert "downloads EleutherAI/pythia-70m" in explorer._bar.estimate.value


def test_seconds_come_from_a_trial_once_the_explorer_is_displayed():
    explorer = rs.Explorer(A, B, **SMALL)
    assert "trying" not in explorer._bar.estimate.value
    explorer._repr_mimebundle_()
    explorer.wait()
    assert "about" in explorer._bar.estimate.value


def test_stitching_shows_three_models_side_by_side(monkeypatch):
    monkeypatch.setattr("repsim_nb.widgets.details.WINDOWS", {"n_fit": 24, "n_report": 12})
    explorer = rs.Explorer(B, C, n_rows=60)
    explorer.run()
    explorer._behind.stitch.button.click()
    assert "Select a cell" in explorer.error
    explorer.selected = (1, 2)
    explorer.wait()
    explorer._behind.stitch.button.click()
    explorer.wait()
    assert explorer.error == ""
    found = explorer._behind.stitch.found.value
    direct = rs.stitch(B, C, 1, into=2, fit="least_squares", n_fit=24, n_report=12)
    low, high = direct.interval()
    assert (
        f"The stitched model is <b>{direct.penalty:.2f} nats per token</b> worse than the receiver alone "
        f"(95% interval {low:.2f} to {high:.2f})."
    ) in found
    assert all(name in found for name in ("sender", "receiver", "stitched"))
    assert f"On {len(direct.documents)} documents of python-docs (split test)" in found
    made = {}
    exec(explorer.code.splitlines()[-1], {"rs": rs}, made)
    assert made["stitched"].penalty == pytest.approx(direct.penalty)
    explorer.selected = (0, 0)
    explorer.wait()
    assert "stitch" not in explorer.code


def test_a_stitch_that_helps_is_said_to_be_better():
    assert _cost(-0.02, -0.05, 0.01, "nats per token") == (
        "The stitched model is <b>0.02 nats per token</b> better than the receiver alone (95% interval -0.01 to 0.05)."
    )
    assert _recovered(-0.5) == "This is worse than feeding the receiver its mean activation."


def test_import_stays_light():
    code = "import sys, repsim_nb; print(sorted({'torch', 'ipywidgets', 'anywidget'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("part", ["model_a", "models_b", "layers_a", "layers_b", "measure", "corpus", "uncertainty"])
def test_explorer_says_how_to_set_what_a_picker_asks(shown, part):
    before, asked = getattr(shown, part), shown.question
    with pytest.raises(InputError, match=rf"Explorer\.{part} is a control. Set its value: \.{part}\.value = 'cka'"):
        setattr(shown, part, "cka")
    with pytest.raises(InputError, match=r"Set its value"):
        setattr(shown, part, before)
    assert (getattr(shown, part), shown.question) == (before, asked)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("result", None, "Explorer.result is read-only. What can be set: against, selected, state"),
        ("results", {}, "is read-only"),
        ("question", None, "is read-only"),
        ("code", "", "is read-only"),
        ("command", "", "is read-only"),
        ("status", "done", "is read-only"),
        ("error", "", "is read-only"),
        ("alert", None, "is read-only"),
        ("run", None, "is read-only"),
        ("export", None, "is read-only"),
        ("model", A, "Unknown attribute of Explorer 'model'. Did you mean 'model_a'"),
        ("models_a", A, "Did you mean 'model"),
        ("n_rows", 5, "Unknown attribute of Explorer 'n_rows'"),
        ("layer_a", [1], "Did you mean 'layers_a'"),
        ("corpora", "python-docs", "Did you mean 'corpus'"),
        ("against", C, "Unknown model on the side of b"),
        ("against", 3, "'against'"),
        ("selected", (9, 9), "not on the map"),
        ("selected", "all", "expected None or"),
        ("state", 3, "not a saved state"),
    ],
)
def test_explorer_takes_no_assignment_without_an_effect(shown, name, value, says):
    asked, results, selected = shown.question, shown.results, shown.selected
    with pytest.raises(InputError) as raised:
        setattr(shown, name, value)
    assert says in str(raised.value)
    assert (shown.question, shown.selected, shown.status) == (asked, selected, "done")
    assert shown.results.keys() == results.keys()


def test_explorer_that_has_not_run_takes_no_other_model_to_show():
    explorer = rs.Explorer(A, B)
    with pytest.raises(InputError, match="Unknown model on the side of b"):
        explorer.against = C
    explorer.against = B
    assert explorer.against == B
