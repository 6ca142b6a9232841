import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.errors import InputError


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(0)
    x = {layer: rng.normal(size=(100, 6)) for layer in range(4)}
    return rs.compare(x, {layer: x[layer] @ rng.normal(size=(6, 5)) for layer in (0, 2, 3)})


def test_the_heatmap_shows_each_value_at_its_layers(result):
    ax = rs.figures.heatmap(result)
    mesh = ax.collections[0]
    assert np.allclose(np.asarray(mesh.get_array()).reshape(result.shape), result.values)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0", "1", "2", "3"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "2", "3"]
    assert ax.get_ylim()[0] < ax.get_ylim()[1]  # layer 0 at the bottom
    assert "layer of" in ax.get_xlabel()


def test_the_heatmap_draws_where_it_is_told_and_shows_nothing(result, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *a, **k: pytest.fail("show was called"))
    figure, ax = plt.subplots()
    assert rs.figures.heatmap(result, ax) is ax
    assert plt.get_fignums() == [figure.number]


def test_limits_are_shared_and_the_colour_bar_says_what_the_ends_mean(result):
    x = np.random.default_rng(1).normal(size=(50, 2, 3))
    self_result = rs.compare({0: x[:, 0], 1: x[:, 1]})
    figure = rs.figures.heatmap_grid({("a", "a"): self_result, ("b", "a"): result})
    limits = {ax.collections[0].get_clim() for ax in figure.axes if ax.collections and ax.get_label() != "<colorbar>"}
    assert len(limits) == 1
    assert any("1 = same" in ax.get_ylabel() for ax in figure.axes)
    distance = rs.compare({0: x[:, 0], 1: x[:, 1]}, measure="procrustes")
    bar = rs.figures.heatmap(distance).collections[0].colorbar
    assert "0 = same" in bar.ax.get_ylabel()


def test_what_cannot_be_drawn_says_why(result):
    with pytest.raises(InputError, match="dims"):
        rs.figures.heatmap(result.values)
    with pytest.raises(InputError, match="not finite"):
        rs.figures.heatmap(result.where(result < 0.5))
    with pytest.raises(InputError, match="no results"):
        rs.figures.heatmap_grid({})
    assert isinstance(result, xr.DataArray)


def test_the_gallery_gives_each_map_its_own_scale_with_brighter_more_alike(result):
    distance = rs.compare(
        {0: np.eye(9)[:, :3] + 1, 1: np.random.default_rng(0).normal(size=(9, 3))}, measure="procrustes"
    )
    figure = rs.figures.gallery({"cka": result, "procrustes": distance}, columns=2)
    maps = [ax.collections[0] for ax in figure.axes if ax.get_title()]
    assert [m.get_clim() for m in maps] == [(r.min(), r.max()) for r in (result, distance)]
    assert maps[0].get_cmap().name != maps[1].get_cmap().name
    with pytest.raises(InputError, match="no results"):
        rs.figures.gallery({})


def test_the_agreement_map_puts_like_measures_side_by_side():
    import pandas as pd

    names = ["a", "b", "c", "d"]
    like = np.array([[1, -0.9, 0.95, -0.8], [-0.9, 1, -0.9, 0.9], [0.95, -0.9, 1, -0.9], [-0.8, 0.9, -0.9, 1]])
    ax = rs.figures.agreement_map(pd.DataFrame(like, names, names))
    order = [t.get_text() for t in ax.get_xticklabels()]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("ac"), frozenset("bd")}


def test_the_model_map_keeps_distances_that_fit_a_plane():
    import pandas as pd

    points = np.array([[0, 0], [3, 0], [0, 4], [3, 4.0]])
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    ax = rs.figures.model_map(pd.DataFrame(distances, list("abcd"), list("abcd")))
    drawn = np.asarray(ax.collections[0].get_offsets())
    assert np.allclose(np.linalg.norm(drawn[:, None] - drawn, axis=-1), distances)
    assert ax.get_title() == "the plane holds 100% of the squared distances (stress 0.00)"
    with pytest.raises(InputError, match="symmetric table"):
        rs.figures.model_map(pd.DataFrame([[0, 1], [2, 0]]))


