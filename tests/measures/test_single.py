"""Statistics of one representation, on data of known dimension."""

import numpy as np
import pytest

from repsim_nb.errors import InputError
from repsim_nb.measures import anisotropy, effective_rank, intrinsic_dimension, participation_ratio

rng = np.random.default_rng(0)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_dimensions_are_recovered(dimension: int) -> None:
    flat = np.linalg.qr(rng.normal(size=(1000, dimension)))[0]
    flat = np.linalg.qr(flat - flat.mean(0))[0] @ np.linalg.qr(rng.normal(size=(12, dimension)))[0].T + 3
    for statistic in (effective_rank, participation_ratio):
        assert statistic(flat) == pytest.approx(dimension, rel=1e-6)
    cube = rng.uniform(size=(1500, dimension)) @ rng.normal(size=(dimension, 12))
    assert intrinsic_dimension(np.vstack([cube, cube])) == pytest.approx(dimension, rel=0.15)


def test_spectra_count_by_their_shares() -> None:
    x = np.linalg.qr(rng.normal(size=(50, 3)))[0]
    x = np.linalg.qr(x - x.mean(0))[0] * [3, 1, 1]
    share = np.array([3, 1, 1]) / 5
    assert effective_rank(x) == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert participation_ratio(x) == pytest.approx(11**2 / (81 + 1 + 1))


def test_anisotropy_is_the_mean_cosine_of_pairs() -> None:
    x = rng.normal(size=(30, 6)) + 1
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert anisotropy(x) == pytest.approx((unit @ unit.T)[np.triu_indices(30, 1)].mean())
    with pytest.raises(InputError, match="row 0 of x is all 0"):
        anisotropy(np.zeros((3, 2)))
