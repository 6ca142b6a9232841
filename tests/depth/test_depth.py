import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.comparison import compare_all
from repsim_nb.depth import correspondence, decay, equal_depth, model_distances
from repsim_nb.errors import InputError


def maps(grid, other=None):
    found = {("a", "a"): xr.DataArray(grid, dims=("layer_a", "layer_b"))}
    if other is not None:
        found["b", "a"] = xr.DataArray(other, dims=("layer_a", "layer_b"))
    return found


def test_decay_is_minus_one_when_similarity_falls_with_distance_and_plus_one_when_it_rises():
    distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    assert decay(maps(1.0 - distance / 10)) == pytest.approx(-1)
    assert decay(maps(distance / 10.0)) == pytest.approx(1)


def test_decay_agrees_with_scipy_and_passes_over_maps_between_models():
    from scipy.stats import spearmanr

    grid = np.random.default_rng(0).random((6, 6))
    points = [(j - i, grid[i, j]) for i in range(6) for j in range(i + 1, 6)]
    expected = spearmanr(*zip(*points, strict=True)).statistic
    assert decay(maps(grid, np.ones((3, 6)))) == pytest.approx(expected)


def test_decay_is_within_models_however_far_apart_their_levels_are():
    distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    two = {(n, n): maps(level - distance / 10)["a", "a"] for n, level in (("a", 1.0), ("b", 9.0))}
    assert decay(two) == pytest.approx(-1)


def test_correspondence_is_zero_where_nothing_corresponds_whatever_the_levels():
    flat = {("a", "b"): maps(np.full((3, 3), 0.9))["a", "a"], ("a", "c"): maps(np.full((9, 9), 0.5))["a", "a"]}
    assert correspondence(flat) == pytest.approx(0)


def test_correspondence_compares_equal_relative_depth_with_the_rest():
    other = np.zeros((3, 5))
    other[0, 0] = other[1, 2] = other[2, 4] = 1  # 0, 1/2 and 1 of the depth
    assert correspondence(maps(np.eye(5), other)) == pytest.approx(1)
    assert correspondence(maps(np.eye(5), 1 - other)) == pytest.approx(-1)


def test_too_little_says_so():
    with pytest.raises(InputError, match="three or more layers"):
        decay(maps(np.eye(2)))
    with pytest.raises(InputError, match="undefined: all values of the map of a"):
        decay(maps(np.ones((4, 4))))
    with pytest.raises(InputError, match="two different models"):
        correspondence(maps(np.eye(4)))


def similar(grid):
    return xr.DataArray(
        grid, dims=("layer_a", "layer_b"), name="cka", attrs={"direction": "similarity", "upper_bound": 1.0}
    )


def test_equal_depth_of_models_that_share_some_depths():
    grid = np.random.default_rng(0).random((5, 7))  # depth 4 and 6: 0, 1/2 and 1
    assert equal_depth(similar(grid)).to_dict() == {0.0: grid[0, 0], 0.5: grid[2, 3], 1.0: grid[4, 6]}


def test_model_distances_are_the_papers_and_obey_the_triangle():
    values = np.array([0.997, 0.92, 0.866, 0.825])  # one pair of models, by layer
    two = {("b", "a"): similar(np.diag(values))}
    assert model_distances(two).loc["a", "b"] == pytest.approx(np.sqrt((np.arccos(values) ** 2).sum()))
    rng = np.random.default_rng(0)
    acts = {name: {layer: rng.normal(size=(40, 3)) for layer in range(2)} for name in "abcd"}
    d = model_distances(compare_all(acts, rs.get_measure("cka", debiased=False)))
    assert (np.diag(d) == 0).all()
    assert all(d.loc[i, j] <= d.loc[i, k] + d.loc[k, j] + 1e-12 for i in d for j in d for k in d)


def test_model_distances_sum_over_the_depths_that_all_models_share():
    """Depths 2 and 4 share three places, with 6 beside them too: the pair of depth 4 and 4 must leave two out."""
    half = similar(np.full((5, 5), 0.5))
    maps = {("b", "a"): half, ("c", "a"): similar(np.full((3, 5), 0.5)), ("c", "b"): similar(np.full((3, 5), 0.5))}
    d = model_distances(maps)
    assert d.loc["a", "b"] == pytest.approx(d.loc["a", "c"]) == pytest.approx(np.sqrt(3) * np.arccos(0.5))
    with pytest.raises(InputError, match="none for b and c"):
        model_distances({("b", "a"): half, ("c", "a"): half})
    with pytest.raises(InputError, match="a similarity with upper bound 1"):
        model_distances({("b", "a"): half.assign_attrs(direction="dissimilarity")})