def group_means():
    lines = [
        (layer, first, second, 0.1 * layer + 0.2 * (first != second))
        for layer in (0, 1, 2)
        for first, second in (("a", "a"), ("b", "b"), ("a", "b"))
    ]
    frame = pd.DataFrame(lines, columns=["layer", "first", "second", "value"])
    return frame.assign(low=frame.value - 0.05, high=frame.value + 0.05)


def test_lines_by_groups_show_the_means_and_their_intervals():
    ax = rs.figures.by_groups(group_means(), label="distance (radians)")
    drawn = {line.get_label(): line for line in ax.lines}
    assert list(drawn) == ["a with a", "b with b", "a with b"]
    assert np.allclose(drawn["a with b"].get_ydata(), [0.2, 0.3, 0.4])
    assert [drawn[n].get_linestyle() for n in drawn] == ["-", "-", "--"]
    band = ax.collections[2].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.15, 0.45))
    assert ax.get_ylabel() == "distance (radians)"


def test_effects_show_the_permutation_test_and_the_interval_apart():
    table = pd.DataFrame(
        {
            "effect": [0.0, 0.3, 0.5, 0.2, -0.3],
            "low": [-0.1, 0.1, -0.1, 0.1, -0.4],
            "high": [0.1, 0.5, 1.1, 0.3, -0.2],
            "p_adjusted": [0.8, 0.05, 0.001, 0.2, 1.0],
        }
    )
    ax = rs.figures.effects(table)
    filled, hollow = ax.lines[-3], ax.lines[-2]
    assert filled.get_xdata().tolist() == [1, 2]
    assert hollow.get_xdata().tolist() == [0, 3, 4]
    assert (filled.get_markerfacecolor(), hollow.get_markerfacecolor()) == ("C0", "white")
    drawn = {c.get_label(): [s[0, 0] for s in c.lines[2][0].get_segments()] for c in ax.containers}
    assert drawn == {"interval excludes 0": [1, 3, 4], "interval covers 0": [0, 2]}
    dark, pale = (c.lines[2][0].get_colors()[0].tolist() for c in ax.containers)
    assert dark != pale
    legend = {text.get_text() for text in ax.get_legend().get_texts()}
    assert legend == {"p <= 0.05", "p > 0.05", "interval excludes 0", "interval covers 0"}


def test_the_ranking_has_the_best_measure_at_the_top():
    table = pd.DataFrame(
        {"spearman": [0.8, 0.1], "low": [0.6, -0.2], "high": [0.9, 0.4], "p_value": [0.001, 0.3]}, index=["cka", "rsa"]
    )
    ax = rs.figures.ranking(table)
    labels = dict(zip([t.get_text() for t in ax.get_yticklabels()], ax.get_yticks(), strict=True))
    assert labels["cka"] > labels["rsa"]
    shown = {line.get_markerfacecolor(): line.get_xdata().tolist() for line in ax.lines if line.get_marker() == "o"}
    assert shown == {"C0": [0.8], "white": [0.1]}
    strict = rs.figures.ranking(table, level=0.0005)
    assert (
        next(line for line in strict.lines if line.get_marker() == "o" and len(line.get_xdata())).get_mfc() == "white"
    )


def test_the_model_map_states_its_stress():
    distances = pd.DataFrame(1 - np.eye(4), list("abcd"), list("abcd"))  # a tetrahedron
    ax = rs.figures.model_map(distances)
    drawn = np.asarray(ax.collections[0].get_offsets())
    off = np.linalg.norm(drawn[:, None] - drawn, axis=-1) - distances.to_numpy()
    stress = np.sqrt((off**2).sum() / (distances.to_numpy() ** 2).sum())
    assert stress > 0.1
    assert f"(stress {stress:.2f})" in ax.get_title()


def test_the_map_of_models_gives_groups_a_colour_each():
    points = np.array([[0, 0], [3, 0], [0, 4], [3, 4.0]])
    distances = pd.DataFrame(
        np.linalg.norm(points[:, None] - points, axis=-1), index=list("wxyz"), columns=list("wxyz")
    )
    ax = rs.figures.model_map(distances, groups={"w": "low", "x": "low", "y": "high"})
    drawn = {c.get_label(): c.get_offsets() for c in ax.collections}
    assert {label: len(offsets) for label, offsets in drawn.items() if label in ("low", "high")} == {
        "low": 2,
        "high": 1,
    }
    assert np.linalg.norm(np.diff(drawn["low"], axis=0)) == pytest.approx(3)
    assert not ax.texts


