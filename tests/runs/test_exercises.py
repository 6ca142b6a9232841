"""Exercises: right answers are right whatever the models, wrong ones get a hint, malformed ones no traceback."""

import re

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.runs.exercises import check_nearest_layer, check_positions, check_unseen_change

MODEL = "tiny-neox-w32-d2"
X = np.random.default_rng(0).normal(size=(300, 6)) * [9, 5, 3, 2, 1, 1]
BLANK = [None, ...]
NOT_A_NUMBER = ["3", "three", 2.5, np.nan, np.inf, [3], (), True, {"layer": 3}, print, 3j]


def grid(values, direction="similarity"):
    values = np.asarray(values, dtype=float)
    layers = [np.arange(n) for n in values.shape]
    return xr.DataArray(
        values,
        dims=("layer_a", "layer_b"),
        coords={"layer_a": layers[0], "layer_b": layers[1]},
        attrs={"direction": direction},
    )


def test_positions_are_one_more_than_blocks():
    depth = rs.list_models().n_layers[MODEL]
    for right in (depth + 1, np.int64(depth + 1), float(depth + 1), torch.tensor(depth + 1)):
        assert check_positions(right, MODEL)
        assert check_positions(right, rs.load_model(MODEL))
    assert "before the first block" in check_positions(depth, MODEL).text
    for wrong in (0, -1, depth - 1, depth + 2, 10**30):
        assert not check_positions(wrong, MODEL)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_nearest_layer_is_the_largest_similarity_and_the_smallest_dissimilarity(rows, columns, seed):
    values = np.random.default_rng(seed).permutation(rows * columns).reshape(rows, columns) / 10
    for direction, best in (("similarity", values.argmax(axis=1)), ("dissimilarity", values.argmin(axis=1))):
        for layer in range(rows):
            right = [bool(check_nearest_layer(b, grid(values, direction), layer)) for b in range(columns)]
            assert right == [b == best[layer] for b in range(columns)]


def test_layers_that_are_equally_near_are_both_right():
    assert check_nearest_layer(0, grid([[0.5, 0.2, 0.5]]), 0)
    assert check_nearest_layer(2, grid([[0.5, 0.2, 0.5]]), 0)


def test_a_wrong_layer_is_told_its_value_and_a_missing_one_the_layers():
    told = check_nearest_layer(1, grid([[0.5, 0.2]]), 0).text
    assert "0.20" in told
    assert "more" in told
    assert "less" in check_nearest_layer(0, grid([[0.5, 0.2]], "dissimilarity"), 0).text
    assert "[0, 1]" in check_nearest_layer(2, grid([[0.5, 0.2]]), 0).text
    with pytest.raises(InputError, match="layers of a are"):
        check_nearest_layer(0, grid([[0.5, 0.2]]), layer=1)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0.1, 100), st.floats(-50, 50))
def test_rotation_scale_and_shift_are_not_seen(seed, scale, shift):
    rotation = ortho_group.rvs(X.shape[1], random_state=seed)
    assert check_unseen_change(scale * (X @ rotation) + shift, X)


def test_more_features_may_hold_the_same_representation():
    assert check_unseen_change(np.hstack([X, np.zeros_like(X)]), X)


def test_what_is_seen_gets_a_hint():
    assert "Only 0%" in check_unseen_change(X, X).text
    assert "Only 17%" in check_unseen_change(np.add(X, [1, 0, 0, 0, 0, 0]), X).text
    assert "invariances" in check_unseen_change(X / X.std(axis=0), X).text
    assert "row i" in check_unseen_change(X[::-1], X).text
    stretched = X @ np.random.default_rng(1).normal(size=(6, 6))
    assert not check_unseen_change(stretched, X)
    assert check_unseen_change(stretched, X, measure="cca"), "what one measure sees another does not"
    assert check_unseen_change(X[:, ::-1] * 3, X, measure="procrustes"), "a dissimilarity is perfect at 0"


def test_tensors_are_matrices_too():
    assert check_unseen_change(torch.tensor(2 * X), torch.tensor(X))


@pytest.mark.parametrize("answer", BLANK)
def test_no_answer_is_asked_for(answer):
    for feedback in (
        check_positions(answer, MODEL),
        check_nearest_layer(answer, grid([[1]]), 0),
        check_unseen_change(answer, X),
    ):
        assert not feedback
        assert "dots" in feedback.text


@pytest.mark.parametrize("answer", NOT_A_NUMBER, ids=repr)
def test_what_is_no_whole_number_is_said_to_be_none(answer):
    for feedback in (check_positions(answer, MODEL), check_nearest_layer(answer, grid([[1]]), 0)):
        assert not feedback
        assert "one whole number" in feedback.text


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("x", "received str"),
        ([[1, 2], [3]], "received list"),
        (print, "received builtin"),
        (7, r"shape \(\)"),
        (X[:-1], r"shape \(299, 6\)"),
        (X[:, 0], r"shape \(300,\)"),
        (X * np.nan, "divide by zero"),
        (np.full_like(X, np.inf), "divide by zero"),
        (np.ones_like(X), "y has no variance"),
    ],
    ids=["text", "ragged", "function", "number", "rows", "vector", "nan", "infinite", "constant"],
)
def test_what_is_no_matrix_of_these_rows_is_told_why(answer, told):
    feedback = check_unseen_change(answer, X)
    assert not feedback
    assert re.search(told, feedback.text), feedback.text


def test_feedback_reads_as_a_sentence():
    assert repr(check_nearest_layer(0, grid([[1]]), 0)).startswith("Right. ")
    assert repr(check_nearest_layer(None, grid([[1]]), 0)).startswith("Not yet. ")
