"""Seeded, small versions of benchmarks/bench_uncertainty.py: the intervals cover and the tests hold their level."""

import numpy as np
import pytest
from scipy.stats import binom

from repsim_nb.comparison.layers import compare
from tests.support.simulated import Population, unrelated_grids


def compatible(count, repeats, probability):
    """Whether a count is what 999 of 1000 such experiments give."""
    low, high = binom.interval(0.999, repeats, probability)
    return low <= count <= high


@pytest.mark.parametrize("shared", [0.6, 0.95])
def test_intervals_of_unbiased_cka_hold_the_population_value_at_their_rate(shared):
    population, rng = Population(shared=shared), np.random.default_rng(1)
    covered = 0
    for _ in range(80):
        x, y, documents = population.sample(100, 4, rng)
        r = compare({0: x}, {0: y}, groups=documents, interval=0.9, between_documents=True)
        covered += bool(r.low <= population.cka <= r.high)
    assert compatible(covered, 80, 0.9)


def test_intervals_of_a_distance_hold_its_mean_at_their_rate():
    population, rng = Population(d=4, shared=0.8), np.random.default_rng(2)
    found = []
    for _ in range(60):
        x, y, documents = population.sample(60, 4, rng)
        r = compare({0: x}, {0: y}, measure="procrustes", groups=documents, interval=0.9)
        found.append([r.item(), r.low.item(), r.high.item()])
    value, low, high = np.array(found).T
    assert compatible(((low <= value.mean()) & (value.mean() <= high)).sum(), 60, 0.9)


def test_exchanging_documents_holds_the_level_and_exchanging_rows_does_not():
    population, rng = Population(shared=0.0), np.random.default_rng(3)
    alarms = np.zeros(3)
    for seed in range(100):
        x, y, documents = population.sample(40, 6, rng)
        by_document = compare({0: x}, {0: y}, groups=documents, null=39, seed=seed)
        closed = compare({0: x}, {0: y}, groups=documents, null="moments")
        by_row = compare({0: x}, {0: y}, null=39, seed=seed)
        alarms += [r.p_value.item() <= 0.05 for r in (by_document, closed, by_row)]
    assert compatible(alarms[0], 100, 0.05)
    assert compatible(alarms[1], 100, 0.05)
    assert alarms[2] > 50


def test_the_level_holds_over_a_whole_grid():
    rng = np.random.default_rng(4)
    alarms, cells = 0, 0.0
    for seed in range(80):
        a, b, documents = unrelated_grids(4, 40, 4, 5, rng)
        r = compare(a, b, groups=documents, null=39, seed=seed)
        alarms += bool((r.p_value <= 0.05).any())
        cells += float((r > r.null_high).any())
    assert compatible(alarms, 80, 0.05)
    assert cells > 12  # without control, some cell of 16 is beyond its own level far more often


def test_leaving_out_pairs_of_one_document_takes_out_what_clusters_share():
    rng = np.random.default_rng(5)
    population = Population(d=40, shared=0.0)
    plain, between = [], []
    for _ in range(10):
        x, y, documents = population.sample(16, 8, rng)
        plain.append(compare({0: x}, {0: y}).item())
        between.append(compare({0: x}, {0: y}, groups=documents, between_documents=True).item())
    assert np.mean(plain) > 0.1
    assert abs(np.mean(between)) < 0.03
