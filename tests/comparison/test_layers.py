import json

import numpy as np
import pytest
import torch
import xarray as xr

import repsim_nb as rs
from repsim_nb.activations import Activations
from repsim_nb.comparison.streaming import stream
from repsim_nb.errors import InputError
from repsim_nb.measures import measure, registry
from tests.support.simulated import Population, unrelated_grids

COORDINATES = ("null_mean", "null_high", "null_high_family", "p_value", "low", "high")


@pytest.fixture(scope="module")
def related():
    """Two layers of two models that share most of what they hold, and the document of each row."""
    rng = np.random.default_rng(0)
    x, y, documents = Population(d=5, shared=0.8).sample(40, 4, rng)
    noise = rng.normal(size=(2, *x.shape))
    return {0: x, 1: x + noise[0]}, {0: y, 2: y + noise[1]}, documents


def full(a, b, documents, **options):
    return rs.compare(a, b, groups=documents, **{"null": 39, "interval": True, **options})


# What is found


@pytest.mark.parametrize(
    ("measure", "null"),
    [("cka", 39), ("cka", "moments"), ("procrustes", 39), ("cca", 39), ("mutual_knn", 39), ("rsa", 39)],
)
def test_an_alike_pair_differs_from_its_null_and_shuffled_rows_do_not(related, measure, null):
    a, b, documents = related
    alike = full(a, b, documents, measure=measure, null=null)
    assert (alike.p_value <= 0.05).all()
    sign = 1 if alike.attrs["direction"] == "similarity" else -1
    assert (sign * alike > sign * alike.null_high_family).all()
    assert (sign * alike.null_high > sign * alike.null_mean).all()
    order = np.random.default_rng(1).permutation(40)
    elsewhere = {layer: y.reshape(40, 4, -1)[order].reshape(y.shape) for layer, y in b.items()}
    shuffled = rs.compare(a, elsewhere, measure=measure, groups=documents, null=null)
    assert (shuffled.p_value > 0.05).all()


@pytest.mark.parametrize("measure", ["cka", "procrustes", "cca", "mutual_knn", "linear_regression"])
def test_intervals_contain_the_value_and_stay_in_the_measures_bounds(related, measure):
    a, b, documents = related
    result = rs.compare(a, b, measure=measure, groups=documents, interval=0.9)
    assert ((result.low < result) & (result < result.high)).all()
    assert result.attrs["lower_bound"] <= result.low.min()
    assert result.high.max() <= result.attrs["upper_bound"]
    wider = rs.compare(a, b, measure=measure, groups=documents, interval=0.99)
    assert ((wider.low < result.low) & (result.high < wider.high)).all()


@pytest.mark.parametrize(("measure", "same"), [("cka", 1.0), ("procrustes", 0.0), ("cca", 1.0)])
def test_a_model_compared_with_itself_has_intervals_of_no_width_on_the_diagonal(related, measure, same):
    a, _, documents = related
    result = full(a, None, documents, measure=measure)
    for part in (result, result.low, result.high):
        assert np.allclose(np.diag(part), same, rtol=0, atol=1e-6)
    assert (result.p_value <= 0.05).all()
    assert np.allclose(result, result.T) or not rs.get_measure(measure).symmetric


def test_the_closed_form_and_the_permutations_are_one_null(related):
    a, b, documents = related
    for between in (False, True):
        one = rs.compare(a, b, groups=documents, null=400, between_documents=between)
        other = rs.compare(a, b, groups=documents, null="moments", between_documents=between)
        assert np.allclose(one.null_mean, other.null_mean, rtol=0, atol=0.005)
        assert np.allclose(one.null_high, other.null_high, rtol=0, atol=0.02)


def test_the_null_of_tokens_is_wider_by_document_than_by_row():
    a, b, documents = unrelated_grids(2, 40, 8, 6, np.random.default_rng(0))
    by_document = rs.compare(a, b, groups=documents, null="moments")
    by_row = rs.compare(a, b, null="moments")
    assert (by_document.null_high > 2 * by_row.null_high).all()


def test_between_documents_is_the_measure_with_its_groups(related):
    a, b, documents = related
    result = rs.compare(a, b, groups=documents, between_documents=True)
    assert np.allclose(result, rs.compare(a, b, measure=rs.get_measure("cka", groups=documents)))
    assert json.loads(result.attrs["provenance"])["between_documents"] is True
    assert np.allclose(rs.compare(a, b, between_documents=True), rs.compare(a, b))  # every row its own document


