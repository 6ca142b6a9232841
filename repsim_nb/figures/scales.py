"""What a comparison's values mean on paper, and which of them mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.figures.words import plain

if TYPE_CHECKING:
    import xarray as xr

LEVEL = 0.05  # a cell with a larger p-value does not differ from its null


def check(result: xr.DataArray, figure: str) -> None:
    """Raise an InputError for what is no comparison or cannot be drawn."""
    if tuple(getattr(result, "dims", ())) != ("layer_a", "layer_b"):
        raise InputError(
            f"{figure} draws what compare returned, dims ('layer_a', 'layer_b'); "
            f"received {type(result).__name__} with dims {tuple(getattr(result, 'dims', ()))}."
        )
    if not np.isfinite(result.values).all():
        raise InputError("The result holds values that are not finite; they are not drawn as if they were colours.")


def scale_label(result: xr.DataArray) -> str:
    """What the colour bar says: the measure and what its ends mean."""
    title = plain(result.attrs.get("long_name", result.name))
    if result.attrs.get("direction") == "dissimilarity":
        return f"{title}\n(0 = same, larger = less alike)"
    most = float(result.attrs.get("upper_bound", np.inf))
    same = f"{most:g} = same" if np.isfinite(most) else "larger = more alike"
    return f"{title}\n({same}, 0 = nothing shared)"


def limits_of(result: xr.DataArray) -> tuple[float, float]:
    """Of the colours: the bounds of the measure where it has them, else those of the values."""
    values = result.values
    low, high = float(result.attrs.get("lower_bound", -np.inf)), float(result.attrs.get("upper_bound", np.inf))
    if result.attrs.get("direction") == "similarity":
        low = min(0.0, float(values.min()))
    return (low if np.isfinite(low) else float(values.min())), (high if np.isfinite(high) else float(values.max()))


def colours(result: xr.DataArray, limits: tuple[float, float] | None = None) -> tuple[np.ndarray, list[str]]:
    """What a heatmap would paint: the colour of every cell, "#rrggbb" in the shape of the result, and of its scale.

    The scale is sampled at 33 equal steps from its lower to its upper limit.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    low, high = limits or limits_of(result)
    palette = colormaps[palette_of(result)]
    shares = (result.values - low) / ((high - low) or 1.0)
    cells = [to_hex(palette(float(share))) for share in shares.ravel()]
    return np.array(cells).reshape(result.shape), [to_hex(palette(step)) for step in np.linspace(0, 1, 33)]


def palette_of(result: xr.DataArray) -> str:
    """Brighter is more alike, whichever way the measure runs."""
    return "viridis" if result.attrs.get("direction") == "similarity" else "viridis_r"


def unrelated(result: xr.DataArray) -> np.ndarray:
    """Which cells do not differ from their null; none where the result has no null."""
    if "p_value" not in result.coords:
        return np.zeros(result.shape, dtype=bool)
    return result.p_value.values > LEVEL
