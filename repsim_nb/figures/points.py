"""Scatter plots of models, measures and rows."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.figures.scales import LEVEL
from repsim_nb.figures.words import entry, plain
from repsim_nb.groups.model_tables import read_distances

FEWEST_MODELS = 3
SIDES = ((5, 4), (5, -4), (-5, 4), (-5, -4))  # offsets of a name from its point, in points

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

    from repsim_nb.comparison.closeup import SharedAxes


def model_map(
    distances: pd.DataFrame | xr.DataArray, ax: Axes | None = None, *, groups: Mapping[str, str] | None = None
) -> Axes:
    """Draw models as points in the plane by classical multidimensional scaling of their distances.

    Parameters
    ----------
    distances
        Square, symmetric table of distances with zero diagonal, indexed by model names. Or one square of a result of
        `compare_models`: a layer of a measure in a corpus. That is averaged over both directions, and a similarity,
        such as a `calibrated_map`, is subtracted from its largest value.
    ax
        Axes to draw on; None makes a new figure.
    groups
        Model -> group. Groups get a colour and a marker each, and their models are not named.

    Returns
    -------
    Axes
        The Axes. The title gives the share of the squared distances that the plane holds, and the stress: the root of
        the squared errors of the distances in the plane over the squared distances (Kruskal's stress-1).

    Raises
    ------
    InputError
        If the table is not one square and symmetric, or has fewer than three models.

    Notes
    -----
    Distances in the plane are approximations: models that are far apart can appear close if the plane holds a small
    share. A stress of 0.05 is good, of 0.2 poor (Kruskal 1964). Orientation of the axes is arbitrary.

    Examples
    --------
    >>> import pandas as pd
    >>> place = np.array([0.0, 1.0, 3.0])
    >>> names = ["a", "b", "c"]
    >>> model_map(pd.DataFrame(np.abs(np.subtract.outer(place, place)), names, names)).get_title()
    'the plane holds 100% of the squared distances (stress 0.00)'

    References
    ----------
    Torgerson 1952; Kruskal 1964, "Multidimensional scaling by optimizing goodness of fit", Psychometrika 29:1.
    """
    import matplotlib.pyplot as plt
    import pandas as pd
    import seaborn as sns

    if not isinstance(distances, pd.DataFrame):
        names, _, values = read_distances(distances, None, FEWEST_MODELS)
        distances = pd.DataFrame(values, names, names)
    points, held, stress = in_plane(distances)
    x, y = points.T
    if ax is None:
        ax = plt.figure(figsize=(4.6, 4.2), layout="constrained").add_subplot()
    of = np.array(["" if groups is None else groups.get(name, "") for name in distances.index])
    ax.scatter(x[of == ""], y[of == ""], color="C0" if groups is None else "0.7")
    drawn = [group for group in dict.fromkeys(of.tolist()) if group]
    for group, color, marker in zip(drawn, cycle(sns.color_palette("colorblind")), cycle("osD^v"), strict=False):
        ax.scatter(x[of == group], y[of == group], color=color, marker=marker, label=entry(group))
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.2)
    ax.set(xlabel="first axis (units of the distance)", ylabel="second axis (same units)")
    ax.set_title(f"the plane holds {held:.0%} of the squared distances (stress {stress:.2f})", fontsize="small")
    if groups is None:
        _name_points(ax, [plain(name) for name in distances.index], points)
    else:
        ax.legend(frameon=False, fontsize="small")
    return ax


def in_plane(distances: pd.DataFrame) -> tuple[np.ndarray, float, float]:
    """Points (models, 2) by classical scaling, the share of the squared distances that they hold, and their stress."""
    d = distances.to_numpy(dtype=float)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or len(d) < 3 or not np.allclose(d, d.T):
        raise InputError(f"model_map needs a symmetric table of at least three models, got shape {d.shape}.")
    centring = np.eye(len(d)) - 1 / len(d)
    values, vectors = np.linalg.eigh(-0.5 * centring @ d**2 @ centring)
    points = np.stack([vectors[:, -k] * np.sqrt(max(values[-k], 0)) for k in (1, 2)], axis=1)
    held = values[-2:].clip(min=0).sum() / np.abs(values).sum()
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return points, float(held), float(np.sqrt(((d - apart) ** 2).sum() / (d**2).sum()))


def _name_points(ax: Axes, names: list[str], points: np.ndarray) -> None:
    """Write each name next to its point, on the first side that is free of points and other names."""
    from matplotlib.transforms import Bbox

    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # positions are known only after drawing
    taken = [Bbox([at - 4, at + 4]) for at in ax.transData.transform(points)]
    for name, point in zip(names, points, strict=True):
        for dx, dy in SIDES:
            sides: dict[str, Any] = {"ha": "left" if dx > 0 else "right", "va": "bottom" if dy > 0 else "top"}
            text = ax.annotate(name, point, (dx, dy), textcoords="offset points", fontsize="small", **sides)
            box = text.get_window_extent()
            if (dx, dy) == SIDES[-1] or not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        taken.append(box)


def ranking(table: pd.DataFrame, ax: Axes | None = None, *, level: float = LEVEL) -> Axes:
    """Draw measures by how well their dissimilarity predicts accuracy gaps, best at the top.

    Parameters
    ----------
    table
        Result of `groups.rank_measures`.
    ax
        Axes to draw on; None makes a new figure.
    level
        Points with a p-value of at most this are filled.

    Returns
    -------
    Axes
        The Axes; bars are intervals.

    Notes
    -----
    p-values are not corrected for the number of measures: divide `level` by it (Bonferroni) to claim that any of them
    correlates. The best of many measures looks better than it is.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        ax = plt.figure(figsize=(5.2, 1.1 + 0.28 * len(table)), layout="constrained").add_subplot()
    place = np.arange(len(table))[::-1]
    reach = [(table.spearman - table.low).clip(lower=0), (table.high - table.spearman).clip(lower=0)]
    ax.errorbar(table.spearman, place, xerr=reach, fmt="none", color="C0", capsize=2)
    for found, face, meaning in ((True, "C0", f"p <= {level:.2g}"), (False, "white", f"p > {level:.2g}")):
        which = (table.p_value <= level).to_numpy() == found
        ax.plot(table.spearman[which], place[which], "o", color="C0", mfc=face, label=meaning if which.any() else None)
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_yticks(place, [plain(name) for name in table.index])
    ax.set_xlabel("Spearman correlation, mean over layers, of\ndissimilarity with the gap in accuracy")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return ax


def projection(closeup: SharedAxes, ax: Axes | None = None, *, labels: tuple[str, str] = ("a", "b")) -> Axes:
    """Draw two representations on shared axes; a thin line joins the two points of each stimulus.

    Parameters
    ----------
    closeup
        Result of `closeup.shared_axes`.
    ax
        Axes to draw on; None makes a new figure.
    labels
        Legend entries of the two representations.

    Returns
    -------
    Axes
        The Axes. The title says how many rows are shown.

    Notes
    -----
    Short lines do not mean small distances: the axes show only the share of the variance that their labels state.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns
    from matplotlib.collections import LineCollection

    if ax is None:
        ax = plt.figure(figsize=(4.6, 4.2), layout="constrained").add_subplot()
    first, second = sns.color_palette("colorblind", 2)
    ax.add_collection(
        LineCollection(list(np.stack([closeup.x, closeup.y], 1)), colors="0.6", linewidths=0.5, alpha=0.6)
    )
    ax.plot(*closeup.x.T, "o", color=first, markersize=3.5, label=entry(labels[0]))
    ax.plot(*closeup.y.T, "s", color=second, markersize=3.5, mfc="none", label=entry(labels[1]))
    for number, (name, share) in enumerate(zip(("x", "y"), closeup.explained, strict=True)):
        ax.set(**{f"{name}label": f"{('first', 'second')[number]} shared axis ({share:.0%} of the variance)"})
    ax.set_title(str(closeup), fontsize="small", pad=30)
    ax.spines[["top", "right"]].set_visible(False)
    # above the axes, where there are no points
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    return ax
