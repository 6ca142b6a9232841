"""Labelled results -> Axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError

LEVEL = 0.05  # a cell with a larger p-value does not differ from its null
HATCHED = f"(hatched: does not differ from unrelated, p > {LEVEL})"

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def heatmap(
    result: xr.DataArray,
    ax: Axes | None = None,
    *,
    limits: tuple[float, float] | None = None,
    colorbar: bool = True,
    annotate: bool | None = None,
) -> Axes:
    """The layer x layer map of a comparison; layer 0 is at the lower left, as in the literature.

    Where the result has a null, cells that do not differ from it (family-wise p > 0.05) are hatched, and the x-axis
    says so.

    Args:
        result: what `compare` returned, dims (layer_a, layer_b).
        ax: where to draw; None makes a new figure.
        limits: of the colour scale, to share it between maps; None takes the measure's own bounds where it has two,
            and the data's otherwise.
        colorbar: draw a colour bar that says what high and low mean.
        annotate: print the values into the cells; None does so for maps of at most 40 cells.

    Returns:
        The Axes; nothing is shown or saved.

    Raises:
        InputError: not a comparison result, or values that are not finite.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    _check(result, "heatmap")
    if ax is None:
        ax = plt.figure(figsize=(4.6, 3.8), layout="constrained").add_subplot()
    low, high = limits or _limits(result)
    sns.heatmap(
        result.to_pandas(),
        ax=ax,
        vmin=low,
        vmax=high,
        cmap="viridis" if result.attrs.get("direction") == "similarity" else "viridis_r",
        square=result.shape[0] == result.shape[1],
        annot=result.size <= 40 if annotate is None else annotate,
        fmt=".2f",
        annot_kws={"size": "small"},
        cbar=colorbar,
        cbar_kws={"label": scale_label(result)} if colorbar else None,
        rasterized=False,
    )
    ax.invert_yaxis()
    ax.set(xlabel=f"layer of {result.attrs.get('model_b', 'b')}", ylabel=f"layer of {result.attrs.get('model_a', 'a')}")
    ax.tick_params(axis="y", rotation=0)
    if _hatch_null_cells(result, ax, "//" if ax.texts else "////"):  # sparse around numbers
        ax.set_xlabel(f"{ax.get_xlabel()}\n{HATCHED}")
    return ax


def _hatch_null_cells(result: xr.DataArray, ax: Axes, hatch: str) -> bool:
    """Hatch the cells that do not differ from their null; whether there are any."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    unrelated = _unrelated(result)
    cells = [Rectangle((column, row), 1, 1) for row, column in np.argwhere(unrelated)]
    if cells:
        # White on colour, not a colour of its own: every map and every reader has the contrast.
        hatches = PatchCollection(cells, facecolor="none", edgecolor="white", linewidth=0, alpha=0.5, hatch=hatch)
        ax.add_collection(hatches)
    return bool(cells)


def _unrelated(result: xr.DataArray) -> np.ndarray:
    """Which cells do not differ from their null; none where the result has no null."""
    if "p_value" not in result.coords:
        return np.zeros(result.shape, dtype=bool)
    return result.p_value.values > LEVEL


def _check(result: xr.DataArray, figure: str) -> None:
    if tuple(getattr(result, "dims", ())) != ("layer_a", "layer_b"):
        raise InputError(
            f"{figure} draws what compare returned, dims ('layer_a', 'layer_b'); "
            f"received {type(result).__name__} with dims {tuple(getattr(result, 'dims', ()))}."
        )
    if not np.isfinite(result.values).all():
        raise InputError("The result holds values that are not finite; they are not drawn as if they were colours.")


def curves(
    result: xr.DataArray, ax: Axes | None = None, *, layer_a: int | None = None, label: str | None = None
) -> Axes:
    """How alike two models are, layer by layer, with the interval and the null where the result has them.

    A band is the interval of each layer by itself. The grey area is what unrelated representations reach, up to its
    5% level over the whole grid; points inside it, whose p-value is above 0.05, are hollow.

    Args:
        result: what `compare` returned, dims (layer_a, layer_b).
        ax: where to draw, onto other curves if there are any; None makes a new figure.
        layer_a: this layer of a against every layer of b; None takes each layer that both have against itself.
        label: of the curve, in the legend; None names the models where other curves are there too.

    Returns:
        The Axes; nothing is shown or saved.

    Raises:
        InputError: not a comparison result, values that are not finite, or a layer that is not there.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    _check(result, "curves")
    a, b = (result.attrs.get(f"model_{side}", side) for side in "ab")
    layers, row = _curve(result, layer_a)
    if ax is None:
        ax = plt.figure(figsize=(4.6, 3.4), layout="constrained").add_subplot()
    others = bool(ax.lines)
    line = ax.plot(layers, row.values, "o-", label=label or f"{a}, {b}", zorder=3, clip_on=False)[0]
    hollow = _unrelated(row)
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
    ax.set(xlabel="layer" if layer_a is None else f"layer of {b}", ylabel=scale_label(result))
    if layer_a is not None:
        ax.set_title(f"layer {layer_a} of {a}")
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


