"""Precomputed stitching tables that ship with the package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.models import Model, load_model
from repsim_nb.models.identity import UntraceableError
from repsim_nb.system.shipped import data_dir

if TYPE_CHECKING:
    import xarray as xr


def shipped_table(
    name: str,
    models: Sequence[Model],
    corpus: Corpus | str,
    *,
    map: str,
    seed: int,
    n_report: int,
    n_fit: int | None = None,
) -> xr.Dataset | None:
    """Load the table `name` from data/tables if it equals what `stitching_table` would return, else return None.

    Parameters
    ----------
    name
        File name without suffix.
    models
        Senders and receivers. Each must be in the table and unchanged since `load_model`.
    corpus
        The exact corpus that is reported on.
    map, seed, n_report, n_fit
        As in `stitching_table`; n_fit=None for a map that is not fitted.

    Returns
    -------
    xarray.Dataset or None
        The table, or None if any argument differs from those it was computed with.

    Raises
    ------
    FileNotFoundError
        If there is no table with this name.

    Notes
    -----
    Shipped values were computed on another machine: they agree with a new computation within rounding, not bit by bit.
    """
    import xarray as xr

    table = xr.load_dataset(data_dir() / "tables" / f"{name}.nc", engine="h5netcdf")
    about: dict[str, Any] = json.loads(table.attrs["provenance"])
    asked = {"map": map, "seed": seed, "report_sequences": n_report}
    if n_fit is not None:
        asked["fit_sequences"] = n_fit - about["stop_sequences"]
    same = (
        all(about[key] == value for key, value in asked.items())
        and about["corpora"]["report"]["sha256"] == load_corpus(corpus).sha256
        and all(_is_shipped(model, about["models"].get(model.name)) for model in models)
    )
    return table if same else None


def _is_shipped(model: Model, about: dict[str, Any] | None) -> bool:
    """Whether a model equals the one in the table and is unchanged since it was loaded.

    The device is ignored, since values agree across devices within rounding.
    """
    if about is None or {**about, "device": ""} != {**model.provenance, "device": ""}:
        return False
    try:
        now = model.fingerprint()
    except UntraceableError:
        return False
    return now == load_model(model.name, device=model.device.type).fingerprint()
