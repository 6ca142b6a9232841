"""Tables of models against models, read into one order, and which way each of them points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

DIRECTIONS = ("similarity", "dissimilarity")


class ModelTables(NamedTuple):
    """Tables over the same models.

    Attributes
    ----------
    models
        Names of the models, sorted, so that random draws do not depend on their order in the input.
    left_out
        Models that some tables hold and that are not used.
    values
        (tables, models, models), symmetric. The diagonal is as given and may lack values.
    directions
        "similarity", "dissimilarity" or None of each table.
    """

    models: list[Any]
    left_out: list[Any]
    values: np.ndarray
    directions: list[str | None]


def read_tables(
    tables: Mapping[Any, pd.DataFrame | xr.DataArray], models: Iterable[Any] | None, least: int
) -> ModelTables:
    """Read square tables over the models that all of them hold, or over `models`, averaged over both directions.

    The direction is attrs["direction"], else what the diagonal tells: nothing is more similar to a model than itself.

    Raises
    ------
    InputError
        If a table is not square with the same models on both sides, lacks a model or a number, there are fewer than
        `least` models, or a stated direction is unknown.
    """
    read = {name: _square(table, name) for name, table in tables.items()}
    everywhere = [m for m in next(iter(read.values()))[0] if all(m in held for held, _ in read.values())]
    chosen = sorted(everywhere if models is None else dict.fromkeys(models), key=str)
    for name, (held, _) in read.items():
        absent = [str(m) for m in chosen if m not in held]
        if absent:
            raise InputError(f"The table {name!r} has no values for {', '.join(absent)}.")
    if len(chosen) < least:
        raise InputError(f"Need at least {least} models that all tables hold, got {len(chosen)}.")
    everyone = dict.fromkeys(m for held, _ in read.values() for m in held)
    values = np.array([_values_of(square, held, chosen, name) for name, (held, square) in read.items()])
    directions = [_direction(table, v, name) for (name, table), v in zip(tables.items(), values, strict=True)]
    return ModelTables(chosen, sorted((m for m in everyone if m not in chosen), key=str), values, directions)


def read_distances(
    table: pd.DataFrame | xr.DataArray, models: Iterable[Any] | None, least: int
) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Models, values and dissimilarities of one table, the latter with zero diagonal.

    Similarities are subtracted from the largest one, that of a model with itself if the table has it.

    Raises
    ------
    InputError
        As for `read_tables`, or if neither attrs nor the diagonal tell the direction.
    """
    read = read_tables({"table": table}, models, least)
    values = read.values[0]
    if read.directions[0] is None:
        raise InputError(
            "It cannot be told whether the table holds similarities or dissimilarities: set its "
            'attrs["direction"] to "similarity" or "dissimilarity".'
        )
    distances = np.nanmax(values) - values if read.directions[0] == "similarity" else values.copy()
    np.fill_diagonal(distances, 0)
    return read.models, values, distances


def _square(table: pd.DataFrame | xr.DataArray, name: object) -> tuple[list[Any], np.ndarray]:
    """Models and values (models, models) of one table."""
    import pandas as pd
    import xarray as xr

    expected = f"Expected the table {name!r} to be a DataFrame or a two-dimensional DataArray, model x model"
    if isinstance(table, pd.DataFrame):
        rows, columns, values = table.index.tolist(), table.columns.tolist(), table.to_numpy()
    elif isinstance(table, xr.DataArray):
        single = [d for d in table.dims if table.sizes[d] == 1]
        table = table.squeeze(single, drop=True) if table.ndim > 2 else table
        if table.ndim != 2 or any(d not in table.coords for d in table.dims):
            raise InputError(
                f"{expected}, both with coordinates; its dimensions are {', '.join(map(str, table.dims))}. Select one "
                "layer, and one value of every further dimension, with .sel."
            )
        rows, columns = (table[d].values.tolist() for d in table.dims)
        values = table.values
    else:
        raise InputError(f"{expected}, got {type(table).__name__}.")
    if len(set(rows)) < len(rows) or len(set(columns)) < len(columns) or set(rows) != set(columns):
        raise InputError(f"{expected}, with the same models on both sides, each once.")
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{expected}, of numbers.") from None
    return rows, numbers[:, [columns.index(m) for m in rows]]


def _values_of(square: np.ndarray, held: list[Any], chosen: list[Any], name: object) -> np.ndarray:
    """Values of the chosen models, averaged over both directions. The diagonal may lack values."""
    place = [held.index(m) for m in chosen]
    values = square[place][:, place]
    lacking = np.argwhere(~np.isfinite(values) & ~np.eye(len(chosen), dtype=bool))
    if len(lacking):
        a, b = lacking[0]
        raise InputError(
            f"The table {name!r} has {values[a, b]} from {chosen[a]} to {chosen[b]}; every pair needs a finite value "
            "in both directions."
        )
    return (values + values.T) / 2


def _direction(table: Any, values: np.ndarray, name: object) -> str | None:
    stated = table.attrs.get("direction")
    if stated is not None:
        if stated not in DIRECTIONS:
            raise InputError(f"The direction of the table {name!r} is {stated!r}; expected one of {DIRECTIONS}.")
        return str(stated)
    own, others = values.diagonal(), values[~np.eye(len(values), dtype=bool)].reshape(len(values), -1)
    if (own >= others.max(1)).all() and (own > others.min(1)).any():
        return "similarity"
    if (own <= others.min(1)).all() and (own < others.max(1)).any():
        return "dissimilarity"
    return None
