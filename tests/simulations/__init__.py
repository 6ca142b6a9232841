"""Simulations with known truth: how often intervals cover it, and how often tests reject it.

`make simulations` runs all of them and writes docs/simulations.csv. They take minutes to hours, so `make test` only
checks that each one runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Outcome(NamedTuple):
    """One draw: whether the interval covers the truth (or the test rejects), and half the interval's width if any."""

    hit: bool
    half_width: float = float("nan")


@dataclass(frozen=True)
class Simulation:
    """A number that is known beforehand, and how to draw data with that truth.

    Attributes
    ----------
    name
        What is simulated, in words.
    kind
        "coverage" of an interval, "level" of a test (truth: no effect) or "power" of a test (a planted effect).
    nominal
        The share of draws that should hit; None for power.
    draws
        Number of draws.
    draw
        Takes a random generator and returns one Outcome.
    """

    name: str
    kind: str
    nominal: float | None
    draws: int
    draw: Callable[[np.random.Generator], Outcome]
