"""The tests of notebook 02 on models that are random points, by measures and layers that agree.

Models move from layer to layer in small steps, and every measure sees the same points in another way. There are two
groups of ten, as in the notebook; without an effect the groups have nothing to do with the points.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr

from repsim_nb.groups import joint_test
from tests.simulations import Outcome, Simulation

SIZE, LAYERS, DIMENSIONS = 10, 5, 8
NAMES = [f"m{i:02}" for i in range(2 * SIZE)]
GROUPS = dict(zip(NAMES, ["generalizing"] * SIZE + ["heuristic"] * SIZE, strict=True))
ROW_DRAWS = 5  # as in the notebook


def _points(rng: np.random.Generator, shift: float, shifted: slice, spread: float) -> np.ndarray:
    """Points (layers, models, dimensions); those of the first group are shifted at some layers, and spread."""
    steps = rng.standard_normal((LAYERS, 2 * SIZE, DIMENSIONS)) * np.r_[1, np.full(LAYERS - 1, 0.5)][:, None, None]
    points = steps.cumsum(0)
    points[:, :SIZE] *= spread
    points[shifted, :SIZE, 0] += shift
    return points


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
        draws.append(_measures(seen * rng.lognormal(0, 0.3, DIMENSIONS), rng))
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
    points = _points(rng, shift, shifted, spread)
    given = _with_rows(points, rng) if rows else _measures(points, rng)
    table = joint_test(given, GROUPS, alternative, 499, int(rng.integers(2**31)))
    return Outcome(bool(table.p_value[statistic] <= 0.05))


def _simulations(statistic: str) -> list[Simulation]:
    test = f"joint test, {statistic}"
    how = partial(_rejected, statistic=statistic)
    level = [
        Simulation(f"{test}: random models", "level", 0.05, 2000, how),
        Simulation(f"{test}: random models, averaged draws of rows", "level", 0.05, 1000, partial(how, rows=True)),
        Simulation(f"{test}, spread: random models", "level", 0.05, 2000, partial(how, alternative="spread")),
        Simulation(
            f"{test}, spread: groups 2 SD apart", "level", 0.05, 2000, partial(how, alternative="spread", shift=2.0)
        ),
        Simulation(f"{test}, clusters: random models", "level", 0.05, 1000, partial(how, alternative="clusters")),
    ]
    power = [
        Simulation(f"{test}: groups 1.2 SD apart at every layer", "power", None, 500, partial(how, shift=1.2)),
        Simulation(
            f"{test}: groups 1.2 SD apart at one layer of five",
            "power",
            None,
            500,
            partial(how, shift=1.2, shifted=slice(0, 1)),
        ),
        Simulation(
            f"{test}: groups 1.2 SD apart at every layer, averaged draws of rows",
            "power",
            None,
            500,
            partial(how, shift=1.2, rows=True),
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
