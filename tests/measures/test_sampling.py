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


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("alone", [False, True], ids=["a-b", "a-a"])
def test_the_stated_error_covers_the_exact_value(debiased: bool, alone: bool) -> None:
    cka = get_measure("cka", debiased=debiased)
    xs = [cka.prepare(x, "x") for x in side(1)]
    ys = xs if alone else [cka.prepare(y, "y") for y in side(2)]
    exact = cka.grid(xs, ys)
    values, errors = map(np.array, zip(*(cka.sampled(xs, ys, 64, seed) for seed in range(REPEATS)), strict=True))
    off = np.abs(values - exact)
    different = ~np.eye(LAYERS, dtype=bool) if alone else np.ones_like(exact, dtype=bool)
    assert (off <= 2 * errors + 1e-9)[:, different].mean() >= 0.9
    # Neither too small nor, what covers anything, too large.
    assert 0.8 < np.sqrt((errors[:, different] ** 2).mean() / (off[:, different] ** 2).mean()) < 1.25
    assert np.abs((values - exact).mean(0)).max() < 4 * np.sqrt((errors**2).mean() / REPEATS)
    if alone:
        np.testing.assert_allclose(values[:, ~different], 1, atol=1e-6)


def test_more_partners_err_less_and_the_seed_decides() -> None:
    cka = get_measure("cka")
    xs, ys = ([cka.prepare(x, "x") for x in side(seed)] for seed in (1, 2))
    few, many = (cka.sampled(xs, ys, partners)[1] for partners in (32, 256))
    assert many.mean() < 0.5 * few.mean()
    assert np.array_equal(cka.sampled(xs, ys, 32)[0], cka.sampled(xs, ys, 32)[0])
    assert not np.array_equal(cka.sampled(xs, ys, 32)[0], cka.sampled(xs, ys, 32, seed=1)[0])


def test_what_is_small_is_compared_exactly() -> None:
    cka = get_measure("cka")
    for rows, width in ((60, WIDTH), (N, 8)):
        xs = [cka.prepare(x[:rows, :width], "x") for x in side(1)]
        values, errors = cka.sampled(xs, xs, 64)
        assert np.array_equal(values, cka.grid(xs, xs))
        assert not errors.any()


def test_wrong_use_is_named() -> None:
    cka = get_measure("cka")
    xs = [cka.prepare(x, "x") for x in side(1)]
    with pytest.raises(InputError, match="a multiple of 32"):
        cka.sampled(xs, xs, 50)
    for params in ({"kernel": "rbf"}, {"batch": 100}, {"groups": np.arange(N) // 3}):
        with pytest.raises(InputError, match="Only linear cka without groups and batch"):
            get_measure("cka", **params).sampled(xs, xs)


def test_a_few_rows_far_beyond_all_others_are_refused() -> None:
    cka = get_measure("cka")
    far = side(1)
    for x in far:
        x[:2] *= 100
    xs = [cka.prepare(x, f"layer {layer}") for layer, x in enumerate(far)]
    with pytest.raises(InputError, match="layer 0: so much of HSIC may lie in a few pairs of rows far beyond"):
        cka.sampled(xs, xs, 32)
