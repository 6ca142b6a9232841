"""The level of `find_blocks` on streams without blocks, with steps as irregular as allowed, and its power."""

from __future__ import annotations

import numpy as np

from repsim_nb.depth import find_blocks
from tests.simulations import Outcome, Simulation
from tests.support.layers import planted, uneven

N_LAYERS = 9
DRAWS = 400


def found(layers: dict[int, np.ndarray], allowed: float, rng: np.random.Generator) -> Outcome:
    seed = int(rng.integers(2**31))
    p = find_blocks(layers, irregularity=allowed, n_null=99, n_halves=12, seed=seed).p_value
    return Outcome(p <= 0.05)


def stream(irregularity: float, allowed: float, rng: np.random.Generator) -> Outcome:
    """A stream that forgets 10% at a step of mean length, with log-normal steps."""
    steps = np.exp(irregularity * rng.normal(size=N_LAYERS - 1))
    return found(uneven(rng, 0.9 ** (steps / steps.mean())), allowed, rng)


def blocked(between: float, rng: np.random.Generator) -> Outcome:
    return found(planted(rng, (4, 5), drift=0.95, between=between), 0.25, rng)


def level(irregularity: float, allowed: float) -> Simulation:
    name = f"9 layers, irregularity {irregularity:g} where {allowed:g} is allowed, at 0.05"
    return Simulation(name, "level", 0.05, DRAWS, lambda rng: stream(irregularity, allowed, rng))


SIMULATIONS = [
    level(0.0, 0.25),
    level(0.25, 0.25),
    level(0.6, 0.6),
    level(0.6, 0.25),
    Simulation("two blocks that share 0.8 of their features", "power", None, DRAWS, lambda rng: blocked(0.8, rng)),
    Simulation("two blocks that share 0.5 of their features", "power", None, DRAWS, lambda rng: blocked(0.5, rng)),
]
