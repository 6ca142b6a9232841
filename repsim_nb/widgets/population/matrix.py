"""The matrix of all models against all, those that are alike beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

from repsim_nb.widgets.map import colour_bar, ink, number
from repsim_nb.widgets.picker import STYLE
from repsim_nb.widgets.population.over_steps import AT, Moment

if TYPE_CHECKING:
    import pandas as pd

GRIDS = ("values", "readouts", "colours", "inks", "hatched")  # of a view, cell by cell


class Matrix(anywidget.AnyWidget):
    """A model x model table as a grid of cells.

    Attributes
    ----------
    selected
        Trait: [row, column] of the chosen cell, from 0, or [] for none.
    view
        Trait: everything that is shown.
    """

    _esm = Path(__file__).parents[1] / "map.js"
    _css = STYLE
    view = traitlets.Dict().tag(sync=True)
    selected = traitlets.List(traitlets.Int()).tag(sync=True)


def ordered(table: pd.DataFrame) -> list[str]:
    """Models in the order of a clustering by average linkage, in which neighbours are alike."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(table) < 3:
        return [str(name) for name in table.index]
    apart = table.to_numpy(dtype=float)
    links = linkage(squareform((apart + apart.T) / 2, checks=False), "average", optimal_ordering=True)
    return [str(table.index[place]) for place in leaves_list(links)]


def view_of(
    table: pd.DataFrame, title: str, words: list[list[str]] | None = None, alike: bool = False
) -> dict[str, Any]:
    """A table, in its order, as texts and colours, cell by cell.

    Parameters
    ----------
    table
        Values, indexed by model on both sides.
    title
        What they are, in words.
    words
        More about each cell, such as its null.
    alike
        Whether larger values mean more alike.
    """
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    values = table.to_numpy(dtype=float)
    off = values[~np.eye(len(values), dtype=bool)]
    low, high = (0.0, float(off.max()) or 1.0) if not alike else (0.0, 1.0)
    paint = mpl.colormaps["viridis" if alike else "viridis_r"]
    painted = [[to_hex(paint(min(max((v - low) / (high - low), 0.0), 1.0))) for v in row] for row in values]
    names = [str(name) for name in table.index]
    readouts = [[f"{a} and {b}: {number(table.loc[a, b], 3)}" for b in names] for a in names]
    if words is not None:
        readouts = [
            [f"{said}; {more}".removesuffix("; ") for said, more in zip(*rows, strict=True)]
            for rows in zip(readouts, words, strict=True)
        ]
    places = [str(place + 1) for place in range(len(names))]
    return {
        "title": title,
        "label": f"{title} of every model (rows) and every other (columns)",
        "hint": "Models that are alike stand together. Point at a cell for its models; click, or use the arrow keys.",
        "y_axis": "models, ordered by clustering",
        "x_axis": "the same models",
        "rows": places,
        "columns": places,
        "values": [[number(v, 2) for v in row] for row in values],
        "readouts": readouts,
        "colours": painted,
        "inks": [[ink(colour) for colour in row] for row in painted],
        "hatched": np.zeros_like(values, dtype=bool).tolist(),
        "note": "",
        "scale": colour_bar(title, low, high, alike, [to_hex(paint(x)) for x in np.linspace(0, 1, 9)]),
    }


def at_moment(whole: dict[str, Any], names: list[str], moment: Moment) -> tuple[dict[str, Any], list[str]]:
    """What `view_of` returned for a moment, in the same colours, and the models that then have a row.

    At a step alone only its models have rows; up to a step all keep their places, and those to come are blank.
    """
    shown = moment.among(names)
    title = {"title": whole["title"] + moment.words(), "label": whole["label"] + moment.words()}
    if moment.span == AT:
        places = [place for place, name in enumerate(names) if name in shown]
        cut = {key: [[whole[key][i][j] for j in places] for i in places] for key in GRIDS}
        return whole | title | cut | {key: [whole[key][i] for i in places] for key in ("rows", "columns")}, shown
    blank = {"values": "", "colours": "transparent", "inks": "#000000", "hatched": False}
    grids = {key: [list(row) for row in whole[key]] for key in GRIDS}
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            later = [name for name in (a, b) if name not in shown]
            if later:
                for key, value in blank.items():
                    grids[key][i][j] = value
                grids["readouts"][i][j] = f"{a} and {b}: {later[0]} comes later"
    return whole | title | grids, names
