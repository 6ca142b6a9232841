"""Heatmaps of layers x layers and of measures x measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.figures.scales import LEVEL, check, limits_of, palette_of, scale_label, unrelated
from repsim_nb.figures.words import plain

HATCHED = f"(hatched: not different from unrelated, p > {LEVEL})"

MOST_TICKS = 12  # layer numbers on an axis
NARROW = 30  # characters of a label next to one of several maps
LIGHT = 0.4  # relative luminance above which dark text is easier to read

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

    from repsim_nb.depth import Blocks


def heatmap(
    result: xr.DataArray,
    ax: Axes | None = None,
    *,
    limits: tuple[float, float] | None = None,
    colorbar: bool = True,
    annotate: bool | None = None,
) -> Axes:
    """Draw the layer x layer map of a comparison, with layer 0 at the lower left, as in the literature.

    If the result has a null, cells that do not differ from it (family-wise p > 0.05) are hatched, and the x-axis
    label says so.

    Parameters
    ----------
    result
        Result of `compare`, dims (layer_a, layer_b).
    ax
        Axes to draw on; None makes a new figure.
    limits
        Limits of the colour scale, for maps that share it. None takes the measure's bounds, or the range of the data
        where it has none.
    colorbar
        Whether to draw a colour bar that explains both ends of the scale.
    annotate
        Whether to print values into the cells. None prints them for maps of at most 40 cells.

    Returns
    -------
    Axes
        The Axes; nothing is shown or saved.

    Raises
    ------
    InputError
        If `result` is not a comparison result, or has values that are not finite.

    Notes
    -----
    Colours of maps with different limits or measures cannot be compared. A bright diagonal in the map of a model with
    itself is 1 by construction.

    Examples
    --------
    >>> import repsim_nb as rs
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> heatmap(rs.compare({0: x, 1: x**3})).get_xlabel()
    'layer of b'
    """
    import matplotlib.pyplot as plt

    check(result, "heatmap")
    if ax is None:
        ax = plt.figure(figsize=(4.6, 3.8), layout="constrained").add_subplot()
    low, high = limits or limits_of(result)
    mesh = ax.pcolormesh(result.values, vmin=low, vmax=high, cmap=palette_of(result))
    if colorbar:
        ax.figure.colorbar(mesh, ax=ax, label=scale_label(result)).outline.set_visible(False)
    if result.shape[0] == result.shape[1]:
        ax.set_aspect("equal")
    for axis, layers in ((ax.xaxis, result.layer_b.values), (ax.yaxis, result.layer_a.values)):
        every = -(-len(layers) // MOST_TICKS)
        axis.set_ticks(np.arange(len(layers))[::every] + 0.5, layers[::every])
    ax.tick_params(length=2)
    ax.spines[:].set_visible(False)
    if result.size <= 40 if annotate is None else annotate:
        write_values(result.values, mesh, ax)
    a, b = (plain(result.attrs.get(f"model_{side}", side)) for side in "ab")
    ax.set(xlabel=f"layer of {b}", ylabel=f"layer of {a}")
    if _hatch_null_cells(result, ax, "//" if ax.texts else "////"):  # sparse around numbers
        ax.set_xlabel(f"{ax.get_xlabel()}\n{HATCHED}")
    return ax


def write_values(values: np.ndarray, mesh: QuadMesh, ax: Axes) -> None:
    """Write each value into its cell, dark on light and light on dark; cells without a value stay empty."""
    from seaborn.utils import relative_luminance

    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        color = "0.15" if relative_luminance(mesh.to_rgba(value)) > LIGHT else "white"
        ax.text(column + 0.5, row + 0.5, f"{value:.2f}", ha="center", va="center", color=color, size="small")


def _hatch_null_cells(result: xr.DataArray, ax: Axes, hatch: str) -> bool:
    """Hatch the cells that do not differ from their null; return whether there are any."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    cells = [Rectangle((column, row), 1, 1) for row, column in np.argwhere(unrelated(result))]
    if cells:
        # White instead of an extra colour: visible on every colour map and for every reader.
        hatches = PatchCollection(cells, facecolor="none", edgecolor="white", linewidth=0, alpha=0.5, hatch=hatch)
        ax.add_collection(hatches)
    return bool(cells)


def mark_blocks(ax: Axes, found: Blocks, layers: Sequence[int] | None = None) -> Axes:
    """Outline blocks of layers on the heatmap of a model with itself.

    Parameters
    ----------
    ax
        Axes from `heatmap`.
    found
        Result of `depth.find_blocks`.
    layers
        The layers of the map, in order, if they are more than those searched. None means the same.

    Returns
    -------
    Axes
        The same Axes.

    Notes
    -----
    Outlines are dashed if smooth decay explains the blocks (p > 0.05). The p-value is one for all blocks together, not
    for each outline.
    """
    from matplotlib.patches import Rectangle

    order = list(found.layers if layers is None else layers)
    for block in found.blocks:
        start = order.index(block[0])
        style = "-" if found.p_value <= LEVEL else "--"
        frame = Rectangle((start, start), len(block), len(block), fill=False, edgecolor="white", lw=2, ls=style)
        ax.add_patch(frame).set_clip_on(False)
    return ax


