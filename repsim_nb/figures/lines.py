"""Layer by layer, as lines."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.figures.scales import LEVEL, check, scale_label, unrelated
from repsim_nb.figures.words import entry, plain

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes


def curves(
    result: xr.DataArray, ax: Axes | None = None, *, layer_a: int | None = None, label: str | None = None
) -> Axes:
    """How alike two models are, layer by layer, with the interval and the null where the result has them.

    A band is the interval of each layer by itself. The grey area is what unrelated representations reach, up to its
    5% level over the whole grid; points inside it, whose p-value is above 0.05, are hollow.

    Parameters
    ----------
    result
        What `compare` returned, dims (layer_a, layer_b).
    ax
        Where to draw, onto other curves if there are any; None makes a new figure.
    layer_a
        This layer of a against every layer of b; None takes each layer that both have against itself.
    label
        Of the curve, in the legend; None names the models where other curves are there too.

    Returns
    -------
    Axes
        The Axes; nothing is shown or saved.

    Raises
    ------
    InputError
        Not a comparison result, values that are not finite, or a layer that is not there.
    """
    from matplotlib.ticker import MaxNLocator

    check(result, "curves")
    a, b = (result.attrs.get(f"model_{side}", side) for side in "ab")
    layers, row = _curve(result, layer_a)
    ax = ax or _new()
    others = bool(ax.lines)
    line = ax.plot(layers, row.values, "o-", label=entry(label or f"{a}, {b}"), zorder=3, clip_on=False)[0]
    hollow = unrelated(row)
    ax.plot(
        np.asarray(layers)[hollow],
        row.values[hollow],
        "o",
        color=line.get_color(),
        mfc="white",
        zorder=4,
        clip_on=False,
    )
    if "low" in row.coords:
        ax.fill_between(layers, row.low, row.high, color=line.get_color(), alpha=0.22, linewidth=0, zorder=2)
    if "null_mean" in row.coords:
        ax.plot(layers, row.null_mean, "--", linewidth=1, color="0.55", zorder=1)
        ax.fill_between(layers, row.null_mean, row.null_high_family, color="0.55", alpha=0.3, linewidth=0, zorder=1)
        _label_once(ax, "unrelated: mean to 5% level")
    _limit_to_bounds(ax, result)
    ax.set(xlabel="layer" if layer_a is None else f"layer of {plain(b)}", ylabel=scale_label(result))
    if layer_a is not None:
        ax.set_title(f"layer {layer_a} of {plain(a)}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if label or others or "null_mean" in row.coords:
        ax.legend(frameon=False, fontsize="small")
    return ax


def _curve(result: xr.DataArray, layer_a: int | None) -> tuple[list[int], xr.DataArray]:
    """The layers of a curve and the results on it."""
    import xarray as xr

    if layer_a is not None:
        if layer_a not in result.layer_a.values:
            raise InputError(f"Layer {layer_a!r} is not among the layers of a, {result.layer_a.values.tolist()}.")
        return result.layer_b.values.tolist(), result.sel(layer_a=layer_a)
    both = [layer for layer in result.layer_a.values.tolist() if layer in result.layer_b.values]
    if not both:
        raise InputError("The two models have no layer in common here: choose one with layer_a.")
    along = xr.DataArray(both, dims="layer")
    return both, result.sel(layer_a=along, layer_b=along)


def _label_once(ax: Axes, label: str) -> None:
    """Label the last area drawn, unless another has this label."""
    if label not in ax.get_legend_handles_labels()[1]:
        ax.collections[-1].set_label(label)


def _limit_to_bounds(ax: Axes, result: xr.DataArray) -> None:
    """From 0 to the measure's upper bound; below 0 only if something drawn is there."""
    bottom, top = ax.get_ylim()
    upper = float(result.attrs.get("upper_bound", np.inf))
    ax.set_ylim(min(bottom, 0.0) if bottom < -0.02 else 0.0, upper if np.isfinite(upper) else top)


