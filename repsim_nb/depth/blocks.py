"""Blocks of layers: consecutive layers that are more similar than smooth decay with distance explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
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

MIN_LAYERS = 4  # three layers have no interior boundary to place
RATES = np.linspace(-2, 2, 9)  # linear trend of log step size over depth
BENDS = np.linspace(0, 2, 5)  # quadratic term: larger steps at both ends
IRREGULARITY = 0.25
IRREGULARITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


@dataclass(frozen=True)
class Blocks:
    """Blocks found in the similarity map of a model with itself.

    Attributes
    ----------
    layers
        The layers compared.
    blocks
        The blocks of two or more layers, as lists of layers, in order.
    score
        Excess similarity over smooth decay of pairs inside blocks, summed and divided by the number of all pairs of
        different layers, in units of the similarity; 0 if there is no block.
    p_value
        p-value of the score under smooth decay, in (0, 1].
    null_high
        The score that 5% of maps with smooth decay reach.
    boundaries
        DataFrame indexed by the first layer after each boundary: stability, the share of half-samples of documents in
        which the boundary is found too.
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
    _null: _Null = field(repr=False)

    @property
    def spans(self) -> str:
        """The blocks as text, such as "0-2, 3-9"."""
        return ", ".join(f"{b[0]}-{b[-1]}" for b in self.blocks) or "none"

    @property
    def p_text(self) -> str:
        """The p-value as text, "at most" where no draw of the null reaches the score."""
        return p_text(self.p_value, self._null.n)

    def over_irregularity(self, irregularities: Sequence[float] = IRREGULARITIES) -> pd.DataFrame:
        """Test the blocks against nulls whose steps are more or less irregular.

        Parameters
        ----------
        irregularities
            Standard deviations of the log step sizes, 0 or more.

        Returns
        -------
        pandas.DataFrame
            Indexed by irregularity: score, null_high (reached by 5% of the draws), p_value, and p, which is its text.

        Raises
        ------
        InputError
            If an irregularity is not a number from 0.

        Notes
        -----
        How irregular the steps of a model without blocks are is not known. A p-value that stays small over the whole
        range does not depend on the answer. All rows use the same random numbers.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> early, late = rng.normal(size=(2, 300, 8))
        >>> layers = dict(enumerate([early, early, early, late, late, late, late]))
        >>> found = find_blocks({k: x + 0.3 * rng.normal(size=x.shape) for k, x in layers.items()}, n_null=99)
        >>> found.over_irregularity([0.1, 0.6]).p.tolist()
        ['at most 0.01', 'at most 0.01']
        """
        import pandas as pd

        lines = []
        for irregularity in irregularities:
            _check_irregularity(irregularity)
            null = self._null.scores(irregularity)
            p = _p_value(self.score, null)
            lines.append((self.score, float(np.quantile(null, 0.95)), p, p_text(p, len(null))))
        index = pd.Index(irregularities, name="irregularity", dtype=float)
        return pd.DataFrame(lines, index=index, columns=["score", "null_high", "p_value", "p"])

    def __repr__(self) -> str:
        return f"Blocks({self.spans}; score {self.score:.3f}, p = {self.p_value:.3g})"


def p_text(p: float, n_null: int) -> str:
    """Write a p-value from `n_null` draws, "at most" where no draw reached the statistic.

    Parameters
    ----------
    p
        The p-value, at least 1 / (n_null + 1).
    n_null
        Number of draws.

    Returns
    -------
    str
        Two significant digits.

    Examples
    --------
    >>> p_text(0.01, 99), p_text(0.02, 99)
    ('at most 0.01', '0.02')
    """
    return f"{'at most ' if p * (n_null + 1) < 1.5 else ''}{p:.2g}"


