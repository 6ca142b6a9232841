"""Colour scales and their labels, and which cells do not differ from their null."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.figures.words import plain

if TYPE_CHECKING:
    import xarray as xr

LEVEL = 0.05  # a cell with a larger p-value does not differ from its null


def check(result: xr.DataArray, figure: str) -> None:
    """Raise InputError if `result` is not a comparison result or cannot be drawn."""
    if tuple(getattr(result, "dims", ())) != ("layer_a", "layer_b"):
        raise InputError(
            f"{figure} needs a result of compare with dims ('layer_a', 'layer_b'), "
            f"got {type(result).__name__} with dims {tuple(getattr(result, 'dims', ()))}."
        )
    if not np.isfinite(result.values).all():
        raise InputError("The result has values that are not finite, and these cannot be drawn.")


def scale_label(result: xr.DataArray) -> str:
    """Label of the colour bar: the measure, and what both ends mean."""
    title = plain(result.attrs.get("long_name", result.name))
    if result.attrs.get("direction") == "dissimilarity":
        return f"{title}\n(0 = same, larger = less similar)"
    most = float(result.attrs.get("upper_bound", np.inf))
    same = f"{most:g} = same" if np.isfinite(most) else "larger = more similar"
    return f"{title}\n({same}, 0 = nothing shared)"


def limits_of(result: xr.DataArray) -> tuple[float, float]:
    """Limits of the colour scale: the bounds of the measure if it has them, else the range of the values."""
    values = result.values
    low, high = float(result.attrs.get("lower_bound", -np.inf)), float(result.attrs.get("upper_bound", np.inf))
    if result.attrs.get("direction") == "similarity":
        low = min(0.0, float(values.min()))
    return (low if np.isfinite(low) else float(values.min())), (high if np.isfinite(high) else float(values.max()))


def colours(result: xr.DataArray, limits: tuple[float, float] | None = None) -> tuple[np.ndarray, list[str]]:
    """Colours of a heatmap: of every cell as "#rrggbb" in the shape of the result, and of 33 steps of its scale."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    low, high = limits or limits_of(result)
    palette = colormaps[palette_of(result)]
    shares = (result.values - low) / ((high - low) or 1.0)
    cells = [to_hex(palette(float(share))) for share in shares.ravel()]
    return np.array(cells).reshape(result.shape), [to_hex(palette(step)) for step in np.linspace(0, 1, 33)]


def palette_of(result: xr.DataArray) -> str:
    """Colour map in which brighter is more similar, whatever the direction of the measure."""
    return "viridis" if result.attrs.get("direction") == "similarity" else "viridis_r"


def unrelated(result: xr.DataArray) -> np.ndarray:
    """Mask of cells that do not differ from their null; none if the result has no null."""
    if "p_value" not in result.coords:
        return np.zeros(result.shape, dtype=bool)
    return result.p_value.values > LEVEL
