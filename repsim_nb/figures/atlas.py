"""Atlases of stitches: every cut into every entry, and similarity against penalty."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError, unknown
from repsim_nb.figures.words import entry, plain

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NARROW = 24  # characters of a name next to one of several maps
MOST_TICKS = 10
MARKERS = "osD^vPX"


def atlas(table: xr.Dataset, what: str = "penalty", side: float = 2.0, high: float | None = None) -> Figure:
    """Draw one map of cuts and entries for each pair of models, with a shared colour scale.

    Parameters
    ----------
    table
        Result of `stitching_table` with `into`.
    what
        A variable of the table over (sender, receiver, layer, into), such as "penalty", "recovered" or
        "untrained_penalty".
    side
        Size of an average map in inches.
    high
        Upper end of the colour scale; larger values get its colour. None takes the largest value.

    Returns
    -------
    Figure
        The Figure. A dot marks the entry with the lowest penalty of each cut, hatching the stitches that a race
        stopped; layers that a model does not have are empty.

    Raises
    ------
    InputError
        If the table has no entries, or `what` is not over cuts and entries.

    Notes
    -----
    Brighter is better. The lowest of many penalties is low by selection too: `stitching.best_entries` says what it is
    on other documents. Penalties of two receivers differ for reasons of the receivers too.

    Examples
    --------
    >>> from repsim_nb.stitching import stitching_table
    >>> how = {"fit": "least_squares", "n_fit": 16, "n_report": 4}
    >>> len(atlas(stitching_table(["tiny-neox-w32-d2"], ["tiny-neox-w64-d2"], into="all", **how)).axes)
    2
    """
    import matplotlib.pyplot as plt

    dims = ("sender", "receiver", "layer", "into")
    _check(table, "atlas")
    drawable = [
        str(name) for name, values in table.data_vars.items() if values.dims == dims and values.dtype.kind == "f"
    ]
    if what not in drawable:
        raise unknown("variable", what, drawable)
    senders, receivers = table.sender.values.tolist(), table.receiver.values.tolist()
    figure, axes = plt.subplots(
        len(senders),
        len(receivers),
        figsize=(1.4 + side * len(receivers), 0.9 + side * len(senders)),
        squeeze=False,
        layout="constrained",
        gridspec_kw={
            "width_ratios": (1 + table.receiver_layers.values).tolist(),
            "height_ratios": (1 + table.sender_layers.values).tolist(),
        },
    )
    values = table[what]
    falls = what == "recovered"
    low = float(values.min()) if falls or float(values.min()) < 0 else 0.0
    limits = {"vmin": low, "vmax": float(values.max()) if high is None else high}
    for (i, j), ax in np.ndenumerate(axes):
        one = table.isel(sender=i, receiver=j)
        one = one.sel(layer=one.layer <= int(one.sender_layers), into=one.into <= int(one.receiver_layers))
        mesh = ax.pcolormesh(one[what].values, cmap="viridis" if falls else "viridis_r", **limits)
        _mark(ax, one)
        for axis, layers in ((ax.xaxis, one.into.values), (ax.yaxis, one.layer.values)):
            every = -(-len(layers) // MOST_TICKS)
            axis.set_ticks(np.arange(len(layers))[::every] + 0.5, layers[::every])
        ax.tick_params(length=2)
        ax.spines[:].set_visible(False)
        ax.set_xlabel(f"into {plain(receivers[j], NARROW)}" if i == len(senders) - 1 else "")
        ax.set_ylabel(f"{plain(senders[i], NARROW)}\ncut at" if j == 0 else "")
    label = f"{plain(what.replace('_', ' '))} ({plain(values.attrs.get('units', '1'))})"
    extend = "max" if float(values.max()) > limits["vmax"] else "neither"
    figure.colorbar(mesh, ax=axes, label=label, shrink=0.7, extend=extend)
    return figure


def _mark(ax: Axes, one: xr.Dataset) -> None:
    """Mark the best entry of every cut, and hatch what a race stopped."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    penalty = one.penalty.values
    cuts = np.flatnonzero(np.isfinite(penalty).any(1))
    ax.plot(np.nanargmin(penalty[cuts], axis=1) + 0.5, cuts + 0.5, "o", color="white", mec="0.2", markersize=3.5)
    if "raced" in one:
        cells = [Rectangle((column, row), 1, 1) for row, column in np.argwhere(one.raced.values)]
        ax.add_collection(PatchCollection(cells, facecolor="none", edgecolor="white", linewidth=0, hatch="////"))


def similarity_against_function(table: xr.Dataset, measure: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the penalty of every stitch against the calibrated similarity of the layers that it joins.

    Parameters
    ----------
    table
        Result of `stitching_table` with `into` and `measures`.
    measure
        One of the measures; None takes the first.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        The Axes. Every pair of models has a colour and a marker; models into themselves are hollow and grey.

    Raises
    ------
    InputError
        If the table has no similarities, or not of this measure.

    Notes
    -----
    Points of one pair share both models and are not independent; `stitching.geometry_predicts` has correlations within
    pairs and an interval over models. Many points at 0 are layers that are no more similar than chance.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    _check(table, "similarity_against_function")
    if "similarity" not in table:
        raise InputError("The table has no similarities. Give measures= to stitching_table.")
    names = table.measure.values.tolist()
    if measure is not None and measure not in names:
        raise unknown("measure of the table", measure, names)
    name = measure or names[0]
    if ax is None:
        ax = plt.figure(figsize=(4.8, 3.8), layout="constrained").add_subplot()
    pairs = [(s, r) for s in table.sender.values.tolist() for r in table.receiver.values.tolist()]
    others = [pair for pair in pairs if pair[0] != pair[1]]
    drawn: dict[tuple[str, str], dict[str, object]] = {
        pair: {"color": color, "marker": marker, "label": entry(f"{pair[0]} into {pair[1]}")}
        for pair, color, marker in zip(others, cycle(sns.color_palette("colorblind")), cycle(MARKERS), strict=False)
    }
    own: dict[str, object] = {"color": "0.6", "marker": "o", "mfc": "none", "label": "into itself"}
    for pair in pairs:
        one = table.sel(sender=pair[0], receiver=pair[1])
        x, y = one.similarity.sel(measure=name).values.ravel(), one.penalty.values.ravel()
        how: Any = drawn.get(pair, own)
        ax.plot(x, y, linestyle="", markersize=3.5, alpha=0.8, **how)
        own = own | {"label": None} if pair not in drawn else own
    ax.axhline(0, color="0.3", linewidth=0.8)
    title = plain(name.replace("_", " "))
    ax.set(xlabel=f"calibrated similarity, {title}\n(0 = chance, 1 = same)")
    ax.set_ylabel(f"stitching penalty ({plain(table.penalty.attrs.get('units', 'nats'))})")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="x-small")
    return ax


def _check(table: xr.Dataset, figure: str) -> None:
    if "into" not in getattr(table, "dims", ()):
        raise InputError(f"{figure} needs a table of cuts and entries. Give into='all' to stitching_table.")
