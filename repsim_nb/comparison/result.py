"""Turn a grid of values into a labelled xarray result with its provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure
from repsim_nb.system.versions import versions

if TYPE_CHECKING:
    import xarray as xr

FROM_ARRAYS = "arrays given by the caller"  # in place of a provenance
FIELDS = ("null_mean", "null_high", "p_value", "calibrated", "layer_a", "layer_b")  # coordinates of one measure of many


def labelled(
    values: np.ndarray,
    measure: Measure,
    a: Mapping[int, Any],
    b: Mapping[int, Any],
    between_documents: bool = False,
    estimator: str = "all rows",
) -> xr.DataArray:
    """Label values (layers of a, layers of b) with layers, model names, measure and provenance.

    For extracted rows, attrs["coverage"] is the share of the coarser tokenizer's token boundaries that both have.
    """
    import xarray as xr

    low, high = measure.bounds
    return xr.DataArray(
        values,
        dims=("layer_a", "layer_b"),
        coords={"layer_a": list(a), "layer_b": list(b)},
        name=measure.name,
        attrs={
            "long_name": measure.title,
            "direction": measure.direction,
            "lower_bound": float(low),
            "upper_bound": float(high),
            "model_a": _name(a, "a"),
            "model_b": _name(b, "b"),
            "n_rows": len(next(iter(a.values()))),
            **_coverage(a),
            "provenance": as_json(
                {
                    "measure": measure.name,
                    "measure_params": recorded_params(measure),
                    "between_documents": between_documents,
                    "estimator": estimator,
                    "a": _provenance(a),
                    "b": _provenance(b),
                    "versions": versions(),
                }
            ),
        },
    )


def calibrated_map(result: xr.DataArray) -> xr.DataArray:
    """Turn the coordinate `calibrated` of a result into a map of its own, to draw and to compare with others.

    Parameters
    ----------
    result
        Result of `compare` with a null, for a similarity with an upper bound; or one measure of a result of
        `compare_models` with a null, such as `result.cka`.

    Returns
    -------
    xarray.DataArray
        A similarity, dims as before, in [0, 1]: 0 for what 95% of exchanges of documents stay below, 1 for identity. It
        keeps p_value and drops low and high, which are intervals of the raw value.

    Raises
    ------
    InputError
        If the result has no coordinate `calibrated`, nor one that begins with its name.

    Notes
    -----
    Raw similarities rise with width, with few rows and, for a maximum over layers, with depth; their null rises with
    them. Calibrated scores of models of different size can be compared. They are no unbiased estimates: values below
    the level count as 0.

    Examples
    --------
    >>> import repsim_nb as rs
    >>> x, noise = np.random.default_rng(0).normal(size=(2, 60, 4))
    >>> result = rs.compare({0: x}, {0: x + 1, 1: x + noise, 2: noise}, null=99)
    >>> calibrated_map(result).round(2).values
    array([[1.  , 0.49, 0.  ]])

    References
    ----------
    Groeger, Wen and Brbic 2026, arXiv 2602.14486.
    """
    coords = getattr(result, "coords", ())
    if "calibrated" not in coords and f"{getattr(result, 'name', None)}_calibrated" in coords:
        result = of_one_measure(result)
    if "calibrated" not in getattr(result, "coords", ()):
        raise InputError(
            "This result has no calibrated scores. They come with a null and a similarity with an upper bound: "
            'rs.compare(..., null="permutation").'
        )
    about = result.attrs | {
        "long_name": f"{result.attrs.get('long_name', result.name)}, calibrated",
        "direction": "similarity",
        "lower_bound": 0.0,
        "upper_bound": 1.0,
    }
    gone = [name for name in result.coords if name in ("low", "high", "calibrated") or str(name).startswith("null_")]
    return result.copy(data=result.calibrated.values).drop_vars(gone).assign_attrs(about)


def of_one_measure(table: xr.DataArray) -> xr.DataArray:
    """A variable of `compare_models` with its null under the names that `compare` uses, without what is of others."""
    own = {f"{table.name}_{field}": field for field in FIELDS if f"{table.name}_{field}" in table.coords}
    others = [name for name in table.coords if any(str(name).endswith(f"_{field}") for field in FIELDS)]
    return table.drop_vars([name for name in others if name not in own]).rename(own)


def recorded_params(measure: Measure) -> dict[str, Any]:
    """A measure's parameters in the form stored in the provenance."""
    return {name: _recorded(value) for name, value in measure.params.items()}


def _recorded(value: Any) -> Any:
    """One parameter: numbers and names unchanged, arrays with one value per row as a hash."""
    if value is None or isinstance(value, str):
        return value
    values = np.asarray(value)
    if values.ndim == 0:
        return values.item()
    return f"{values.shape[0]} values, sha256 {sha256(repr(values.tolist()).encode()).hexdigest()[:16]}"


def _name(acts: Mapping[int, Any], otherwise: str) -> str:
    return acts.provenance["model"]["model"] if isinstance(acts, Activations) else otherwise


def _coverage(acts: Mapping[int, Any]) -> dict[str, float]:
    """Share of token boundaries that the tokenizers have in common, if known."""
    about = acts.provenance if isinstance(acts, Activations) else {}
    return {"coverage": about["coverage"]} if "coverage" in about else {}


def _provenance(acts: Mapping[int, Any]) -> Any:
    return acts.provenance if isinstance(acts, Activations) else FROM_ARRAYS


def as_json(*parts: dict[str, Any]) -> str:
    """Provenance as one JSON string, which every file format can store."""
    return json.dumps({k: v for part in parts for k, v in part.items()}, sort_keys=True)