def find_blocks(
    activations: Mapping[int, Any],
    measure: str | Measure = "cka",
    *,
    layers: Sequence[int] | None = None,
    groups: Any = None,
    irregularity: float = IRREGULARITY,
    n_halves: int = 50,
    n_null: int = 499,
    seed: int = 0,
    **measure_params: Any,
) -> Blocks:
    """Find blocks of layers in a model, assess the stability of their boundaries, and test them against smooth decay.

    Parameters
    ----------
    activations
        Activations of one model, layer -> (n_rows, d), with at least 4 layers.
    measure, measure_params
        A symmetric similarity and its parameters; debiased linear CKA by default.
    layers
        The layers to divide, at least 4; None means all.
    groups
        The document of each row, for plain arrays; activations from `extract` have it.
    irregularity
        Standard deviation of the log step sizes in the null, 0 or more; see Notes.
    n_halves
        Number of half-samples.
    n_null
        Number of maps drawn from the null; no p-value is below 1 / (n_null + 1).
    seed
        Seed for half-samples and null.

    Returns
    -------
    Blocks
        The blocks with their score, p-value and boundary stabilities.

    Raises
    ------
    InputError
        If there are fewer than 4 layers or 8 documents, the measure is not a symmetric similarity, or a setting is out
        of range.

    Notes
    -----
    The p-value is relative to `irregularity`: a model with more irregular steps than the null allows counts as one
    with blocks. Blocks also depend on the measure: a single dominant direction can create one (see
    `comparison.controls.component_share`).

    Under smooth decay the similarity of layers i and j is a decreasing function g of the distance u_j - u_i, where the
    log steps of u are a parabola over depth: steps can grow or shrink, and be larger at both ends. g is the isotonic
    regression of the map on this distance, and the parabola is the best of 45 candidates. Residuals are what the map
    has above this fit. Blocks are the runs of layers whose pairs have the largest sum of residuals, found exactly by
    dynamic programming (modularity with a spatial null model).

    The null draws maps with that smooth decay and irregular (log-normal) steps, and adds the sampling noise over
    documents, estimated from half-samples. Everything is refitted for every draw. Half-samples take a random half of
    the documents without repetition: a bootstrap would repeat documents and bring back the self terms that debiased
    estimators leave out.

    References
    ----------
    Brown et al. 2023, section 5, who find such blocks by eye; Newman 2006 and Expert et al. 2011 (PNAS 108:7663) on
    modularity with a spatial null model.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> early, late = rng.normal(size=(2, 300, 8))
    >>> layers = dict(enumerate([early, early, early, late, late, late, late]))
    >>> find_blocks({k: x + 0.3 * rng.normal(size=x.shape) for k, x in layers.items()}).blocks
    [[0, 1, 2], [3, 4, 5, 6]]
    """
    import pandas as pd

    layers = list(activations if layers is None else layers)
    xs = [as_matrix(activations[layer], f"layer {layer}") for layer in layers]
    documents = _documents(activations, groups, len(xs[0]))
    chosen = _checked(get_measure(measure, **measure_params), layers, documents, irregularity, n_halves, n_null)
    rng = np.random.default_rng(seed)
    similarity = _map(chosen, xs, np.ones(documents.n, dtype=bool))
    decay_model = _SmoothDecay(len(layers))
    smooth, steps, curve = decay_model.fit(similarity)
    score, starts = _partition(similarity - smooth)
    halves = np.stack([_map(chosen, xs, half) for half in _halves(documents, n_halves, rng)])
    found = [_partition(half - decay_model.fit(half)[0])[1] for half in halves]
    draws = _Null(decay_model, steps, curve, halves - halves.mean(0), n_null, rng)
    null = draws.scores(irregularity)
    inner = [s for s in starts if s]
    return Blocks(
        layers=layers,
        blocks=[part for part in (layers[i:j] for i, j in zip(starts, [*starts[1:], None], strict=True)) if part[1:]],
        score=score,
        p_value=_p_value(score, null),
        null_high=float(np.quantile(null, 0.95)),
        boundaries=pd.DataFrame(
            {"stability": [float(np.mean([s in other for other in found])) for s in inner]},
            index=pd.Index([layers[s] for s in inner], name="layer", dtype=int),
        ),
        smooth=smooth,
        similarity=similarity,
        _null=draws,
    )


