"""Names that are no plain words: figures show them to the letter."""

import re
from io import StringIO

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.comparison.closeup import shared_axes
from repsim_nb.figures.words import entry, plain

NAMES = [
    r"$\frac$",
    r"$x$ and $y",
    r"\$a$b$",
    "$",
    "a_b^c{d}%e#f&~g\\alpha",
    "_private",
    "first\nsecond",
    "tab\tand\x00null\r",
    "日本語 モデル",
    "\U0001f9ff\U0001f600",
    "surrogate \udcff",
    "<b>&amp;</b>",
    "/a/very/long/path/of/some/experiment" * 12,
    "",
]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def result(name, long_name=None):
    values = np.linspace(0, 1, 9).reshape(3, 3)
    attrs = {"model_a": name, "model_b": name, "long_name": long_name or name, "direction": "similarity"}
    attrs |= {"upper_bound": 1.0, "lower_bound": 0.0}
    layers = range(3)
    return xr.DataArray(
        values, dims=("layer_a", "layer_b"), coords={"layer_a": layers, "layer_b": layers}, name="cka", attrs=attrs
    )


def population(name):
    rows = [(a, b, layer, 0.5, 0.4, 0.6) for a in (name, "x") for b in (name, "x") for layer in range(2)]
    return pd.DataFrame(rows, columns=["first", "second", "layer", "value", "low", "high"])


def penalties(name):
    frame = population(name).set_axis(["sender", "receiver", "layer", "penalty", "low", "high"], axis=1)
    frame.attrs["units"] = name
    return frame


def effects():
    columns = {"effect": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3], "p_adjusted": [0.01, 0.5]}
    return pd.DataFrame(columns)


def square(name):
    return pd.DataFrame(1 - np.eye(3), index=[name, "x", "y"], columns=[name, "x", "y"]).rename_axis(index=name)


def ranked(name):
    return pd.DataFrame({"spearman": [0.1, 0.2], "low": 0.0, "high": 0.3, "p_value": [0.01, 0.5]}, index=[name, "x"])


def training(name):
    return xr.DataArray(
        np.ones((2, 2)), dims=("step", "layer"), coords={"step": [0, 5], "layer": [0, 1]}, attrs={"long_name": name}
    )


def agreement_by_k(name):
    lists = {q: [q, q + 1] for q in range(3)}
    tables = {name: rs.retrieval.summary(rs.retrieval.overlap(lists, lists, (1, 2)))}
    floors = {name: rs.retrieval.exchange_test(lists, lists, (1, 2), n_permutations=9)}
    return rs.figures.agreement_curves(tables, floors=floors)


def matrix(name):
    coords = {"model_a": [name, "x"], "model_b": [name, "x"]}
    return xr.DataArray(np.eye(2), coords=coords, dims=[*coords], attrs={"long_name": name, "direction": "similarity"})


def difference(name):
    """As `rs.diff` returns it, of as much as is drawn."""
    parts = ["embedding", name, "block 2", "head"]
    by_part = dict.fromkeys(("weight_change", *ends("divergence_into"), *ends("divergence_back")), ("part", np.ones(4)))
    by_layer = dict.fromkeys(ends("moved"), ("layer", np.ones(3)))
    listed = {"document_most_moved": ("n", [1.0, 0.5]), "document_most_document": ("n", [name, "x"])}
    change = {"loss_change": ((), 0.1, {"units": "nats per token"})}
    table = xr.Dataset(by_part | by_layer | listed | change, {"part": parts, "layer": range(3)})
    return table.assign_attrs(model_a="x", model_b=name)


def ends(name):
    return name, f"{name}_low", f"{name}_high"


def carried(name):
    frame = pd.DataFrame({"value": [0.9, 0.5], "low": 0.4, "high": 1.0}, index=[name, "x"])
    frame.attrs |= {"chance": 0.5, "long_name": "accuracy"}
    return frame


def stitches(name):
    """As `rs.stitching_table` returns it with entries and a measure, of as much as is drawn."""
    dims, models = ("sender", "receiver", "layer", "into"), [name, "x"]
    values = np.linspace(0.1, 1, 16).reshape(2, 2, 2, 2)
    variables = {"penalty": (dims, values, {"units": name}), "similarity": (("measure", *dims), 1 - values[None])}
    layers = {f"{side}_layers": (side, [1, 1]) for side in dims[:2]}
    coords = {"sender": models, "receiver": models, "layer": [0, 1], "into": [0, 1], "measure": ["cka"]}
    return xr.Dataset(variables | layers, coords)


POINTS = shared_axes(np.random.default_rng(0).normal(size=(9, 4)), np.eye(9, 4), seed=0)

