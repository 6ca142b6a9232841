"""Similarity by layer distance within a model, and by relative depth between models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Maps = Mapping[tuple[str, str], "xr.DataArray"]


def decay(maps: Maps) -> float:
    """Spearman correlation of layer distance and similarity within a model, averaged over models.

    Parameters
    ----------
    maps
        (model, model) -> map, as `compare_all` returns. Maps between different models are ignored, and so are models
        with fewer than three layers, which have a single distance.

    Returns
    -------
    float
        Mean correlation in [-1, 1]; negative if distant layers are less similar.

    Raises
    ------
    InputError
        If no model has three layers, or a map is constant.

    Notes
    -----
    A strong correlation also comes from blocks of layers: it does not show that similarity decays smoothly (see
    `find_blocks`). Pairs of layers are not independent, so this correlation has no textbook p-value.

    Examples
    --------
    >>> import xarray as xr
    >>> similarity = 1 - np.abs(np.subtract.outer(range(4), range(4))) / 4
    >>> decay({("a", "a"): xr.DataArray(similarity, dims=("layer_a", "layer_b"))})
    -1.0

    References
    ----------
    Brown et al. 2023, section 5, who state it in words.
    """
    found = [decay_of(result.values, a).item() for (a, b), result in maps.items() if a == b and len(result) > 2]
    if not found:
        raise InputError("decay needs the map with itself of at least one model with three or more layers.")
    return float(np.mean(found))


def decay_of(grids: np.ndarray, model: str) -> np.ndarray:
    """Spearman correlation of layer distance and similarity, for each of (..., layers, layers) of a model."""
    from scipy.stats import rankdata

    upper = np.triu_indices(grids.shape[-1], k=1)
    x, y = rankdata(upper[1] - upper[0]), rankdata(grids[..., upper[0], upper[1]], axis=-1)
    x, y = x - x.mean(), y - y.mean(-1, keepdims=True)
    if not (y != 0).any(-1).all():
        raise InputError(f"decay is undefined: all values of the map of {model} are equal.")
    return (x * y).sum(-1) / np.sqrt((x**2).sum() * (y**2).sum(-1))


def equal_depth(result: xr.DataArray) -> pd.Series:
    """Select the cells of a map at equal relative depth.

    Parameters
    ----------
    result
        A map of all layers of both models, as `compare` returns.

    Returns
    -------
    pandas.Series
        Relative depth in [0, 1] -> value.

    Notes
    -----
    Layer l of a model of depth L and layer m of a model of depth M are at equal relative depth if l / L = m / M. Models
    of depth 4 and 6 share only three such depths, which always include the embedding and the last layer: means over
    few depths weigh these two heavily.

    Examples
    --------
    >>> import xarray as xr
    >>> equal_depth(xr.DataArray(np.arange(15.0).reshape(3, 5), dims=("layer_a", "layer_b"))).to_dict()
    {0.0: 0.0, 0.5: 7.0, 1.0: 14.0}
    """
    import pandas as pd

    rows, columns = np.nonzero(_equally_deep(result.values))
    depth = pd.Index(rows / max(len(result) - 1, 1), name="relative depth")
    return pd.Series(result.values[rows, columns], depth, name=result.name)


def _equally_deep(grids: np.ndarray) -> np.ndarray:
    rows, columns = (np.linspace(0, 1, n) for n in grids.shape[-2:])
    return np.isclose(np.subtract.outer(rows, columns), 0)


def stacked(maps: Maps, replicates: Maps | None) -> dict[tuple[str, str], np.ndarray]:
    """Every map followed by its replicates, (1 + replicates, layers, layers)."""
    if replicates is None:
        return {pair: result.values[None] for pair, result in maps.items()}
    missing = [pair for pair in maps if pair not in replicates]
    if missing:
        raise InputError(f"replicates has no entry for {' and '.join(missing[0])}; expected the pairs of maps.")
    return {pair: np.concatenate([result.values[None], replicates[pair].values]) for pair, result in maps.items()}


def pairs_at_depth(maps: Maps, replicates: Maps | None = None) -> dict[tuple[str, str], dict[float, np.ndarray]]:
    """(model, other model) -> relative depth that both have -> similarity there, of the map and of its replicates."""
    found = {}
    for pair, values in stacked(maps, replicates).items():
        if pair[0] != pair[1]:
            rows, columns = np.nonzero(_equally_deep(values))
            depths = np.round(rows / max(values.shape[1] - 1, 1), 9)
            found[pair] = {float(d): values[:, i, j] for d, i, j in zip(depths, rows, columns, strict=True)}
    return found


def correspondence(maps: Maps) -> float:
    """Mean similarity at equal relative depth minus the mean elsewhere, averaged over pairs of models.

    Parameters
    ----------
    maps
        (model, other model) -> map; maps of a model with itself are ignored.

    Returns
    -------
    float
        Positive if layers at equal relative depth are more similar than others.

    Raises
    ------
    InputError
        If there is no map between different models.

    Notes
    -----
    Cells elsewhere are mostly at very different depths, so smooth decay alone makes this positive. It does not show
    that the most similar layer is the one at equal depth.

    Examples
    --------
    >>> import xarray as xr
    >>> correspondence({("a", "b"): xr.DataArray(np.eye(3), dims=("layer_a", "layer_b"))})
    1.0
    """
    found = [correspondence_of(result.values).item() for (a, b), result in maps.items() if a != b]
    if not found:
        raise InputError("correspondence needs at least one map between two different models.")
    return float(np.mean(found))


def correspondence_of(grids: np.ndarray) -> np.ndarray:
    """Mean at equal relative depth minus the mean elsewhere, for each of (..., layers, layers)."""
    same = _equally_deep(grids)
    return grids[..., same].mean(-1) - grids[..., ~same].mean(-1)


def depth_match_of(grids: np.ndarray) -> np.ndarray:
    """Similarity at equal relative depth minus that at equal absolute depth, for each of (..., layers, other layers).

    Averaged over the interior layers of the shallower model. Where equal relative depth falls between two layers of the
    deeper one, their values are interpolated.
    """
    if grids.shape[-2] > grids.shape[-1]:
        grids = np.swapaxes(grids, -1, -2)
    shallow, deep = grids.shape[-2] - 1, grids.shape[-1] - 1
    layers = np.arange(1, shallow)
    place = layers * deep / shallow
    below = np.floor(place).astype(int)
    share = place - below
    relative = (1 - share) * grids[..., layers, below] + share * grids[..., layers, np.minimum(below + 1, deep)]
    return (relative - grids[..., layers, layers]).mean(-1)