def scale_label(result: xr.DataArray) -> str:
    """What the colour bar says: the measure and what its ends mean."""
    title = result.attrs.get("long_name", result.name)
    if result.attrs.get("direction") == "dissimilarity":
        return f"{title}\n(0 = same, larger = less alike)"
    return f"{title}\n(1 = same, 0 = nothing shared)"


def _limits(result: xr.DataArray) -> tuple[float, float]:
    values = result.values
    low, high = float(result.attrs.get("lower_bound", -np.inf)), float(result.attrs.get("upper_bound", np.inf))
    if result.attrs.get("direction") == "similarity":
        low = min(0.0, float(values.min()))
    return (low if np.isfinite(low) else float(values.min())), (high if np.isfinite(high) else float(values.max()))


def heatmap_grid(results: Mapping[tuple[str, str], xr.DataArray], limits: tuple[float, float] | None = None) -> Figure:
    """One heatmap per pair of models, in a grid with one colour scale and one colour bar.

    Args:
        results: (row model, column model) -> what `compare` returned for them; pairs that are absent stay empty.
        limits: of the shared colour scale; None takes what all maps need together.

    Returns:
        The Figure; nothing is shown or saved.
    """
    import matplotlib.pyplot as plt

    if not results:
        raise InputError("heatmap_grid received no results; expected at least one pair of models.")
    row_names = list(dict.fromkeys(row for row, _ in results))
    column_names = list(dict.fromkeys(column for _, column in results))
    every = [_limits(result) for result in results.values()]
    low, high = limits or (min(e[0] for e in every), max(e[1] for e in every))
    extents = {name: n for (row, column), r in results.items() for name, n in zip((row, column), r.shape, strict=True)}
    figure, axes = plt.subplots(
        len(row_names),
        len(column_names),
        figsize=(1.2 + 2.1 * len(column_names), 0.9 + 1.9 * len(row_names)),
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
            hatched |= bool(_unrelated(results[row, column]).any())
            ax.set_xlabel(column if i == len(row_names) - 1 else "")
            ax.set_ylabel(row if j == 0 else "")
            ax.set_aspect("auto")
    some = next(iter(results.values()))
    mappable = next(ax for ax in axes.flat if ax.collections).collections[0]
    figure.colorbar(mappable, ax=axes, label=scale_label(some), shrink=0.6, aspect=30)
    if hatched:
        figure.supxlabel(HATCHED, fontsize="small")
    return figure


def gallery(results: Mapping[str, xr.DataArray], columns: int = 4) -> Figure:
    """One heatmap per measure, each on its own scale with its own colour bar; brighter is more alike in all.

    Args:
        results: title -> what `compare` returned.
        columns: maps per row of the figure.
    """
    import matplotlib.pyplot as plt

    if not results:
        raise InputError("gallery received no results; expected at least one map.")
    columns = min(columns, len(results))
    rows = -(-len(results) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.7 * columns, 2.3 * rows), squeeze=False, layout="constrained")
    for ax, (title, result) in zip(axes.flat, results.items(), strict=False):
        spread = float(result.min()), float(result.max())
        heatmap(result, ax, limits=spread, colorbar=False, annotate=False)
        figure.colorbar(ax.collections[0], ax=ax, shrink=0.8)
        ax.set(xlabel="", ylabel="")
        ax.set_title(title, fontsize="small")
    for ax in axes.flat[len(results) :]:
        ax.set_axis_off()
    some = next(iter(results.values()))
    figure.supxlabel(f"layer of {some.attrs.get('model_b', 'b')}", fontsize="medium")
    figure.supylabel(f"layer of {some.attrs.get('model_a', 'a')}", fontsize="medium")
    return figure


