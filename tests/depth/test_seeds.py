"""Variance components over seeds: unbiased for known ones, and weighed as the numbers are."""

from __future__ import annotations

import numpy as np
import pytest

from repsim_nb.depth.seeds import Part, SeedVariance, interval, over_documents

SIZES = [0, 0, 0, 1, 1, 1, 2, 2, 2]


def similarities(rng: np.random.Generator, model: float, pair: float) -> np.ndarray:
    sizes = np.array(SIZES)
    means = rng.normal(0.5, 0.1, (3, 3))
    u, e = rng.normal(0, model, 9), rng.normal(0, pair, (9, 9))
    values = (means + means.T)[np.ix_(sizes, sizes)] + u[:, None] + u + (np.triu(e, 1) + np.triu(e, 1).T)
    np.fill_diagonal(values, np.nan)
    return values


@pytest.mark.parametrize(("model", "pair"), [(0.02, 0.01), (0.0, 0.01), (0.02, 0.0)])
def test_seed_variance_is_that_of_models_and_of_pairs(model: float, pair: float) -> None:
    rng = np.random.default_rng(0)
    found = [SeedVariance.of_pairs(similarities(rng, model, pair), SIZES) for _ in range(400)]
    assert np.mean([v.pair.variance for v in found]) == pytest.approx(pair**2, rel=0.1, abs=1e-12)
    of_models = [v.model.variance - v.share * v.pair.variance for v in found]
    assert np.mean(of_models) == pytest.approx(model**2, rel=0.1, abs=5e-6)
    assert found[0].model.freedom == 6


def test_seed_variance_of_a_mean_is_the_variance_of_that_mean() -> None:
    rng = np.random.default_rng(1)
    weights = np.triu(rng.normal(size=(9, 9)), 1)
    weights += weights.T
    draws = [similarities(np.random.default_rng([2, i]), 0.02, 0.01) for i in range(3000)]
    level = {i: np.array(SIZES) == i for i in range(3)}
    centred = []
    for values in draws:  # what varies is what seeds do, not the sizes
        x = np.nan_to_num(values)
        centred.append((weights * x).sum() / 2)
    means = [
        (weights * np.nan_to_num(similarities(np.random.default_rng([2, i]), 0.0, 0.0))).sum() / 2 for i in range(3000)
    ]
    truth = np.var(np.array(centred) - np.array(means))
    expected = np.mean([sum(p.variance for p in SeedVariance.of_pairs(v, SIZES).of_mean(weights)) for v in draws[:400]])
    assert expected == pytest.approx(truth, rel=0.1)
    assert len(level) == 3


def test_seed_variance_needs_a_second_seed() -> None:
    assert SeedVariance.of_models(np.array([1.0, 2.0]), ["small", "large"]) is None
    assert SeedVariance.of_pairs(np.ones((2, 2)), ["small", "large"]) is None


def test_seed_variance_of_models_is_pooled_within_sizes() -> None:
    found = SeedVariance.of_models(np.array([1.0, 3.0, 10.0, 14.0, 99.0]), list("aabbc"))
    assert found.model == Part((2 + 8) / 2, 2)
    assert found.of_mean(np.array([0.5, 0.5, 0, 0, 0])) == [Part(2.5, 2)]


def test_interval_with_one_part_is_students_t() -> None:
    from scipy.stats import t

    value, low, high = interval(1.0, [Part(0.04, 7)], 0.9)
    assert (value, high - low) == (1.0, pytest.approx(2 * 0.2 * t.ppf(0.95, 7)))
    assert interval(1.0, [], 0.95) == (1.0, -np.inf, np.inf)
    assert interval(1.0, [Part(0.0, 7)], 0.95) == (1.0, 1.0, 1.0)


def test_over_documents_is_the_delete_a_group_variance_of_a_mean() -> None:
    x = np.random.default_rng(0).normal(size=20)
    left_out = (x.sum() - x) / 19
    assert over_documents(left_out) == (pytest.approx(x.var(ddof=1) / 20), 19)
