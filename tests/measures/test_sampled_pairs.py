"""Sampled CKA: close to the exact value, with an error that says how close."""

import numpy as np
import pytest
import torch

from repsim_nb.errors import InputError
from repsim_nb.measures import get_measure

N, WIDTH, LAYERS, REPEATS = 900, 200, 4, 50


def side(seed: int) -> list[torch.Tensor]:
    """Layers that share 15 directions, rows of unequal length."""
    rng = torch.Generator().manual_seed(0)
    shared, length = torch.randn(N, 15, generator=rng), 1 + torch.rand(N, 1, generator=rng)
    rng = torch.Generator().manual_seed(seed)
    return [
        (shared @ torch.randn(15, WIDTH, generator=rng) + 4 * torch.randn(N, WIDTH, generator=rng)) * length + 3
        for _ in range(LAYERS)
    ]


def sampled(xs, ys=None, partners=256, seed=0, **params):
    """Values and standard errors."""
    cka = get_measure("cka", fast=True, partners=partners, seed=seed, **params)
    left = [cka.prepare(x, f"layer {layer}") for layer, x in enumerate(xs)]
    return cka.grid_with_errors(left, left if ys is None else [cka.prepare(y, "y") for y in ys])


def exactly(xs, ys=None, **params):
    cka = get_measure("cka", **params)
    left = [cka.prepare(x, "x") for x in xs]
    return cka.grid(left, left if ys is None else [cka.prepare(y, "y") for y in ys])


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("alone", [False, True], ids=["a-b", "a-a"])
def test_the_stated_error_covers_the_exact_value(debiased: bool, alone: bool) -> None:
    xs, ys = side(1), None if alone else side(2)
    exact = exactly(xs, ys, debiased=debiased)
    repeats = (sampled(xs, ys, 64, seed, debiased=debiased) for seed in range(REPEATS))
    values, errors = map(np.array, zip(*repeats, strict=True))
    off = np.abs(values - exact)
    different = ~np.eye(LAYERS, dtype=bool) if alone else np.ones_like(exact, dtype=bool)
    assert (off <= 2 * errors + 1e-9)[:, different].mean() >= 0.9
    # Neither too small nor, what covers anything, too large.
    assert 0.8 < np.sqrt((errors[:, different] ** 2).mean() / (off[:, different] ** 2).mean()) < 1.25
    assert np.abs((values - exact).mean(0)).max() < 4 * np.sqrt((errors**2).mean() / REPEATS)
    if alone:
        np.testing.assert_allclose(values[:, ~different], 1, atol=1e-6)


def test_more_partners_err_less_and_the_seed_decides() -> None:
    xs, ys = side(1), side(2)
    few, many = (sampled(xs, ys, partners)[1] for partners in (32, 256))
    assert many.mean() < 0.5 * few.mean()
    assert np.array_equal(sampled(xs, ys, 32)[0], sampled(xs, ys, 32)[0])
    assert not np.array_equal(sampled(xs, ys, 32)[0], sampled(xs, ys, 32, seed=1)[0])


def test_what_is_small_is_compared_exactly() -> None:
    for rows, width in ((60, WIDTH), (N, 8)):
        xs = [x[:rows, :width] for x in side(1)]
        values, errors = sampled(xs, partners=64)
        assert np.array_equal(values, exactly(xs))
        assert not errors.any()


def test_one_pair_is_sampled_like_a_grid() -> None:
    x, y = side(1)[0], side(2)[0]
    assert get_measure("cka", fast=True, partners=64)(x, y) == sampled([x], [y], 64)[0].item()


def test_wrong_use_is_named() -> None:
    with pytest.raises(InputError, match="a multiple of 32"):
        get_measure("cka", fast=True, partners=50)
    for params in ({"kernel": "rbf"}, {"batch": 100}, {"groups": np.arange(N) // 3}):
        with pytest.raises(InputError, match="needs the linear kernel without groups and batch"):
            get_measure("cka", fast=True, **params)
    for params in ({"seed": 1}, {"partners": 64}):
        with pytest.raises(InputError, match="would have no effect: they belong to fast=True"):
            get_measure("cka", **params)


def test_a_few_rows_far_beyond_all_others_are_refused() -> None:
    far = side(1)
    for x in far:
        x[:2] *= 100
    with pytest.raises(InputError, match="layer 0: a few pairs of rows far from all others may hold so much of HSIC"):
        sampled(far, partners=32)
