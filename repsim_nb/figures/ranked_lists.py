"""How much the lists of models agree: over the depth of the list, and as a matrix of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError, unknown
from repsim_nb.figures.heatmaps import write_values
from repsim_nb.figures.scales import palette_of, scale_label
from repsim_nb.figures.words import entry, plain
from repsim_nb.retrieval.agreement import TITLES

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

LARGE = 20  # models from which on numbers no longer fit into cells


def agreement_curves(
    tables: Mapping[str, pd.DataFrame],
    ax: Axes | None = None,
    *,
    measure: str = "overlap",
    chance: pd.Series | None = None,
    floors: Mapping[str, pd.DataFrame] | None = None,
) -> Axes:
    """Draw the agreement of the lists of two models over the depth k, one curve per pair of models.

    Parameters
    ----------
    tables
        Label -> result of `retrieval.summary` over `retrieval.overlap`. The band is its interval.
    ax
        Axes to draw on; None makes a new figure.
    measure
        The measure to draw.
    chance
        Result of `retrieval.chance`: what two random lists have in common, drawn dotted.
    floors
        Label -> result of `retrieval.exchange_test`: the mean agreement on different queries, drawn dashed in the
        colour of the curve.

    Returns
    -------
    Axes
        The Axes; k is on a logarithmic scale.

    Raises
    ------
    InputError
        If there is no table, or one lacks the measure.

    Notes
    -----
    Bands hold for each k by itself. Points of a curve share their queries and move together. Agreement rises with k
    towards 1 at the size of the corpus for any two models: compare with the dashed line, not with 0.

    Examples
    --------
    >>> from repsim_nb.retrieval import chance, overlap, summary
    >>> a, b = {q: [q, q + 1, q + 2] for q in range(9)}, {q: [q, q + 2, q + 3] for q in range(9)}
    >>> ax = agreement_curves({"a, b": summary(overlap(a, b, (1, 2, 3)))}, chance=chance(12, (1, 2, 3)))
    >>> ax.get_xlabel(), len(ax.lines)
    ('k, items per list (log scale)', 2)
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    if not tables:
        raise InputError("agreement_curves got no tables; expected label -> result of retrieval.summary.")
    for table in [*tables.values(), *(floors or {}).values()]:
        if measure not in table.index.get_level_values("measure"):
            raise unknown("measure of these tables", measure, dict.fromkeys(table.index.get_level_values("measure")))
    if ax is None:
        ax = plt.figure(figsize=(7.6, 3.8), layout="constrained").add_subplot()
    looks = zip(cycle(sns.color_palette("colorblind")), cycle("osD^v"), strict=False)
    depths: list[int] = []
    for (label, table), (color, marker) in zip(tables.items(), looks, strict=False):
        part = table.loc[measure].sort_index()
        depths = sorted({*depths, *part.index})
        ax.plot(part.index, part["mean"], "-", marker=marker, ms=4, color=color, label=entry(label), zorder=3)
        ax.fill_between(part.index, part["low"], part["high"], color=color, alpha=0.18, linewidth=0, zorder=2)
        if floors is not None and label in floors:
            floor = floors[label].loc[measure].sort_index()
            ax.plot(floor.index, floor["null_mean"], "--", color=color, linewidth=1, zorder=1)
    if floors:
        ax.plot([], [], "--", color="0.4", linewidth=1, label="other queries: mean")
    if chance is not None:
        part = chance.loc[measure].sort_index()
        ax.plot(part.index, part, ":", color="0.4", label="random lists", zorder=1)
    ax.set_xscale("log")
    ax.set_xticks(depths, [str(k) for k in depths])
    ax.minorticks_off()
    ax.set(xlabel="k, items per list (log scale)", ylabel=f"{TITLES.get(measure, measure)}\n(1 = same, 0 = none)")
    ax.set_ylim(0, 1.02)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))  # curves fill the axes
    return ax


def model_matrix(
    table: xr.DataArray, ax: Axes | None = None, *, order: Sequence[str] | None = None, colorbar: bool = True
) -> Axes:
    """Draw a table of models against models as a matrix.

    Parameters
    ----------
    table
        Two dimensions with the same models on both, such as `retrieval.pairwise(...)["overlap"].sel(k=10)`. Its
        attributes name the measure and its direction.
    ax
        Axes to draw on; None makes a new figure.
    order
        Models to draw, in this order; None draws all as they come.
    colorbar
        Whether to draw a colour bar that explains both ends of the scale.

    Returns
    -------
    Axes
        The Axes. Values are written into the cells of up to twenty models; the diagonal, where a model meets itself,
        is empty. The colours span the values.

    Raises
    ------
    InputError
        If the table is not model x model, lacks a model of `order`, or has values that are not finite.

    Notes
    -----
    Colours of two matrices cannot be compared: each spans its own values. Read the numbers.

    Examples
    --------
    >>> from repsim_nb.retrieval import pairwise
    >>> lists = {"a": {1: [4, 8], 2: [5, 3]}, "b": {1: [8, 4], 2: [5, 6]}, "c": {1: [7, 6], 2: [1, 2]}}
    >>> [text.get_text() for text in model_matrix(pairwise(lists, k=2)["overlap"].sel(k=2)).texts]
    ['0.75', '0.00', '0.75', '0.00', '0.00', '0.00']
    """
    import matplotlib.pyplot as plt

    if table.ndim != 2 or any(d not in table.coords for d in table.dims):
        raise InputError(f"model_matrix needs a table of models against models, got the dimensions {table.dims}.")
    rows, columns = (table[d].values.tolist() for d in table.dims)
    if set(rows) != set(columns):
        raise InputError(f"model_matrix needs the same models on both sides, got {rows} and {columns}.")
    names = list(rows if order is None else order)
    for name in names:
        if name not in rows:
            raise unknown("model", name, map(str, rows))
    shown = table.sel(dict.fromkeys(table.dims, names))
    values = np.where(np.eye(len(names), dtype=bool), np.nan, shown.values.astype(float))
    if not np.isfinite(values[~np.eye(len(names), dtype=bool)]).all():
        raise InputError("The table has values that are not finite, and these cannot be drawn.")
    if ax is None:
        side = 1.6 + 0.42 * len(names)
        ax = plt.figure(figsize=(side + 1.6, side), layout="constrained").add_subplot()
    mesh = ax.pcolormesh(np.ma.masked_invalid(values), cmap=palette_of(shown))
    if colorbar:
        ax.figure.colorbar(mesh, ax=ax, label=scale_label(shown), shrink=0.8).outline.set_visible(False)
    if len(names) <= LARGE:
        write_values(values, mesh, ax)
    labels = [plain(name, 30) for name in names]
    ax.set_xticks(np.arange(len(names)) + 0.5, labels, rotation=90, fontsize="small")
    ax.set_yticks(np.arange(len(names)) + 0.5, labels, fontsize="small")
    ax.invert_yaxis()
    ax.set_aspect("equal")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax
