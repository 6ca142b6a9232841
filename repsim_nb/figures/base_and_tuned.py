"""A base model and its descendant: how far layers moved, which parts carry the change, what moved most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.figures.words import entry, plain

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

LISTED = 12  # tokens or documents, as bars
LONGEST = 60  # characters of the name of a token or document


def layer_profile(difference: xr.Dataset, ax: Axes | None = None, *, label: str | None = None) -> Axes:
    """Draw the share of activations that moved at every layer, with its interval, and the change of weights per block.

    Parameters
    ----------
    difference
        Result of `rs.diff`.
    ax
        Axes to draw on, which can hold other profiles; None makes a new figure.
    label
        Legend entry. None names the descendant.

    Returns
    -------
    Axes
        The Axes: a line with a band for activations, and steps in the same colour for weights, block l between layers
        l - 1 and l. Both are shares, on a logarithmic scale that begins at 0.

    Raises
    ------
    InputError
        It is no result of `rs.diff`.

    Examples
    --------
    >>> import repsim_nb as rs
    >>> found = rs.diff("tiny-neox-w32-d2", "tiny-neox-w32-d2-s1", n_rows=200, n_report=2)
    >>> layer_profile(found).get_xlabel()
    'layer'
    """
    from matplotlib.ticker import MaxNLocator

    _check(difference, "layer_profile")
    ax = ax or _new()
    name = label or difference.attrs["model_b"]
    line = ax.plot(difference.layer, difference.moved, "o-", ms=4, label=entry(name), zorder=3)[0]
    ax.fill_between(
        difference.layer, difference.moved_low, difference.moved_high, color=line.get_color(), alpha=0.22, linewidth=0
    )
    change = _blocks(difference).weight_change.values
    ax.stairs(change, np.arange(len(change) + 1), baseline=None, color=line.get_color(), linestyle="--", linewidth=1)
    if "weights of the block" not in ax.get_legend_handles_labels()[1]:
        ax.plot([], [], "--", color="0.4", linewidth=1, label="weights of the block")
    ax.set_yscale("symlog", linthresh=1e-4)
    ax.set_ylim(0, 3)
    ax.set(xlabel="layer", ylabel="share that moved\n(0 = nothing, 1 = nothing in common)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def carrying_parts(difference: xr.Dataset, ax: Axes | None = None, *, what: str = "divergence") -> Axes:
    """Draw what every part does, run inside the other model: the descendant's inside the base, and back.

    Parameters
    ----------
    difference
        Result of `rs.diff`.
    ax
        Axes to draw on; None makes a new figure.
    what
        "divergence" of the predictions, or "loss", which can rise or fall.

    Returns
    -------
    Axes
        The Axes: one line per part, the embedding on top, with intervals over documents.

    Raises
    ------
    InputError
        It is no result of `rs.diff`, or `what` is neither.

    Examples
    --------
    >>> import repsim_nb as rs
    >>> found = rs.diff("tiny-neox-w32-d2", "tiny-neox-w32-d2-s1", n_rows=200, n_report=2)
    >>> [tick.get_text() for tick in carrying_parts(found).get_yticklabels()]
    ['embedding', 'block 1', 'block 2', 'head']
    """
    _check(difference, "carrying_parts")
    if what not in ("divergence", "loss"):
        raise InputError(f"what={what!r}; expected 'divergence' or 'loss'.")
    ax = ax or _new()
    place = np.arange(difference.sizes["part"])
    names = {"into": "of the descendant, inside the base", "back": "of the base, inside the descendant"}
    for shift, mark, (way, text) in zip((-0.12, 0.12), "os", names.items(), strict=True):
        value, low, high = (difference[f"{what}_{way}{end}"].values for end in ("", "_low", "_high"))
        reach = np.abs([value - low, high - value])
        ax.errorbar(value, place + shift, xerr=reach, fmt=mark, ms=4, capsize=2, label=text)
    ax.axvline(0, color="0.5", linewidth=0.8)
    ax.set_yticks(place, [plain(str(part)) for part in difference.part.values])
    ax.invert_yaxis()
    title = "divergence of predictions" if what == "divergence" else "change of the loss"
    ax.set(xlabel=f"{title} by one part ({difference.loss_change.attrs['units']})")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 1.18))
    return ax


def most_moved(difference: xr.Dataset, ax: Axes | None = None, *, of: str = "tokens", n: int = LISTED) -> Axes:
    """Draw the tokens or documents whose activations moved most at the last layer, as bars with their names.

    Parameters
    ----------
    difference
        Result of `rs.diff`.
    ax
        Axes to draw on; None makes a new figure.
    of
        "tokens" or "documents".
    n
        Number of bars.

    Returns
    -------
    Axes
        The Axes, the one that moved most on top.

    Raises
    ------
    InputError
        It is no result of `rs.diff`, or `of` is neither.

    Examples
    --------
    >>> import repsim_nb as rs
    >>> found = rs.diff("tiny-neox-w32-d2", "tiny-neox-w32-d2-s1", n_rows=200, n_report=2)
    >>> len(most_moved(found, of="documents", n=5).patches)
    5
    """
    _check(difference, "most_moved")
    if of not in ("tokens", "documents"):
        raise InputError(f"of={of!r}; expected 'tokens' or 'documents'.")
    ax = ax or _new()
    if of == "documents":
        moved, names = difference.document_most_moved.values[:n], difference.document_most_document.values[:n]
    else:
        moved = difference.token_moved.values[:n]
        pairs = zip(difference.token_before.values[:n], difference.token_token.values[:n], strict=True)
        names = [f"{before[-12:]}[{token}]".replace("\n", "\\n") for before, token in pairs]
    ax.barh(np.arange(len(moved)), moved, color="C0", height=0.7)
    ax.set_yticks(np.arange(len(moved)), [plain(str(name), LONGEST) for name in names], fontsize="x-small")
    ax.invert_yaxis()
    ax.set(xlabel="distance moved at the last layer\n(relative to the spread of the base)")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def transferred(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how well a probe or a direction works where it was found, carried to another model, and against controls.

    Parameters
    ----------
    table
        Result of `stitching.transfer_probe` or `stitching.transfer_direction`.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        The Axes: one line per probe or direction with its interval; the dotted line is chance.

    Raises
    ------
    InputError
        It is no such table.
    """
    if not {"value", "low", "high"} <= {*table.columns}:
        raise InputError("transferred draws a result of stitching.transfer_probe or stitching.transfer_direction.")
    ax = ax or _new()
    place = np.arange(len(table))
    reach = np.abs([table.value - table.low, table.high - table.value])
    ax.errorbar(table.value, place, xerr=reach, fmt="o", capsize=3)
    ax.axvline(table.attrs["chance"], color="0.4", linestyle=":", linewidth=1)
    ax.set_yticks(place, [plain(name) for name in table.index])
    ax.invert_yaxis()
    ax.set(xlabel=table.attrs["long_name"])
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _check(difference: xr.Dataset, name: str) -> None:
    if "moved" not in difference or "divergence_into" not in difference:
        raise InputError(f"{name} draws a result of rs.diff.")


def _blocks(difference: xr.Dataset) -> xr.Dataset:
    return difference.sel(part=[str(part) for part in difference.part.values if str(part).startswith("block")])


def _new() -> Axes:
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(4.8, 3.4), layout="constrained").add_subplot()
