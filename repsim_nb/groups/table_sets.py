"""The model x model tables of a result with several measures, corpora or layers, in sets to compare with each other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from repsim_nb.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

MEASURE = "measure"  # what the variables of a result differ in


class TableSets(NamedTuple):
    """Sets of tables.

    Attributes
    ----------
    levels
        What the sets differ in, such as ["corpus"]; empty for a single set.
    sets
        Values of the levels -> {name: table}.
    """

    levels: list[str]
    sets: dict[tuple[Any, ...], dict[str, pd.DataFrame | xr.DataArray]]


def sets_of_tables(results: Mapping[Any, Any], between: str) -> TableSets:
    """Split a result into sets of tables that differ in `between` only.

    Parameters
    ----------
    results
        Name -> table, which is one set; or what `compare_models` returns.
    between
        "measure", or a dimension of the result such as "corpus".

    Raises
    ------
    InputError
        If there is nothing of that name, or a set has fewer than two tables.
    """
    import xarray as xr

    if not isinstance(results, xr.Dataset):
        if between != MEASURE:
            raise InputError(
                f"between={between!r} would have no effect: only a result of compare_models has dimensions."
            )
        sets: dict[tuple[Any, ...], dict[str, Any]] = {(): {str(name): table for name, table in results.items()}}
        return TableSets([], _checked(sets, "tables"))
    first = next(iter(results.values()))
    further = [str(d) for d in first.dims[:-2] if first.sizes[d] > 1]
    flat = results.squeeze([d for d in first.dims[:-2] if first.sizes[d] == 1], drop=True)
    if between not in (MEASURE, *further):
        raise unknown("dimension", between, [MEASURE, *further])
    fixed = [d for d in (MEASURE, *further) if d != between]
    values = {MEASURE: [str(name) for name in flat.data_vars]} | {d: flat[d].values.tolist() for d in further}
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for key in product(*(values[d] for d in fixed)):
        at = dict(zip(fixed, key, strict=True))
        found[key] = {str(label): _table(flat, at | {between: label}) for label in values[between]}
    kept = [place for place, d in enumerate(fixed) if len(values[d]) > 1]
    sets = {tuple(key[place] for place in kept): tables for key, tables in found.items()}
    return TableSets([fixed[place] for place in kept], _checked(sets, f"values of {between}"))


def _table(results: xr.Dataset, at: dict[str, Any]) -> xr.DataArray:
    where = {d: value for d, value in at.items() if d != MEASURE}
    return results[at[MEASURE]].sel(where).reset_coords(drop=True)


def _checked(sets: dict[tuple[Any, ...], dict[str, Any]], what: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    fewest = min(len(tables) for tables in sets.values())
    if fewest < 2:
        raise InputError(f"Agreement needs at least two {what}, got {fewest}.")
    return sets
