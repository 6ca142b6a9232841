import numpy as np
import pytest
import xarray as xr

from repsim_nb.depth import correspondence, decay
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


def test_correspondence_compares_equal_relative_depth_with_the_rest():
    other = np.zeros((3, 5))
    other[0, 0] = other[1, 2] = other[2, 4] = 1  # 0, 1/2 and 1 of the depth
    assert correspondence(maps(np.eye(5), other)) == pytest.approx(1)
    assert correspondence(maps(np.eye(5), 1 - other)) == pytest.approx(-1)


def test_too_little_says_so():
    with pytest.raises(InputError, match="at least three pairs"):
        decay(maps(np.eye(2)))
    with pytest.raises(InputError, match="undefined"):
        decay(maps(np.ones((4, 4))))
    with pytest.raises(InputError, match="two different models"):
        correspondence(maps(np.eye(4)))
