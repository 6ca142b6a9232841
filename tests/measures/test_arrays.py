"""Every kind of array is read right or refused once; two of them are a comparison."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy import sparse

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.measures import get_measure
from repsim_nb.measures.arrays import as_matrix

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(2, 30, 4))
MASKED = np.ma.array(X, mask=X > 1.5)


@pytest.mark.parametrize(
    "given",
    [
        X[::-1][::-1],
        np.ma.array(X),
        pd.DataFrame(X),
        pd.DataFrame(X).astype("Float64"),
        xr.DataArray(X),
        X.tolist(),
        tuple(map(tuple, X)),
        [torch.from_numpy(row.copy()) for row in X],
        list(np.ma.array(X)),
        torch.nn.Parameter(torch.from_numpy(X.copy())),
        np.matrix(X),
        X.astype(np.longdouble),
        np.lib.stride_tricks.as_strided(X, writeable=False),
    ],
    ids=lambda x: type(x).__name__,
)
def test_as_matrix_reads_what_holds_the_numbers(given):
    assert torch.equal(as_matrix(given, "x"), torch.from_numpy(X.copy()))


def test_as_matrix_reads_reversed_views_of_any_shape_and_floats_of_one_byte():
    for x in (X, X[:, :1], X[:1]):
        for view in (x[::-1], x[:, ::-1], x[::-1, ::-1]):
            assert (as_matrix(view, "x").numpy() == view).all()
    eighths = torch.tensor([[0.5, 2.0], [1.0, -4.0]]).to(torch.float8_e4m3fn)
    assert as_matrix(eighths, "x").tolist() == [[0.5, 2.0], [1.0, -4.0]]
    assert as_matrix(np.array([[True, False]]), "x").tolist() == [[1.0, 0.0]]


MISSING = pd.DataFrame(X, columns=list("abcd"), index=[f"row {i}" for i in range(30)])
MISSING.loc["row 3", "c"] = np.nan
REFUSED = [
    (MASKED, rf"x has {MASKED.mask.sum()} masked values, the first at .*Drop those rows"),
    (list(MASKED), "masked values"),
    (MISSING, "1 missing values .NaN., the first at row 'row 3', column 'c'"),
    (pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), "1 missing values"),
    (pd.DataFrame({"a": ["1", "2"]}), "Convert it to numbers"),
    (xr.DataArray(np.where(X > 1, np.nan, X)), "NaN or infinite"),
    (torch.empty(3, 4, device="meta"), "meta tensor holds no values"),
    (lambda: torch.quantize_per_tensor(torch.ones(3, 4), 0.1, 0, torch.qint8), "dequantize"),
    (torch.ones(3, 4).to_sparse(), "to_dense"),
    (lambda: torch.ones(3, 4).to_sparse_csr(), "to_dense"),
    (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.strided), "to_dense|plain tensor"),
    (sparse.csr_array(X), "toarray"),
    (X + 1j, "Convert it to numbers"),
    (torch.from_numpy(X + 1j), "real and imaginary"),
    (X.astype(object), "Convert it to numbers"),
    (X.astype(str), "Convert it to numbers"),
    (np.zeros(3, dtype=[("a", float), ("b", float)]), "Convert it to numbers"),
    (np.zeros((3, 2), dtype="M8[s]"), "Convert it to numbers"),
    ([[1.0, 2.0], [3.0]], "rows differ in length"),
    ([torch.ones(2), torch.ones(3)], "rows differ in length"),
    (np.array(1.0), r"shape \(\), expected"),
    (X[0], r"shape \(4,\).*x\[:, None\]"),
    (pd.Series(X[0]), r"shape \(4,\).*x\[:, None\]"),
    (np.stack([X, Y]), r"shape \(2, 30, 4\).*one matrix for each layer"),
    (X[:0], "at least one of each"),
    (X[:, :0], "at least one of each"),
    ([], "at least one of each"),
    (np.array([[2**53 + 2, 1], [0, 1]]), r"integers beyond 2\*\*53"),
    (torch.tensor([[2**53 + 2, 1], [0, 1]]), r"integers beyond 2\*\*53"),
    ("cka", "must be a dense real"),
    (None, "must be a dense real"),
]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # torch's, of such tensors
@pytest.mark.parametrize(("given", "message"), REFUSED, ids=range(len(REFUSED)))
def test_as_matrix_refuses_the_rest_in_one_message(given, message):
    with pytest.raises(InputError, match=message):
        as_matrix(given() if callable(given) else given, "x")


def test_as_matrix_says_that_float16_has_overflowed():
    with np.errstate(over="ignore"):
        halves = (1e5 * X).astype(np.float16)
    with pytest.raises(InputError, match=r"infinite.*float16 holds nothing beyond 65,504"):
        as_matrix(halves, "x")


def test_compare_takes_two_arrays_as_one_layer_each():
    expected = get_measure("procrustes")(X, Y)
    for a, b in ((X, Y), (torch.from_numpy(X.copy()), Y), (pd.DataFrame(X), xr.DataArray(Y)), (X.tolist(), {7: Y})):
        found = rs.compare(a, b, measure="procrustes")
        assert found.shape == (1, 1)
        assert found.item() == pytest.approx(expected, rel=1e-12)
    assert rs.compare(X).item() == pytest.approx(1)
    assert rs.compare(X, Y, null=19, interval=0.9).p_value.shape == (1, 1)
    both = rs.compare_all({"one": X, "two": {0: Y, 1: X}}, "procrustes")
    assert both["two", "one"].values.ravel() == pytest.approx([expected, 0], abs=1e-7)
    with pytest.raises(InputError, match="masked"):
        rs.compare(MASKED, Y)
    with pytest.raises(InputError, match="a is a int; expected a model"):
        rs.compare(3, Y)
    with pytest.raises(InputError, match="an empty mapping"):
        rs.compare({}, {})
    with pytest.raises(InputError, match="of at least one model"):
        rs.compare_all({})


def test_data_frames_with_other_row_labels_are_not_compared_by_place():
    one, other = pd.DataFrame(X), pd.DataFrame(Y).iloc[::-1]
    for call in (rs.compare, get_measure("cka")):
        with pytest.raises(InputError, match="different row labels"):
            call(one, other)


def test_compare_models_takes_arrays_and_activations():
    z = X + Y
    by_name = rs.compare_models({"x": X, "y": Y, "z": z}, ["procrustes", "cka"])
    assert by_name.model_a.values.tolist() == ["x", "y", "z"]
    assert by_name.procrustes.sel(layer=0).values[0, 2] == pytest.approx(get_measure("procrustes")(X, z), rel=1e-9)
    listed = rs.compare_models([{3: X, 5: z}, {3: Y, 5: X}], "procrustes", layers=5)
    assert (listed.layer.values.tolist(), listed.model_b.values.tolist()) == ([5], ["0", "1"])
    assert listed.procrustes.values[0, 0, 1] == pytest.approx(get_measure("procrustes")(z, X), rel=1e-9)
    texts = [f"One text, the {i}th of them." for i in range(12)]
    acts = [rs.extract(name, texts, n_rows=64) for name in ("tiny-neox-w32-d2", "tiny-neox-w64-d2")]
    extracted = rs.compare_models(acts, "cka")
    for layer in (0, 2):
        expected = get_measure("cka").dissimilarity(acts[0][layer], acts[1][layer])
        assert float(extracted.cka.sel(layer=layer)[0, 1]) == pytest.approx(expected, abs=1e-6)
    for models, how, message in (
        ({"x": X, "y": "tiny-neox-w32-d2"}, {}, "need the same layers"),
        ([X, "tiny-neox-w32-d2"], {"layers": "last"}, 'can only be matched if they are documents: use rows="mean"'),
        ({"x": {0: X}, "y": {1: Y}}, {}, "need the same layers"),
        ({"x": X, "y": Y[:9]}, {}, "x has 30 rows, y has 9|30 rows"),
        ({"x": X, "y": Y}, {"n_rows": 9}, "n_rows would have no effect"),
        ({"x": X, "y": Y}, {"seed": 9, "corpora": ["a"]}, "corpora, seed would have no effect"),
        ({"x": X, "y": Y}, {"memory_limit": 100}, "memory_limit|the limit is 100 bytes"),
        ([acts[0], acts[0]], {}, "appears twice"),
        ({}, {}, "at least two models"),
    ):
        with pytest.raises(InputError, match=message):
            rs.compare_models(models, "cka", **how)


@pytest.mark.parametrize(
    "idle",
    [
        {"corpus": ["text"]},
        {"site": "mlp_out"},
        {"rows": "last"},
        {"n_rows": 5},
        {"packing": "packed"},
        {"store": True},
    ],
)
def test_compare_refuses_arguments_of_extraction_for_activations(idle):
    with pytest.raises(InputError, match=f"{next(iter(idle))} would have no effect"):
        rs.compare(X, Y, **idle)
    assert rs.compare(X, Y, n_rows=4096, site="resid_post").shape == (1, 1)  # the defaults, in so many words


def test_arguments_that_another_makes_idle_are_refused():
    for call, name in (
        (lambda: rs.compare(X, Y, groups=np.arange(30) // 3), "groups"),
        (lambda: get_measure("cka", bandwidth=2.0), "bandwidth"),
        (lambda: get_measure("hsic", bandwidth=2.0), "bandwidth"),
        (lambda: get_measure("svcca", components=2, variance=0.9), "variance"),
        (lambda: rs.stitch("tiny-neox-w32-d2", "tiny-neox-w32-d2", 1, rank=3), "rank"),
    ):
        with pytest.raises(InputError, match=f"{name} would have no effect"):
            call()
    with pytest.raises(InputError, match=r"Unknown kind of rows 'lats'\. Did you mean 'last'"):
        rs.estimate("tiny-neox-w32-d2", rows="lats")
