"""Blocks of layers: consecutive layers that are more similar than smooth decay with distance explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations
from repsim_nb.depth.smooth_decay import SmoothDecay, SmoothNull, divided, starts_of
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.arrays import as_matrix
from repsim_nb.system.p_value import at_most
from repsim_nb.uncertainty import Documents
from repsim_nb.uncertainty.grids import of_rows

if TYPE_CHECKING:
    import pandas as pd

MIN_LAYERS = 4  # three layers have no interior boundary to place
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
    null
        What the null is drawn from.
    """

    layers: list[int]
    blocks: list[list[int]]
    score: float
    p_value: float
    null_high: float
    boundaries: pd.DataFrame
    smooth: np.ndarray
    similarity: np.ndarray
    null: SmoothNull = field(repr=False)

    @property
    def spans(self) -> str:
        """The blocks as text, such as "0-2, 3-9"."""
        return ", ".join(f"{b[0]}-{b[-1]}" for b in self.blocks) or "none"

    @property
    def p_text(self) -> str:
        """The p-value as text, such as "p 0.23" or, where no draw of the null reaches the score, "p at most 0.01"."""
        return at_most(self.p_value, self.null.least)

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
        ['p at most 0.01', 'p at most 0.01']
        """
        import pandas as pd

        lines = []
        for irregularity in irregularities:
            check_irregularity(irregularity)
            null = self.null.scores(irregularity)
            p = _p_value(self.score, null)
            lines.append((self.score, float(np.quantile(null, 0.95)), p, at_most(p, self.null.least)))
        index = pd.Index(irregularities, name="irregularity", dtype=float)
        return pd.DataFrame(lines, index=index, columns=["score", "null_high", "p_value", "p"])

    def __repr__(self) -> str:
        return f"Blocks({self.spans}; score {self.score:.3f}, p = {self.p_value:.3g})"


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

    A test that finds no blocks says little unless it would find some: see `block_power`.

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
    halves = np.stack([_map(chosen, xs, half) for half in _halves(documents, n_halves, rng)])
    decay = SmoothDecay(len(layers))
    fit = decay.fit(np.concatenate([similarity[None], halves]))
    scores, places = divided(np.concatenate([similarity[None], halves]) - fit.smooth)
    score, (starts, *found) = float(scores[0]), map(starts_of, places)
    draws = SmoothNull(decay, fit.steps[0], fit.lengths[0], fit.curves[0], halves - halves.mean(0), n_null, rng)
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
        smooth=fit.smooth[0],
        similarity=similarity,
        null=draws,
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
    return float(SmoothDecay(len(values)).scores(values[None])[0])


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
    check_irregularity(irregularity)
    if n_halves < 2 or n_null < 19:
        raise InputError(f"n_halves={n_halves!r}, n_null={n_null!r}; expected at least 2 and 19.")
    return measure


def check_irregularity(irregularity: float) -> None:
    """Refuse an irregularity that is not a number from 0."""
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
