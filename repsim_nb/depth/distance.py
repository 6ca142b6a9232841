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
    from scipy.stats import rankdata

    found = []
    for (a, b), result in maps.items():
        if a == b and len(result) > 2:
            upper = np.triu_indices(len(result), k=1)
            x, y = rankdata(upper[1] - upper[0]), rankdata(result.values[upper])
            if not y.std():
                raise InputError(f"decay is undefined: all values of the map of {a} are equal.")
            found.append(np.corrcoef(x, y)[0, 1])
    if not found:
        raise InputError("decay needs the map with itself of at least one model with three or more layers.")
    return float(np.mean(found))


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

    rows, columns = np.nonzero(_equally_deep(result))
    depth = pd.Index(rows / max(len(result) - 1, 1), name="relative depth")
    return pd.Series(result.values[rows, columns], depth, name=result.name)


def _equally_deep(result: xr.DataArray) -> np.ndarray:
    rows, columns = (np.linspace(0, 1, n) for n in result.shape)
    return np.isclose(np.subtract.outer(rows, columns), 0)


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
    found = []
    for (a, b), result in maps.items():
        if a != b:
            same = _equally_deep(result)
            found.append(result.values[same].mean() - result.values[~same].mean())
    if not found:
        raise InputError("correspondence needs at least one map between two different models.")
    return float(np.mean(found))
