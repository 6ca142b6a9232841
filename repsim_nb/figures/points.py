"""Models and measures as points."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.figures.scales import LEVEL
from repsim_nb.figures.words import entry, plain

SIDES = ((5, 4), (5, -4), (-5, 4), (-5, -4))  # of a point, where its name may stand, in points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from repsim_nb.comparison.closeup import SharedAxes


def model_map(distances: pd.DataFrame, ax: Axes | None = None, *, groups: Mapping[str, str] | None = None) -> Axes:
    """Models as points, as far apart as their distances ask for: classical multidimensional scaling in the plane.

    Parameters
    ----------
    distances
        Square and symmetric, index and columns the model names; zero diagonal.
    ax
        Where to draw; None makes a new figure.
    groups
        Model -> group, which then has a colour and a marker of its own; its models are not named.

    Returns
    -------
    Axes
        The Axes; its title says what share of the squared distances the plane holds.

    Raises
    ------
    InputError
        Not square, not symmetric, or fewer than three models.

    References
    ----------
    Torgerson 1952.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    d = distances.to_numpy(dtype=float)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or len(d) < 3 or not np.allclose(d, d.T):
        raise InputError(f"model_map needs a symmetric table of three models or more; received shape {d.shape}.")
    centring = np.eye(len(d)) - 1 / len(d)
    values, vectors = np.linalg.eigh(-0.5 * centring @ d**2 @ centring)
    x, y = (vectors[:, -k] * np.sqrt(max(values[-k], 0)) for k in (1, 2))
    held = values[-2:].clip(min=0).sum() / np.abs(values).sum()
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
    ax.set_title(f"the plane holds {held:.0%} of the squared distances", fontsize="small")
    if groups is None:
        _name_points(ax, [plain(name) for name in distances.index], np.stack([x, y], 1))
    else:
        ax.legend(frameon=False, fontsize="small")
    return ax


def _name_points(ax: Axes, names: list[str], points: np.ndarray) -> None:
    """Each name beside its point, on the first side where neither a point nor another name is."""
    from matplotlib.transforms import Bbox

    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # from here on it is known what is where
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
    """Measures by how well dissimilarity follows the gap in accuracy, the best at the top.

    Parameters
    ----------
    table
        What `groups.rank_measures` returned.
    ax
        Where to draw; None makes a new figure.
    level
        Points are filled where the correlation is above 0 with a p-value of at most this, to be shared over the
        measures where one is to hold of all of them.

    Returns
    -------
    Axes
        The Axes; bars are the intervals.
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
    """Two representations on shared axes; a thin line joins the two places of one stimulus.

    Parameters
    ----------
    closeup
        What `closeup.shared_axes` returned.
    ax
        Where to draw; None makes a new figure.
    labels
        Of the two, in the legend.

    Returns
    -------
    Axes
        The Axes; its title says how many of the rows are shown.
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
    # above, where no points are
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    return ax
