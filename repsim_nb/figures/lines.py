"""Line plots of values by layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.figures.scales import LEVEL, check, scale_label, unrelated
from repsim_nb.figures.words import entry, plain

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

CEILINGS = {"ceiling": ("noise ceiling of the seeds", "-."), "seeds": ("two seeds of one recipe", ":")}
PALE = "#a9c9e2"  # of C0: an interval that covers 0


def curves(
    result: xr.DataArray,
    ax: Axes | None = None,
    *,
    layer_a: int | None = None,
    label: str | None = None,
    ceiling: xr.Dataset | None = None,
) -> Axes:
    """Draw the similarity of two models layer by layer, with interval and null if the result has them.

    The band is the interval. The grey area is what unrelated representations reach, up to the 5% level of the whole
    grid; points inside it (p > 0.05) are hollow.

    Parameters
    ----------
    result
        Result of `compare`, dims (layer_a, layer_b).
    ax
        Axes to draw on, which can hold other curves; None makes a new figure.
    layer_a
        Draw this layer of a against every layer of b. None draws each layer that both models have against itself.
    label
        Legend entry of the curve. None names the models if there are other curves.
    ceiling
        Result of `noise_ceiling` with the same measure: its ceiling is drawn as a line or, if it has none, the value of
        seeds of one recipe, which is no bound. It is about equal layers, so it cannot be drawn with `layer_a`.

    Returns
    -------
    Axes
        The Axes; nothing is shown or saved.

    Raises
    ------
    InputError
        If `result` is not a comparison result, has values that are not finite, or lacks the layer; or if the ceiling is
        of another measure or does not belong to the curve.

    Notes
    -----
    The band holds for each layer by itself, not for the whole curve, and the layers share their documents: neighbouring
    points move together.

    Examples
    --------
    >>> import repsim_nb as rs
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> curves(rs.compare({0: x, 1: x**3}, {0: 2 * x, 1: x})).get_xlabel()
    'layer'
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
    if ceiling is not None:
        _draw_ceiling(ceiling, ax, result, layer_a)
    _limit_to_bounds(ax, result)
    ax.set(xlabel="layer" if layer_a is None else f"layer of {plain(b)}", ylabel=scale_label(result))
    if layer_a is not None:
        ax.set_title(f"layer {layer_a} of {plain(a)}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if label or others or ceiling is not None or "null_mean" in row.coords:
        ax.legend(frameon=False, fontsize="small")
    return ax


def _curve(result: xr.DataArray, layer_a: int | None) -> tuple[list[int], xr.DataArray]:
    """The layers of a curve and its values."""
    import xarray as xr

    if layer_a is not None:
        if layer_a not in result.layer_a.values:
            raise InputError(f"Model a has no layer {layer_a!r}. Available layers: {result.layer_a.values.tolist()}.")
        return result.layer_b.values.tolist(), result.sel(layer_a=layer_a)
    both = [layer for layer in result.layer_a.values.tolist() if layer in result.layer_b.values]
    if not both:
        raise InputError("The two models have no layer in common; choose one with layer_a.")
    along = xr.DataArray(both, dims="layer")
    return both, result.sel(layer_a=along, layer_b=along)


def _draw_ceiling(ceiling: xr.Dataset, ax: Axes, result: xr.DataArray, layer_a: int | None) -> None:
    """The line of a noise ceiling, or of the seeds of one recipe, named once."""
    if layer_a is not None:
        raise InputError("A ceiling is about equal layers; leave out layer_a or the ceiling.")
    own = {"measure": result.name, **json.loads(result.attrs.get("provenance", "{}")).get("measure_params", {})}
    given = {"measure": ceiling.attrs["measure"], **json.loads(ceiling.attrs["measure_params"])}
    differ = [name for name in own | given if own.get(name) != given.get(name)]
    if differ:
        of_ceiling, of_curve = ({name: each.get(name) for name in differ} for each in (given, own))
        raise InputError(f"The ceiling is of {of_ceiling}, the curve of {of_curve}.")
    name = "ceiling" if "ceiling" in ceiling else "seeds"
    title, dash = CEILINGS[name]
    once = "_" if title in ax.get_legend_handles_labels()[1] else title
    ax.plot(ceiling.layer, ceiling[name], dash, color="0.25", linewidth=1.2, label=once, zorder=2)


def _label_once(ax: Axes, label: str) -> None:
    """Label the area drawn last, unless the label exists already."""
    if label not in ax.get_legend_handles_labels()[1]:
        ax.collections[-1].set_label(label)


def _limit_to_bounds(ax: Axes, result: xr.DataArray) -> None:
    """Set the y-axis from 0 to the measure's upper bound; start below 0 only if something is drawn there."""
    bottom, top = ax.get_ylim()
    upper = float(result.attrs.get("upper_bound", np.inf))
    ax.set_ylim(min(bottom, 0.0) if bottom < -0.02 else 0.0, upper if np.isfinite(upper) else top)


def penalties(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw stitching penalties by layer, one series per kind of sender and receiver.

    Parameters
    ----------
    frame
        Result of `stitching.penalties_by_kind`.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        The Axes. Bars are intervals, each receiver has a colour, and markers are hollow for senders of another kind. An
        infinite interval has no bar.

    Notes
    -----
    Penalties depend on the map and on how much text it was fitted on; only series from one table are comparable.
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
        reach = np.array([part.penalty - part.low, part.high - part.penalty]).clip(min=0)
        ax.errorbar(
            place,
            part.penalty,
            yerr=np.where(np.isfinite(reach), reach, np.nan),
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
    """Draw means over pairs of models by layer, one line per pair of groups, with intervals as bands.

    Parameters
    ----------
    frame
        Result of `groups.means_by_group`.
    ax
        Axes to draw on; None makes a new figure.
    label
        Label of the values, with their unit.

    Returns
    -------
    Axes
        The Axes. Lines within a group are solid, lines between groups dashed.

    Notes
    -----
    Bands hold for each mean by itself. Two means can differ significantly although their bands overlap, since they
    share models; draw `effects` for the difference.
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
    """Draw the dissimilarity between groups minus that within groups, by layer, with intervals.

    Parameters
    ----------
    table
        Result of `groups.group_test`.
    ax
        Axes to draw on; None makes a new figure.
    label
        Label of the effect, with its unit.

    Returns
    -------
    Axes
        The Axes. Points are filled where permuted labels rarely give as large an effect (family-wise p <= 0.05), else
        hollow. Bars are dark where the interval excludes 0, else pale.

    Notes
    -----
    Fill and shade are two facts. Filled: the labels of these very models matter (a permutation test, family-wise over
    layers). Dark: models trained anew would show an effect of the same sign (a jackknife over models, each layer by
    itself). Models vary a lot, so a filled point can have a pale bar, and a hollow point a dark one. A hollow point
    does not show that the groups are equal.
    """
    ax = ax or _new()
    reach = np.array([table.effect - table.low, table.high - table.effect])
    excludes = ((table.low > 0) | (table.high < 0)).to_numpy()
    for mask, color, meaning in ((excludes, "C0", "interval excludes 0"), (~excludes, PALE, "interval covers 0")):
        if mask.any():
            x, y = table.index[mask], table.effect[mask]
            ax.errorbar(x, y, yerr=reach[:, mask], fmt="none", color=color, capsize=2, label=meaning)
    for significant, face, meaning in ((True, "C0", f"p <= {LEVEL}"), (False, "white", f"p > {LEVEL}")):
        part = table[(table.p_adjusted <= LEVEL) == significant]
        ax.plot(part.index, part.effect, "o", color="C0", mfc=face, label=meaning if len(part) else None)
    ax.axhline(0, color="0.3", linewidth=0.8)
    return _by_layer(ax, label)


def over_training(
    result: xr.DataArray | xr.Dataset, ax: Axes | None = None, *, losses: Mapping[int, float] | None = None
) -> Axes:
    """Draw one line per layer over training steps, on a logarithmic scale that starts at 0, or over the loss.

    Parameters
    ----------
    result
        Result of `depth.over_training`, whose similarity is drawn, with its interval as a band and the mean of its null
        as a dashed line in the colour of the layer; or one variable of it, dims (step, layer), which is drawn alone.
    ax
        Axes to draw on; None makes a new figure.
    losses
        Loss of the run at its steps, step -> loss. Draws over the loss, which falls from left to right.

    Returns
    -------
    Axes
        The Axes. Layers go from dark (embedding) to light (last).

    Raises
    ------
    InputError
        If `result` is neither, or losses does not cover its steps.

    Notes
    -----
    The logarithmic scale stretches early training, where most of the checkpoints are but little of the training time.
    The lines come from one training run. Bands are over documents, for each point by itself. A line near its dashed one
    shows no more than unrelated rows do; with biased CKA and few rows that can be most of the height.

    Examples
    --------
    >>> import xarray as xr
    >>> about = {"long_name": "CKA", "direction": "similarity", "upper_bound": 1.0}
    >>> course = xr.Dataset(
    ...     {"similarity": (("step", "layer"), [[0.2], [0.9]], about)}, {"step": [0, 100], "layer": [1]}
    ... )
    >>> over_training(course).get_xlabel(), over_training(course, losses={0: 8.0, 100: 3.0}).get_xlabel()
    ('training step', 'training loss')
    """
    import matplotlib as mpl

    from repsim_nb.depth.convergence import losses_at

    parts: Mapping[Any, Any] = getattr(result, "data_vars", {})
    shown = parts.get("similarity", result)
    if tuple(getattr(shown, "dims", ())) != ("step", "layer"):
        raise InputError(
            f"over_training draws a result of depth.over_training or one variable of it, dims ('step', 'layer'), got "
            f"{type(result).__name__} with dims {tuple(getattr(shown, 'dims', ()))}."
        )
    ax = ax or _new()
    steps = shown.step.values
    x = steps if losses is None else losses_at(losses, steps, steps)
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, shown.sizes["layer"]))
    for layer, color in zip(shown.layer.values.tolist(), shades, strict=True):
        ax.plot(x, shown.sel(layer=layer), "o-", color=color, markersize=3, label=plain(f"layer {layer}"))
        if "low" in parts:
            low, high = (parts[end].sel(layer=layer) for end in ("low", "high"))
            ax.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
        if "null_mean" in parts:
            ax.plot(x, parts["null_mean"].sel(layer=layer), "--", color=color, linewidth=0.8, zorder=1)
    if "null_mean" in parts:
        ax.plot([], [], "--", color="0.4", linewidth=0.8, label="unrelated: mean")
    if losses is None:
        ax.set_xscale("symlog", linthresh=max([1, *steps[steps > 0][:1].tolist()]))
    else:
        ax.invert_xaxis()
    ax.set(
        xlabel="training step" if losses is None else "training loss",
        ylabel=scale_label(shown) if "direction" in shown.attrs else plain(shown.long_name),
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="x-small", ncols=2)
    return ax


def _new() -> Axes:
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(4.6, 3.4), layout="constrained").add_subplot()


def _by_layer(ax: Axes, label: str) -> Axes:
    """Label axes, ticks and legend of a plot by layer."""
    from matplotlib.ticker import MaxNLocator

    ax.set(xlabel="layer", ylabel=plain(label))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return ax