def block_score(similarity: Any) -> float:
    """The excess over smooth decay of the best division of a map into blocks, without a test.

    Parameters
    ----------
    similarity
        The similarity map of a model with itself, (layers, layers), with at least 4 layers.

    Returns
    -------
    float
        `Blocks.score`: 0 if there is no block.

    Raises
    ------
    InputError
        If the map is not square or has fewer than 4 layers.

    Notes
    -----
    The division is chosen to make the score large, so a map of smooth decay with noise has a score above 0 too.
    Compare scores with each other or with `Blocks.null_high`, never with 0.

    Examples
    --------
    >>> block_score(0.9 ** np.abs(np.subtract.outer(np.arange(6), np.arange(6))))
    0.0
    """
    values = np.asarray(similarity, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < MIN_LAYERS:
        raise InputError(f"A map of shape {values.shape} has no blocks; expected a square of at least {MIN_LAYERS}.")
    return _partition(values - _SmoothDecay(len(values)).fit(values)[0])[0]


def _p_value(score: float, null: np.ndarray) -> float:
    return float((1 + (null >= score).sum()) / (1 + len(null)))


def _documents(activations: Mapping[int, Any], groups: Any, n: int) -> Documents:
    if groups is None and isinstance(activations, Activations):
        groups = activations.rows["document"].to_numpy()
    return Documents(groups, n)


def _checked(
    measure: Measure, layers: list[int], documents: Documents, irregularity: float, n_halves: int, n_null: int
) -> Measure:
    if len(layers) < MIN_LAYERS:
        raise InputError(f"Blocks need at least {MIN_LAYERS} layers, got {len(layers)}.")
    if len(documents) < 8:
        raise InputError(f"Half-samples need at least 8 documents, got {len(documents)}.")
    if measure.direction != "similarity" or not measure.symmetric:
        raise InputError(f"Blocks need a symmetric similarity such as cka, got {measure.name}.")
    _check_irregularity(irregularity)
    if n_halves < 2 or n_null < 19:
        raise InputError(f"n_halves={n_halves!r}, n_null={n_null!r}; expected at least 2 and 19.")
    return measure


def _check_irregularity(irregularity: float) -> None:
    if not irregularity >= 0:
        raise InputError(f"irregularity={irregularity!r}; expected a number, 0 or more.")


def _map(measure: Measure, xs: list[Any], kept: np.ndarray) -> np.ndarray:
    of_kept = measure.configured(**of_rows(measure.params, kept))
    prepared = [of_kept.prepare(x[kept]) for x in xs]
    return of_kept.grid(prepared, prepared)


def _halves(documents: Documents, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Row masks of random halves of the documents, bool (n_rows,) each."""
    for _ in range(count):
        chosen = np.zeros(len(documents), dtype=bool)
        chosen[rng.permutation(len(documents))[: len(documents) // 2]] = True
        yield chosen[documents.codes]


class _SmoothDecay:
    """Smooth decay over the distance between layers: fitting and random draws."""

    def __init__(self, n_layers: int) -> None:
        self.pairs = np.triu_indices(n_layers, 1)
        middle = (np.arange(n_layers - 1) + 0.5) / (n_layers - 1) - 0.5  # centred depth of each step
        self.steps = [rate * middle + bend * 4 * middle**2 for bend in BENDS for rate in RATES]  # log step sizes
        lengths = [np.round(self._length(np.exp(steps)), 9) for steps in self.steps]
        self.lengths = [np.unique(length, return_inverse=True, return_counts=True) for length in lengths]

    def _length(self, steps: np.ndarray) -> np.ndarray:
        """Distance between the layers of each pair, with steps scaled to mean 1."""
        place = np.concatenate([[0], np.cumsum(steps / steps.mean())])
        return place[self.pairs[1]] - place[self.pairs[0]]

    def fit(self, similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Fit smooth decay to a map: the fitted map, its log step sizes, and (distance, similarity) on its curve."""
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
        """Score of a random map with smooth decay plus the noise of one half-sample."""
        uneven = np.exp(steps + irregularity * rng.normal(size=len(steps)))
        similarity = noise[rng.integers(len(noise))].copy()
        similarity[self.pairs] += np.interp(self._length(uneven), *curve)
        similarity.T[self.pairs] = similarity[self.pairs]
        return _partition(similarity - self.fit(similarity)[0])[0]


@dataclass(frozen=True)
class _Null:
    """Random maps of smooth decay: what they are drawn from, and the state of the generator before the first draw."""

    decay: _SmoothDecay
    steps: np.ndarray
    curve: tuple[np.ndarray, np.ndarray]
    noise: np.ndarray
    n: int
    rng: np.random.Generator

    def scores(self, irregularity: float) -> np.ndarray:
        """Scores of `n` maps, (n,). The same random numbers in every call."""
        rng = deepcopy(self.rng)
        return np.array([self.decay.draw(self.steps, self.curve, irregularity, self.noise, rng) for _ in range(self.n)])


def _partition(residual: np.ndarray) -> tuple[float, list[int]]:
    """The partition into runs whose pairs have the largest sum: that sum over the number of pairs, and the starts."""
    n = len(residual)
    upper = np.triu(residual, 1)
    within = upper[::-1].cumsum(0)[::-1].cumsum(1)  # [i, j]: pairs with i <= first < second <= j
    best = np.zeros(n + 1)
    start = np.zeros(n + 1, dtype=int)
    for j in range(n):
        gains = best[: j + 1] + within[: j + 1, j]
        start[j + 1] = j - int(np.argmax(gains[::-1]))  # the shortest if tied
        best[j + 1] = gains[start[j + 1]]
    starts, j = [], n
    while j:
        j = int(start[j])
        starts.append(j)
    return float(best[n] / (n * (n - 1) / 2)), starts[::-1]