def test_measures_of_users_have_both(related):
    a, b, documents = related

    @measure(name="mean_product", title="Mean product of means", direction="similarity")
    def mean_product(x, y, *, weights=None):
        weights = torch.ones(len(x)) if weights is None else torch.as_tensor(weights)
        return float((x.mean(1) * y.mean(1) * weights).mean())

    try:
        plain = full(a, b, documents, measure="mean_product")
        assert all(np.isfinite(plain[name]).all() for name in COORDINATES)
        weighted = full(
            a, b, documents, measure=rs.get_measure("mean_product", weights=np.linspace(0, 1, 160))
        )  # one per row
        assert (weighted.high > weighted.low).all()
    finally:
        del registry._MEASURES["mean_product"]


def test_activations_know_their_documents(related):
    import pandas as pd

    a, b, documents = related
    rows = pd.DataFrame({"document": [f"doc {d}" for d in documents], "char_end": np.arange(len(documents))})
    model = {"model": {"model": "m"}}
    known = [Activations({i: torch.tensor(x) for i, x in side.items()}, rows, model) for side in (a, b)]
    by_rows = full(*known, None)
    by_groups = full(a, b, documents)
    assert json.loads(by_rows.attrs["provenance"])["uncertainty"]["documents"] == 40
    for name in COORDINATES:
        assert np.allclose(by_rows[name], by_groups[name])


# How it is said


def test_both_are_labelled_recorded_and_kept_in_files(related, tmp_path):
    a, b, documents = related
    result = full(a, b, documents, seed=3)
    for name in COORDINATES:
        assert result[name].dims == ("layer_a", "layer_b")
        assert result[name].attrs["long_name"]
    how = json.loads(result.attrs["provenance"])["uncertainty"]
    assert (how["seed"], how["documents"]) == (3, 40)
    assert how["null"]["permutations"] == 39
    assert how["null"]["rows_exchanged"] == 1.0
    assert "max statistic" in how["null"]["p_value"]
    assert (how["interval"]["level"], how["interval"]["blocks"]) == (0.95, 20)
    result.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
    with xr.open_dataarray(tmp_path / "result.nc", engine="h5netcdf") as kept:
        xr.testing.assert_allclose(kept, result)
    assert not set(COORDINATES) & set(rs.compare(a, b).coords)


def test_one_seed_gives_one_result_and_another_another(related):
    a, b, documents = related
    first, again, other = (full(a, b, documents, seed=seed) for seed in (0, 0, 1))
    xr.testing.assert_identical(first, again)
    assert not np.allclose(first.null_high, other.null_high)
    assert not np.allclose(first.low, other.low)
    assert np.array_equal(first, other)


def test_the_number_of_threads_changes_nothing(related):
    a, b, documents = related
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append([full(a, b, documents, **how) for how in ({}, {"null": "moments"}, {"measure": "procrustes"})])
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found, strict=True):
        for name in COORDINATES:
            assert abs(one[name] - other[name]).max() < 1e-10


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"null": "permutations"}, "Unknown null 'permutations'. Did you mean 'permutation'"),
        ({"null": 5}, "null=5; expected None"),
        ({"null": True}, "null=True; expected None"),
        ({"interval": 1.5}, "interval=1.5; expected None, True or a level between 0 and 1"),
        ({"interval": "95%"}, "interval='95%'; expected"),
        (
            {"groups": [1, 2], "null": 39},
            r"groups has shape \(2,\); expected one document label for each of the 160",
        ),
        ({"groups": np.arange(160) // 40, "interval": True}, "at least 5 documents; there are 4"),
        ({"groups": np.arange(160) // 160, "null": 39}, "only 1 ways"),
        ({"measure": "procrustes", "null": "moments"}, 'null="permutation" for procrustes'),
        ({"measure": "procrustes", "between_documents": True}, "procrustes has none"),
        ({"measure": "magnitude_difference", "null": 19}, "ignores which rows belong together"),
    ],
)
def test_what_cannot_be_done_says_why(related, options, message):
    a, b, documents = related
    with pytest.raises(InputError, match=message):
        rs.compare(a, b, **{"groups": documents, **options})


def test_the_fast_form_says_how_far_it_may_be_and_is_for_linear_cka_alone():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 12)).astype("float32")
    layers = {0: x, 1: x @ rng.normal(size=(12, 12)).astype("float32")}
    sampled = rs.get_measure("cka", fast=True, seed=1)
    exact, fast = rs.compare(layers), rs.compare(layers, measure=sampled)
    assert (abs(fast - exact) <= 4 * fast.standard_error + 1e-6).all()
    assert float(fast.standard_error.max()) < 0.02
    assert json.loads(fast.attrs["provenance"])["estimator"] == "sampled pairs of rows"
    with pytest.raises(InputError, match="procrustes has no parameters"):
        rs.get_measure("procrustes", fast=True)
    with pytest.raises(InputError, match="its own standard error"):
        rs.compare(layers, measure=sampled, interval=True)


