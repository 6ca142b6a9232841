import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PatchCollection

import repsim_nb as rs
from repsim_nb.errors import InputError
from tests.support.simulated import Population


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def result():
    """Layers 0 and 1 of both models are alike, layer 2 of each is like nothing."""
    rng = np.random.default_rng(0)
    (x, y, documents), (u, _, _), (v, _, _) = (Population(d=5, shared=0.8, seed=s).sample(40, 4, rng) for s in range(3))
    a, b = {0: x, 1: np.tanh(x), 2: u}, {0: y, 1: np.tanh(y), 2: v}
    return rs.compare(a, b, groups=documents, null=99, interval=True)


def hatched(ax):
    marks = [c for c in ax.collections if isinstance(c, PatchCollection) and c.get_hatch()]
    return {tuple(np.floor(path.vertices.min(0)).astype(int)) for mark in marks for path in mark.get_paths()}


def test_cells_that_do_not_differ_from_their_null_are_hatched_and_the_axis_says_so(result):
    ax = rs.figures.heatmap(result)
    assert hatched(ax) == {(2, 0), (2, 1), (0, 2), (1, 2), (2, 2)}  # (column, row)
    assert "p > 0.05" in ax.get_xlabel()
    assert hatched(rs.figures.heatmap(result[1:])) == {(2, 0), (0, 1), (1, 1), (2, 1)}


def test_nothing_is_hatched_without_a_null_or_where_all_differ(result):
    for plain in (result.drop_vars("p_value"), result[:2, :2]):
        ax = rs.figures.heatmap(plain)
        assert not hatched(ax)
        assert "p >" not in ax.get_xlabel()


def test_a_grid_of_maps_says_once_what_hatches_mean(result):
    figure = rs.figures.heatmap_grid({("a", "a"): result, ("b", "a"): result})
    assert "p > 0.05" in figure.get_supxlabel()
    assert not any("p > 0.05" in ax.get_xlabel() for ax in figure.axes)
    assert not rs.figures.heatmap_grid({("a", "a"): result[:2, :2]}).get_supxlabel()


def test_a_curve_shows_each_layer_against_itself_with_interval_and_null(result):
    ax = rs.figures.curves(result)
    curve, hollow, null = ax.lines
    assert np.allclose(curve.get_xydata(), [[i, result.values[i, i]] for i in range(3)])
    assert hollow.get_xdata().tolist() == [2]
    assert np.allclose(null.get_ydata(), np.diag(result.null_mean))
    band, grey = (c.get_paths()[0].vertices for c in ax.collections)
    assert np.isclose(band[:, 1].max(), max(np.diag(result.high)))
    assert np.isclose(grey[:, 1].max(), max(np.diag(result.null_high_family)))
    assert ax.get_ylim()[1] == 1
    assert "1 = same" in ax.get_ylabel()


def test_a_curve_of_one_layer_and_several_on_one_axes(result):
    ax = rs.figures.curves(result, layer_a=1, label="layer 1")
    assert np.allclose(ax.lines[0].get_ydata(), result.values[1])
    assert rs.figures.curves(result, ax, layer_a=0, label="layer 0") is ax
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["layer 1", "unrelated: mean to 5% level", "layer 0"]


def test_a_curve_needs_no_null_and_says_what_it_cannot_draw(result):
    ax = rs.figures.curves(result.drop_vars(["p_value", "null_mean", "null_high", "null_high_family", "low", "high"]))
    assert not ax.collections
    with pytest.raises(InputError, match=r"Model a has no layer 7. Available layers: \[0, 1, 2\]"):
        rs.figures.curves(result, layer_a=7)
    with pytest.raises(InputError, match="no layer in common"):
        rs.figures.curves(result[:1, 1:])
    with pytest.raises(InputError, match="curves needs a result of compare"):
        rs.figures.curves(result.values)
