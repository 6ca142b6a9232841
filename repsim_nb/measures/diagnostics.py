"""Tests of the measures themselves: how they rank layers, what unrelated data gives, and what they do not notice."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.measures import DegenerateWarning, Measure, get_measure

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from numpy.typing import ArrayLike


def monotonicity(result: xr.DataArray) -> float:
    """Share of layer triples that a map of a model with itself ranks in the order of the layers.

    Parameters
    ----------
    result
        A square map of one model against itself, dims (layer_a, layer_b).

    Returns
    -------
    float
        In [0, 1]; 1 = every comparison in order, 0.5 = chance, or a map of one value.

    Raises
    ------
    InputError
        The map is not square, has fewer than three layers, or has a cell without a value.

    Notes
    -----
    For layers i < j < k, i and j should be more alike than i and k, and so should j and k. Each is one comparison, and
    a tie counts half.

    How the number misleads: it tests an assumption, that layers drift steadily apart, which a model need not fulfil.
    The triples share layers, so they are far from independent: with few layers, a value well above 0.5 can be chance.

    References
    ----------
    .. [1] Klabunde et al. (2025). ReSi: a comprehensive benchmark for representational similarity measures. ICLR. The
       layer monotonicity test.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> layers = np.arange(4)
    >>> distance = xr.DataArray(abs(layers[:, None] - layers), dims=("layer_a", "layer_b"),
    ...                         attrs={"direction": "dissimilarity"})
    >>> monotonicity(distance)
    1.0
    """
    values = np.asarray(result, dtype=float)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < 3:
        raise InputError(f"monotonicity needs a square map of at least three layers, got shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InputError("monotonicity needs a value in every cell; some are NaN or infinite.")
    similarity = values if result.attrs.get("direction") == "similarity" else -values
    layers = range(len(values))
    triples = [(i, j, k) for i in layers for j in layers[i + 1 :] for k in layers[j + 1 :]]
    gaps = np.array([near - similarity[i, k] for i, j, k in triples for near in (similarity[i, j], similarity[j, k])])
    return float(np.mean((1 + np.sign(gaps)) / 2))


def agreement(results: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Rank correlation (Spearman) between measures over the cells of one grid.

    Parameters
    ----------
    results
        Measure name -> its map; all of one shape.

    Returns
    -------
    pandas.DataFrame
        Square, over measure names, in [-1, 1]. Dissimilarities are turned around, so that two measures that agree
        correlate positively.

    Raises
    ------
    InputError
        Fewer than two maps, maps of different shapes, or a map with one value in all cells.

    Notes
    -----
    How the number misleads: neighbouring cells are alike under any measure, so the common trend along the diagonal
    makes most measures agree. A high value does not mean that two measures agree on anything else.
    """
    import pandas as pd
    from scipy.stats import rankdata

    shapes = {r.shape for r in results.values()}
    if len(results) < 2 or len(shapes) > 1:
        raise InputError(f"agreement needs at least two maps of one shape, got {len(results)} of shapes {shapes}.")
    ranks = np.array(
        [rankdata(r.values * (1 if r.attrs.get("direction") == "similarity" else -1)) for r in results.values()]
    )
    constant = [name for name, row in zip(results, ranks, strict=True) if not row.std()]
    if constant:
        raise InputError(
            f"{constant[0]} has the same value in all cells, so there is no order to correlate. Leave it out."
        )
    return pd.DataFrame(np.corrcoef(ranks), index=list(results), columns=list(results))


def noise_floor(
    measure: str | Measure, rows: Iterable[int], features: int, repeats: int = 5, seed: int = 0
) -> pd.Series:
    """What a measure gives for unrelated data: independent standard normal x and y, (n, features) each.

    Parameters
    ----------
    measure
        A name, or a configured measure.
    rows
        The values of n to try.
    features
        Width of both sides.
    repeats
        Draws per n; their mean is returned.
    seed
        Seed of the draws.

    Returns
    -------
    pandas.Series
        Mean values, index n.

    Raises
    ------
    InputError
        An unknown measure, or too few rows for it.

    Notes
    -----
    How the number misleads: real activations have few large directions and rows that come in documents. Their floor is
    usually another, so use the null of `compare` for a verdict on real data.
    """
    import pandas as pd

    chosen = get_measure(measure)
    rng = np.random.default_rng(seed)
    means: dict[int, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateWarning)  # few rows are the point here
        for n in rows:
            draws = (rng.normal(size=(2, n, features)) for _ in range(repeats))
            means[n] = float(np.mean([chosen(x, y) for x, y in draws]))
    return pd.Series(means, name=chosen.name).rename_axis("n")


def alikeness(measure: str | Measure, x: ArrayLike, y: ArrayLike, seed: int = 0) -> float:
    """Where a pair lies between unrelated (0) and the same (1), for any measure.

    Parameters
    ----------
    measure
        A name, or a configured measure.
    x, y
        (n, d_x) and (n, d_y).
    seed
        Seed of the shuffle.

    Returns
    -------
    float
        0 = as far as x from y with its rows shuffled, 1 = as close as x to itself. It may lie outside [0, 1].

    Raises
    ------
    InputError
        An unknown measure, or data that it refuses.

    Notes
    -----
    This puts measures of different direction and scale on one axis.

    How the number misleads: it rests on a single shuffle, whose noise is in the value. Measures that ignore the order
    of rows, such as `imd`, give 0 for any pair.
    """
    chosen = get_measure(measure)
    x, y = np.asarray(x), np.asarray(y)
    order = np.random.default_rng(seed).permutation(len(y))
    unrelated, same = chosen(x, y[order]), chosen(x, x)
    return float((chosen(x, y) - unrelated) / (same - unrelated))


def unseen_components(
    measure: str | Measure,
    x: ArrayLike,
    keep: Sequence[float] = (0.9, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05),
    seed: int = 0,
) -> pd.Series:
    """How similar x stays to itself when its principal components of least variance are deleted.

    Parameters
    ----------
    measure
        A name, or a configured measure.
    x
        (n, d).
    keep
        Shares of the components to keep, the largest first.
    seed
        Seed of the shuffle in `alikeness`.

    Returns
    -------
    pandas.Series
        What `alikeness` gives (1 = nothing noticed, 0 = no better than unrelated), index share of the components
        deleted.

    Raises
    ------
    InputError
        An unknown measure, or data that it refuses.

    Notes
    -----
    How the number misleads: components are deleted by variance, not by what they are good for; a small one may matter
    most to the model. `cca` notices nothing by construction: it averages over the components that are left.

    References
    ----------
    .. [1] Ding, Denain and Steinhardt (2021). Grounding representation similarity through statistical testing. NeurIPS.
       Section 4 (sensitivity to the deletion of principal components).
    """
    import pandas as pd

    x = np.asarray(x, dtype=float)
    u, s, vh = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    values = {}
    for share in keep:
        k = max(1, round(share * len(s)))
        values[1 - k / len(s)] = alikeness(measure, x, u[:, :k] * s[:k] @ vh[:k], seed)
    return pd.Series(values, name=get_measure(measure).name).rename_axis("deleted")
