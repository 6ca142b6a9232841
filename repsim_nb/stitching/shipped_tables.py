"""Tables of stitches that come with the package."""

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
    """The table `name` of data/tables if it holds what `stitching_table` would give for these arguments, else None.

    Parameters
    ----------
    name
        Of the file, without ending.
    models
        Senders and receivers; each must be in the table, and be as `load_model` gives it.
    corpus
        What is reported on, to the letter.
    map, seed, n_report, n_fit
        As in `stitching_table`; n_fit None for a map that is not fitted.

    Raises
    ------
    FileNotFoundError
        No table of this name.
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
    """Whether a model is as it was for the table, and changed in nothing since it was loaded.

    Wherever it computes: tables are the same on every device, within rounding.
    """
    if about is None or {**about, "device": ""} != {**model.provenance, "device": ""}:
        return False
    try:
        now = model.fingerprint()
    except UntraceableError:
        return False
    return now == load_model(model.name, device=model.device.type).fingerprint()
