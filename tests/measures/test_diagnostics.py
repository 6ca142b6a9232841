import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.measures.diagnostics import agreement, alikeness, monotonicity, noise_floor, unseen_components


def grid(values, direction="similarity"):
    return xr.DataArray(np.asarray(values, float), dims=("layer_a", "layer_b"), attrs={"direction": direction})


def test_monotonicity_counts_triples_in_order():
    distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    assert monotonicity(grid(-distance)) == 1
    assert monotonicity(grid(distance, "dissimilarity")) == 1
    assert monotonicity(grid(distance)) == 0
    one_wrong = np.array([[1, 0.1, 0.5], [0.1, 1, 0.9], [0.5, 0.9, 1]])  # 0 and 2 more alike than 0 and 1
    assert monotonicity(grid(one_wrong)) == 0.5
    for value in (0, 1):
        assert monotonicity(grid(np.full((4, 4), value))) == 0.5  # ties are half in order
    assert monotonicity(grid([[1, 0.5, 0.5], [0.5, 1, 0.9], [0.5, 0.9, 1]])) == 0.75
    with pytest.raises(InputError, match="a value in every cell"):
        monotonicity(grid(np.full((4, 4), np.nan)))
    with pytest.raises(InputError, match="square map of at least three layers"):
        monotonicity(grid(np.ones((2, 2))))


def test_agreement_turns_distances_round_and_knows_only_order():
    values = np.random.default_rng(0).random((3, 4))
    table = agreement(
        {"a": grid(values), "b": grid(values**3), "c": grid(-values), "d": grid(-values, "dissimilarity")}
    )
    assert table.loc["a"].tolist() == pytest.approx([1, 1, -1, 1])
    assert (table.to_numpy() == table.to_numpy().T).all()
    with pytest.raises(InputError, match="at least two maps"):
        agreement({"a": grid(values)})
    with pytest.raises(InputError, match="the same value in all cells"):
        agreement({"a": grid(values), "b": grid(np.ones((3, 4)))})


def test_the_noise_floor_of_debiased_cka_is_zero_and_that_of_biased_cka_is_not():
    debiased = noise_floor("cka", [64, 512], 64, repeats=4)
    biased = noise_floor(rs.get_measure("cka", debiased=False), [64, 512], 64, repeats=4)
    assert debiased.abs().max() < 0.05
    assert biased[64] > 0.4 > biased[512] > 0.05
    assert noise_floor("cca", [32], 64)[32] == pytest.approx(1)


@pytest.mark.parametrize("measure", ["cka", "procrustes", "rsa", "mutual_knn"])
def test_alikeness_is_one_for_the_same_and_near_zero_for_shuffled_rows(measure):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 8))
    rotated = x @ np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert alikeness(measure, x, x) == pytest.approx(1, abs=1e-6)
    if measure != "rsa":  # correlation distances turn with the axes
        assert alikeness(measure, x, rotated) == pytest.approx(1, abs=1e-5)
    assert abs(alikeness(measure, x, x[rng.permutation(300)])) < 0.15


def test_deleting_small_components_goes_unseen_by_cka_longer_than_by_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 20)) * 0.7 ** np.arange(20)
    cka, regression = unseen_components("cka", x), unseen_components("linear_regression", x)
    assert cka.index.tolist() == pytest.approx([0.1, 0.25, 0.5, 0.65, 0.75, 0.85, 0.9, 0.95])
    assert (cka.diff().dropna() < 0.01).all()
    assert (cka[0.65:0.9] > regression[0.65:0.9]).all()
