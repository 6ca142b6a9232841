"""Tests of the measures themselves: what they rank, what unrelated data gives, what they do not notice."""

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
    """Share of layer triples that a map of a model with itself ranks by their order.

    For layers i < j < k, i and j should be more alike than i and k, and so should j and k; each is one comparison, and
    a tie is half in order.

    Args:
        result: a square map of one model against itself, dims (layer_a, layer_b).

    Returns:
        In [0, 1]; 1 = every comparison in order; 0.5 is what chance gives, or a map of one value.

    Raises:
        InputError: not square, fewer than three layers, or a cell without a value.

    Reference: Klabunde et al. 2025 (ReSi), the layer monotonicity test.

    >>> import numpy as np, xarray as xr
    >>> layers = np.arange(4)
    >>> distance = xr.DataArray(abs(layers[:, None] - layers), dims=("layer_a", "layer_b"),
    ...                         attrs={"direction": "dissimilarity"})
    >>> monotonicity(distance)
    1.0
    """
    values = np.asarray(result, dtype=float)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < 3:
        raise InputError(f"monotonicity needs a square map of three layers or more; received shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InputError("monotonicity needs a value in every cell; some are NaN or infinite.")
    alike = values if result.attrs.get("direction") == "similarity" else -values
    layers = range(len(values))
    triples = [(i, j, k) for i in layers for j in layers[i + 1 :] for k in layers[j + 1 :]]
    gaps = np.array([near - alike[i, k] for i, j, k in triples for near in (alike[i, j], alike[j, k])])
    return float(np.mean((1 + np.sign(gaps)) / 2))


def agreement(results: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Rank correlation (Spearman) between measures over the cells of one grid, turned so that more alike is higher.

    Args:
        results: measure name -> its map; all of one shape.

    Returns:
        Square DataFrame over measure names, in [-1, 1].

    Raises:
        InputError: fewer than two maps, or maps of different shapes.
    """
    import pandas as pd
    from scipy.stats import rankdata

    shapes = {r.shape for r in results.values()}
    if len(results) < 2 or len(shapes) > 1:
        raise InputError(f"agreement needs two or more maps of one shape; received {len(results)} of shapes {shapes}.")
    ranks = np.array(
        [rankdata(r.values * (1 if r.attrs.get("direction") == "similarity" else -1)) for r in results.values()]
    )
    constant = [name for name, row in zip(results, ranks, strict=True) if not row.std()]
    if constant:
        raise InputError(f"{constant[0]} gives one value in all cells: there is no order to correlate. Leave it out.")
    return pd.DataFrame(np.corrcoef(ranks), index=list(results), columns=list(results))


def noise_floor(
    measure: str | Measure, rows: Iterable[int], features: int, repeats: int = 5, seed: int = 0
) -> pd.Series:
    """What a measure gives for unrelated data: independent standard normal x and y, (n, features) each.

    Args:
        rows: the values of n to try.
        features: width of both sides.
        repeats: draws per n; their mean is returned.

    Returns:
        Series of mean values, index n.
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

    Unrelated is x against y with its rows shuffled; the same is x against itself. Puts measures of different
    direction and scale on one axis.

    Args:
        x, y: (n, d_x) and (n, d_y).
        seed: of the shuffle.
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
    """How alike x stays to itself when its principal components of least variance are deleted.

    Args:
        x: (n, d).
        keep: shares of the components to keep, the largest first.

    Returns:
        Series of alikeness (1 = nothing noticed, 0 = as good as unrelated), index share of the components deleted.

    Reference: Ding et al. 2021, section 4 (sensitivity to the deletion of principal components).
    """
    import pandas as pd

    x = np.asarray(x, dtype=float)
    u, s, vh = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    values = {}
    for share in keep:
        k = max(1, round(share * len(s)))
        values[1 - k / len(s)] = alikeness(measure, x, u[:, :k] * s[:k] @ vh[:k], seed)
    return pd.Series(values, name=get_measure(measure).name).rename_axis("deleted")
