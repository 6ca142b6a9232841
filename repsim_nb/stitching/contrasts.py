"""One entry for each cut of an atlas, and the contrast between the two directions of stitching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError, unknown
from repsim_nb.stitching.assembled import document_sizes, with_intervals
from repsim_nb.stitching.asymmetry import asymmetry

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

ENTRIES = ("best", "relative")


def best_entries(table: xr.Dataset) -> xr.Dataset:
    """Take the best entry of every cut, chosen on other documents than it is judged on.

    Parameters
    ----------
    table
        Result of `stitching_table` with `into`.

    Returns
    -------
    xarray.Dataset
        Over (sender, receiver, layer), with `penalty` and its interval, the sums per document that `asymmetry` and
        `penalties_by_kind` need, and `entry`, the entry that is best on all documents. If models have different
        depths, `layer` counts cuts of the shallowest sender, and others are cut at the nearest relative depth.

    Raises
    ------
    InputError
        If the table has no entries, lacks a cut at that depth, or has one document.

    Notes
    -----
    The lowest of many penalties is low by chance too. Documents are therefore halved, those at even places against the
    rest, and each half is given the penalty of the entry that is best on the other half. The interval over documents
    takes the chosen entries as they are.

    Examples
    --------
    >>> from repsim_nb.stitching import stitching_table
    >>> names = ["tiny-neox-w32-d2", "tiny-neox-w64-d2"]
    >>> how = {"fit": "least_squares", "n_fit": 16, "n_report": 4}
    >>> taken = best_entries(stitching_table(names, names, 1, into="all", **how))
    >>> taken.entry.sel(sender=names[0], receiver=names[0]).values.tolist()
    [1]
    """
    table = _with_common_cuts(table)
    if table.sizes["document"] < 2:
        raise InputError("The table has one document; choosing entries on other documents needs at least two.")
    nats = table.document_loss.transpose("sender", "receiver", "layer", "into", "document").values
    even = np.arange(nats.shape[-1]) % 2 == 0
    chosen = np.empty((*nats.shape[:3], nats.shape[-1]), dtype=int)
    chosen[..., even] = _lowest(nats[..., ~even])[..., None]
    chosen[..., ~even] = _lowest(nats[..., even])[..., None]
    taken = np.take_along_axis(nats, chosen[..., None, :], 3)[..., 0, :]
    return _reduced(table, taken, table.into.values[_lowest(nats)])


def at_entries(table: xr.Dataset, entry: int | None = None) -> xr.Dataset:
    """Take one entry of every cut: that of equal relative depth, or the same for all.

    Parameters
    ----------
    table
        Result of `stitching_table` with `into`.
    entry
        The entry. None takes the one nearest to the relative depth of the cut (layer / layers of the model).

    Returns
    -------
    xarray.Dataset
        As from `best_entries`.

    Raises
    ------
    InputError
        If the table has no entries, or lacks a cut or entry at that depth.

    Examples
    --------
    >>> from repsim_nb.stitching import stitching_table
    >>> how = {"fit": "least_squares", "n_fit": 16, "n_report": 4}
    >>> table = stitching_table(["tiny-neox-w32-d2"], ["tiny-neox-w32-d4"], [1, 2], into="all", **how)
    >>> at_entries(table).entry.values.ravel().tolist()
    [2, 4]
    """
    table = _with_common_cuts(table)
    depths = table.sender_layers.values, table.receiver_layers.values
    places = np.empty([table.sizes[dim] for dim in ("sender", "receiver", "layer")], dtype=int)
    have = table.into.values.tolist()
    for i, j, k in np.ndindex(places.shape):
        wanted = _nearest(table.cut.values[i, k] / depths[0][i], depths[1][j]) if entry is None else entry
        if wanted not in have or wanted > depths[1][j]:
            raise InputError(
                f"{table.receiver.values[j]} was not entered at layer {wanted}; the table has {have}. Make it with "
                "into='all'."
            )
        places[i, j, k] = have.index(wanted)
    nats = table.document_loss.transpose("sender", "receiver", "layer", "into", "document").values
    taken = np.take_along_axis(nats, places[..., None, None], 3)[..., 0, :]
    return _reduced(table, taken, table.into.values[places])


def size_contrast(
    table: xr.Dataset,
    kinds: Mapping[str, str],
    a: str,
    b: str,
    entries: str = "best",
    corrected: bool = True,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compute the penalty of kind a into b minus that of b into a, at one entry of every cut.

    Parameters
    ----------
    table
        Result of `stitching_table` with `into` and the same models as senders and receivers.
    kinds, a, b, corrected, level
        As in `asymmetry`: model -> kind, such as its size, and the two kinds to compare.
    entries
        "best" for the best entry of each cut (`best_entries`), "relative" for that of equal relative depth
        (`at_entries`).

    Returns
    -------
    pandas.DataFrame
        As from `asymmetry`: asymmetry, low, high and p_value by layer, and "all" for their mean. Positive values mean
        that a is the worse sender.

    Raises
    ------
    InputError
        As for `asymmetry` and the function that takes the entries.

    Notes
    -----
    Sizes that were trained for equally long differ in loss too; this contrast cannot tell the two apart. With two
    models of a kind, the interval is infinite.

    Examples
    --------
    >>> from repsim_nb.stitching import stitching_table
    >>> kinds = {name: name.split("-")[2] for name in ("tiny-neox-w32-d2", "tiny-neox-w32-d2-s1")}
    >>> kinds |= {name: name.split("-")[2] for name in ("tiny-neox-w64-d2", "tiny-neox-w64-d2-s1")}
    >>> how = {"fit": "least_squares", "n_fit": 16, "n_report": 4}
    >>> size_contrast(stitching_table(kinds, kinds, 1, into=[1, 2], **how), kinds, "w32", "w64").index.tolist()
    [1, 'all']
    """
    if entries not in ENTRIES:
        raise unknown("choice of entries", entries, ENTRIES)
    taken = best_entries(table) if entries == "best" else at_entries(table)
    return asymmetry(taken, kinds, a, b, corrected, level)