def agreement_map(correlations: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Which measures agree: their rank correlations as a map, like ones side by side.

    Args:
        correlations: square, what `sanity.agreement` returned.
        ax: where to draw; None makes a new figure.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if ax is None:
        side = 2.2 + 0.34 * len(correlations)
        ax = plt.figure(figsize=(side + 1, side), layout="constrained").add_subplot()
    apart = squareform(1 - correlations.to_numpy().clip(-1, 1), checks=False)
    order = leaves_list(linkage(apart, "average"))
    sns.heatmap(
        correlations.iloc[order, order],
        ax=ax,
        vmin=-1,
        vmax=1,
        cmap="PuOr_r",
        square=True,
        annot=len(correlations) <= 20,
        fmt=".1f",
        annot_kws={"size": "x-small"},
        cbar_kws={"label": "Spearman correlation over the cells of the map\n(1 = same order, 0 = none, -1 = reversed)"},
    )
    ax.tick_params(axis="y", rotation=0)
    return ax


def model_map(distances: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Models as points, as far apart as their distances ask for: classical multidimensional scaling in the plane.

    Args:
        distances: square and symmetric, index and columns the model names; zero diagonal.
        ax: where to draw; None makes a new figure.

    Returns:
        The Axes; its title says what share of the squared distances the plane holds.

    Raises:
        InputError: not square, not symmetric, or fewer than three models.

    Reference: Torgerson 1952.
    """
    import matplotlib.pyplot as plt

    d = distances.to_numpy(dtype=float)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or len(d) < 3 or not np.allclose(d, d.T):
        raise InputError(f"model_map needs a symmetric table of three models or more; received shape {d.shape}.")
    centring = np.eye(len(d)) - 1 / len(d)
    values, vectors = np.linalg.eigh(-0.5 * centring @ d**2 @ centring)
    x, y = (vectors[:, -k] * np.sqrt(max(values[-k], 0)) for k in (1, 2))
    held = values[-2:].clip(min=0).sum() / np.abs(values).sum()
    if ax is None:
        ax = plt.figure(figsize=(4.6, 4.2), layout="constrained").add_subplot()
    ax.scatter(x, y, color="C0")
    for name, a, b in zip(distances.index, x, y, strict=True):
        ax.annotate(str(name), (a, b), xytext=(4, 4), textcoords="offset points", fontsize="small")
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.2)
    ax.set(xlabel="first axis (units of the distance)", ylabel="second axis (same units)")
    ax.set_title(f"the plane holds {held:.0%}", fontsize="small")
    return ax


def penalties(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Stitching penalties by layer, one series for every kind of sender into every kind of receiver.

    Args:
        frame: what `stitching.penalties_by_kind` returned.
        ax: where to draw; None makes a new figure.

    Returns:
        The Axes; bars are the intervals. Receivers have a colour each; a foreign sender's markers are hollow.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    if ax is None:
        ax = plt.figure(figsize=(4.6, 3.4), layout="constrained").add_subplot()
    layers = sorted(frame.layer.unique())
    kinds = list(dict.fromkeys(frame.receiver))
    series = [(sender, receiver) for receiver in kinds for sender in kinds]
    colors = dict(zip(kinds, sns.color_palette("colorblind"), strict=False))
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
            label=f"{sender} into {receiver}",
        )
    ax.set_xticks(range(len(layers)), layers)
    ax.set(xlabel="layer", ylabel=f"stitching penalty ({frame.attrs.get('units', 'nats')})")
    together = ax.get_shared_y_axes().get_siblings(ax)
    ax.set_ylim(min(0, *(a.dataLim.y0 for a in together)), 1.05 * max(a.dataLim.y1 for a in together))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return ax