def test_blocks_are_outlined_where_they_are_and_dashed_when_not_shown():
    from dataclasses import replace

    from tests.support.layers import planted

    acts = {2 * layer: x for layer, x in planted(0, (3, 4)).items()}
    found = rs.depth.find_blocks(acts, n_null=99, n_halves=8)
    ax = rs.figures.mark_blocks(rs.figures.heatmap(rs.compare(acts)), found)
    frames = [(p.get_xy(), p.get_width(), p.get_linestyle()) for p in ax.patches]
    assert frames == [((0, 0), 3, "-"), ((3, 3), 4, "-")]
    doubtful = rs.figures.mark_blocks(rs.figures.heatmap(rs.compare(acts)), replace(found, p_value=0.2))
    assert {p.get_linestyle() for p in doubtful.patches} == {"--"}


def test_training_is_drawn_layer_by_layer():
    steps = xr.DataArray(
        np.arange(6.0).reshape(3, 2) / 6,
        dims=("step", "layer"),
        coords={"step": [0, 10, 500], "layer": [0, 1]},
        attrs={"long_name": "effective rank"},
    )
    ax = rs.figures.over_training(steps)
    assert [line.get_ydata().tolist() for line in ax.lines] == steps.values.T.tolist()
    assert ax.get_ylabel() == "effective rank"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["layer 0", "layer 1"]


def course(steps=(0, 10, 500), **parts):
    about = {"long_name": "CKA", "direction": "similarity", "upper_bound": 1.0}
    shape = len(steps), 2
    values = {"similarity": np.linspace(0.2, 0.9, 2 * len(steps)).reshape(shape)} | parts
    variables = {name: (("step", "layer"), np.broadcast_to(x, shape), about) for name, x in values.items()}
    return xr.Dataset(variables, {"step": list(steps), "layer": [0, 1]})


def test_training_is_drawn_with_its_interval_and_what_unrelated_rows_give():
    made = course(low=0.1, high=0.95, null_mean=0.05)
    ax = rs.figures.over_training(made)
    solid, dashed = ([line for line in ax.lines if line.get_linestyle() == s] for s in ("-", "--"))
    assert [line.get_ydata().tolist() for line in solid] == made.similarity.values.T.tolist()
    assert [line.get_ydata().tolist() for line in dashed] == [[0.05] * 3, [0.05] * 3, []]
    heights = [band.get_paths()[0].vertices[:, 1] for band in ax.collections]
    assert [(y.min(), y.max()) for y in heights] == [(0.1, 0.95), (0.1, 0.95)]
    assert ax.get_legend().get_texts()[-1].get_text() == "unrelated: mean"
    assert "1 = same" in ax.get_ylabel()
    assert not rs.figures.over_training(made.similarity).collections


def test_training_is_drawn_over_the_loss_which_falls_to_the_right():
    ax = rs.figures.over_training(course(), losses={0: 8.0, 10: 5.0, 500: 3.0})
    assert ax.lines[0].get_xdata().tolist() == [8.0, 5.0, 3.0]
    assert ax.get_xlim()[0] > ax.get_xlim()[1]
    assert ax.get_xlabel() == "training loss"
    with pytest.raises(InputError, match="losses has the steps 10 to 500; the course needs 0 to 500"):
        rs.figures.over_training(course(), losses={10: 5.0, 500: 3.0})


def test_training_of_one_step_is_drawn_and_what_is_no_course_says_so():
    assert len(rs.figures.over_training(course(steps=(0,))).lines) == 2
    with pytest.raises(InputError, match=r"dims \('step', 'layer'\), got DataArray with dims \('layer',\)"):
        rs.figures.over_training(course().similarity[0])


def test_a_scale_without_an_upper_end_promises_none():
    rows = np.random.default_rng(0).normal(size=(2, 50, 4))
    assert "1 = same" in rs.figures.scale_label(rs.compare(dict(enumerate(rows))))
    for name in ("hsic", "cknna"):
        assert "(larger = more similar," in rs.figures.scale_label(rs.compare(dict(enumerate(rows)), measure=name))