def heatmap_grid(
    results: Mapping[tuple[str, str], xr.DataArray], limits: tuple[float, float] | None = None, side: float = 2.0
) -> Figure:
    """Draw one heatmap per pair of models, in a grid with a shared colour scale.

    Parameters
    ----------
    results
        (row model, column model) -> result of `compare`; missing pairs stay empty.
    limits
        Limits of the shared colour scale. None takes the smallest range that covers all maps.
    side
        Size of an average map in inches.

    Returns
    -------
    Figure
        The Figure; nothing is shown or saved.

    Notes
    -----
    Hatching is family-wise within each map, not over the grid: of 20 maps of unrelated models, one has an unhatched
    cell by chance on average.
    """
    import matplotlib.pyplot as plt

    if not results:
        raise InputError("heatmap_grid got no results; expected at least one pair of models.")
    row_names = list(dict.fromkeys(row for row, _ in results))
    column_names = list(dict.fromkeys(column for _, column in results))
    every = [limits_of(result) for result in results.values()]
    low, high = limits or (min(e[0] for e in every), max(e[1] for e in every))
    extents = {name: n for (row, column), r in results.items() for name, n in zip((row, column), r.shape, strict=True)}
    figure, axes = plt.subplots(
        len(row_names),
        len(column_names),
        figsize=(1.2 + 1.05 * side * len(column_names), 0.9 + 0.95 * side * len(row_names)),
        squeeze=False,
        layout="constrained",
        gridspec_kw={
            "width_ratios": [extents[c] for c in column_names],
            "height_ratios": [extents[r] for r in row_names],
        },
    )
    hatched = False
    for i, row in enumerate(row_names):
        for j, column in enumerate(column_names):
            ax = axes[i, j]
            if (row, column) not in results:
                ax.set_axis_off()
                continue
            heatmap(results[row, column], ax, limits=(low, high), colorbar=False, annotate=False)
            hatched |= bool(unrelated(results[row, column]).any())
            ax.set_xlabel(plain(column, NARROW) if i == len(row_names) - 1 else "")
            ax.set_ylabel(plain(row, NARROW) if j == 0 else "")
            ax.label_outer()
            ax.set_aspect("auto")
    some = next(iter(results.values()))
    mappable = next(ax for ax in axes.flat if ax.collections).collections[0]
    figure.colorbar(mappable, ax=axes, label=scale_label(some), shrink=0.6, aspect=30)
    if hatched:
        figure.supxlabel(HATCHED, fontsize="small")
    return figure


def gallery(results: Mapping[str, xr.DataArray], columns: int = 4) -> Figure:
    """Draw one heatmap per measure, each with its own colour bar. Brighter is more similar in all of them.

    Parameters
    ----------
    results
        Title -> result of `compare`.
    columns
        Maps per row of the figure.

    Returns
    -------
    Figure
        The Figure; nothing is shown or saved.

    Notes
    -----
    Every map uses its own range of values, so a measure that hardly varies looks as structured as one that varies a
    lot. Read the colour bars.
    """
    import matplotlib.pyplot as plt

    if not results:
        raise InputError("gallery got no results; expected at least one map.")
    columns = min(columns, len(results))
    rows = -(-len(results) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.7 * columns, 2.3 * rows), squeeze=False, layout="constrained")
    for ax, (title, result) in zip(axes.flat, results.items(), strict=False):
        spread = float(result.min()), float(result.max())
        heatmap(result, ax, limits=spread, colorbar=False, annotate=False)
        figure.colorbar(ax.collections[0], ax=ax, shrink=0.8)
        ax.set(xlabel="", ylabel="")
        ax.set_title(plain(title, NARROW), fontsize="small")
    for ax in axes.flat[len(results) :]:
        ax.set_axis_off()
    some = next(iter(results.values()))
    figure.supxlabel(f"layer of {plain(some.attrs.get('model_b', 'b'))}", fontsize="medium")
    figure.supylabel(f"layer of {plain(some.attrs.get('model_a', 'a'))}", fontsize="medium")
    return figure


def agreement_map(correlations: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw rank correlations between measures as a heatmap, with similar measures next to each other.

    Parameters
    ----------
    correlations
        Square table from `measures.diagnostics.agreement`, or from `groups.square`, over pairs of models.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        The Axes.

    Notes
    -----
    Agreement over the cells of one map comes mostly from depth: almost any two measures order near and far layers
    alike. It does not show that they agree on which models are similar; `groups.agreement` asks that.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    named = correlations.rename(index=partial(plain, width=NARROW), columns=partial(plain, width=NARROW))
    if ax is None:
        longest = max(len(line) for name in named.index for line in name.split("\n"))
        side = 2.2 + 0.34 * len(correlations) + 0.08 * max(0, longest - 20)
        ax = plt.figure(figsize=(side + 1, side), layout="constrained").add_subplot()
    distances = squareform(1 - correlations.to_numpy().clip(-1, 1), checks=False)
    order = leaves_list(linkage(distances, "average"))
    over = correlations.attrs.get("over", "the cells of the map")
    sns.heatmap(
        named.iloc[order, order],
        ax=ax,
        vmin=-1,
        vmax=1,
        cmap="PuOr_r",
        square=True,
        annot=len(correlations) <= 20,
        fmt=".1f",
        annot_kws={"size": "x-small"},
        cbar_kws={"label": f"Spearman correlation over {over}\n(1 = same order, 0 = none, -1 = reversed)"},
    )
    ax.set(xlabel=plain(ax.get_xlabel()), ylabel=plain(ax.get_ylabel()))
    ax.tick_params(axis="y", rotation=0)
    return ax
