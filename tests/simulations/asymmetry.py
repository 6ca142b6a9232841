"""The interval and the test of the asymmetry of stitching, with random senders, receivers, pairs and documents."""

from __future__ import annotations

import numpy as np

from repsim_nb.stitching import asymmetry, penalties_by_kind, senders_by_run
from tests.simulations import Outcome, Simulation
from tests.support.penalties import Effects, penalty_table

# Fitted to data/tables/stitching-3l-gradient.nc: standard deviations after removing the means of kinds.
FITTED = Effects(
    sender=0.012,
    receiver=0.011,
    pair=0.008,
    document=0.14,
    sender_by_document=0.049,
    receiver_by_document=0.061,
    pair_by_document=0.050,
)
LARGE_SENDER = Effects(**vars(FITTED) | {"sender": 0.024, "pair": 0.004})
PAIRS_ALONE = Effects(**vars(FITTED) | {"sender": 0.0, "receiver": 0.0})
TRUTH = 0.05  # the planted asymmetry; the interval's coverage does not depend on it
SHAPE = {"layers": 1, "documents": 192}  # documents as in that table
DRAWS = 2000


def covers(effects: Effects, per_kind: int | tuple[int, int], corrected: bool, rng: np.random.Generator) -> Outcome:
    made, kinds = penalty_table(rng, effects, per_kind, foreign=TRUTH, **SHAPE)
    found = asymmetry(made, kinds, "a", "b", corrected).loc["all"]
    return Outcome(bool(found.low <= TRUTH <= found.high), (found.high - found.low) / 2)


def covers_mean(effects: Effects, per_kind: int, rng: np.random.Generator) -> Outcome:
    made, kinds = penalty_table(rng, effects, per_kind, foreign=TRUTH, **SHAPE)
    frame = penalties_by_kind(made, kinds).set_index(["sender", "receiver"])
    low, high = frame.low["a", "b"], frame.high["a", "b"]
    return Outcome(bool(low <= 0.3 + TRUTH <= high), (high - low) / 2)


def covers_checkpoints(per_kind: int, rng: np.random.Generator) -> Outcome:
    made, kinds = penalty_table(rng, FITTED, per_kind, sender=TRUTH, **SHAPE)
    named = made.assign_coords(sender=[f"{name}@step1" for name in kinds])
    found = asymmetry(senders_by_run(named), kinds, "a", "b").loc["all"]
    return Outcome(bool(found.low <= 2 * TRUTH <= found.high), (found.high - found.low) / 2)


def rejects(effects: Effects, per_kind: int, level: float, rng: np.random.Generator) -> Outcome:
    made, kinds = penalty_table(rng, effects, per_kind, **SHAPE)
    return Outcome(bool(asymmetry(made, kinds, "a", "b").loc["all"].p_value <= level))


def coverage(name: str, effects: Effects, per_kind: int | tuple[int, int], corrected: bool = True) -> Simulation:
    return Simulation(name, "coverage", 0.95, DRAWS, lambda rng: covers(effects, per_kind, corrected, rng))


SIMULATIONS = [
    coverage("corrected, 5 seeds, fitted components", FITTED, 5),
    coverage("corrected, 3 seeds, fitted components", FITTED, 3),
    coverage("corrected, 5 seeds, larger sender effect", LARGE_SENDER, 5),
    coverage("corrected, 3 seeds, larger sender effect", LARGE_SENDER, 3),
    coverage("corrected, 3 and 5 seeds, larger sender effect", LARGE_SENDER, (3, 5)),
    coverage("corrected, 3 seeds, only pairs and documents vary", PAIRS_ALONE, 3),
    coverage("raw, 5 seeds, fitted components", FITTED, 5, corrected=False),
    coverage("raw, 3 seeds, fitted components", FITTED, 3, corrected=False),
    coverage("raw, 2 seeds, fitted components", FITTED, 2, corrected=False),
    Simulation("mean penalty, 5 seeds", "coverage", 0.95, DRAWS, lambda rng: covers_mean(FITTED, 5, rng)),
    Simulation("mean penalty, 3 seeds", "coverage", 0.95, DRAWS, lambda rng: covers_mean(FITTED, 3, rng)),
    Simulation("checkpoints as senders, 5 seeds", "coverage", 0.95, DRAWS, lambda rng: covers_checkpoints(5, rng)),
    Simulation("checkpoints as senders, 3 seeds", "coverage", 0.95, DRAWS, lambda rng: covers_checkpoints(3, rng)),
    Simulation("exact test, 5 seeds, at 0.05", "level", 0.05, DRAWS, lambda rng: rejects(FITTED, 5, 0.05, rng)),
    Simulation("exact test, 3 seeds, at 0.1", "level", 0.1, DRAWS, lambda rng: rejects(FITTED, 3, 0.1, rng)),
    Simulation(
        "exact test, 5 seeds, larger sender effect, at 0.05",
        "level",
        0.05,
        DRAWS,
        lambda rng: rejects(LARGE_SENDER, 5, 0.05, rng),
    ),
]
