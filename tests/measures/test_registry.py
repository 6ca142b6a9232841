"""The table of measures, their parameters, and every message for what is given wrongly."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from repsim_nb.errors import InputError
from repsim_nb.measures import anisotropy, get_measure, intrinsic_dimension, list_measures, measure
from repsim_nb.measures.registry import _MEASURES

X = np.random.default_rng(0).normal(size=(20, 4))


@pytest.fixture
def own_measures():
    before = dict(_MEASURES)
    yield
    _MEASURES.clear()
    _MEASURES.update(before)


def test_the_table_starts_with_the_measures_most_asked_for() -> None:
    table = list_measures()
    assert isinstance(table, pd.DataFrame)
    assert table.index.name == "name"
    assert list(table.index[:3]) == ["cka", "procrustes", "angular_shape"]
    expected = ["title", "direction", "bounds", "symmetric", "metric", "invariances", "min_rows", "cost", "parameters"]
    assert list(table.columns) == [*expected, "reference"]
    assert table.loc["cka", "parameters"].startswith("kernel='linear', debiased=True, groups=None, bandwidth=1.0")
    assert table.loc["pwcca", "invariances"].startswith("x: permutation, scale, shift; y: permutation, orthogonal")
    assert not table.isna().any().any()


def test_declarations_follow_the_parameters() -> None:
    assert get_measure("cka").bounds == (-1, 1)
    assert get_measure("cka", debiased=False).bounds == (0, 1)
    assert "linear" in get_measure("angular_shape", alpha=0).invariances
    assert "scale" not in get_measure("angular_shape", alpha=0.5).invariances
    assert get_measure("jaccard", metric="euclidean").invariances > get_measure("jaccard").invariances
    assert get_measure("jaccard").metric is False
    assert get_measure("jaccard").params == {"k": 10, "metric": "cosine"}
    assert get_measure("mutual_knn", k=3).min_rows == 5
    assert repr(get_measure("svcca", components=3)) == "svcca(variance=0.99, components=3)"


def test_parameters_may_be_given_early_or_late() -> None:
    early = get_measure("mutual_knn", k=3)
    assert early(X, X[:, ::-1] ** 3) == get_measure("mutual_knn")(X, X[:, ::-1] ** 3, k=3)
    assert get_measure(early) is early
    assert get_measure(early, k=4).params == {"k": 4}


def test_a_user_adds_a_measure_with_one_decorator(own_measures: None) -> None:
    @measure(
        name="cosine_of_means",
        title="Cosine of means",
        direction="similarity",
        bounds=(-1, 1),
        invariances={"scale"},
        min_rows=3,
    )
    def cosine_of_means(x: torch.Tensor, y: torch.Tensor, *, power: float = 1.0, plain=2) -> float:
        """Cosine of the mean rows."""
        return float(torch.cosine_similarity(x.mean(0), y.mean(0), dim=0)) ** power

    ours = get_measure("cosine_of_means", power=2)
    assert ours(X, X) == pytest.approx(1)
    assert ours.dissimilarity(X, X) == pytest.approx(0)
    assert ours.grid([ours.prepare(X)], [ours.prepare(2 * X)]) == pytest.approx(np.ones((1, 1)))
    assert list_measures().loc["cosine_of_means", "parameters"] == "power=1.0, plain=2"
    assert type(ours).__doc__ == "Cosine of the mean rows."
    assert cosine_of_means(torch.ones(2, 2), torch.ones(2, 2)) == pytest.approx(1)
    with pytest.raises(InputError, match=r"already exists \(Cosine of means\)"):
        measure(name="cosine_of_means", title="t", direction="similarity")(lambda x, y: 0.0)
    with pytest.raises(InputError, match="power must be a finite number"):
        get_measure("cosine_of_means", power="big")


def test_a_measure_is_declared_wrongly(own_measures: None) -> None:
    with pytest.raises(InputError, match="'cka' already exists"):
        measure(name="cka", title="t", direction="similarity")(lambda x, y: 0.0)
    with pytest.raises(InputError, match="Did you mean 'scale'"):
        measure(name="m", title="t", direction="similarity", invariances={"scaling"})(lambda x, y: 0.0)
    with pytest.raises(InputError, match="parameter 'k' needs a default"):
        measure(name="m", title="t", direction="similarity")(lambda x, y, k: 0.0)
    measure(name="liar", title="t", direction="similarity", bounds=(0, 1))(lambda x, y: 1.5)
    with pytest.raises(ArithmeticError, match=r"liar = 1.5 is outside its bounds"):
        get_measure("liar")(X, X)
    measure(name="lost", title="t", direction="similarity", bounds=(0, 1))(lambda x, y: math.nan)
    with pytest.raises(InputError, match="not a finite number here"):
        get_measure("lost")(X, X)
    with pytest.raises(InputError, match="lost has no parameters, got 'k'"):
        get_measure("lost", k=3)


LABELS = [0, 1] * 10
WRONG = [
    ("ckaa", {}, "Unknown measure 'ckaa'. Did you mean 'cka'"),
    ("cka", {"debias": True}, "Unknown parameter of cka 'debias'. Did you mean 'debiased'"),
    ("cka", {"kernel": "poly"}, "kernel must be one of 'linear', 'rbf', got 'poly'"),
    ("cka", {"debiased": 1}, "debiased must be True or False, got 1"),
    ("cka", {"bandwidth": 0}, "bandwidth must be a number greater than 0, got 0"),
    ("cka", {"bandwidth": True}, "bandwidth must be a number"),
    ("cka", {"batch": 4}, "batch must be an integer at least 8 or None, got 4"),
    ("cka", {"batch": 10, "debiased": False}, "groups and batch need the debiased estimator"),
    ("cka", {"groups": LABELS, "batch": 10}, "groups and batch exclude each other"),
    ("cka", {"groups": LABELS}, "has 2 different labels; at least 4"),
    ("cka", {"groups": [1, 2, 3]}, "expected one label for each of the 20 rows"),
    ("svcca", {"variance": 1.5}, "variance must be a number from 0 to 1, got 1.5"),
    ("svcca", {"components": 2.0}, "components must be an integer at least 1 or None"),
    ("svcca", {"components": 9}, "x has rank 4, fewer than components=9"),
    ("gulp", {"regularization": -1}, "regularization must be a number at least 0"),
    ("gulp", {"regularization": math.nan}, "regularization must be a number at least 0"),
    ("ridge_predictivity", {"folds": 2}, "folds must be an integer at least 3"),
    ("ridge_predictivity", {"groups": LABELS}, "names 2 groups"),
    ("ridge_predictivity", {"groups": [1]}, "groups has shape"),
    ("mutual_knn", {"k": 19}, "needs at least 21 rows, x has 20"),
    ("accuracy_difference", {}, r"needs labels=.*got none"),
    ("accuracy_difference", {"labels": [5] * 20}, r"one integer from 0 to 3.*got int64 of shape"),
    ("accuracy_difference", {"labels": [0.5] * 20}, "got float64 of shape"),
]


@pytest.mark.parametrize(("name", "params", "message"), WRONG)
def test_wrong_names_and_parameters(name: str, params: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        get_measure(name, **params)(X, X)


TWO_PLACES = X[np.arange(20) // 10]
BAD_INPUT = [
    ("cka", "text", X, r"x must be a dense real torch tensor or numpy array .* got str"),
    ("cka", X * 1j, X, "got ndarray complex128"),
    ("cka", [[1.0], [1.0, 2.0]], X, "got list"),
    ("cka", torch.eye(20).to_sparse(), X, r"got Tensor torch\.float32 torch\.sparse_coo"),
    ("cka", torch.ones(3, 3, dtype=torch.complex64), X, r"got Tensor torch\.complex64"),
    ("cka", np.array([["a"]]), X, "got ndarray <U1"),
    ("cka", X[0], X, r"x has shape \(4,\), expected \(rows, features\)"),
    ("cka", X, X[None], r"y has shape \(1, 20, 4\)"),
    ("cka", X[:, :0], X, "at least one of each"),
    ("cka", X[:7], X, "x has 7 rows, y has 20: row i of both must be the same stimulus"),
    ("cka", X[:3], X[:3], r"cka\(kernel=linear, debiased=True, bandwidth=1.0, .*\) needs at least 4 rows, x has 3"),
    ("cka", X, 0 * X + 3, r"cka is undefined: y has no variance \(all 20 rows are equal\)"),
    ("aligned_cosine", X, 0 * X, "row 0 of y is all 0"),
    ("eigenspace_overlap", 0 * X, X, r"x has no variance \(all values are 0\)"),
    ("cka", np.eye(20)[:, :1] * 1e9, X, "HSIC of x with itself is 0 to rounding"),
    ("rsa", X[:, :1], X, "row 0 of x has the same value in all its 1 features"),
    ("rsa", X, X[:, :2] * 0 + [1, 2], "all pairs of rows of y are equally alike"),
    ("mutual_knn", X * (np.arange(20) != 4)[:, None], X, r"row 4 of x is all 0 \(1 such rows\)"),
    ("concentricity_difference", X, X - X.mean(0), "the mean row of y is 0"),
    ("jensen_shannon", X, X[:, :3], "x has 4 classes, y has 3"),
    ("disagreement", X, X[:, :1], "y has one column"),
    ("hsic", 1e200 * X, X * 1e200, "not a finite number"),
    ("cknna", np.eye(20), X, "with k=10 and 20 rows a self term is 0"),
    ("second_order_cosine", np.eye(20), X, "row 0 is orthogonal to all its neighbours on one side"),
    ("rtd", X[np.maximum(np.arange(20), 18)], X, "90% of all distances in x are 0"),
]


@pytest.mark.parametrize(("name", "x", "y", "message"), BAD_INPUT)
def test_wrong_inputs(name: str, x: object, y: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        get_measure(name)(x, y)


def test_wrong_inputs_that_need_parameters() -> None:
    with pytest.raises(InputError, match="more than half of all pairs of rows are equal"):
        get_measure("cka", kernel="rbf")(X[np.maximum(np.arange(20), 16)], X)


def test_what_is_prepared_wrongly() -> None:
    cka, procrustes = get_measure("cka"), get_measure("procrustes")
    p = cka.prepare(X)
    with pytest.raises(InputError, match=r"Prepared with cka\(.*scored with procrustes\(\)"):
        procrustes.score(p, p)
    with pytest.raises(InputError, match="x has 20 rows, y has 9"):
        cka.score(p, cka.prepare(X[:9]))
    with pytest.raises(InputError, match=r"nothing to compare \(1 x 0"):
        cka.grid([p], [])
    with pytest.raises(InputError, match=r"torch\.float64 on cpu, another torch\.float32"):
        cka.score(p, cka.prepare(X.astype("f4")))


def test_rtd_says_how_to_install_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gudhi", None)
    with pytest.raises(InputError, match=r'pip install "repsim-nb\[topology\]"'):
        get_measure("rtd")(X, X)


def test_statistics_of_one_representation() -> None:
    with pytest.raises(InputError, match="at least 2 rows"):
        anisotropy(X[:1])
    with pytest.raises(InputError, match=r"needs 10 different rows and 0 <= discard < 1, got 4 and 0\.1"):
        intrinsic_dimension(X[np.arange(20) % 4])
    with pytest.raises(InputError, match="as far from its second neighbour as from its first"):
        intrinsic_dimension(np.eye(12))
