"""Models and measures as points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


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
