"""From finished units to a labelled table of all pairs of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations
from repsim_nb.comparison.population.chosen_layers import DEPTHS, LayerChoice
from repsim_nb.comparison.population.members import Member
from repsim_nb.comparison.population.squares import BestLayers, Found, Square, Unit
from repsim_nb.comparison.result import as_json, of_one_measure, recorded_params
from repsim_nb.errors import unknown
from repsim_nb.measures import Measure
from repsim_nb.system.versions import versions
from repsim_nb.uncertainty import LEVEL, Uncertainty

if TYPE_CHECKING:
    import xarray as xr

ALONE = "of each pair by itself"
MEANINGS = {
    "null_mean": "mean over exchanges of documents",
    "null_high": f"what {LEVEL:.0%} of exchanges of documents reach or fall below, {ALONE}",
    "p_value": f"share of exchanges of documents that are as similar, {ALONE}",
    "calibrated": f"1 - value / null_high, at least 0: what exceeds the null as a share of what could, {ALONE}",
    "layer_a": "layer of model_a in the most similar pair of layers",
    "layer_b": "layer of model_b in the most similar pair of layers",
}


@dataclass(frozen=True)
class Text:
    """One text of the population: its name and the members at its rows."""

    name: str | None
    members: tuple[Member, ...]


def units_of(text: Text, measure: Measure, choice: LayerChoice, exchange: Any) -> list[Unit]:
    """The units of one measure in one text, in the order in which `labelled_pairs` takes them."""
    at = "" if text.name is None else f", {text.name}"
    members = text.members
    if choice.best:
        pairs = [(i, j) for i in range(len(members)) for j in range(i if measure.symmetric else 0, len(members))]
        return [
            BestLayers(f"{members[i].name} and {members[j].name}{at}", measure, (members[i], members[j]), exchange)
            for i, j in pairs
        ]
    places = range(len(members[0].layers))
    return [Square(f"{_place(choice, members, place)}{at}", measure, members, place, exchange) for place in places]


def _place(choice: LayerChoice, members: Sequence[Member], place: int) -> str:
    if choice.same:
        return f"layer {members[0].layers[place]}"
    return "the last layer" if choice.dim is None else f"depth {DEPTHS[place]}"


def labelled_pairs(
    texts: Sequence[Text],
    measures: Sequence[Measure],
    choice: LayerChoice,
    found: Mapping[tuple[int, str], list[Found]],
    uncertainty: Uncertainty,
) -> xr.Dataset:
    """The table of `compare_models`, from what was found for each text and measure."""
    import xarray as xr

    members = texts[0].members
    names = [member.name for member in members]
    several = len(texts) > 1
    dims = (*(["corpus"] if several else []), *([choice.dim] if choice.dim else []), "model_a", "model_b")
    coords: dict[str, Any] = {"model_a": names, "model_b": names}
    if several:
        coords["corpus"] = [text.name for text in texts]
    if choice.dim:
        coords[choice.dim] = list(members[0].layers) if choice.same else list(DEPTHS)
    if not choice.same and not choice.best:  # the layers behind "last" and "relative", the same in every text
        layers = np.array([member.layers for member in members]).T
        for side in ("a", "b"):
            values = layers if choice.dim else layers[0]
            about = {"long_name": f"layer of model_{side}"}
            coords[f"layer_{side}"] = ((*([choice.dim] if choice.dim else []), f"model_{side}"), values, about)
    variables = {}
    for measure in measures:
        grids = [_grids(found[place, measure.name], len(names), measure, choice) for place in range(len(texts))]
        joined = {
            field: np.stack([grid[field] for grid in grids]) if several else grids[0][field] for field in grids[0]
        }
        about = {"long_name": measure.title, "direction": "dissimilarity"}
        variables[measure.name] = (dims, joined.pop("value"), about)
        coords |= {f"{measure.name}_{f}": (dims, v, {"long_name": MEANINGS[f]}) for f, v in joined.items()}
    return xr.Dataset(variables, coords, {"provenance": as_json(_provenance(texts, measures, choice, uncertainty))})


def _grids(found: list[Found], count: int, measure: Measure, choice: LayerChoice) -> Found:
    """Field -> values, (places, models, models) or (models, models)."""
    if not choice.best:
        stacked = {field: np.stack([each[field] for each in found]) for field in found[0]}
        return stacked if choice.dim else {field: values[0] for field, values in stacked.items()}
    pairs = [(i, j) for i in range(count) for j in range(i if measure.symmetric else 0, count)]
    grids = {field: np.zeros((count, count), values.dtype) for field, values in found[0].items()}
    turned = {"layer_a": "layer_b", "layer_b": "layer_a"}
    for (i, j), each in zip(pairs, found, strict=True):
        for field, value in each.items():
            grids[field][i, j] = value
            if measure.symmetric:
                grids[field][j, i] = each[turned.get(field, field)]
    return grids


def _provenance(
    texts: Sequence[Text], measures: Sequence[Measure], choice: LayerChoice, uncertainty: Uncertainty
) -> dict[str, Any]:
    members = texts[0].members
    shared = [_shared(text.members) for text in texts]
    about = {
        "measures": {m.name: recorded_params(m) for m in measures},
        "models": {member.name: _of_model(member.acts) for member in members},
        **(shared[0] if len(texts) == 1 else {"corpora": {str(t.name): s for t, s in zip(texts, shared, strict=True)}}),
        "versions": versions(),
    }
    if not choice.same:
        about["layers"] = choice.asked
    if members[0].kept is not None:
        about["controls"] = members[0].controls.settings
    if uncertainty.permutations:
        about["uncertainty"] = {"null": {"kind": "permutation", "permutations": uncertainty.permutations}}
        about["uncertainty"] |= {"seed": uncertainty.seed, "p_value": ALONE}
    return about


def _of_model(acts: Mapping[int, Any]) -> Any:
    return acts.provenance["model"] if isinstance(acts, Activations) else "arrays given by the caller"


def _shared(members: Sequence[Member]) -> dict[str, Any]:
    """The part of the provenance that all models share."""
    extracted = next((member.acts for member in members if isinstance(member.acts, Activations)), None)
    kept = members[0].kept
    if extracted is None:
        n = len(next(iter(members[0].acts.values()))) if kept is None else int(kept.sum())
        return {"n_rows": n}
    about = {key: value for key, value in extracted.provenance.items() if key != "model"}
    return about if kept is None else about | {"n_rows": int(kept.sum())}


def of_measure(result: xr.Dataset, measure: str) -> xr.DataArray:
    """One measure of a result of `compare_models`, with its null under the names that `compare` uses.

    Parameters
    ----------
    result
        Result of `compare_models`.
    measure
        Name of one of its variables.

    Returns
    -------
    xarray.DataArray
        The dissimilarities. `cka_p_value` has become `p_value`, and so on; what belongs to other measures is gone.

    Raises
    ------
    InputError
        If there is no such measure.

    Examples
    --------
    >>> import repsim_nb as rs
    >>> x, noise = np.random.default_rng(0).normal(size=(2, 60, 4))
    >>> result = rs.compare_models({"x": x, "noisy": x + noise, "noise": noise[::-1]}, ["cka", "rsa"], null=99)
    >>> of_measure(result, "cka").p_value.values.round(2)[0, 0]
    array([0.01, 0.01, 0.09])
    """
    if measure not in result.data_vars:
        raise unknown("measure", measure, [str(name) for name in result.data_vars])
    return of_one_measure(result[measure])