FIGURES = {
    "heatmap": lambda n: rs.figures.heatmap(result(n)),
    "heatmap_grid": lambda n: rs.figures.heatmap_grid({(n, n): result(n), ("x", n): result(n)}),
    "gallery": lambda n: rs.figures.gallery({n: result(n), "x": result(n)}),
    "agreement_map": lambda n: rs.figures.agreement_map(square(n)),
    "curves": lambda n: rs.figures.curves(result(n), rs.figures.curves(result("x")), label=n),
    "curves of a layer": lambda n: rs.figures.curves(result(n), layer_a=1),
    "penalties": lambda n: rs.figures.penalties(penalties(n)),
    "by_groups": lambda n: rs.figures.by_groups(population(n), label=n),
    "effects": lambda n: rs.figures.effects(effects(), label=n),
    "over_training": lambda n: rs.figures.over_training(training(n)),
    "agreement_curves": agreement_by_k,
    "model_matrix": lambda n: rs.figures.model_matrix(matrix(n)),
    "model_map": lambda n: rs.figures.model_map(square(n)),
    "model_map of groups": lambda n: rs.figures.model_map(square(n), groups={n: n, "x": n}),
    "ranking": lambda n: rs.figures.ranking(ranked(n)),
    "projection": lambda n: rs.figures.projection(POINTS, labels=(n, n)),
    "layer_profile": lambda n: rs.figures.layer_profile(difference(n)),
    "carrying_parts": lambda n: rs.figures.carrying_parts(difference(n)),
    "most_moved": lambda n: rs.figures.most_moved(difference(n), of="documents"),
    "transferred": lambda n: rs.figures.transferred(carried(n)),
    "atlas": lambda n: rs.figures.atlas(stitches(n)),
    "similarity_against_function": lambda n: rs.figures.similarity_against_function(stitches(n)),
}


def words(figure):
    """All text of a figure as its reader sees it: what the SVG backend writes as letters."""
    written = StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(written, format="svg")
    return re.findall(r"<text[^>]*>([^<]*)<", written.getvalue()), "mathtext" in written.getvalue()


def test_every_figure_function_is_tried():
    assert {name.partition(" ")[0] for name in FIGURES} == set(rs.figures.__all__) - {"mark_blocks", "scale_label"}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_figures_draw_any_name_without_a_formula_or_a_warning(draw):
    shows = {r"$\frac$ _a^b{c}": r"$\frac$ _a^b{c}", "_日本\t\U0001f9ff\n" + "long/" * 60: r"_\u65e5\u672c\t\U0001f9ff"}
    for name, first in shows.items():
        made = draw(name)
        figure = made if isinstance(made, mpl.figure.Figure) else made.figure
        shown, formula = words(figure)
        assert not formula
        assert any(first in text for text in shown), shown


@pytest.mark.parametrize("name", NAMES)
def test_plain_is_drawn_to_the_letter(name):
    figure = plt.figure()
    text = figure.text(0, 0, plain(name))
    figure.canvas.draw()  # a warning of a missing glyph would be an error
    drawn, formula = text._preprocess_math(plain(name))
    assert not formula
    if len(name) < 40 and name.isascii() and name.isprintable():
        assert drawn == name
    assert len(drawn.split("\n")) <= 3


def test_plain_keeps_names_apart():
    assert len({plain(name) for name in NAMES}) == len(NAMES)
    assert plain("日本") != plain("中国")
    assert plain("x" * 500 + "a") != plain("x" * 500 + "b")


def test_plain_follows_the_setting_that_turns_formulas_off():
    with mpl.rc_context({"text.parse_math": False}):
        assert plain("$a$") == "$a$"


def test_legends_name_every_curve():
    ax = rs.figures.curves(result("x"), label="_first")
    rs.figures.curves(result("x"), ax, label="$second$")
    assert [text.get_text().strip() for text in ax.get_legend().texts] == ["_first", r"\$second\$"]
    assert entry("") == " "


def test_every_group_is_drawn_however_many_there_are():
    names = [f"g{i}" for i in range(12)]
    rows = [(n, n, layer, 0.5, 0.4, 0.6) for n in names for layer in range(2)]
    frame = pd.DataFrame(rows, columns=["first", "second", "layer", "value", "low", "high"])
    ax = rs.figures.by_groups(frame)
    assert [text.get_text() for text in ax.get_legend().texts] == [f"{n} with {n}" for n in names]
    distances = pd.DataFrame(1 - np.eye(12), index=names, columns=names)
    ax = rs.figures.model_map(distances, groups={n: n for n in names})
    assert [text.get_text() for text in ax.get_legend().texts] == names
