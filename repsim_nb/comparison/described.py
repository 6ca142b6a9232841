"""Results in words: what was compared, on which text, what the values mean and how far they range."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.comparison.result import FROM_ARRAYS
from repsim_nb.system.card import card

if TYPE_CHECKING:
    import xarray as xr

LEVEL = 0.05
MOST = 12  # variables of a dataset that are described one by one


def as_html(result: xr.DataArray | xr.Dataset) -> str:
    """The result in words, with its values and its provenance folded; as xarray shows it if it is none of ours."""
    import xarray as xr

    made = provenance_of(result)
    if made is None or xr.get_options()["display_style"] == "text":
        return result._repr_html_()
    title, *sentences = in_words(result)
    bare = result.copy(deep=False)
    del bare.attrs["provenance"]  # shown below
    return card(title, sentences, made, {"Values and coordinates": bare._repr_html_()})


def provenance_of(result: xr.DataArray | xr.Dataset) -> dict[str, Any] | None:
    """The provenance of a result of this package; None for other data."""
    try:
        made = json.loads(result.attrs["provenance"])
    except (KeyError, TypeError, ValueError):
        return None
    return made if isinstance(made, dict) else None


def interval_level(result: xr.DataArray) -> float | None:
    """The level of the intervals `low` to `high`, as recorded; None if it is not."""
    interval = ((provenance_of(result) or {}).get("uncertainty") or {}).get("interval") or {}
    return interval.get("level")


def in_words(result: xr.DataArray | xr.Dataset) -> list[str]:
    """What a result holds: a title, then sentences."""
    import xarray as xr

    if (
        isinstance(result, xr.DataArray)
        and result.dims == ("layer_a", "layer_b")
        and {"model_a", "model_b"} <= {*result.attrs}
    ):
        return _map_in_words(result)
    return _table_in_words(result)


def _map_in_words(result: xr.DataArray) -> list[str]:
    layers = [f"{_extent(result[f'layer_{side}'])} of {result.attrs[f'model_{side}']}" for side in "ab"]
    ends = [np.unravel_index(place, result.shape) for place in (result.values.argmin(), result.values.argmax())]
    low, high = (_cell_in_words(result, end) for end in ends)
    sentences = [
        f"Layers {layers[0]} (A) with layers {layers[1]} (B).",
        *_text(result),
        *_meaning(result),
        f"The lowest value is {low}, the highest {high}.",
    ]
    if "p_value" in result.coords:
        beyond = int((result.p_value.values <= LEVEL).sum())
        sentences.append(f"{beyond} of {result.size} values differ from the null (p ≤ {LEVEL}).")
    if "low" in result.coords:
        level = interval_level(result)
        sentences.append(f"Each value has an interval{f' of {100 * level:.4g}%' if level else ''}.")
    return [_titled(result) + _models(result), *sentences]


def _table_in_words(result: xr.DataArray | xr.Dataset) -> list[str]:
    table = result.to_dataset(name=result.name or "values") if hasattr(result, "to_dataset") else result
    shown = [*table.data_vars.values()][:MOST]
    titles = ", ".join(dict.fromkeys(map(_titled, shown)))
    left = len(table.data_vars) - len(shown)
    named = [name for name, coord in table.coords.items() if name in table.dims or coord.ndim == 0]
    verdict = [result.attrs["verdict"]] if "verdict" in result.attrs else []
    sentences = [*verdict, *(f"{name}: {_extent(table[name])}." for name in named), *_text(result)]
    for variable in shown:
        numbers = variable.values[np.isfinite(variable.values)] if variable.dtype.kind in "fiu" else np.array([])
        if numbers.size:
            unit = variable.attrs.get("units", "1")
            how = f" {unit}" if unit != "1" else ""
            how += f", a {variable.attrs['direction']}" if "direction" in variable.attrs else ""
            sentences.append(f"{variable.name}: {numbers.min():.3g} to {numbers.max():.3g}{how}.")
    return [titles + (f" and {left} more" if left else "") + _models(result), *sentences]


def _titled(variable: xr.DataArray) -> str:
    return str(variable.attrs.get("long_name", variable.name))


def _models(result: xr.DataArray | xr.Dataset) -> str:
    """The two models of a comparison, as the end of its title; "" for other results."""
    if not {"model_a", "model_b"} <= {*result.attrs}:
        return ""
    a, b = result.attrs["model_a"], result.attrs["model_b"]
    return f" of {a} with itself" if a == b else f" of {a} and {b}"


def _cell_in_words(result: xr.DataArray, place: Any) -> str:
    a, b = (result[f"layer_{side}"].values[index] for side, index in zip("ab", place, strict=True))
    return f"{result.values[place]:.3g} (layer {a} of A, layer {b} of B)"


def _text(result: xr.DataArray | xr.Dataset) -> list[str]:
    """How many rows of which text, as far as it is recorded."""
    made = provenance_of(result) or {}
    sampling = next((part for part in (made.get("a"), made.get("sampling"), made) if isinstance(part, dict)), {})
    rows, sentences = result.attrs.get("n_rows", sampling.get("n_rows")), []
    if rows is not None:
        how = [f"{before}{sampling[name]}" for name, before in (("rows", ""), ("site", "at ")) if name in sampling]
        sentences.append(f"{int(rows):,} rows ({', '.join(how)})." if how else f"{int(rows):,} rows.")
    if made.get("a") == FROM_ARRAYS:
        sentences.append(f"A and B are {FROM_ARRAYS}.")
    texts = [*dict.fromkeys(_texts(made))]
    return [*sentences, f"Text: {'; '.join(texts)}."] if texts else sentences


def _texts(made: Any) -> Iterator[str]:
    """The corpora that a provenance names, wherever in it."""
    if isinstance(made, list):
        for part in made:
            yield from _texts(part)
    elif isinstance(made, dict):
        if {"corpus", "documents", "split"} <= made.keys():
            name = "the user's own" if made["corpus"] == "texts" else f"{made['corpus']}, split {made['split']}"
            yield f"{made['documents']:,} documents ({name})"
        else:
            for part in made.values():
                yield from _texts(part)


def _meaning(result: xr.DataArray) -> list[str]:
    """The direction of the measure, as recorded."""
    direction, most = result.attrs.get("direction"), float(result.attrs.get("upper_bound", np.inf))
    if direction == "dissimilarity":
        return ["A dissimilarity: 0 = same, larger = less similar."]
    same = f"{most:g} = same" if np.isfinite(most) else "larger = more similar"
    return [f"A similarity: {same}, 0 = nothing shared."] if direction == "similarity" else []


def _extent(coordinate: xr.DataArray) -> str:
    """Consecutive integers from the first to the last, other values one by one, many of them shortened."""
    values = np.atleast_1d(coordinate.values)
    if values.size > 2 and values.dtype.kind in "iu" and (np.diff(values) == 1).all():
        return f"{values[0]} to {values[-1]}"
    names = [str(value) for value in values]
    return ", ".join(names if len(names) < 9 else [*names[:3], "...", *names[-2:]])
