"""Whether the layers that converge early are those of high rank: agreement over layers, with its test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from repsim_nb.depth.convergence import convergence, similarity_of
from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


class Agreement(NamedTuple):
    """How far two properties of layers agree.

    Attributes
    ----------
    matthews
        Matthews correlation, from -1 to 1; None if it is undefined, since all layers or none have a property.
    p_value
        Share of all permutations of the layers with at least this correlation; 1 if it is undefined.
    least
        The smallest p-value that so many layers with these properties can give.
    layers, first, second
        Number of layers, and of those with the first and with the second property.
    state
        "defined", or why there is no correlation.
    """

    matthews: float | None
    p_value: float
    least: float
    layers: int
    first: int
    second: int
    state: str


def layer_agreement(first: Mapping[int, bool], second: Mapping[int, bool]) -> Agreement:
    """Compute the Matthews correlation of two properties of layers, with its exact permutation test.

    Parameters
    ----------
    first, second
        Layer -> whether it has the property, for the same layers.

    Returns
    -------
    Agreement
        The correlation, its one-sided p-value over all permutations of layers, and the counts behind it.

    Raises
    ------
    InputError
        If the layers differ, or there are none.

    Notes
    -----
    A model has few layers: of six, three with each property, perfect agreement has p = 0.05; with two or four that
    have a property p cannot reach it. Look at `least` first. The test takes layers as exchangeable; both properties
    usually follow depth, and then they agree without having to do with each other.

    Examples
    --------
    >>> early = {1: True, 2: True, 3: True, 4: False, 5: False, 6: False}
    >>> found = layer_agreement(early, early)
    >>> found.matthews, round(found.p_value, 3), round(found.least, 3)
    (1.0, 0.05, 0.05)
    >>> layer_agreement(early, dict.fromkeys(early, True)).state
    'all layers have the second property'

    References
    ----------
    Matthews 1975; the test is Fisher's, one-sided.
    """
    from scipy.stats import hypergeom

    if not first or set(first) != set(second):
        raise InputError(f"first is about the layers {list(first)}, second about {list(second)}; expected the same.")
    a, b = (np.array([bool(each[layer]) for layer in first]) for each in (first, second))
    n, ones, others, both = len(a), int(a.sum()), int(b.sum()), int((a & b).sum())
    for count, which in ((ones, "first"), (others, "second")):
        if count in (0, n):
            why = f"{'all layers have' if count else 'no layer has'} the {which} property"
            return Agreement(None, 1.0, 1.0, n, ones, others, why)
    spread = np.sqrt(float(ones * (n - ones) * others * (n - others)))
    chance = hypergeom(n, ones, others)
    p, least = float(chance.sf(both - 1)), float(chance.pmf(min(ones, others)))
    return Agreement(float((both * n - ones * others) / spread), p, least, n, ones, others, "defined")


def agreement_with_rank(
    course: xr.Dataset,
    ranks: Mapping[int, float],
    *,
    level: float = 0.45,
    within: float = 0.1,
    threshold: float = 0.95,
    end: int | None = None,
) -> Agreement:
    """Compute whether the layers that converge early are those of high rank at the end.

    Parameters
    ----------
    course
        Result of `over_training` against the final model.
    ranks
        Layer -> a rank at the end of training, such as the proportional effective rank of its weights.
    level, within
        A layer converges early if its similarity to the end reaches `level` at a checkpoint within this share of
        training.
    threshold
        A rank of at least this is high.
    end
        The last step of training; None is the last step of the course.

    Returns
    -------
    Agreement
        Of "converges early" (first) with "high rank" (second) over the layers that `ranks` names.

    Raises
    ------
    InputError
        If the course lacks a layer of `ranks`, a rank is no number, or there is no checkpoint early enough to tell.

    Notes
    -----
    The defaults are the paper's. Its table has no test, and correlations near 1 over a handful of layers; see
    `layer_agreement`.

    References
    ----------
    Diehl Martinez, Lesci and Buttery 2024, arXiv 2410.11451.

    Examples
    --------
    >>> import xarray as xr
    >>> about = {"direction": "similarity", "lower_bound": 0.0, "upper_bound": 1.0}
    >>> values = [[0.1, 0.2, 0.1], [0.6, 0.5, 0.2], [1.0, 1.0, 1.0]]
    >>> course = xr.Dataset(
    ...     {"similarity": (("step", "layer"), values, about)}, {"step": [0, 100, 1000], "layer": [1, 2, 3]}
    ... )
    >>> agreement_with_rank(course, {1: 0.97, 2: 0.96, 3: 0.8}).matthews
    1.0
    """
    if not 0 < within <= 1:
        raise InputError(f"within={within!r}; expected a share of training above 0 and at most 1.")
    steps = similarity_of(course).step.values
    latest = within * (int(steps[-1]) if end is None else end)
    if not ((steps > 0) & (steps <= latest)).any():
        raise InputError(f"No checkpoint lies within the first {within:g} of training, up to step {latest:g}.")
    missing = [layer for layer in ranks if layer not in course.layer.values]
    if missing or not np.isfinite(list(ranks.values())).all():
        what = f"the course lacks layer {missing[0]!r}" if missing else "not every rank is a number"
        raise InputError(f"ranks={dict(ranks)!r}: {what}; the layers of the course are {course.layer.values.tolist()}.")
    at = convergence(course, level).step
    early = {layer: bool(at[layer] <= latest) for layer in ranks}
    return layer_agreement(early, {layer: rank >= threshold for layer, rank in ranks.items()})
