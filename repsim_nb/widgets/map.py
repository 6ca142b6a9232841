"""The layer x layer map as a grid of cells, to point at, click, or walk through with the arrow keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
from matplotlib.colors import to_rgb

from repsim_nb.comparison.described import interval_level
from repsim_nb.figures.heatmaps import HATCHED
from repsim_nb.figures.scales import check, colours, limits_of, unrelated
from repsim_nb.widgets.picker import STYLE

if TYPE_CHECKING:
    import xarray as xr


class LayerMap(anywidget.AnyWidget):
    """An interactive heatmap of a result of `compare`, coloured like `figures.heatmap`.

    Attributes
    ----------
    selected
        Trait: [row, column] of the chosen cell, from 0, or [] for none.
    view
        Trait: everything that is shown.
    """

    _esm = Path(__file__).with_name("map.js")
    _css = STYLE
    view = traitlets.Dict().tag(sync=True)
    selected = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(self, result: xr.DataArray, limits: tuple[float, float] | None = None):
        super().__init__(view=view_of(result, limits))


def view_of(result: xr.DataArray, limits: tuple[float, float] | None = None) -> dict[str, Any]:
    """A result as texts and colours, cell by cell."""
    check(result, "LayerMap")
    low, high = limits or limits_of(result)
    painted, scale = colours(result, (low, high))
    a, b = (str(result.attrs.get(f"model_{side}", side)) for side in "ab")
    rows, columns = ([str(layer) for layer in result[f"layer_{side}"].values] for side in "ab")
    hatched = unrelated(result)
    alike = result.attrs.get("direction") == "similarity"
    bounded = float(result.attrs.get("upper_bound", "inf")) == high
    level = interval_level(result)
    readouts = [
        [f"Layer {r} of {a}, layer {c} of {b}: {value_in_words(result[i, j], level)}" for j, c in enumerate(columns)]
        for i, r in enumerate(rows)
    ]
    return {
        "title": f"{a} and itself" if a == b else f"{a} and {b}",
        "label": f"{result.attrs.get('long_name', result.name)} of every layer of {a} (rows) and {b} (columns)",
        "hint": "Point at a cell for its value; click, or use the arrow keys, for details.",
        "y_axis": f"layer of {a}",
        "x_axis": f"layer of {b}",
        "rows": rows,
        "columns": columns,
        "values": [[number(v, 2) for v in row] for row in result.values],
        "readouts": readouts,
        "colours": painted.tolist(),
        "inks": [[ink(colour) for colour in row] for row in painted],
        "hatched": hatched.tolist(),
        "note": HATCHED.strip("()").capitalize() if hatched.any() else "",
        "scale": colour_bar(str(result.attrs.get("long_name", result.name)), low, high, alike, scale, bounded),
    }


def colour_bar(
    title: str, low: float, high: float, alike: bool, colours: list[str], bounded: bool = True
) -> dict[str, Any]:
    """The colour scale of a view, with what its ends mean; `bounded` if nothing can be more alike than `high`."""
    return {
        "colours": colours,
        "title": title,
        "low": f"{low:.3g} {_meaning(low, alike)}".strip(),
        "high": f"{high:.3g} {_meaning(high, alike) if bounded or not alike else '(more alike)'}".strip(),
    }


def _meaning(end: float, similarity: bool) -> str:
    if similarity:
        return {0.0: "= nothing shared", 1.0: "= same"}.get(end, "")
    return "= same" if end == 0 else "(less alike)"


def number(value: Any, decimals: int) -> str:
    """Format with this many decimals, or with three significant digits if that would give 0."""
    value = float(value)
    fixed = f"{value:.{decimals}f}"
    return f"{value:.3g}" if float(fixed) == 0 != value else fixed


def value_in_words(cell: xr.DataArray, level: float | None) -> str:
    """The value, with its interval of this level and its null if it has them."""
    words = [number(cell, 3)]
    if "low" in cell.coords:
        words.append(
            f"{f'{100 * level:.4g}% ' if level else ''}interval {number(cell.low, 3)} to {number(cell.high, 3)}"
        )
    if "null_mean" in cell.coords:
        words.append(f"unrelated text {number(cell.null_mean, 3)}, p = {float(cell.p_value):.3f}")
    if "calibrated" in cell.coords:
        words.append(f"calibrated {number(cell.calibrated, 2)}")
    return "; ".join(words)


def ink(background: str) -> str:
    """Black or white, whichever stands out more (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(background)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"
