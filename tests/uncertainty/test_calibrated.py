"""Calibrated scores: 0 up to the level of the null, 1 at identity, whatever the width."""

from __future__ import annotations

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.comparison import calibrated_map
from repsim_nb.errors import InputError
from repsim_nb.uncertainty import calibrated


def related(rng: np.random.Generator, n: int, width: int, layers: int, share: float) -> tuple[dict, dict]:
    """Two models whose layers share a part of their features."""
    common = [rng.normal(size=(n, width)) for _ in range(layers)]
    return tuple(
        {i: share * x + (1 - share) * rng.normal(size=x.shape) for i, x in enumerate(common)} for _ in range(2)
    )


def test_calibrated_is_0_at_the_level_and_1_at_the_bound() -> None:
    levels = np.array([0.0, 0.2, 0.9])
    np.testing.assert_array_equal(calibrated(levels, levels, 1.0), [0, 0, 0])
    np.testing.assert_array_equal(calibrated(np.ones(3), levels, 1.0), [1, 1, 1])
    assert calibrated(0.6, 0.2, 1.0) == pytest.approx(0.5)
    assert calibrated(1.0, 1.0, 1.0) == 0  # nothing can exceed such a level


@pytest.mark.parametrize("null", ["permutation", "moments"])
def test_compare_adds_calibrated_scores_to_a_null(null: str) -> None:
    a, b = related(np.random.default_rng(0), 200, 8, 2, 0.6)
    result = rs.compare(a, b, null=null)
    expected = np.clip((result.values - result.null_high.values) / (1 - result.null_high.values), 0, 1)
    np.testing.assert_allclose(result.calibrated, expected, rtol=1e-12)
    assert result.calibrated.values[0, 0] > 0.2
    assert result.calibrated.values[0, 1] < 0.1
    assert 0 < result.calibrated_most < result.calibrated.max()  # the largest of four unrelated cells is higher


def test_calibrated_most_counts_the_layers_that_were_searched() -> None:
    single, many = (
        rs.compare(
            *related(np.random.default_rng(2), 60, 16, layers, 0.0),
            measure=rs.get_measure("cka", debiased=False),
            null=199,
        )
        for layers in (1, 12)
    )
    assert many.values.max() > single.values.max() + 0.01  # depth alone raises the largest raw score
    assert many.calibrated_most < 0.05
    assert single.calibrated_most < 0.05


@pytest.mark.parametrize("measure", ["cka", "svcca", "mutual_knn"])
def test_calibrated_scores_of_a_model_with_itself_are_1(measure: str) -> None:
    x = np.random.default_rng(3).normal(size=(80, 6))
    assert rs.compare({0: x}, {0: x}, measure=measure, null=99).calibrated.item() == pytest.approx(1)


def test_calibrated_scores_of_unrelated_models_stay_at_0_while_raw_ones_rise_with_width() -> None:
    biased = rs.get_measure("cka", debiased=False)
    raw, scores = [], []
    for width in (4, 16, 48):
        rng = np.random.default_rng(width)
        result = rs.compare(
            {0: rng.normal(size=(64, width))}, {0: rng.normal(size=(64, width))}, measure=biased, null=199
        )
        raw.append(result.item())
        scores.append(result.calibrated.item())
    assert raw[0] < raw[1] - 0.1 < raw[2] - 0.2
    assert max(scores) < 0.06


def test_compare_adds_no_calibrated_score_to_a_dissimilarity_or_without_a_null() -> None:
    x = {0: np.random.default_rng(4).normal(size=(40, 3))}
    assert "calibrated" not in rs.compare(x, x, measure="procrustes", null=19).coords
    assert "calibrated" not in rs.compare(x, x).coords
    with pytest.raises(InputError, match=r"no calibrated scores.*null="):
        calibrated_map(rs.compare(x, x))


def test_calibrated_map_can_be_drawn_and_says_what_it_is() -> None:
    a, b = related(np.random.default_rng(5), 100, 6, 3, 0.5)
    result = rs.compare(a, b, null=99, interval=0.95)
    shown = calibrated_map(result)
    np.testing.assert_array_equal(shown.values, result.calibrated.values)
    assert {"low", "high", "null_high", "calibrated"}.isdisjoint(shown.coords)
    ax = rs.figures.heatmap(shown)
    assert "calibrated" in ax.figure.axes[1].get_ylabel()


def test_a_result_with_calibrated_scores_can_be_saved_and_read(tmp_path) -> None:
    import xarray as xr

    a, b = related(np.random.default_rng(6), 60, 4, 2, 0.5)
    result = rs.compare(a, b, null=99)
    result.to_netcdf(tmp_path / "map.nc", engine="h5netcdf")
    again = xr.load_dataarray(tmp_path / "map.nc", engine="h5netcdf")
    assert float(again.calibrated_most) == float(result.calibrated_most)
