"""The map over training, driven by its traits: what it shows is what the course holds."""

import json

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.depth import maps_of, over_training
from repsim_nb.errors import InputError
from repsim_nb.figures.scales import colours

RUN = "tiny-neox-w64-d4"
TEXTS = [f"Document {i} says: import module_{i} as m{i}; the value of x is {i * 7}." for i in range(12)]


@pytest.fixture(scope="module")
def course():
    """A course whose first maps are darker than its last, with a null and an interval."""
    return over_training(
        RUN, ["step0", "step150", "step1500"], TEXTS, layers=[0, 2, 4], n_rows=80, maps=True, null=19, interval=True
    )


def test_checkpoint_slider_shows_the_map_of_its_step_on_one_scale_for_all(course):
    shown, maps = rs.CheckpointSlider(course), maps_of(course)
    ends = min(0, *(grid.values.min() for grid in maps.values())), 1.0
    for step in (150, 1500, 0):
        shown.step = step
        view = shown.layer_map.view
        assert np.allclose(np.array(view["values"], dtype=float), maps[step].values, atol=0.005)
        assert view["colours"] == colours(maps[step], ends)[0].tolist()
        assert view["hatched"] == (maps[step].p_value.values > 0.05).tolist()
        assert view["title"] == f"{RUN}@step{step} and {RUN}"
        assert "95% interval" in view["readouts"][0][1]
        assert (shown.slider.value, shown.result.attrs["model_a"]) == (step, f"{RUN}@step{step}")


def test_checkpoint_slider_follows_what_the_browser_sends_and_keeps_the_chosen_cell(course):
    shown, seen = rs.CheckpointSlider(course, step=150), []
    assert (shown.step, shown.slider.steps) == (150, [0, 150, 1500])
    shown.observe(lambda change: seen.append(change.new), "step")
    shown.layer_map.selected = [1, 2]
    shown.slider.value = 1500
    assert (shown.step, seen, shown.layer_map.selected) == (1500, [1500], [1, 2])
    assert shown.layer_map.view["title"] == f"{RUN}@step1500 and {RUN}"


def test_checkpoint_slider_refuses_a_step_that_is_not_there_from_python_and_shows_it_otherwise(course):
    shown = rs.CheckpointSlider(course)
    with pytest.raises(InputError, match="step=7; the course has the steps 0, 150, 1500"):
        shown.step = 7
    with pytest.raises(InputError, match="the course has the steps"):
        rs.CheckpointSlider(course, step=7)
    shown.slider.value = 7
    assert "step=7" in shown.alert.text
    assert shown.step == 0
    shown.slider.value = 150
    assert (shown.alert.text, shown.step) == ("", 150)
    with pytest.raises(InputError, match=r"is a control\. Set its value"):
        shown.slider = 150


def test_checkpoint_slider_says_what_it_cannot_show(course):
    with pytest.raises(InputError, match=r"over_training\(..., maps=True\)"):
        rs.CheckpointSlider(course.drop_vars("map"))
    with pytest.raises(InputError, match="not finite"):
        rs.CheckpointSlider(course.assign(map=course["map"].where(course.step < 1500)))


def test_checkpoint_slider_names_its_control_and_can_be_displayed_and_sent(course):
    shown = rs.CheckpointSlider(course)
    assert shown.slider.description == "training step"
    assert shown.slider.tooltip
    assert json.dumps(shown.layer_map.view)
    made = shown._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in (made[0] if isinstance(made, tuple) else made)
