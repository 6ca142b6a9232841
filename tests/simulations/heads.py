"""The difference between two arms that share models, as notebook 03 compares them: three models of each sort."""

from __future__ import annotations

import numpy as np
import xarray as xr

from repsim_nb.groups import arm_difference, group_test
from tests.simulations import Outcome, Simulation

SORTS = {"narrow-a": "narrow", "wide-a": "wide", "narrow-b": "narrow", "wide-b": "wide", "shared": "wide"}
MODELS = {f"{sort}-{i}": group for sort, group in SORTS.items() for i in range(3)}
ARMS = {arm: {m: g for m, g in MODELS.items() if f"-{arm}-" in m or "shared" in m} for arm in "ab"}
DIMENSIONS = 10
DRAWS = 2000


def drawn(shifts: tuple[float, float], rng: np.random.Generator, narrow_spread: float = 1.0) -> xr.DataArray:
    """Squared distances of normal points, whose effect is the squared distance of the centres, whatever the spread."""
    points = rng.normal(size=(len(MODELS), DIMENSIONS))
    points[[g == "narrow" for g in MODELS.values()]] *= narrow_spread
    for arm, shift in zip("ab", shifts, strict=True):
        points[[f"narrow-{arm}" in m for m in MODELS], 0] += shift
    values = np.square(points[:, None] - points).sum(-1)[None]
    return xr.DataArray(
        values, {"layer": [0], "model_a": list(MODELS), "model_b": list(MODELS)}, ("layer", "model_a", "model_b")
    )


def covers(shifts: tuple[float, float], level: float, spread: float, rng: np.random.Generator) -> Outcome:
    found = arm_difference(drawn(shifts, rng, spread), ARMS, level).loc[0]
    truth = shifts[0] ** 2 - shifts[1] ** 2
    return Outcome(bool(found.low <= truth <= found.high), (found.high - found.low) / 2)


def finds(shifts: tuple[float, float], rng: np.random.Generator) -> Outcome:
    return Outcome(bool(arm_difference(drawn(shifts, rng), ARMS).loc[0].low > 0))


def rejects(rng: np.random.Generator) -> Outcome:
    return Outcome(bool(group_test(drawn((0.0, 0.0), rng), ARMS["a"]).loc[0].p_value <= 0.05))


def coverage(name: str, shifts: tuple[float, float], level: float = 0.95, spread: float = 1.0) -> Simulation:
    return Simulation(name, "coverage", level, DRAWS, lambda rng: covers(shifts, level, spread, rng))


SIMULATIONS = [
    coverage("both arms without an effect", (0.0, 0.0)),
    coverage("both arms with the same effect", (4.0, 4.0)),
    coverage("both arms with the same effect, narrow models twice as spread", (4.0, 4.0), spread=2.0),
    coverage("an effect in one arm alone", (4.0, 0.0)),
    coverage("the same effect, three layers judged together", (4.0, 4.0), level=1 - 0.05 / 3),
    Simulation(
        "difference found, an effect in one arm alone", "power", None, DRAWS, lambda rng: finds((4.0, 0.0), rng)
    ),
    Simulation("group test of one arm, at 0.05", "level", 0.05, DRAWS, rejects),
]
