"""Measure x layers x layers -> labelled xarray results with their provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations, extract_aligned
from repsim_nb.activations.extraction import as_json
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, get_measure
from repsim_nb.models import Model

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.corpora import Corpus

Layers = str | int | Sequence[int]
Side = Model | str | Mapping[int, Any]


def compare(
    a: Side,
    b: Side | None = None,
    corpus: Corpus | str | Sequence[str] | None = None,
    measure: str | Measure = "cka",
    *,
    layers_a: Layers = "all",
    layers_b: Layers = "all",
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    seed: int = 0,
    **measure_params: Any,
) -> xr.DataArray:
    """Every layer of `a` against every layer of `b` under one measure.

    Args:
        a, b: models, names `load_model` takes, or activations (from `extract`, or any mapping layer -> (n_rows, d)
            array with equal n_rows); b=None compares a with itself.
        corpus, site, rows, n_rows, seed: as in `extract`; unused where both sides are activations already.
        measure: a name from `list_measures()` or a configured Measure.
        layers_a, layers_b: "all", a position or several.
        measure_params: parameters of the measure.

    Returns:
        DataArray with dims ("layer_a", "layer_b"), named like the measure; attrs["provenance"] is one JSON string.

    Raises:
        InputError: unknown model, measure, parameter or layer; activations whose rows are not the same.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(200, 8))
    >>> compare({0: x, 1: x @ np.linalg.qr(np.ones((8, 8)) + np.eye(8))[0]}).round(3).values
    array([[1., 1.],
           [1., 1.]])
    """
    chosen = measure if isinstance(measure, Measure) and not measure_params else None
    if chosen is None:
        chosen = get_measure(measure if isinstance(measure, str) else measure.name, **measure_params)
    acts_a, acts_b = _both(a, b, corpus, layers_a, layers_b, site, rows, n_rows, seed)
    left = [chosen.prepare(acts_a[layer], f"layer {layer} of a") for layer in acts_a]
    right = left if acts_b is acts_a else [chosen.prepare(acts_b[layer], f"layer {layer} of b") for layer in acts_b]
    return _labelled(chosen.grid(left, right), chosen, acts_a, acts_b)


def compare_all(
    activations: Mapping[str, Mapping[int, Any]], measure: str | Measure = "cka", **measure_params: Any
) -> dict[tuple[str, str], xr.DataArray]:
    """Every pair of several models, each once, and each model with itself: (later, earlier) -> their map.

    Args:
        activations: model name -> its activations, all at the same rows (from one call of `extract_aligned`).
        measure, measure_params: as in `compare`.
    """
    names = list(activations)
    return {
        (a, b): compare(activations[a], activations[b] if a != b else None, measure=measure, **measure_params)
        for i, a in enumerate(names)
        for b in names[: i + 1]
    }


def _both(
    a: Side,
    b: Side | None,
    corpus: Corpus | str | Sequence[str] | None,
    layers_a: Layers,
    layers_b: Layers,
    site: str,
    rows: str,
    n_rows: int,
    seed: int,
) -> tuple[Mapping[int, Any], Mapping[int, Any]]:
    """Aligned activations of both sides; the same object twice when a is compared with itself, all its layers."""
    given = [side for side in (a, b) if isinstance(side, Mapping)]
    if not given:
        if b is None and layers_a == layers_b:
            alone = extract_aligned([a], corpus, [layers_a], site, rows, n_rows, seed)[0]  # type: ignore[list-item]
            return alone, alone
        models = [a, a if b is None else b]
        first, second = extract_aligned(models, corpus, [layers_a, layers_b], site, rows, n_rows, seed)  # type: ignore[arg-type]
        return first, second
    if len(given) == 1 and b is not None:
        raise InputError("One side is a model and the other activations: extract both with the same arguments first.")
    first = _layers_of(a, layers_a)  # type: ignore[arg-type]
    second = first if b is None and layers_a == layers_b else _layers_of(a if b is None else b, layers_b)  # type: ignore[arg-type]
    if isinstance(a, Activations) and isinstance(b, Activations):
        _same_rows(a, b)
    return first, second


def _layers_of(acts: Mapping[int, Any], layers: Layers) -> Mapping[int, Any]:
    if isinstance(layers, str):
        if layers != "all":
            raise InputError(f'layers={layers!r} was given; expected "all", a position or a list of positions.')
        if not acts:
            raise InputError("The activations hold no layer.")
        return acts
    asked = [layers] if isinstance(layers, int) else list(layers)
    missing = [layer for layer in asked if layer not in acts]
    if missing:
        raise InputError(f"Layer {missing[0]!r} is not among the activations' layers {list(acts)}.")
    return {layer: acts[layer] for layer in asked}


def _same_rows(a: Activations, b: Activations) -> None:
    where = ["document", "char_end"]
    if len(a.rows) != len(b.rows) or not (a.rows[where].to_numpy() == b.rows[where].to_numpy()).all():
        raise InputError(
            f"Row i must be the same place of the same document on both sides; {a!r} and {b!r} have other rows. "
            "Compare the models in one call, or extract both from one corpus with the same n_rows and seed."
        )


def _labelled(values: np.ndarray, measure: Measure, a: Mapping[int, Any], b: Mapping[int, Any]) -> xr.DataArray:
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
            "provenance": as_json(
                {
                    "measure": measure.name,
                    "measure_params": {k: v for k, v in measure.params.items() if k != "groups"},
                    "a": _provenance(a),
                    "b": _provenance(b),
                    "versions": _versions(),
                }
            ),
        },
    )


def _name(acts: Mapping[int, Any], otherwise: str) -> str:
    return acts.provenance["model"]["model"] if isinstance(acts, Activations) else otherwise


def _provenance(acts: Mapping[int, Any]) -> Any:
    return acts.provenance if isinstance(acts, Activations) else "arrays given by the caller"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("repsim-nb", "torch", "transformers", "transformer-lens", "numpy")
    return {package: version(package) for package in packages}
