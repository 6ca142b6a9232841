"""Fits of smooth decay and divisions of maps, against scipy and by trying all."""

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from repsim_nb.depth.smooth_decay import AT_ONCE, SmoothDecay, decreasing, divided, starts_of


def maps(count, n_layers, seed=0):
    rng = np.random.default_rng(seed)
    lags = np.abs(np.subtract.outer(np.arange(n_layers), np.arange(n_layers)))
    found = 0.9**lags + 0.05 * rng.normal(size=(count, n_layers, n_layers))
    return (found + found.swapaxes(1, 2)) / 2


def test_decreasing_is_the_isotonic_regression_of_scipy():
    rng = np.random.default_rng(0)
    for values in (
        rng.normal(size=(200, 36)) - np.linspace(0, 1, 36),
        rng.integers(0, 3, (200, 20)).astype(float),  # ties
        np.tile(np.arange(5.0), (3, 1)),  # one pool, and the next row begins lower
        np.ones((4, 1)),
    ):
        found = decreasing(values.ravel(), np.arange(values.size), values.shape[1])
        assert found == pytest.approx(np.ravel([isotonic_regression(row, increasing=False).x for row in values]))


@pytest.mark.parametrize("n_layers", [4, 7])
def test_smooth_decay_is_the_best_of_all_candidates_each_fitted_by_scipy(n_layers):
    decay, given = SmoothDecay(n_layers), maps(AT_ONCE + 3, n_layers)
    fit = decay.fit(given)
    a, b = decay.pairs
    for i in (0, 1, AT_ONCE + 2):
        errors = []
        for steps in decay.steps:
            places = np.concatenate([[0], np.cumsum(np.exp(steps) / np.exp(steps).mean())])
            lengths = np.round(places[b] - places[a], 9)
            _, of, counts = np.unique(lengths, return_inverse=True, return_counts=True)
            means = np.bincount(of, given[i][a, b]) / counts
            curve = isotonic_regression(means, weights=counts, increasing=False).x
            errors.append(np.square(given[i][a, b] - curve[of]).sum())
        assert np.square(given[i] - fit.smooth[i])[a, b].sum() == pytest.approx(min(errors))
        assert fit.smooth[i] == pytest.approx(fit.smooth[i].T)
        assert np.diag(fit.smooth[i]) == pytest.approx(np.diag(given[i]))
        assert (np.diff(fit.curves[i]) <= 0).all()
        assert sorted(fit.curves[i]) == pytest.approx(sorted(fit.smooth[i][a, b]))


def test_divided_finds_the_best_of_all_divisions():
    rng = np.random.default_rng(0)
    for n in (2, 5, 8):
        residuals = rng.normal(size=(3, n, n))
        residuals += residuals.swapaxes(1, 2)

        def gain(residual, cuts):
            parts = np.split(np.arange(len(residual)), cuts)
            return sum(np.triu(residual[np.ix_(part, part)], 1).sum() for part in parts)

        every = [[i + 1 for i in range(n - 1) if cuts >> i & 1] for cuts in range(2 ** (n - 1))]
        for residual, score, start in zip(residuals, *divided(residuals), strict=True):
            best = max(gain(residual, cuts) for cuts in every)
            assert score * n * (n - 1) / 2 == pytest.approx(best)
            assert gain(residual, starts_of(start)[1:]) == pytest.approx(best)
