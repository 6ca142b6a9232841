"""Decay and corresponding depths, against untrained twins and with the variance of seeds."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest
import xarray as xr

from repsim_nb.depth import correspondence, decay, depth_claims
from repsim_nb.depth.distance import depth_match_of
from repsim_nb.errors import InputError

SIZES = {f"w{w}-d{d}-s{s}": (w, d) for w in (32, 64) for d in (4, 8) for s in range(3)}


def aligned(a: int, b: int, relative: bool) -> np.ndarray:
    """Similarity of layers of models of depth a and b: 1 at equal relative (or absolute) depth, less with distance."""
    rows, columns = np.arange(a + 1), np.arange(b + 1)
    if relative:
        rows, columns = rows / a, columns / b
    else:
        rows, columns = rows / 8, columns / 8
    return 1 - np.abs(np.subtract.outer(rows, columns))


def family(relative: bool, noise: float = 0.0, extra: dict[str, tuple[int, int]] | None = None) -> dict:
    rng = np.random.default_rng(0)
    sizes = SIZES | (extra or {})
    grids = {}
    for a, b in combinations_with_replacement(sizes, 2):
        grid = aligned(sizes[a][1], sizes[b][1], relative)
        noisy = grid + rng.normal(0, noise, grid.shape) if a != b else grid
        grids[a, b] = xr.DataArray(noisy, dims=("layer_a", "layer_b"), name="cka")
    return grids


@pytest.mark.parametrize("relative", [True, False])
def test_depth_claims_tell_relative_from_absolute_depth(relative: bool) -> None:
    line = depth_claims(family(relative, noise=0.01), SIZES).loc["relative over absolute depth"]
    assert line.sizes == 4  # pairs of sizes of different depth
    assert line.low > 0 if relative else line.high < 0


def test_depth_claims_of_one_pair_are_the_plain_numbers() -> None:
    maps = {pair: m for pair, m in family(True).items() if set(pair) <= {"w32-d4-s0", "w64-d8-s0"}}
    found = depth_claims(maps, SIZES)
    assert found.value["decay"] == pytest.approx(decay(maps))
    assert found.value["equal depth"] == pytest.approx(correspondence(maps))
    assert np.isinf(found[["low", "high"]].to_numpy()).all()  # without a second seed nothing is known about seeds


def test_depth_claims_beyond_untrained_are_0_for_models_that_are_like_their_twins() -> None:
    twins = {"twin4": (32, 4), "twin8": (64, 8)}
    maps = family(True, extra=twins)
    found = depth_claims(maps, SIZES, {"twin4": "w32-d4-s0", "twin8": "w64-d8-s1"})
    assert found.value["decay, untrained"] == pytest.approx(-1)
    assert found.value["decay, beyond untrained"] == pytest.approx(0)
    assert found.value["equal depth, beyond untrained"] == pytest.approx(0)
    assert found.sizes.to_dict() == {
        "decay": 4, "decay, untrained": 2, "decay, beyond untrained": 2, "equal depth": 6, "equal depth, untrained": 1,
        "equal depth, beyond untrained": 1, "relative over absolute depth": 4,
    }  # fmt: skip


def test_depth_claims_beyond_untrained_are_what_training_adds() -> None:
    twins = {"twin4": (32, 4), "twin8": (64, 8)}
    maps = family(True, noise=0.001, extra=twins)
    flat = xr.DataArray(np.ones((5, 9)), dims=("layer_a", "layer_b"))
    line = depth_claims(maps | {("twin4", "twin8"): flat}, SIZES, {"twin4": "w32-d4-s0", "twin8": "w64-d8-s1"})
    assert line.low["equal depth, beyond untrained"] > 0.2
    assert line.value["equal depth, untrained"] == pytest.approx(0)


def test_depth_match_interpolates_where_relative_depth_falls_between_two_layers() -> None:
    grid = np.zeros((3, 6))  # layer 1 of 2 is at 2.5 of 5
    grid[1, 2], grid[1, 3], grid[1, 1] = 0.4, 0.8, 0.1
    assert depth_match_of(grid) == pytest.approx(0.6 - 0.1)
    assert depth_match_of(grid.T) == pytest.approx(0.5)
    assert depth_match_of(np.stack([grid, grid * 2])) == pytest.approx([0.5, 1.0])


def test_depth_claims_refuse_a_model_without_size_and_maps_that_say_nothing() -> None:
    maps = family(True)
    with pytest.raises(InputError, match="no entry for w64-d8-s2"):
        depth_claims(maps, {name: size for name, size in SIZES.items() if name != "w64-d8-s2"})
    small = {("a", "a"): xr.DataArray(np.eye(2), dims=("layer_a", "layer_b"))}
    with pytest.raises(InputError, match="three layers"):
        depth_claims(small, {"a": (1, 1)})
