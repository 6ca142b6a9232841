"""Odd inputs: the answer is finite and in its bounds, or one clear error."""

import math
import warnings

import numpy as np
import pytest
import torch

from repsim_nb.errors import InputError
from repsim_nb.measures import DegenerateWarning, Measure, get_measure

from .samples import LOGITS, MEASURES, NAMES, N, pair

rng = np.random.default_rng(0)
X = rng.normal(size=(N, 5)) + 0.2
ODD = {
    "constant": np.full((N, 5), 0.1),
    "zero": np.zeros((N, 5)),
    "constant to rounding": 0.1 + 1e-17 * X,
    "one constant feature": np.where(np.arange(5) == 2, 0.1, X),
    "duplicated rows": X[np.arange(N) // 2],
    "nearly all rows equal": X[np.minimum(np.arange(N), 1)],
    "rank deficient": X[:, :2] @ rng.normal(size=(2, 5)),
    "huge": 1e15 * X,
    "tiny": 1e-15 * X,
    "beyond squares": 1e200 * X,
    "below squares": 1e-200 * X,
    "far from 0": X + 1e8,
    "one feature": X[:, :1],
    "more features than rows": rng.normal(size=(N, 60)),
    "one row far away": X + 1e9 * (np.arange(N) == 3)[:, None],
    "one-hot": np.eye(N, 5),
    "integers": (10 * X).astype(int),
    "booleans": X > 0,
    "float32": X.astype("f4"),
    "huge float32": (1e15 * X).astype("f4"),
    "tiny float32": (1e-15 * X).astype("f4"),
    "denormal float32": (1e-40 * X).astype("f4"),
}


def check_value_or_error(measure: Measure, x: np.ndarray, y: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateWarning)
        try:
            value = measure(x, y)
        except InputError:
            return
    assert math.isfinite(value)
    assert measure.bounds[0] <= value <= measure.bounds[1]


@pytest.mark.parametrize("measure", MEASURES, ids=NAMES)
def test_odd_inputs_give_a_number_in_bounds_or_an_error(measure: Measure) -> None:
    for x in ODD.values():
        ordinary = np.asarray(X if x.shape[1] == 5 or measure.name not in LOGITS else rng.normal(size=x.shape))
        for a, b in ((x, ordinary), (ordinary, x), (x, x)):
            check_value_or_error(measure, a, b)


@pytest.mark.parametrize("measure", [m for m in MEASURES if "scale" in m.invariances], ids=repr)
@pytest.mark.parametrize("factor", [1e15, 1e-15])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_where_scale_does_not_matter_it_does_not_matter_at_all(measure: Measure, factor: float, dtype: str) -> None:
    x, y = (m.astype(dtype) for m in pair(measure, 0))
    close = 1e-8 if dtype == "f8" else 5e-4 if measure.direction == "dissimilarity" else 2e-5
    scaled = measure((x * factor).astype(dtype), (y / factor).astype(dtype))
    assert scaled == pytest.approx(measure(x, y), rel=close, abs=close)


@pytest.mark.parametrize("measure", MEASURES, ids=NAMES)
def test_rows_just_enough_and_one_too_few(measure: Measure) -> None:
    if measure.name == "accuracy_difference" or measure.params.get("groups") is not None:
        return  # as many rows as labels
    for n in (measure.min_rows, measure.min_rows - 1):
        x, y = (m[:n] for m in pair(measure, 1))
        if n < measure.min_rows or n == 0:
            with pytest.raises(InputError, match=r"needs at least|at least one of each"):
                measure(x, y)
        else:
            check_value_or_error(measure, x, y)


@pytest.mark.parametrize("measure", MEASURES, ids=NAMES)
@pytest.mark.parametrize(("side", "bad"), [("x", math.nan), ("y", math.inf), ("x", -math.inf)])
def test_nan_and_inf_raise_and_say_where(measure: Measure, side: str, bad: float) -> None:
    x, y = pair(measure, 2)
    broken = x if side == "x" else y
    broken[7, 2] = broken[20, 1] = bad
    with pytest.raises(
        InputError, match=rf"^{side} has 2 values that are NaN or infinite, the first at row 7, column 2"
    ):
        measure(x, y)


def test_no_scale_is_lost_where_scale_matters() -> None:
    x, y = rng.normal(size=(2, 30, 4))
    for name, power in (
        *(("procrustes_size_and_shape", 1), ("permutation_procrustes", 1), ("rsm_norm_difference", 1)),
        *(("magnitude_difference", 1), ("hsic", 4)),
    ):
        for factor in (1e15, 1e-15):
            measure = get_measure(name)
            assert measure(x * factor, y * factor) / factor**power == pytest.approx(measure(x, y), rel=1e-9), name


def test_every_kind_of_array_is_read() -> None:
    cka = get_measure("cka")
    x, y = rng.normal(size=(2, 40, 4))
    value = cka(x, y)
    assert cka(torch.from_numpy(x).requires_grad_(), y[:, ::-1]) == pytest.approx(value, rel=1e-12)
    assert cka(np.asfortranarray(x), y.tolist()) == pytest.approx(value, rel=1e-12)
    assert cka(torch.tensor(x, dtype=torch.bfloat16), torch.tensor(y, dtype=torch.float16)) == pytest.approx(
        value, abs=0.02
    )
    assert cka(x.astype(">f8"), y.astype(np.longdouble)) == pytest.approx(value, rel=1e-12)
    read_only, before = x.copy(), x.copy()
    read_only.flags.writeable = False
    assert cka(read_only, y) == cka(x, y)
    assert (x == before).all()


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *(("cka", {"debiased": False}), ("cca", {}), ("svcca", {"components": 2}), ("pwcca", {}), ("gulp", {})),
        *(("linear_regression", {}), ("eigenspace_overlap", {}), ("angular_shape", {"alpha": 0.5})),
        ("distance_correlation", {}),
    ],
)
def test_too_few_rows_for_the_features_warn(name: str, params: dict) -> None:
    narrow, wide = rng.normal(size=(20, 3)), rng.normal(size=(20, 20))
    with pytest.warns(DegenerateWarning, match="20 rows for 20 features of y"):
        get_measure(name, **params)(narrow, wide)
    get_measure(name, **params)(narrow, wide[:, :5])  # no warning: pytest would raise it
    if name == "linear_regression":
        get_measure(name)(wide, narrow)
