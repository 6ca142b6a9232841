"""Layers by their distance within a model, and by their relative depth in two models."""

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
    """Spearman correlation of layer distance and similarity within a model, mean over models.

    Parameters
    ----------
    maps
        (model, model) -> its map, as `compare_all` returns; maps between different models are passed over, and models
        with fewer than three positions, which have one distance only.

    Returns
    -------
    float
        In [-1, 1]; negative when distant layers are less alike.

    Raises
    ------
    InputError
        No model with three positions, or a constant map.

    References
    ----------
    Brown et al. 2023, section 5 (there in words).
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
        raise InputError("decay needs a model of at least three positions, with itself.")
    return float(np.mean(found))


def equal_depth(result: xr.DataArray) -> pd.Series:
    """The cells of a map at equal relative depth: relative depth in [0, 1] -> value.

    Layer l of a model of depth L and layer m of one of depth M are at equal relative depth when l / L = m / M; models
    of depth 4 and 6 share three such places, models of one depth all.

    Parameters
    ----------
    result
        A map of all layers of both models, as `compare` returns.

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
    """Mean similarity at equal relative depth (see `equal_depth`) less the mean elsewhere, mean over pairs of models.

    Parameters
    ----------
    maps
        (model, other model) -> their map; maps of a model with itself are passed over.

    Returns
    -------
    float
        Positive when layers at equal relative depth are more alike than others.

    Raises
    ------
    InputError
        No map between different models.
    """
    found = []
    for (a, b), result in maps.items():
        if a != b:
            same = _equally_deep(result)
            found.append(result.values[same].mean() - result.values[~same].mean())
    if not found:
        raise InputError("correspondence needs at least one map between two different models.")
    return float(np.mean(found))
