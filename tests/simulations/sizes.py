"""Intervals of `depth.by_size` and `depth.depth_claims`, with seeds that vary as the embedded models do."""

from __future__ import annotations

from functools import partial
from itertools import combinations_with_replacement

import numpy as np
import xarray as xr

from repsim_nb.depth import by_kind, by_size, depth_claims
from tests.simulations import Outcome, Simulation

MODEL, PAIR = 0.0066, 0.0051  # standard deviations of models and of pairs of models, from six sizes of three seeds each
FAMILY = {(w, d): 3 for w in (32, 64, 128) for d in (2, 4, 8)}


def _maps(rng: np.random.Generator, family: dict, uneven: float = 0.0, effect: float = 0.0) -> tuple[dict, dict, dict]:
    """Maps of one value each, the size of every model, and the true similarity of two sizes."""
    sizes = {f"w{w}-d{d}-s{s}": (w, d) for (w, d), n in family.items() for s in range(n)}
    truth = {}
    for pair in combinations_with_replacement(family, 2):
        truth[pair] = truth[pair[::-1]] = 0.6 + rng.normal(0, 0.05) - effect * (pair[0] != pair[1])
    if effect:
        truth = {pair: 0.6 - effect * (pair[0] != pair[1]) for pair in truth}
    scale = {size: np.exp(uneven * rng.normal()) for size in family}
    model = {name: MODEL * scale[size] * rng.normal() for name, size in sizes.items()}
    maps = {}
    for a, b in combinations_with_replacement(sizes, 2):
        if a != b:
            pair = PAIR * (scale[sizes[a]] * scale[sizes[b]]) ** 0.5 * rng.normal()
            shape = sizes[a][1] + 1, sizes[b][1] + 1
            value = truth[sizes[a], sizes[b]] + model[a] + model[b] + pair
            maps[a, b] = xr.DataArray(np.full(shape, value), dims=("layer_a", "layer_b"))
    return maps, sizes, truth


def _covers(rng: np.random.Generator, other: int = 3, uneven: float = 0.0) -> Outcome:
    """One pair of sizes, whose second has `other` models."""
    one, two = (32, 4), (64, 4)
    maps, sizes, truth = _maps(rng, FAMILY | {two: other}, uneven)
    line = by_size(maps, sizes).loc[(str(one), str(two))]
    ceilings = [truth[one, one], truth[two, two]] if other > 1 else [truth[one, one]]
    return _outcome(line, truth[one, two] - np.mean(ceilings))


def _kind_covers(rng: np.random.Generator) -> Outcome:
    maps, sizes, truth = _maps(rng, FAMILY)
    pairs = [(a, b) for a, b in combinations_with_replacement(FAMILY, 2) if a[0] == b[0] and a[1] != b[1]]
    true = np.mean([truth[a, b] - (truth[a, a] + truth[b, b]) / 2 for a, b in pairs])
    return _outcome(by_kind(maps, sizes).loc["same width"], true)


def _finds(rng: np.random.Generator, other: int) -> Outcome:
    maps, sizes, _ = _maps(rng, FAMILY | {(64, 4): other}, effect=0.05)
    line = by_size(maps, sizes).loc[(str((32, 4)), str((64, 4)))]
    return Outcome(line.high < 0, (line.high - line.low) / 2)


def _equal_depth_covers(rng: np.random.Generator) -> Outcome:
    """Maps with a known excess at equal relative depth for every pair of sizes, plus what seeds do to it."""
    maps, sizes, truth = _maps(rng, {(w, d): 3 for w in (32, 64) for d in (2, 4, 8)})
    for (a, b), grid in maps.items():
        rows, columns = (np.linspace(0, 1, n) for n in grid.shape)
        same = np.isclose(np.subtract.outer(rows, columns), 0)
        maps[a, b] = grid.copy(data=np.where(same, grid.values, 0.0))
    of = list(dict.fromkeys(sizes.values()))
    true = np.mean([truth[a, b] for a, b in combinations_with_replacement(of, 2) if a != b])
    return _outcome(depth_claims(maps, sizes).loc["equal depth"], true)


def _outcome(line, truth: float) -> Outcome:
    return Outcome(line.low <= truth <= line.high, (line.high - line.low) / 2)


SIMULATIONS = [
    Simulation("by_size, three seeds of both sizes", "coverage", 0.95, 2000, _covers),
    Simulation("by_size, three seeds against one model", "coverage", 0.95, 2000, partial(_covers, other=1)),
    Simulation("by_size, seeds vary unevenly by size", "coverage", 0.95, 2000, partial(_covers, uneven=0.5)),
    Simulation("by_kind, nine sizes of three seeds", "coverage", 0.95, 2000, _kind_covers),
    Simulation("by_size, planted 0.05, three seeds of both", "power", None, 500, partial(_finds, other=3)),
    Simulation("by_size, planted 0.05, three seeds against one", "power", None, 500, partial(_finds, other=1)),
    Simulation("depth_claims, equal depth", "coverage", 0.95, 2000, _equal_depth_covers),
]
