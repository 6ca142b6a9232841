"""Numbers of one matrix, against numpy on matrices whose singular values are known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repsim_nb.errors import InputError
from repsim_nb.measures import effective_rank
from repsim_nb.weights import spectrum_of
from repsim_nb.weights.singular_values import singular_values


def orthogonal(n, rng):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def with_spectrum(s, rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    diagonal = np.zeros((rows, columns))
    np.fill_diagonal(diagonal, s)
    return orthogonal(rows, rng) @ diagonal @ orthogonal(columns, rng)


def by_definition(s):
    """The numbers of a spectrum, from their definitions: the Gini coefficient as the mean difference of pairs."""
    s = np.asarray(s, dtype=float)
    p = s / np.abs(s).sum()
    p = p[p > 0]
    rank = np.exp(-(p * np.log(p)).sum())
    return {
        "effective_rank": rank,
        "proportional_effective_rank": rank / len(s),
        "stable_rank": (s**2).sum() / s.max() ** 2,
        "condition_number": s.max() / s.min() if s.min() > 0 else np.inf,
        "frobenius_norm": np.sqrt((s**2).sum()),
        "spectral_norm": s.max(),
        "gini": np.abs(s[:, None] - s).mean() / (2 * s.mean()),
    }


SPECTRA = {
    "equal": np.ones(12),
    "one": np.array([3.0]),
    "geometric": 0.7 ** np.arange(20),
    "steep": 10.0 ** -np.arange(0, 5, 0.5),
    "two large": np.array([100.0, 90.0, *np.linspace(1, 2, 30)]),
}


@pytest.mark.parametrize("more", [0, 5, 40], ids=["square", "nearly square", "long"])
@pytest.mark.parametrize("name", SPECTRA)
def test_spectrum_of_equals_the_definitions_on_constructed_spectra(name, more):
    s = SPECTRA[name]
    for shape in ((len(s), len(s) + more), (len(s) + more, len(s))):
        matrix = with_spectrum(s, *shape)
        found = spectrum_of(matrix)
        assert found == pytest.approx(by_definition(s), rel=1e-10, abs=1e-10)
        assert found["frobenius_norm"] == pytest.approx(np.linalg.norm(matrix), rel=1e-12)
        assert found["spectral_norm"] == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-12)
        if not more:
            assert found["condition_number"] == pytest.approx(np.linalg.cond(matrix), rel=1e-10)


def test_spectrum_of_is_infinite_in_condition_and_finite_otherwise_where_directions_are_missing():
    s = np.array([2.0, 1.0, 0.0, 0.0])
    found = spectrum_of(with_spectrum(s, 4, 6))
    assert found == pytest.approx(by_definition(s), rel=1e-10, abs=1e-10)
    assert found["condition_number"] == np.inf
    assert all(np.isfinite(value) for name, value in found.items() if name != "condition_number")


def test_spectrum_of_takes_the_dimension_of_a_product_and_refuses_to_leave_singular_values_out():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(20, 4)), rng.normal(size=(4, 30))
    found = spectrum_of(left @ right, dimension=4)
    assert found == pytest.approx(by_definition(np.linalg.svd(left @ right, compute_uv=False)[:4]), rel=1e-10)
    assert found["effective_rank"] == pytest.approx(spectrum_of(left @ right)["effective_rank"], rel=1e-10)
    assert found["condition_number"] < 1e3
    with pytest.raises(InputError, match="leave out 1 singular values of this matrix that are not 0"):
        spectrum_of(left @ right, dimension=3)
    for wrong in (0, 21, 2.0, True):
        with pytest.raises(InputError, match=r"expected a whole number from 1 to min\(rows, columns\) = 20"):
            spectrum_of(left @ right, dimension=wrong)


@pytest.mark.parametrize("shape", [(9, 3, 14), (9, 9, 14), (9, 12, 14), (5, 20, 4)])
def test_singular_values_of_a_product_equal_numpy(shape):
    rng = np.random.default_rng(1)
    rows, inner, columns = shape
    left, right = rng.normal(size=(rows, inner)), rng.normal(size=(inner, columns))
    found = singular_values(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    assert len(found) == min(shape)
    np.testing.assert_allclose(found, np.linalg.svd(left @ right, compute_uv=False)[: len(found)], rtol=1e-10)


def test_spectrum_of_is_not_centred_and_otherwise_agrees_with_the_effective_rank_of_representations():
    x = np.random.default_rng(2).normal(size=(40, 6)) + 3
    centred = x - x.mean(0)
    assert spectrum_of(centred)["effective_rank"] == pytest.approx(effective_rank(x), rel=1e-10)
    assert spectrum_of(x)["effective_rank"] < effective_rank(x) - 0.5


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.zeros((3, 4)), "all 0, so its ranks are undefined"),
        (np.full((2, 2), np.nan), "NaN or infinite"),
        (np.ones(3), r"expected \(rows, features\)"),
        ("abc", "matrix"),
    ],
    ids=["zeros", "NaN", "vector", "text"],
)
def test_spectrum_of_refuses_what_has_no_rank(matrix, words):
    with pytest.raises(InputError, match=words):
        spectrum_of(matrix)


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(shapes, st.integers(0, 10**6), st.sampled_from([1e-150, 1e-7, 3.0, 1e150]))
@settings(max_examples=60, deadline=None)
def test_spectrum_of_ignores_scale_and_rotation_and_keeps_its_bounds(shape, seed, scale):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=shape)
    own, scaled = spectrum_of(matrix), spectrum_of(matrix * scale)
    turned = spectrum_of(orthogonal(shape[0], rng) @ matrix @ orthogonal(shape[1], rng))
    least = min(shape)
    for name, value in own.items():
        loose = 1e-6 if name == "condition_number" else 1e-9
        norm = scale if name.endswith("norm") else 1
        assert scaled[name] == pytest.approx(value * norm, rel=loose, abs=0 if norm != 1 else 1e-9)
        assert turned[name] == pytest.approx(value, rel=loose, abs=1e-9)
    assert 1 - 1e-9 <= own["stable_rank"] <= own["effective_rank"] + 1e-9 <= least + 2e-9
    assert own["proportional_effective_rank"] == pytest.approx(own["effective_rank"] / least)
    assert own["condition_number"] >= 1 - 1e-9
    assert -1e-9 <= own["gini"] <= (least - 1) / least + 1e-9


@given(st.integers(1, 12), st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_spectrum_of_an_equal_spectrum_has_full_rank_and_no_inequality(n, scale):
    found = spectrum_of(with_spectrum(np.full(n, scale), n, n + 3, seed=n))
    assert [found[name] for name in ("effective_rank", "stable_rank")] == pytest.approx([n, n], rel=1e-10)
    assert [found[name] for name in ("proportional_effective_rank", "condition_number")] == pytest.approx([1, 1])
    assert found["gini"] == pytest.approx(0, abs=1e-10)
