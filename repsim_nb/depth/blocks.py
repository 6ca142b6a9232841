"""Blocks of layers: stretches of depth that are more alike than smooth decay with distance explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.arrays import as_matrix
from repsim_nb.uncertainty import Documents
from repsim_nb.uncertainty.grids import of_rows

if TYPE_CHECKING:
    import pandas as pd

LEAST = 4  # layers: three have a middle one only
RATES = np.linspace(-2, 2, 9)  # of the logarithm of steps from the first to the last, as a straight line
BENDS = np.linspace(0, 2, 5)  # of the same from the middle to both ends, as a parabola
IRREGULARITY = 0.25


@dataclass(frozen=True)
class Blocks:
    """Blocks found in the map of a model with itself.

    Attributes
    ----------
    layers
        The positions compared.
    blocks
        The blocks of two layers or more, as lists of layers, in order.
    score
        Mean over all pairs of different layers of what pairs inside blocks have above smooth decay, in units of the
        similarity; 0 where there is no block.
    p_value
        Of the score under smooth decay, in (0, 1].
    null_high
        The score that 5% of maps with smooth decay reach.
    boundaries
        DataFrame by the layer a boundary is in front of: share of half-samples of documents in which it is found as
        well (its stability, 0 to 1).
    smooth
        The smooth decay fitted to the map, (layers, layers).
    similarity
        The map, (layers, layers).
    """

    layers: list[int]
    blocks: list[list[int]]
    score: float
    p_value: float
    null_high: float
    boundaries: pd.DataFrame
    smooth: np.ndarray
    similarity: np.ndarray

    def __repr__(self) -> str:
        spans = ", ".join(f"{b[0]}-{b[-1]}" for b in self.blocks) or "none"
        return f"Blocks({spans}; score {self.score:.3f}, p = {self.p_value:.3g})"


def find_blocks(
    activations: Mapping[int, Any],
    measure: str | Measure = "cka",
    *,
    groups: Any = None,
    irregularity: float = IRREGULARITY,
    n_halves: int = 50,
    n_null: int = 499,
    seed: int = 0,
    **measure_params: Any,
) -> Blocks:
    """Find blocks of layers in a model, say how firm their boundaries are, and test them against smooth decay.

    Smooth decay: the similarity of layers i and j is a decreasing function g of the way u_j - u_i between them, where
    the logarithm of the steps of u is a parabola over depth: steps may grow or shrink, and be longer at both ends than
    in the middle, as where the embedding and the last layer stand apart. g is the isotonic regression of the map on
    that way, the parabola the one of 45 that fits best. What the map has above it is the residual; the blocks are the
    stretches of neighbouring layers whose pairs have the largest sum of residuals, found exactly by dynamic programming
    (modularity against a null that knows about distance, as for communities in space).

    The null draws maps of that smooth decay whose steps are irregular as well (log-normal, `irregularity` being the
    standard deviation of their logarithm, so that steps of one model differ by a quarter or so without being called a
    boundary), and adds the noise of the choice of documents, as half-samples show it. Everything is fitted anew to
    every draw. A model whose steps are more irregular than that is one with blocks: that is what the word means here.

    Half-samples take half of the documents at random, each once: a bootstrap that repeats documents would bring back
    the self terms that debiased estimators leave out. They vary about the whole as the whole varies.

    Parameters
    ----------
    activations
        Of one model, layer -> (n_rows, d), at least 4 layers.
    measure, measure_params
        A symmetric similarity; linear debiased CKA by default.
    groups
        The document of each row, for plain arrays; activations from `extract` know theirs.
    irregularity
        See above, 0 or more.
    n_halves
        Half-samples.
    n_null
        Draws of smooth decay; no p-value is below 1 / (n_null + 1).
    seed
        Seed of both.

    Raises
    ------
    InputError
        Fewer than 4 layers or 8 documents, a measure that is no symmetric similarity, a setting out of range.

    References
    ----------
    the blocks are those of Brown et al. 2023, section 5, there seen by eye; Newman 2006 and Expert et al. 2011 (PNAS
    108:7663) on modularity with a spatial null.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> early, late = rng.normal(size=(2, 300, 8))
    >>> layers = dict(enumerate([early, early, early, late, late, late, late]))
    >>> find_blocks({k: x + 0.3 * rng.normal(size=x.shape) for k, x in layers.items()}).blocks
    [[0, 1, 2], [3, 4, 5, 6]]
    """
    import pandas as pd

    layers = list(activations)
    xs = [as_matrix(x, f"layer {layer}") for layer, x in activations.items()]
    documents = _documents(activations, groups, len(xs[0]))
    chosen = _checked(get_measure(measure, **measure_params), layers, documents, irregularity, n_halves, n_null)
    rng = np.random.default_rng(seed)
    similarity = _map(chosen, xs, np.ones(documents.n, dtype=bool))
    way = _Way(len(layers))
    smooth, steps, curve = way.fit(similarity)
    score, starts = _partition(similarity - smooth)
    halves = np.stack([_map(chosen, xs, half) for half in _halves(documents, n_halves, rng)])
    found = [_partition(half - way.fit(half)[0])[1] for half in halves]
    noise = halves - halves.mean(0)
    null = np.array([way.draw(steps, curve, irregularity, noise, rng) for _ in range(n_null)])
    inner = [s for s in starts if s]
    return Blocks(
        layers=layers,
        blocks=[part for part in (layers[i:j] for i, j in zip(starts, [*starts[1:], None], strict=True)) if part[1:]],
        score=score,
        p_value=float((1 + (null >= score).sum()) / (1 + n_null)),
        null_high=float(np.quantile(null, 0.95)),
        boundaries=pd.DataFrame(
            {"stability": [float(np.mean([s in other for other in found])) for s in inner]},
            index=pd.Index([layers[s] for s in inner], name="layer", dtype=int),
        ),
        smooth=smooth,
        similarity=similarity,
    )


def _documents(activations: Mapping[int, Any], groups: Any, n: int) -> Documents:
    if groups is None and isinstance(activations, Activations):
        groups = activations.rows["document"].to_numpy()
    return Documents(groups, n)


def _checked(
    measure: Measure, layers: list[int], documents: Documents, irregularity: float, n_halves: int, n_null: int
) -> Measure:
    if len(layers) < LEAST:
        raise InputError(f"Blocks need at least {LEAST} layers; received {len(layers)}.")
    if len(documents) < 8:
        raise InputError(f"Half-samples need at least 8 documents; there are {len(documents)}.")
    if measure.direction != "similarity" or not measure.symmetric:
        raise InputError(f"Blocks are of a symmetric similarity such as cka; received {measure.name}.")
    if not irregularity >= 0 or n_halves < 2 or n_null < 19:
        raise InputError(
            f"irregularity={irregularity!r}, n_halves={n_halves!r}, n_null={n_null!r}; expected at least 0, 2 and 19."
        )
    return measure


def _map(measure: Measure, xs: list[Any], kept: np.ndarray) -> np.ndarray:
    of_kept = measure.configured(**of_rows(measure.params, kept))
    prepared = [of_kept.prepare(x[kept]) for x in xs]
    return of_kept.grid(prepared, prepared)


def _halves(documents: Documents, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows of random halves of the documents, (n_rows,) of bool each."""
    for _ in range(count):
        chosen = np.zeros(len(documents), dtype=bool)
        chosen[rng.permutation(len(documents))[: len(documents) // 2]] = True
        yield chosen[documents.codes]


class _Way:
    """Smooth decay over the way between layers: fitted, and drawn at random."""

    def __init__(self, n_layers: int) -> None:
        self.pairs = np.triu_indices(n_layers, 1)
        middle = (np.arange(n_layers - 1) + 0.5) / (n_layers - 1) - 0.5  # of each step, over depth
        self.steps = [rate * middle + bend * 4 * middle**2 for bend in BENDS for rate in RATES]  # their logarithms
        lengths = [np.round(self._length(np.exp(steps)), 9) for steps in self.steps]
        self.lengths = [np.unique(length, return_inverse=True, return_counts=True) for length in lengths]

    def _length(self, steps: np.ndarray) -> np.ndarray:
        """Way between the layers of each pair, when all steps together are as long as there are steps."""
        place = np.concatenate([[0], np.cumsum(steps / steps.mean())])
        return place[self.pairs[1]] - place[self.pairs[0]]

    def fit(self, similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """The smooth decay nearest to a map: as a map, the logarithms of its steps, (way, similarity) on its curve."""
        from scipy.optimize import isotonic_regression

        values = similarity[self.pairs]
        curves = [
            isotonic_regression(np.bincount(place, values) / counts, weights=counts, increasing=False).x
            for _, place, counts in self.lengths
        ]
        fitted = [curve[place] for curve, (_, place, _) in zip(curves, self.lengths, strict=True)]
        best = int(np.argmin([np.square(values - f).sum() for f in fitted]))
        smooth = np.diag(np.diag(similarity)).astype(np.float64)
        smooth[self.pairs] = smooth.T[self.pairs] = fitted[best]
        return smooth, self.steps[best], (self.lengths[best][0], curves[best])

    def draw(
        self,
        steps: np.ndarray,
        curve: tuple[np.ndarray, np.ndarray],
        irregularity: float,
        noise: np.ndarray,
        rng: np.random.Generator,
    ) -> float:
        """Score of a random map of smooth decay, with the noise of one half-sample."""
        uneven = np.exp(steps + irregularity * rng.normal(size=len(steps)))
        similarity = noise[rng.integers(len(noise))].copy()
        similarity[self.pairs] += np.interp(self._length(uneven), *curve)
        similarity.T[self.pairs] = similarity[self.pairs]
        return _partition(similarity - self.fit(similarity)[0])[0]


def _partition(residual: np.ndarray) -> tuple[float, list[int]]:
    """The cut into stretches whose pairs have the largest sum: that sum over the number of pairs, and the starts."""
    n = len(residual)
    upper = np.triu(residual, 1)
    within = upper[::-1].cumsum(0)[::-1].cumsum(1)  # [i, j]: pairs with i <= first < second <= j
    best = np.zeros(n + 1)
    start = np.zeros(n + 1, dtype=int)
    for j in range(n):
        gains = best[: j + 1] + within[: j + 1, j]
        start[j + 1] = j - int(np.argmax(gains[::-1]))  # of equals the shortest
        best[j + 1] = gains[start[j + 1]]
    starts, j = [], n
    while j:
        j = int(start[j])
        starts.append(j)
    return float(best[n] / (n * (n - 1) / 2)), starts[::-1]
