"""The model x model tables in a result of `compare_models`: one measure at one place in one text."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.comparison import of_measure

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

PLACES = ("layer", "depth")  # dimensions that tell places apart


def places(result: xr.Dataset) -> list[Any]:
    """Layers or relative depths, in order; none if each pair has one value."""
    dim = next((name for name in PLACES if name in result.dims), None)
    return [] if dim is None else result[dim].values.tolist()


def texts(result: xr.Dataset) -> list[str]:
    """Names of the texts, if there are several."""
    return [str(name) for name in result.corpus.values] if "corpus" in result.dims else []


def selection(result: xr.Dataset, place: Any, text: str | None) -> dict[Hashable, Any]:
    """Arguments of `sel` for one place and text."""
    chosen: dict[Hashable, Any] = {name: place for name in PLACES if name in result.dims}
    return chosen | ({"corpus": text} if "corpus" in result.dims else {})


def one(result: xr.Dataset, measure: str, place: Any, text: str | None) -> xr.DataArray:
    """The table of a measure at one place in one text, (models, models), with its null if it has one."""
    return of_measure(result, measure).sel(selection(result, place, text))


def every(result: xr.Dataset, place: Any) -> dict[str, pd.DataFrame]:
    """Name -> table of every measure and text, at one place."""
    of_texts: list[str | None] = [*texts(result)] or [None]
    return {
        str(measure) if text is None else f"{measure}, {text}": both_ways(one(result, str(measure), place, text))
        for measure in result.data_vars
        for text in of_texts
    }


def both_ways(table: xr.DataArray) -> pd.DataFrame:
    """The mean of both directions of every pair, as a symmetric table with a diagonal of zeros."""
    import pandas as pd

    values = (table.values + table.values.T) / 2
    names = [str(name) for name in table.model_a.values]
    np.fill_diagonal(values, 0.0)
    return pd.DataFrame(values, names, names)


def in_words(result: xr.Dataset, place: Any) -> str:
    """The name of a place."""
    return f"layer {place}" if "layer" in result.dims else f"relative depth {place:g}"


def series(models: Sequence[str]) -> list[list[str]]:
    """Checkpoints of one model, in the order in which they are given."""
    by_base: dict[str, list[str]] = {}
    for name in models:
        by_base.setdefault(name.partition("@")[0], []).append(name)
    return [names for names in by_base.values() if len(names) > 2]