def _lowest(nats: np.ndarray) -> np.ndarray:
    """Place of the entry with the lowest loss; entries that a receiver lacks are NaN."""
    total = nats.sum(-1, dtype=np.float64)
    return np.argmin(np.where(np.isnan(total), np.inf, total), axis=-1)


def _nearest(share: float, depth: int) -> int:
    """The layer nearest to a share of the depth, the lower of two."""
    return int(np.ceil(share * depth - 0.5 - 1e-9))


def _with_common_cuts(table: xr.Dataset) -> xr.Dataset:
    """The table with as many cuts for every sender, and with the variable `cut` (sender, layer)."""
    import xarray as xr

    if "into" not in getattr(table, "dims", ()):
        raise InputError("Expected a table of cuts and entries. Give into='all' to stitching_table.")
    depths = table.sender_layers.values
    if len(set(depths.tolist())) == 1:
        cuts = np.tile(table.layer.values, (len(depths), 1))
        return table.assign(cut=(("sender", "layer"), cuts))
    least = int(depths.min())
    have = [k for k in table.layer.values.tolist() if k <= least]
    cuts = np.array([[_nearest(k / least, depth) for k in have] for depth in depths])
    missing = set(cuts.ravel().tolist()) - set(table.layer.values.tolist())
    if missing:
        raise InputError(f"Senders were not cut at {min(missing)}; make the table with layers='all'.")
    at = xr.DataArray(cuts, dims=("sender", "layer"), coords={"sender": table.sender.values, "layer": have})
    place = xr.DataArray(np.arange(len(depths)), dims="sender")
    of_cells = [name for name, values in table.data_vars.items() if {"sender", "layer"} <= set(values.dims)]
    taken = table[of_cells].isel(sender=place).sel(layer=at)
    rest = table.drop_vars([name for name, v in table.data_vars.items() if "layer" in v.dims]).drop_dims("layer")
    return rest.merge(taken.assign_coords(layer=have), compat="equals").assign(cut=at)


def _reduced(table: xr.Dataset, nats: np.ndarray, entry: np.ndarray) -> xr.Dataset:
    """A table with one entry of every cut, from its losses by document (sender, receiver, layer, document)."""
    dims = ("sender", "receiver", "layer")
    sizes = document_sizes(table)
    own = table.document_receiver_loss.transpose("receiver", "document").values
    penalty = (nats.astype(np.float64) - own[None, :, None]).sum(-1) / sizes.sum()
    kept = [name for name, of in table.data_vars.items() if not {"layer", "into", "measure"} & set(of.dims)]
    small = table[kept].drop_dims([dim for dim in ("into", "measure") if dim in table[kept].dims])
    coords = {name: table[name] for name in ("sender", "receiver", "sender_layers", "receiver_layers", "document")}
    made = small.assign_coords(coords | {"layer": table.layer.values}).assign(
        document_loss=((*dims, "document"), nats, table.document_loss.attrs),
        penalty=(dims, penalty, table.penalty.attrs),
        entry=(dims, entry),
        cut=(("sender", "layer"), table.cut.values),
    )
    return with_intervals(made).assign_attrs(table.attrs)
