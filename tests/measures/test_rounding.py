"""One feature's size says nothing about another's digits, and distances need not all be there at once."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata, spearmanr

from repsim_nb.comparison.closeup import shared_axes
from repsim_nb.comparison.controls import Controls
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, effective_rank, features, get_measure, kernels
from repsim_nb.measures.rsa import to_ranks

from .samples import LOGITS, MEASURES, N, pair

# What a feature that is constant does to a measure although it is invariant to shift: it counts among the features.
COUNTED = ("hard_matching", "soft_matching", "transport_matching", "ridge_predictivity")
INVARIANT = [m for m in MEASURES if "shift" in m.invariances and m.name not in (*LOGITS, *COUNTED)]
CONSTANTS = (1e6, 1e7, -1e12, 1e30)


def single(x):
    return np.asarray(x, dtype=np.float32)


def beside(x, constant):
    return single(np.insert(x, 1, constant, axis=1))


@pytest.mark.parametrize("measure", INVARIANT, ids=repr)
def test_a_constant_feature_changes_nothing(measure: Measure):
    x, y = map(single, pair(measure, 0))
    expected = measure(x.astype(float), y.astype(float))
    for constant in CONSTANTS:
        found = measure(beside(x, constant), beside(y, 3 * constant))
        assert found == pytest.approx(expected, rel=2e-5, abs=2e-5), constant


@pytest.mark.parametrize("measure", [m for m in INVARIANT if m.moment_dtype is not None], ids=repr)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_constant_feature_changes_nothing_in_sums(measure: Measure, dtype):
    def of_sums(a, b):
        sums = measure.accumulator({0: a.shape[1]}, {0: b.shape[1]})
        for part in np.array_split(np.arange(N), 3):
            sums.add({0: a[part].astype(dtype)}, {0: b[part].astype(dtype)})
        return measure.from_moments(sums)[0, 0]

    x, y = map(single, pair(measure, 0))
    expected = measure(x.astype(float), y.astype(float))
    if measure.params.get("batch"):  # sums have other batches
        expected = of_sums(x, y)
    for constant in CONSTANTS:
        found = of_sums(beside(x, constant), beside(y, 3 * constant))
        assert found == pytest.approx(expected, rel=2e-5, abs=2e-5), constant


@pytest.mark.parametrize("name", ["cka", "cca", "svcca", "pwcca", "linear_regression", "gulp", "procrustes", "imd"])
@pytest.mark.parametrize("offset", [1e3, 1e5, 1e6])
def test_far_from_zero_float32_is_what_float64_makes_of_the_same_numbers(name, offset):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 5))
    far = single(x + offset), single(x @ rng.normal(size=(5, 4)) + rng.normal(size=(60, 4)) - 2 * offset)
    measure = get_measure(name)
    exact = [m.astype(float) - m.astype(float).mean(0) for m in far]
    assert measure(*far) == pytest.approx(measure(*exact), rel=2e-5, abs=1e-5)


def test_sums_of_float64_rows_keep_what_is_left_beside_a_large_mean():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 5))
    y = x @ rng.normal(size=(5, 4)) + rng.normal(size=(200, 4))
    for name in ("cka", "procrustes"):
        measure = get_measure(name)
        sums = measure.accumulator({0: 5}, {0: 4})
        other = measure.accumulator({0: 5}, {0: 4})
        for half, into in ((slice(0, 90), sums), (slice(90, 200), other)):
            into.add({0: x[half] + 1e9}, {0: y[half] - 1e10})
        assert measure.from_moments(sums + other)[0, 0] == pytest.approx(measure(x, y), abs=1e-5)


def test_one_feature_of_large_variance_hides_no_direction():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(80, 4)) * [1e6, 1, 1, 1]
    y = x / [1e6, 1, 1, 1] @ rng.normal(size=(4, 4)) + rng.normal(size=(80, 4))
    qx, qy = (np.linalg.qr((m - m.mean(0)) / m.std(0))[0] for m in (single(x).astype(float), single(y).astype(float)))
    expected = np.linalg.svd(qx.T @ qy, compute_uv=False).mean()
    cca = get_measure("cca")
    assert cca(single(x), single(y)) == pytest.approx(expected, rel=1e-6)
    sums = cca.accumulator({0: 4}, {0: 4}).add({0: single(x)}, {0: single(y)})
    assert cca.from_moments(sums)[0, 0] == pytest.approx(expected, rel=1e-6)
    sums = cca.accumulator({0: 4}, {0: 4}).add({0: x * [1e6, 1, 1, 1]}, {0: y})
    with pytest.raises(InputError, match="feature 1 varies by less than 1e-07 of the largest direction"):
        cca.from_moments(sums)


def test_eigenspace_overlap_counts_the_direction_of_a_constant_feature():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 60, 5))
    wide = beside(x, 1e6), beside(y, 1e6)
    bases = [np.linalg.qr(m.astype(float) / np.abs(m).max(0))[0] for m in wide]  # scales change no column space
    expected = ((bases[0].T @ bases[1]) ** 2).sum() / 6
    assert get_measure("eigenspace_overlap")(*wide) == pytest.approx(expected, rel=1e-6)


def test_rank_deficient_rows_keep_their_rank_wherever_they_lie():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 6))
    for offset in (0, 10, 1e3):
        assert len(features.Features(torch.tensor(single(x + offset)), "x").svd[1]) == 2


def test_rows_equal_up_to_rounding_are_said_to_be_so():
    x = np.random.default_rng(6).normal(size=(20, 3))
    with pytest.raises(InputError, match="all 20 rows are equal up to the rounding of float32"):
        get_measure("cka")(single(x + 1.3e7), single(x))
    with pytest.raises(InputError, match=r"all 20 rows are equal\)"):
        get_measure("cka")(single(0 * x + 1e9), single(x))


def test_controls_closeups_and_ranks_see_beside_a_constant_feature():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(80, 4)) * [1, 2, 3, 4]
    wide = beside(x, 1e7)
    done = Controls(standardize=True).applied({0: wide})[0][0][0].numpy()
    np.testing.assert_allclose(done, (x - x.mean(0)) / x.std(0, ddof=1), atol=1e-5)
    far = Controls(standardize=True).applied({0: single(x + 1e5)})[0][0][0].numpy()
    np.testing.assert_allclose(far.mean(0), 0, atol=1e-6)
    assert effective_rank(wide) == pytest.approx(effective_rank(single(x)), rel=1e-6)
    np.testing.assert_allclose(shared_axes(wide, x).difference, 0, atol=1e-5)
    with pytest.raises(InputError, match="all of its features are constant"):
        Controls(standardize=True).applied({0: np.full((9, 2), 0.1)})
    with pytest.raises(InputError, match="all 9 rows are equal"):
        shared_axes(np.full((9, 2), 0.1), np.full((9, 2), 0.1))


def gaps(x, centred):
    """1 - cosine of every two rows, in 50 digits."""
    with mpmath.workdps(50):
        rows = [[mpmath.mpf(float(v)) for v in row] for row in x]
        if centred:
            rows = [[v - sum(row) / len(row) for v in row] for row in rows]
        rows = [[v / mpmath.sqrt(sum(w * w for w in row)) for v in row] for row in rows]
        return np.array([[float(1 - sum(a * b for a, b in zip(r, s, strict=True))) for s in rows] for r in rows])


@pytest.mark.parametrize("constant", [1e6, 1e7])
def test_cosines_are_told_apart_beside_one_huge_feature(constant):
    rng = np.random.default_rng(8)
    x = rng.normal(size=(30, 4))
    x, y = beside(x, constant), beside(x + rng.normal(size=(30, 4)), -2 * constant)
    upper = np.triu_indices(30, 1)
    for inner in ("cosine", "correlation"):
        a, b = (gaps(m, inner == "correlation") for m in (x, y))
        expected = spearmanr(a[upper], b[upper]).statistic
        assert get_measure("rsa", inner=inner)(x, y) == pytest.approx(expected, abs=1e-9)
    near = [np.argsort(gaps(m, False) + 9 * np.eye(30), axis=1)[:, :4] for m in (x, y)]
    expected = np.mean([len(set(p) & set(q)) / 4 for p, q in zip(*near, strict=True)])
    assert get_measure("mutual_knn", k=4)(x, y) == pytest.approx(expected, abs=1e-7)


def test_aligned_cosine_of_rows_with_themselves_is_one_whatever_their_norms():
    rng = np.random.default_rng(9)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    for digits in (3, 9, 12, 20):
        x = rng.normal(size=(12, 8))
        x *= np.logspace(0, digits, 12)[:, None] / np.linalg.norm(x, axis=1)[:, None]
        for y in (x, x @ turn, np.c_[x @ turn, np.zeros((12, 3))]):
            assert get_measure("aligned_cosine")(x, y) == pytest.approx(1, abs=1e-12)


# In blocks


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(features, "DISTANCE_BYTES", 8 * 26 * 4)
    monkeypatch.setattr(features, "BLOCK_BYTES", 8 * 26 * 4)
    monkeypatch.setattr(kernels, "GATHERED", 40)


NAMED = [("rsa", {"inner": "euclidean"}), ("rsa", {}), ("rsm_norm_difference", {}), ("distance_correlation", {})]
NAMED += [("uniformity_difference", {}), ("cka", {"kernel": "rbf"}), ("imd", {}), ("mutual_knn", {"k": 4})]


@pytest.mark.parametrize(("name", "params"), NAMED)
def test_blocks_change_no_value(name, params, small_blocks):
    measure = get_measure(name, **params)
    x, y = pair(measure, 3)
    dx, dy = pdist(x), pdist(y)
    grid = measure.grid([measure.prepare(x), measure.prepare(y)], [measure.prepare(y)])
    value = measure(x, y)
    assert grid.ravel() == pytest.approx([value, measure(y, y)], abs=1e-7)
    if name == "rsm_norm_difference":
        assert value == pytest.approx(math.dist(dx, dy), rel=1e-12)
    if name == "uniformity_difference":
        expected = [np.exp(-2 * squareform(d) ** 2).mean() for d in (dx, dy)]
        assert value == pytest.approx(abs(math.log(expected[0] / expected[1])), rel=1e-10)
    if name == "distance_correlation":
        a, b = (squareform(d) for d in (dx, dy))
        a, b = (m - m.mean(0) - m.mean(1)[:, None] + m.mean() for m in (a, b))
        assert value == pytest.approx(math.sqrt((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum())), rel=1e-10)
    if params == {"inner": "euclidean"}:
        assert value == pytest.approx(spearmanr(dx, dy).statistic, rel=1e-10)


@pytest.mark.parametrize("n", [40, 41])
def test_median_distance_is_exact_however_few_are_gathered(n, monkeypatch):
    rng = np.random.default_rng(10)
    for x in (rng.normal(size=(n, 3)), rng.integers(0, 2, size=(n, 2)), np.eye(n, 4), rng.normal(size=(n, 3)).round(1)):
        x = torch.tensor(x - x.mean(0))
        expected = np.median(pdist(x.numpy(), "sqeuclidean"))
        for gathered in (10**6, 100, 1):
            monkeypatch.setattr(kernels, "GATHERED", gathered)
            assert kernels.median_distance(x) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_to_ranks_is_the_ranking_of_scipy():
    rng = np.random.default_rng(11)
    for values in (rng.normal(size=300), rng.integers(0, 9, size=300) / 2, np.zeros(50), np.array([2.0])):
        for chunk in (1, 7, 1000):
            assert (to_ranks(values.copy(), chunk) == rankdata(values)).all()
