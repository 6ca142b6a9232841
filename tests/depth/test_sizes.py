"""Sizes against seeds of one size, with the variance of seeds pooled."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import t

from repsim_nb.depth import by_kind, by_size, shipped_sizes
from repsim_nb.errors import InputError
from repsim_nb.zoo.recipes import RECIPES

SIZES = {"a": (32, 4), "b": (32, 4), "c": (64, 4), "d": (32, 2), "e": (64, 2)}


def similar(grid: np.ndarray) -> xr.DataArray:
    return xr.DataArray(
        grid, dims=("layer_a", "layer_b"), name="cka", attrs={"direction": "similarity", "upper_bound": 1.0}
    )


def maps_of(
    values: dict[tuple[str, str], float], sizes: dict[str, tuple[int, int]]
) -> dict[tuple[str, str], xr.DataArray]:
    return {(a, b): similar(np.full((sizes[a][1] + 1, sizes[b][1] + 1), v)) for (a, b), v in values.items()}


def drawn(rng: np.random.Generator, seeds: dict[tuple[int, int], int], effect: float = 0.0, spread: float = 0.006):
    """Maps of a family: every pair 0.6, less `effect` between sizes, plus what seeds do to models and pairs."""
    sizes = {f"w{w}-d{d}-s{s}": (w, d) for (w, d), n in seeds.items() for s in range(n)}
    model = dict(zip(sizes, rng.normal(0, spread, len(sizes)), strict=True))
    values = {
        (a, b): 0.6 - effect * (sizes[a] != sizes[b]) + model[a] + model[b] + rng.normal(0, spread)
        for a, b in combinations(sizes, 2)
    }
    return maps_of(values, sizes), sizes


@pytest.fixture
def five() -> dict[tuple[str, str], xr.DataArray]:
    seeds = np.full((5, 5), 0.9)
    seeds[1, 1] = seeds[3, 3] = 0.1  # where models of depth 2 have no layer
    constant = {("c", "a"): 0.6, ("c", "b"): 0.4, ("d", "a"): 0.8, ("d", "b"): 0.9, ("e", "a"): 0.3, ("e", "b"): 0.3}
    constant |= {("d", "c"): 0.5, ("e", "c"): 0.5, ("e", "d"): 0.2}
    return maps_of(constant, SIZES) | {("a", "a"): similar(np.ones((5, 5))), ("b", "a"): similar(seeds)}


def test_by_size_holds_sizes_against_seeds_at_the_depths_that_both_have(five: dict) -> None:
    found = by_size(five, SIZES)
    assert found.index.get_level_values("one").unique().tolist() == ["(32, 4)"]
    found = found.droplevel("one")
    assert found.kind.to_dict() == {"(64, 4)": "same depth", "(32, 2)": "same width", "(64, 2)": "both differ"}
    assert found.similarity.to_dict() == pytest.approx({"(64, 4)": 0.5, "(32, 2)": 0.85, "(64, 2)": 0.3})
    assert found.ceiling.to_dict() == pytest.approx({"(64, 4)": 0.58, "(32, 2)": 0.9, "(64, 2)": 0.9})
    assert found.difference.to_dict() == pytest.approx({"(64, 4)": -0.08, "(32, 2)": -0.05, "(64, 2)": -0.6})
    assert (found.seeded == 1).all()


def test_by_size_refuses_a_model_without_size_a_missing_map_and_a_family_without_seeds(five: dict) -> None:
    with pytest.raises(InputError, match="no entry for a; it has x"):
        by_size({("a", "b"): similar(np.eye(3))}, {"x": (1, 1)})
    with pytest.raises(InputError, match="two models of one size"):
        by_size({("a", "c"): similar(np.eye(5))}, SIZES)
    del five["d", "b"]
    with pytest.raises(InputError, match="none for b and d"):
        by_size(five, SIZES)


def test_by_size_of_two_seeded_sizes_does_not_depend_on_what_one_model_does_to_all_its_similarities() -> None:
    maps, sizes = drawn(np.random.default_rng(0), {(32, 2): 3, (64, 2): 3, (64, 4): 3})
    moved = {pair: m + 0.1 * ("w32-d2-s0" in pair) for pair, m in maps.items()}
    before, after = by_size(maps, sizes), by_size(moved, sizes)
    assert (before.seeded == 2).all()
    np.testing.assert_allclose(after.difference, before.difference, atol=1e-12)


def test_by_size_has_wider_intervals_where_one_model_stands_for_a_size() -> None:
    maps, sizes = drawn(np.random.default_rng(1), {(32, 2): 3, (64, 2): 3, (64, 4): 3, (32, 4): 1})
    found = by_size(maps, sizes)
    width = (found.high - found.low).groupby(found.seeded).mean()
    assert width[1] > 2 * width[2]


def test_by_size_finds_a_planted_difference_and_none_where_there_is_none() -> None:
    rng = np.random.default_rng(2)
    seeds = {(w, d): 3 for w in (32, 64) for d in (2, 4)}
    planted = by_size(*drawn(rng, seeds, effect=0.05))
    assert (planted.high < 0).all()
    assert planted.difference.mean() == pytest.approx(-0.05, abs=0.01)
    none = [by_size(*drawn(rng, seeds)) for _ in range(20)]
    wrong = np.mean([((found.low > 0) | (found.high < 0)).mean() for found in none])
    assert wrong < 0.12  # 0.05 expected of 120 intervals


def test_by_size_adds_the_variance_over_documents() -> None:
    maps, sizes = drawn(np.random.default_rng(3), {(32, 2): 3, (64, 2): 3, (64, 4): 3, (32, 4): 3}, spread=1e-9)
    groups = np.random.default_rng(4).normal(0, 0.002, 20)
    moved = {
        pair: (m + xr.DataArray(groups * (sizes[pair[0]] != sizes[pair[1]]), dims="without")).transpose("without", ...)
        for pair, m in maps.items()
    }
    assert (by_size(maps, sizes).high - by_size(maps, sizes).low).max() < 1e-6
    reach = t.ppf(0.975, 19) * (19 / 20 * ((groups - groups.mean()) ** 2).sum()) ** 0.5
    found = by_size(maps, sizes, moved)
    np.testing.assert_allclose(found.high - found.low, 2 * reach, rtol=1e-6)


def test_by_kind_averages_the_differences_of_by_size() -> None:
    maps, sizes = drawn(np.random.default_rng(5), {(w, d): 2 for w in (32, 64) for d in (2, 4)}, effect=0.03)
    single, averaged = by_size(maps, sizes), by_kind(maps, sizes)
    assert averaged.pairs.to_dict() == {"same width": 2, "same depth": 2, "both differ": 2}
    expected = single.groupby("kind").difference.mean()
    for kind, value in averaged.difference.items():
        assert value == pytest.approx(expected[kind])
    assert (averaged.high - averaged.low).max() < (single.high - single.low).min()


def test_by_size_without_any_second_seed_to_learn_from_cannot_tell() -> None:
    maps = maps_of({("b", "a"): 0.9, ("c", "a"): 0.5, ("c", "b"): 0.7}, SIZES)
    found = by_size(maps, {name: SIZES[name] for name in "abc"})
    assert (found.high - found.low).iloc[0] > 1  # one degree of freedom


def test_shipped_sizes_are_of_models_at_equal_tokens_and_at_equal_loss():
    found = shipped_sizes("equal-loss")
    models = found.attrs["models"]
    assert list(models) == ["equal tokens", "equal loss"] == found.index.unique("arm").tolist()
    losses = {arm: [of["loss"] for of in runs.values()] for arm, runs in models.items()}
    assert np.ptp(losses["equal loss"]) < 0.05
    assert np.ptp(losses["equal tokens"]) > 0.5
    assert {name.split("@")[0] for runs in models.values() for name in runs} <= set(RECIPES)
    for runs in models.values():
        assert len({of["weights_sha256"] for of in runs.values()}) == len(runs)
        assert {RECIPES[name.split("@")[0]].learning_rate for name in runs} == {3e-3}
    assert ((found.low < found.difference) & (found.difference < found.high)).all()
    assert np.allclose(found.difference, found.similarity - found.ceiling)


def test_shipped_sizes_of_an_unknown_name_do_not_exist():
    with pytest.raises(FileNotFoundError):
        shipped_sizes("equal-nothing")
