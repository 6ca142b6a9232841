"""Results in words: what the card of a result says is what was compared."""

import json

import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.comparison.described import as_html, in_words
from tests.widgets.test_words import HOSTILE, Tags

A, B = "tiny-neox-w32-d2", "tiny-neox-w64-d2"
TEXTS = [f"Text {i} says {i}." for i in range(12)]


@pytest.fixture(scope="module")
def result():
    return rs.compare(A, B, TEXTS, n_rows=60, null=99, interval=0.9)


def test_in_words_says_models_layers_text_direction_and_range(result):
    values = result.values
    low, high = (np.unravel_index(at, values.shape) for at in (values.argmin(), values.argmax()))
    assert in_words(result) == [
        f"Centred kernel alignment (CKA) of {A} and {B}",
        f"Layers 0 to 2 of {A} (A) with layers 0 to 2 of {B} (B).",
        "60 rows (tokens, at resid_post).",
        "Text: 12 documents (the user's own).",
        "A similarity: 1 = same, 0 = nothing shared.",
        f"The lowest value is {values.min():.3g} (layer {low[0]} of A, layer {low[1]} of B), the highest "
        f"{values.max():.3g} (layer {high[0]} of A, layer {high[1]} of B).",
        f"{(result.p_value <= 0.05).sum().item()} of 9 values differ from the null (p ≤ 0.05).",
        "Each value has an interval of 90%.",
    ]


def test_in_words_of_arrays_says_that_they_were_given():
    x = np.random.default_rng(0).normal(size=(50, 4))
    words = in_words(rs.compare({0: x, 2: x**3, 4: x**5}, measure="procrustes"))
    assert words[0].endswith(" of a and b")
    assert words[1] == "Layers 0, 2, 4 of a (A) with layers 0, 2, 4 of b (B)."
    assert {"50 rows.", "A and B are arrays given by the caller."} < {*words}
    assert "A dissimilarity: 0 = same, larger = less similar." in words


def test_in_words_of_a_slice_says_which_layer_it_is(result):
    title, *sentences = in_words(result.sel(layer_a=1))
    assert title.endswith(f"of {A} and {B}")
    assert "layer_a: 1." in sentences
    assert f"cka: {result[1].min():.3g} to {result[1].max():.3g}, a similarity." in sentences


def test_in_words_of_a_table_names_dimensions_text_and_units():
    words = in_words(rs.stitching_table([A], [A, B], 1, fit="least_squares", n_fit=16, n_report=4))
    assert f"receiver: {A}, {B}." in words
    assert any(line.startswith("penalty: ") and line.endswith(" nats per token.") for line in words)
    assert any("documents (python-docs, split validation)" in line and "split test" in line for line in words)


def test_as_html_folds_the_provenance_and_keeps_attrs(result):
    before = dict(result.attrs)
    shown = Tags(as_html(result))
    assert {"details", "summary"} < shown.names
    assert json.dumps(json.loads(before["provenance"]), indent=1, ensure_ascii=False) in shown.text
    assert before["provenance"] not in shown.text, "once is enough"
    assert dict(result.attrs) == before


def test_as_html_leaves_other_data_to_xarray(result):
    other = xr.DataArray([1.0], dims="x", attrs={"provenance": "from somewhere"})
    assert "Values and coordinates" not in as_html(other)
    with xr.set_options(display_style="text"):
        assert as_html(result) == result._repr_html_()


def test_as_html_shows_hostile_names_to_the_letter(result):
    hostile = result.assign_attrs(
        model_a=HOSTILE, model_b=HOSTILE, long_name=HOSTILE, provenance=json.dumps({"a": {"rows": HOSTILE}})
    )
    for one in (hostile, hostile.to_dataset(name=HOSTILE).assign_attrs(hostile.attrs), hostile[0]):
        shown = Tags(as_html(one))
        assert not shown.names & {"img", "script"}
        assert not {name for name in shown.attributes if name.startswith("on") and name != "onclick"}
        assert HOSTILE in shown.text