def test_models_too_large_for_the_limit_are_streamed_to_the_same_values():
    whole = rs.compare("tiny-neox-w32-d2", n_rows=3000)
    needed = rs.estimate("tiny-neox-w32-d2", n_rows=3000)
    assert needed.moments < needed.activations
    streamed = rs.compare("tiny-neox-w32-d2", n_rows=3000, memory_limit=(needed.moments + needed.activations) // 2)
    assert np.allclose(streamed, whole, atol=1e-5)
    with pytest.raises(InputError, match="need all activations in memory"):
        rs.compare("tiny-neox-w32-d2", n_rows=3000, interval=True, memory_limit=needed.activations - 1)
    with pytest.raises(InputError, match="Raise memory_limit"):
        rs.compare("tiny-neox-w32-d2", n_rows=3000, memory_limit=1000)


@pytest.mark.parametrize("measure", ["cka", "linear_regression"])
def test_all_pairs_are_what_each_gives_by_itself(measure):
    acts = {name: rs.extract(name, n_rows=200) for name in ("tiny-neox-w32-d2", "tiny-neox-w64-d2")}
    maps = rs.compare_all(acts, measure)
    small, large = acts
    assert list(maps) == [(small, small), (large, small), (large, large)]
    for (a, b), found in maps.items():
        expected = rs.compare(acts[a], acts[b], measure=measure)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert (found.attrs["model_a"], found.attrs["model_b"]) == (a, b)
    acts[large] = rs.extract(large, n_rows=200, seed=1)
    with pytest.raises(InputError, match="Row i must be the same place"):
        rs.compare_all(acts, measure)


def test_layers_may_be_numbers_of_numpy():
    model, texts = rs.load_model("tiny-neox-w32-d2"), ["One short text.", "And another one."]
    how = {"corpus": texts, "n_rows": 8, "memory_limit": 10**9}
    for given, meant in ((np.int64(1), [1]), (np.array([0, 1]), [0, 1]), (np.arange(2), [0, 1]), (range(2), [0, 1])):
        assert model.positions(given) == meant
        found = rs.compare(model, layers_a=given, layers_b=given, **how)
        assert found.layer_a.values.tolist() == meant
        assert found.identical(rs.compare(model, layers_a=meant, layers_b=meant, **how))
        assert stream(model, layers_a=given, **how).layer_a.values.tolist() == meant
        assert rs.estimate(model, layers_a=given, layers_b=given, **how).result == 8 * len(meant) ** 2
    acts = rs.extract(model, texts, np.array([0, 1]), n_rows=8)
    assert rs.compare(acts, layers_a=np.int64(1), layers_b=np.array([1])).shape == (1, 1)


def test_chosen_layers_of_activations_keep_their_documents_and_their_provenance():
    """Their null and interval are those of the same layers of the models."""
    a, b = rs.extract_aligned(["tiny-neox-w32-d2", "tiny-neox-w64-d2"], n_rows=200, rows_per_document=4)
    how = {"layers_a": [1], "layers_b": [0, 2], "null": 39, "interval": True}
    chosen = rs.compare(a, b, **how)
    whole = rs.compare("tiny-neox-w32-d2", "tiny-neox-w64-d2", n_rows=200, rows_per_document=4, **how)
    for name in ("low", "high", "null_mean", "p_value"):
        np.testing.assert_allclose(chosen[name], whole[name], atol=1e-6)
    about = json.loads(chosen.attrs["provenance"])
    assert about["uncertainty"]["documents"] == a.rows.document.nunique() == 50
    assert chosen.attrs["model_a"] == "tiny-neox-w32-d2"
