from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy.stats import t

from repsim_nb.errors import InputError
from repsim_nb.measures import get_measure
from repsim_nb.uncertainty import (
    Documents,
    LinearCKA,
    Recomputed,
    WeakNullWarning,
    closed_form,
    jackknife,
    jackknife_grid,
    max_statistic,
    permutation_moments,
)

ESTIMATORS = {"debiased": {}, "biased": {"debiased": False}, "between": {"groups": True}}


def grids(sizes, options, same=False, dtype=torch.float64, seed=0, scale=1.0):
    """Both ways to the grids of CKA of clustered rows, documents scattered over the rows."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    documents = Documents(labels, len(labels))
    options = dict(options)
    if options.pop("groups", False):
        options["groups"] = labels

    def representation(d):
        rows = rng.normal(size=(len(sizes), d))[labels] + rng.normal(size=(len(labels), d))
        rows[0] *= scale
        return torch.tensor(rows + 3, dtype=dtype)

    xs = [representation(d) for d in (4, 2, 3)]
    ys = xs if same else [representation(d) for d in (3, 4)]
    if not same:
        ys[0] += xs[2]
    cka = get_measure("cka", **options)
    left = [cka.prepare(x) for x in xs]
    right = left if same else [cka.prepare(y) for y in ys]
    return LinearCKA(left, right, documents), Recomputed(cka, xs, ys, documents)


# Documents


def test_an_arrangement_moves_whole_documents_to_documents_of_their_size():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(9), [1, 1, 1, 2, 2, 3, 3, 3, 5]))
    documents = Documents(labels, len(labels))
    seen = set()
    for arrangement in documents.arrangements(50, seed=1):
        order = documents.order(arrangement)
        assert sorted(order) == list(range(len(labels)))
        for code in range(len(documents)):
            source = order[documents.codes == code]
            assert len(set(documents.codes[source])) == 1
            assert (np.diff(source) > 0).all()  # rows inside keep their order
            assert documents.sizes[documents.codes[source[0]]] == len(source)
        seen.add(tuple(order))
    assert len(seen) > 25  # of 72


def test_blocks_hold_whole_documents_and_are_of_like_size():
    documents = Documents(np.repeat([f"doc {i}" for i in range(47)], 3), 141)
    blocks = documents.blocks(20, seed=0)
    assert all(len(set(blocks[documents.codes == code])) == 1 for code in range(47))
    assert set(np.bincount(blocks)) == {6, 9}


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a", "b"], r"shape \(2,\); expected one document label for each of the 3 rows"), (["a", None, "b"], "row 1")],
)
def test_labels_that_do_not_fit_the_rows_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        Documents(labels, 3)


def test_documents_that_cannot_be_exchanged_are_an_error_and_few_that_can_a_warning():
    with pytest.raises(InputError, match=r"only 1 ways.*smaller n_rows"):
        Documents(np.repeat(np.arange(6), [1, 2, 3, 4, 5, 6]), 21).check_exchangeable()
    with pytest.raises(InputError, match="only 6 ways"):
        Documents(np.repeat(np.arange(3), 5), 15).check_exchangeable()
    with pytest.warns(WeakNullWarning, match="20%"):
        Documents(np.repeat(np.arange(7), [1, 1, 1, 1, 1, 9, 11]), 25).check_exchangeable()
    Documents(None, 4).check_exchangeable()


# Grids of linear CKA


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_the_fast_grids_are_those_computed_anew(estimator, same, dtype, accuracy):
    sizes = [1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5]
    fast, anew = grids(sizes, ESTIMATORS[estimator], same, dtype)
    arrangements = list(fast.documents.arrangements(6, seed=0))
    assert_close(fast.permuted(arrangements), anew.permuted(arrangements), accuracy)
    blocks = fast.documents.blocks(5, seed=0)
    assert_close(fast.without(blocks), anew.without(blocks), accuracy)


def test_the_fast_grids_go_to_float64_where_debiasing_cancels_nearly_everything():
    fast, anew = grids([2] * 30, {}, dtype=torch.float32, scale=300.0)
    assert fast.xs.rows.dtype is torch.float64
    arrangements = list(fast.documents.arrangements(3, seed=0))
    assert_close(fast.permuted(arrangements), anew.permuted(arrangements), 1e-5)


def test_wide_layers_and_other_kernels_are_left_to_the_measure():
    x = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    documents = Documents(None, 40)

    def suits(width, **options):
        cka = get_measure("cka", **options)
        prepared = [cka.prepare(x[:, :width])]
        return LinearCKA.suits(prepared, prepared, documents)

    assert suits(10)
    assert suits(10, groups=np.arange(40))
    assert not suits(30)
    assert not suits(10, kernel="rbf")
    assert not suits(10, batch=20)
    assert not suits(10, groups=np.arange(40) // 4)  # other documents than those that are exchanged


def assert_close(found, expected, accuracy):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert abs(one - other).max() < accuracy


# Closed form


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("sizes", [[1] * 6, [2] * 5, [3] * 5, [2, 2, 3, 3, 3], [1, 1, 1, 2, 2, 2, 2, 4]], ids=str)
def test_mean_and_variance_are_those_over_all_arrangements(sizes, estimator):
    fast, _ = grids(sizes, ESTIMATORS[estimator])
    counts = [len(rows) for rows in fast.documents.strata]
    every = product(*(permutations(range(g)) for g in counts))
    values = np.array(list(fast.permuted([[np.array(one) for one in all_] for all_ in every])))
    moments = permutation_moments(fast)
    assert np.allclose(moments.mean, values.mean(0), rtol=0, atol=1e-13)
    assert np.allclose(moments.deviation, values.std(0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_tails_of_the_closed_form_are_those_of_permutations(estimator):
    fast, _ = grids([4] * 30 + [3] * 30, ESTIMATORS[estimator], seed=1)
    values = np.array(list(fast.permuted(fast.documents.arrangements(1500, seed=0))))
    moments, null = permutation_moments(fast), closed_form(values[0], fast)
    z = (moments.mean - values.mean(0)) / values.std(0) * len(values) ** 0.5
    assert abs(z).max() < 4
    assert abs(moments.deviation / values.std(0) - 1).max() < 0.08
    beyond = (values >= null.high).mean(0)
    assert beyond.min() > 0.03
    assert beyond.max() < 0.07
    assert (null.high_family > null.high).all()
    assert ((null.p_value <= 0.05) == (values[0] >= null.high_family)).all()


def test_long_documents_have_no_closed_form():
    cka = get_measure("cka")
    prepared = [cka.prepare(torch.randn(800, 2, generator=torch.Generator().manual_seed(0)))]
    with pytest.raises(InputError, match='null="permutation"'):
        permutation_moments(LinearCKA(prepared, prepared, Documents(np.arange(800) // 200, 800)))


# Max statistic


def test_p_values_count_permuted_grids_whose_largest_cell_is_as_extreme():
    rng = np.random.default_rng(0)
    scales = np.array([[1.0, 10.0]])
    null = rng.normal(size=(99, 1, 2)) * scales
    observed = np.array([[np.sort(null[:, 0, 0])[-4] + 1e-3, 60.0]])  # by itself p = 0.04
    cka = get_measure("cka")
    result = max_statistic(observed, null, cka)
    values = np.concatenate([observed[None], null])
    typical = np.sort(values, axis=0)[:-1]
    score = (values - typical.mean(0)) / typical.std(0)
    expected = [(1 + (score[1:].max((1, 2)) >= s).sum()) / 100 for s in score[0].ravel()]
    assert np.allclose(result.p_value.ravel(), expected)
    assert result.p_value[0, 1] == 0.01
    assert observed[0, 0] > result.high[0, 0]
    assert result.p_value[0, 0] > 0.05  # not over the grid
    assert ((result.p_value <= 0.05) == (observed > result.high_family)).all()
    assert np.allclose(result.mean, null.mean(0))
    assert ((null > result.high).sum(0) == 4).all()


def test_dissimilarities_are_tested_on_their_low_side():
    rng = np.random.default_rng(0)
    null = rng.normal(10, 1, size=(99, 1, 2))
    result = max_statistic(np.array([[2.0, 18.0]]), null, get_measure("procrustes"))
    assert result.p_value[0, 0] == 0.01
    assert result.p_value[0, 1] == 1
    assert (result.high_family < result.high).all()
    assert (result.high < result.mean).all()


def test_too_few_permutations_or_a_measure_that_ignores_them_are_refused():
    cka = get_measure("cka")
    with pytest.raises(InputError, match="at least 19"):
        max_statistic(np.zeros((1, 1)), np.random.default_rng(0).normal(size=(18, 1, 1)), cka)
    x = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    for name in ("magnitude_difference", "concentricity_difference", "uniformity_difference"):
        measure = get_measure(name)
        documents = Documents(None, 50)
        permuted = Recomputed(measure, [x[0]], [x[1]], documents).permuted(documents.arrangements(19, 0))
        with pytest.raises(InputError, match="ignores which rows belong together"):
            max_statistic(np.array([[measure(x[0], x[1])]]), permuted, measure)


# Jackknife


def test_the_error_of_a_mean_is_that_of_the_textbook():
    x = np.random.default_rng(0).normal(size=400)
    value, low, high = jackknife(lambda keep: x[keep].mean(), np.arange(400), blocks=400)
    half_width = t.ppf(0.975, 399) * x.std(ddof=1) / 20
    assert np.isclose(value, x.mean())
    assert np.allclose([low, high], [x.mean() - half_width, x.mean() + half_width])


@pytest.mark.parametrize("bounds", [(-1, 1), (0, 1), (0, np.inf), (-np.inf, np.inf)])
def test_intervals_stay_in_bounds_and_contain_the_value(bounds):
    rng = np.random.default_rng(0)
    low, high = (max(bounds[0], -5), min(bounds[1], 5))
    value = np.concatenate([rng.uniform(low, high, 200), low + 10.0 ** -np.arange(12), high - 10.0 ** -np.arange(12)])
    value = np.concatenate([value, [low, high]])
    for spread in (0.0, 1e-9, 0.01, 0.5):
        without = (value + spread * rng.normal(size=(20, len(value)))).clip(*bounds)
        found = jackknife_grid(value, without, bounds)
        assert (found.low >= bounds[0]).all()
        assert (found.high <= bounds[1]).all()
        assert (found.low <= value).all()
        assert (found.high >= value).all()
        assert (found.low < value)[:200].all() == (spread > 0)


def test_far_from_bounds_the_transformed_interval_is_the_plain_one():
    rng = np.random.default_rng(0)
    without = 0.5 + 0.001 * rng.normal(size=(20, 1))
    plain = jackknife_grid(np.array([0.5]), without, (-np.inf, np.inf))
    for bounds in ((0, 1), (-1, 1), (0, np.inf)):
        found = jackknife_grid(np.array([0.5]), without, bounds)
        assert np.allclose([found.low, found.high], [plain.low, plain.high], atol=1e-4)
    wider = jackknife_grid(np.array([0.5]), without, (-np.inf, np.inf), level=0.99)
    assert wider.low < plain.low < plain.high < wider.high