def penalties(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Stitching penalties by layer, one series for every kind of sender into every kind of receiver.

    Parameters
    ----------
    frame
        What `stitching.penalties_by_kind` returned.
    ax
        Where to draw; None makes a new figure.

    Returns
    -------
    Axes
        The Axes; bars are the intervals. Receivers have a colour each; a foreign sender's markers are hollow.
    """
    import seaborn as sns

    ax = ax or _new()
    layers = sorted(frame.layer.unique())
    kinds = list(dict.fromkeys(frame.receiver))
    series = [(sender, receiver) for receiver in kinds for sender in kinds]
    colors = dict(zip(kinds, cycle(sns.color_palette("colorblind")), strict=False))
    for number, (sender, receiver) in enumerate(series):
        part = frame[(frame.sender == sender) & (frame.receiver == receiver)].set_index("layer").loc[layers]
        place = np.arange(len(layers)) + 0.16 * (number - (len(series) - 1) / 2)
        own = sender == receiver
        ax.errorbar(
            place,
            part.penalty,
            yerr=[(part.penalty - part.low).clip(lower=0), (part.high - part.penalty).clip(lower=0)],
            fmt="o" if own else "s",
            mfc=colors[receiver] if own else "white",
            color=colors[receiver],
            capsize=2,
            label=entry(f"{sender} into {receiver}"),
        )
    ax.set_xticks(range(len(layers)), [plain(layer) for layer in layers])
    ax.set(xlabel="layer", ylabel=f"stitching penalty ({plain(frame.attrs.get('units', 'nats'))})")
    together = ax.get_shared_y_axes().get_siblings(ax)
    ax.set_ylim(min(0, *(a.dataLim.y0 for a in together)), 1.05 * max(a.dataLim.y1 for a in together))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return ax


def by_groups(frame: pd.DataFrame, ax: Axes | None = None, *, label: str = "value") -> Axes:
    """Means over pairs of models by layer, a line for every two groups, with their intervals as bands.

    Parameters
    ----------
    frame
        What `groups.means_by_group` returned.
    ax
        Where to draw; None makes a new figure.
    label
        What the values are, with their unit.

    Returns
    -------
    Axes
        The Axes. Lines of a group with itself are full, those of two groups dashed.
    """
    import seaborn as sns

    ax = ax or _new()
    joined = "into" if frame.attrs.get("directed") else "with"
    series = list(dict.fromkeys(zip(frame["first"], frame["second"], strict=True)))
    for (first, second), color, marker in zip(
        series, cycle(sns.color_palette("colorblind")), cycle("osD^v"), strict=False
    ):
        part = frame[(frame["first"] == first) & (frame["second"] == second)].sort_values("layer")
        style = "-" if first == second else "--"
        ax.plot(
            part.layer,
            part.value,
            style,
            marker=marker,
            color=color,
            markersize=4,
            label=entry(f"{first} {joined} {second}"),
        )
        ax.fill_between(part.layer, part.low, part.high, color=color, alpha=0.18, linewidth=0)
    return _by_layer(ax, label)


def effects(table: pd.DataFrame, ax: Axes | None = None, *, label: str = "between less within") -> Axes:
    """How much less alike models of different groups are than models of one, by layer, with intervals.

    Parameters
    ----------
    table
        What `groups.group_test` returned.
    ax
        Where to draw; None makes a new figure.
    label
        What the effect is, with its unit.

    Returns
    -------
    Axes
        The Axes. Points are filled where the groups differ (family-wise p <= 0.05), hollow elsewhere.
    """
    ax = ax or _new()
    reach = [table.effect - table.low, table.high - table.effect]
    ax.errorbar(table.index, table.effect, yerr=reach, fmt="none", color="C0", capsize=2)
    for apart, face, meaning in ((True, "C0", f"differ, p <= {LEVEL}"), (False, "white", "not shown to differ")):
        part = table[(table.p_adjusted <= LEVEL) == apart]
        ax.plot(part.index, part.effect, "o", color="C0", mfc=face, label=meaning if len(part) else None)
    ax.axhline(0, color="0.3", linewidth=0.8)
    return _by_layer(ax, label)


def over_training(result: xr.DataArray, ax: Axes | None = None) -> Axes:
    """One line per layer over the steps of training, on a logarithmic scale with 0 at its left end.

    Parameters
    ----------
    result
        Dims (step, layer), a variable of what `depth.over_training` returned.
    ax
        Where to draw; None makes a new figure.

    Returns
    -------
    Axes
        The Axes; layers go from dark (the embedding) to light (the last).
    """
    import matplotlib as mpl

    ax = ax or _new()
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, result.sizes["layer"]))
    for layer, color in zip(result.layer.values.tolist(), shades, strict=True):
        ax.plot(result.step, result.sel(layer=layer), "o-", color=color, markersize=3, label=plain(f"layer {layer}"))
    ax.set_xscale("symlog", linthresh=max(1, int(result.step[result.step > 0].min())))
    ax.set(
        xlabel="step of training",
        ylabel=scale_label(result) if "direction" in result.attrs else plain(result.long_name),
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="x-small", ncols=2)
    return ax


def _new() -> Axes:
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(4.6, 3.4), layout="constrained").add_subplot()


def _by_layer(ax: Axes, label: str) -> Axes:
    """Axes, ticks and legend of values by layer."""
    from matplotlib.ticker import MaxNLocator

    ax.set(xlabel="layer", ylabel=plain(label))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return ax
