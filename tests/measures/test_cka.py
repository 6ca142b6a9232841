"""Biased CKA with fewer rows than features finds similarity where there is none, and more of it in wider layers."""

import numpy as np
import pytest

from repsim_nb.measures import get_measure
from repsim_nb.measures.registry import DegenerateWarning

ROWS = 128  # as in Diehl Martinez, Lesci and Buttery (2024), whose layers are this wide
FLOOR = {512: 0.80, 768: 0.86, 1024: 0.89, 2048: 0.94, 2560: 0.95}


@pytest.mark.parametrize("width", FLOOR)
def test_cka_of_independent_gaussians_is_high_with_few_rows_unless_it_is_debiased(width):
    x, y = np.random.default_rng(width).normal(size=(2, ROWS, width))
    with pytest.warns(DegenerateWarning, match=f"128 rows for {width} features"):
        biased = get_measure("cka", debiased=False)(x, y)
    assert biased == pytest.approx(FLOOR[width], abs=0.01)
    assert get_measure("cka")(x, y) == pytest.approx(0, abs=0.02)


def test_cka_of_independent_gaussians_equals_the_plain_formula_with_few_rows():
    x, y = np.random.default_rng(0).normal(size=(2, ROWS, 512))
    x, y = x - x.mean(0), y - y.mean(0)
    plain = np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    with pytest.warns(DegenerateWarning):
        assert get_measure("cka", debiased=False)(x, y) == pytest.approx(plain, rel=1e-8)
