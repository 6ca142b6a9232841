"""Smooth decay of similarity with the distance between layers: its fit, maps drawn from it, and their best divisions.

Everything here works on many maps at once, (maps, layers, layers): a test needs hundreds, its power tens of thousands.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

RATES = np.linspace(-2, 2, 9)  # linear trend of log step size over depth
BENDS = np.linspace(0, 2, 5)  # quadratic term: larger steps at both ends
AT_ONCE = 25  # maps to fit at once, so that they stay in the cache


class Fit(NamedTuple):
    """Smooth decay fitted to maps.

    Attributes
    ----------
    smooth
        The fitted maps, (maps, layers, layers).
    steps
        Log step sizes, (maps, layers - 1).
    lengths, curves
        Distances of the pairs of layers in ascending order, and the similarity at each, (maps, pairs).
    """

    smooth: np.ndarray
    steps: np.ndarray
    lengths: np.ndarray
    curves: np.ndarray


class SmoothDecay:
    """Fits smooth decay to maps of `n_layers` layers, and evaluates it."""

    def __init__(self, n_layers: int) -> None:
        self.pairs = np.triu_indices(n_layers, 1)
        middle = (np.arange(n_layers - 1) + 0.5) / (n_layers - 1) - 0.5  # centred depth of each step
        self.steps = np.array([rate * middle + bend * 4 * middle**2 for bend in BENDS for rate in RATES])
        lengths = np.array([np.round(self.length(np.exp(steps)), 9) for steps in self.steps])
        self._order = np.argsort(lengths, axis=1, kind="stable")
        self._place = np.argsort(self._order, axis=1)
        self._lengths = np.take_along_axis(lengths, self._order, 1)
        longer = np.diff(self._lengths, axis=1, prepend=-1).ravel() > 0
        self._starts = np.flatnonzero(longer)  # of pairs at one distance, which share one similarity

    def length(self, steps: np.ndarray) -> np.ndarray:
        """Distance between the layers of each pair, with steps scaled to mean 1."""
        place = np.concatenate([[0], np.cumsum(steps / steps.mean())])
        return place[self.pairs[1]] - place[self.pairs[0]]

    def fit(self, maps: np.ndarray) -> Fit:
        """Fit the best of the candidates to each map, by isotonic regression on the distance of the layers."""
        parts = [self._fit(maps[start : start + AT_ONCE]) for start in range(0, len(maps), AT_ONCE)]
        return Fit(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _fit(self, maps: np.ndarray) -> Fit:
        every = np.arange(len(maps))
        values = maps[:, *self.pairs][:, self._order]  # (maps, candidates, pairs)
        starts = (self._order.size * every[:, None] + self._starts).ravel()
        curves = decreasing(values.ravel(), starts, values.shape[-1]).reshape(values.shape)
        best = np.square(values - curves).sum(-1).argmin(1)
        chosen = curves[every, best]
        smooth = np.zeros(maps.shape)
        smooth[:, *self.pairs] = np.take_along_axis(chosen, self._place[best], 1)
        smooth += smooth.swapaxes(1, 2) + np.einsum("mii,ij->mij", maps, np.eye(maps.shape[1]))
        return Fit(smooth, self.steps[best], self._lengths[best], chosen)

    def scores(self, maps: np.ndarray) -> np.ndarray:
        """Score of the best division of each map, (maps,)."""
        return divided(maps - self.fit(maps).smooth)[0]


@dataclass(frozen=True)
class SmoothNull:
    """Random maps of smooth decay: what they are drawn from, and the generator before the first draw.

    Attributes
    ----------
    decay
        Smooth decay for this number of layers.
    steps, lengths, curve
        One line each of a `Fit`.
    noise
        Deviations of maps from their mean, (half-samples, layers, layers).
    n
        Number of maps.
    rng
        The generator; never used itself, so that every call draws the same numbers.
    """

    decay: SmoothDecay
    steps: np.ndarray
    lengths: np.ndarray
    curve: np.ndarray
    noise: np.ndarray
    n: int
    rng: np.random.Generator

    @property
    def least(self) -> float:
        """The smallest p-value that so many maps can give."""
        return 1 / (1 + self.n)

    def drawn(self, irregularity: float) -> tuple[np.ndarray, np.ndarray]:
        """Draw `n` maps as smooth decay with irregular steps, and the noise of one half-sample each, to be added."""
        rng = deepcopy(self.rng)
        decay, noise = np.zeros((2, self.n, *self.noise.shape[1:]))
        for i in range(self.n):
            uneven = np.exp(self.steps + irregularity * rng.normal(size=len(self.steps)))
            noise[i] = self.noise[rng.integers(len(self.noise))]
            decay[i][self.decay.pairs] = np.interp(self.decay.length(uneven), self.lengths, self.curve)
        return decay + decay.swapaxes(1, 2), noise

    def scores(self, irregularity: float) -> np.ndarray:
        """Scores of `n` maps, (n,)."""
        decay, noise = self.drawn(irregularity)
        return self.decay.scores(decay + noise)

    def fitted(self, fit: Fit, at: int, rng: np.random.Generator) -> SmoothNull:
        """The null of another map with the same noise."""
        return replace(self, steps=fit.steps[at], lengths=fit.lengths[at], curve=fit.curves[at], rng=rng)


def decreasing(values: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Isotonic regression, decreasing, of each run of `length` values; those from one start to the next are pooled.

    Neighbours that increase are in one pool of the solution, so that all of them can be pooled at once.
    """
    totals, rows = np.add.reduceat(values, starts), starts // length
    counts = np.diff(starts, append=len(values))
    while True:
        means = totals / counts
        joined = (means[1:] > means[:-1]) & (rows[1:] == rows[:-1])
        if not joined.any():
            return np.repeat(means, counts)
        kept = np.flatnonzero(np.concatenate([[True], ~joined]))
        totals, counts, rows = np.add.reduceat(totals, kept), np.add.reduceat(counts, kept), rows[kept]


def divided(residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide maps into runs whose pairs have the largest sum, (maps,) in units of all pairs, and (maps, layers) starts.

    Place j of the second array holds the start of the last run among the first j + 1 layers.
    """
    maps, n = residuals.shape[:2]
    upper = np.triu(residuals, 1)
    within = upper[:, ::-1].cumsum(1)[:, ::-1].cumsum(2)  # [i, j]: pairs with i <= first < second <= j
    best, start = np.zeros((maps, n + 1)), np.zeros((maps, n), dtype=int)
    for j in range(n):
        gains = best[:, : j + 1] + within[:, : j + 1, j]
        start[:, j] = j - gains[:, ::-1].argmax(1)  # the shortest if tied
        best[:, j + 1] = np.take_along_axis(gains, start[:, j, None], 1)[:, 0]
    return best[:, n] / (n * (n - 1) / 2), start


def starts_of(start: np.ndarray) -> list[int]:
    """First layers of the runs of one map, from its line of `divided`."""
    starts, j = [], len(start)
    while j:
        j = int(start[j - 1])
        starts.append(j)
    return starts[::-1]
