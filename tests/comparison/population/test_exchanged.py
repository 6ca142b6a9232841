"""The null of pairs of models, and of the most similar of many layers."""

import numpy as np
import pytest
import torch

import repsim_nb as rs
from repsim_nb.comparison import calibrated_map, of_measure
from repsim_nb.errors import InputError
from repsim_nb.measures import get_measure
from repsim_nb.uncertainty import Documents

N = 60


def unrelated(seed, width, layers=1):
    rng = np.random.default_rng(seed)
    return {layer: rng.normal(size=(N, width)) for layer in range(layers)}


@pytest.mark.parametrize("name", ["procrustes", "mutual_knn", "linear_regression", "cka"])
def test_compare_models_takes_the_best_layers_of_each_pair_against_the_best_of_exchanged_documents(name):
    a, b = unrelated(0, 3, 3), unrelated(1, 5, 4)
    b[2] = np.hstack([a[1] + 0.5 * b[2][:, :3], b[2][:, 3:]])
    result = rs.compare_models({"a": a, "b": b}, name, layers="best", null=39, seed=3)
    measure = get_measure(name)
    for x, y, i, j in ((a, b, 0, 1), (b, a, 1, 0)):
        alone = np.array([[measure.dissimilarity(x[k], y[m]) for m in y] for k in x])
        best = np.unravel_index(alone.argmin(), alone.shape)
        assert result[name].values[i, j] == pytest.approx(alone.min(), abs=1e-6)
        assert (result[f"{name}_layer_a"].values[i, j], result[f"{name}_layer_b"].values[i, j]) == best
        if measure.symmetric and i > j:
            continue  # computed once, with the documents of the later model exchanged
        documents = Documents(None, N)
        lowest = []
        for arrangement in documents.arrangements(39, 3):
            order = documents.order(arrangement)
            lowest.append(min(measure.dissimilarity(x[k], y[m][order]) for k in x for m in y))
        found = of_measure(result, name).isel(model_a=i, model_b=j)
        assert found.null_mean.item() == pytest.approx(np.mean(lowest), abs=1e-6)
        assert found.null_high.item() == pytest.approx(np.sort(lowest)[1], abs=1e-6)
        assert found.p_value.item() == (1 + sum(low <= alone.min() for low in lowest)) / 40
        expected = max(0, 1 - alone.min() / np.sort(lowest)[1])
        assert found.calibrated.item() == pytest.approx(expected, abs=1e-6)


def test_calibrated_scores_of_unrelated_models_rise_with_neither_width_nor_depth():
    """The two confounders of Groeger et al.: raw scores of independent Gaussians rise with both."""
    kinds = [("plain", 4, 2), ("wide", 40, 2), ("deep", 4, 12)]
    models = {
        f"{kind} {i}": unrelated(10 * i + place, width, layers)
        for i in range(4)
        for place, (kind, width, layers) in enumerate(kinds)
    }
    measure = get_measure("cka", debiased=False)
    result = rs.compare_models(models, measure, layers="best", null=99)
    raw, calibrated = 1 - result.cka, calibrated_map(result.cka)

    def mean(table, kind):
        names = [name for name in models if name.startswith(kind)]
        values = table.sel(model_a=names, model_b=names).values
        return values[~np.eye(4, dtype=bool)].mean()

    assert mean(raw, "wide") > mean(raw, "plain") + 0.3
    assert mean(raw, "deep") > mean(raw, "plain") + 0.05
    assert max(mean(calibrated, kind) for kind in ("plain", "wide", "deep")) < 0.02
    assert calibrated.attrs["direction"] == "similarity"
    assert np.diag(calibrated.values) == pytest.approx(1, abs=1e-6)


def test_compare_models_gives_the_null_that_compare_gives_for_one_pair():
    rng = np.random.default_rng(4)
    x, noise = rng.normal(size=(2, N, 3))
    groups = np.repeat(np.arange(20), 3)
    for name in ("cka", "rsa", "procrustes"):
        pair = rs.compare(x, x + noise, measure=name, null=99, seed=5, groups=groups)
        table = rs.compare_models({"x": x, "y": x + noise}, name, null=99, seed=5, groups=groups)
        ours, measure = of_measure(table, name).sel(model_a="x", model_b="y"), get_measure(name)
        similar = measure.direction == "similarity"
        for field in ("null_mean", "null_high"):
            value = measure.bounds[1] - ours[field].item() if similar else ours[field].item()
            assert value == pytest.approx(pair[field].item(), abs=1e-6), (name, field)
        assert ours.p_value.item() == pair.p_value.item()
        if similar:
            assert ours.calibrated.item() == pytest.approx(pair.calibrated.item(), abs=1e-6)


def test_compare_models_refuses_a_null_for_measures_that_ignore_which_rows_belong_together():
    models = {"x": torch.randn(N, 3), "y": torch.randn(N, 4)}
    with pytest.raises(InputError, match="does not change when the documents"):
        rs.compare_models(models, "magnitude_difference", null=19)
    with pytest.raises(InputError, match="at least 19"):
        rs.compare_models(models, "cka", null=5)


def test_of_measure_keeps_what_belongs_to_a_measure_and_names_the_nearest():
    models = {"x": unrelated(0, 3), "y": unrelated(1, 3)}
    result = rs.compare_models(models, ["procrustes", "procrustes_size_and_shape"], null=19)
    assert list(result.data_vars) == ["procrustes", "procrustes_size_and_shape"]
    for name in result.data_vars:
        own = of_measure(result, name)
        assert set(own.coords) - set(own.dims) == {"null_mean", "null_high", "p_value", "calibrated"}
        assert own.null_mean.values == pytest.approx(result[f"{name}_null_mean"].values)
    with pytest.raises(InputError, match="Did you mean 'procrustes'"):
        of_measure(result, "procruste")
