"""The tests of notebook 02 on models that are random points: twenty classifiers, measures and layers that agree.

Models differ by layer in small steps, every measure sees the same points in another way, and the groups are the ends of
an accuracy. Without an effect the accuracy has nothing to do with the points.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import xarray as xr

from repsim_nb.groups import extremes, joint_test
from tests.simulations import Outcome, Simulation

MODELS, SIZE, LAYERS, DIMENSIONS = 40, 10, 5, 8
NAMES = [f"m{i:02}" for i in range(MODELS)]
ROW_DRAWS = 5  # as in the notebook


def _points(rng: np.random.Generator, shift: float, shifted: slice, spread: float) -> tuple[np.ndarray, pd.Series]:
    """Points (layers, models, dimensions) and accuracies; the upper half is shifted at some layers, and spread."""
    accuracy = rng.random(MODELS)
    upper = accuracy > np.median(accuracy)
    steps = rng.standard_normal((LAYERS, MODELS, DIMENSIONS)) * np.r_[1, np.full(LAYERS - 1, 0.5)][:, None, None]
    points = steps.cumsum(0)
    points[:, upper] *= spread
    points[shifted, upper, 0] += shift
    return points, pd.Series(accuracy, NAMES)


def _measures(points: np.ndarray, rng: np.random.Generator) -> dict[str, xr.DataArray]:
    """Six measures of the same points: other distances, other dimensions, and noise of each pair."""
    gaps = points[:, :, None] - points[:, None]
    euclidean = np.linalg.norm(gaps, axis=-1)
    noise = rng.normal(0, 0.3, euclidean.shape)
    values = {
        "euclidean": euclidean,
        "square": euclidean**2,
        "city block": np.abs(gaps).sum(-1),
        "largest": np.abs(gaps).max(-1),
        "some dimensions": np.linalg.norm(gaps[..., ::2], axis=-1),
        "noisy": euclidean + noise + noise.swapaxes(1, 2),
    }
    coords = {"layer": range(LAYERS), "model_a": NAMES, "model_b": NAMES}
    return {name: xr.DataArray(v, coords, ("layer", "model_a", "model_b")) for name, v in values.items()}


def _with_rows(points: np.ndarray, rng: np.random.Generator) -> dict[str, xr.DataArray]:
    """Dissimilarities averaged over draws of rows, each of which sees the models through the same distortion."""
    draws = []
    for _ in range(ROW_DRAWS):
        seen = points + rng.normal(0, 0.3, points.shape)
        draws.append(_measures(seen * rng.lognormal(0, 0.5, DIMENSIONS), rng))
    return {name: sum(draw[name] for draw in draws) / ROW_DRAWS for name in draws[0]}


def _rejected(
    rng: np.random.Generator,
    statistic: str,
    alternative: str = "location",
    shift: float = 0.0,
    shifted: slice = slice(None),
    rows: bool = False,
    spread: float = 1.0,
) -> Outcome:
    points, accuracy = _points(rng, shift, shifted, spread)
    given = _with_rows(points, rng) if rows else _measures(points, rng)
    table = joint_test(given, extremes(accuracy, SIZE), alternative, 499, int(rng.integers(2**31)))
    return Outcome(bool(table.p_value[statistic] <= 0.05))


def _simulations(statistic: str) -> list[Simulation]:
    test = f"joint test, {statistic}"
    how = partial(_rejected, statistic=statistic)
    level = [
        Simulation(f"{test}: random models", "level", 0.05, 2000, how),
        Simulation(f"{test}: random models, averaged draws of rows", "level", 0.05, 2000, partial(how, rows=True)),
        Simulation(f"{test}, spread: random models", "level", 0.05, 2000, partial(how, alternative="spread")),
        Simulation(
            f"{test}, spread: groups 2 SD apart", "level", 0.05, 2000, partial(how, alternative="spread", shift=2.0)
        ),
        Simulation(f"{test}, clusters: random models", "level", 0.05, 2000, partial(how, alternative="clusters")),
    ]
    power = [
        Simulation(f"{test}: groups 1.5 SD apart at every layer", "power", None, 500, partial(how, shift=1.5)),
        Simulation(
            f"{test}: groups 1.5 SD apart at one layer of five",
            "power",
            None,
            500,
            partial(how, shift=1.5, shifted=slice(0, 1)),
        ),
        Simulation(
            f"{test}: groups 1.5 SD apart at every layer, averaged draws of rows",
            "power",
            None,
            500,
            partial(how, shift=1.5, rows=True),
        ),
        Simulation(
            f"{test}, spread: one group 1.5 times as wide",
            "power",
            None,
            500,
            partial(how, alternative="spread", spread=1.5),
        ),
    ]
    return level + power


SIMULATIONS = [*_simulations("maximum"), *_simulations("mean")]
