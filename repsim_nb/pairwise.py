"""Every model of a population against every other, layer by layer, under several measures at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from repsim_nb.activations import Activations, extract
from repsim_nb.activations.extraction import PATIENCE, as_json
from repsim_nb.comparison import same_rows
from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.errors import InputError
from repsim_nb.labels import recorded_params
from repsim_nb.measures import Measure, get_measure
from repsim_nb.memory import limit_bytes, readable_size
from repsim_nb.models import Model, load_model
from repsim_nb.versions import versions

if TYPE_CHECKING:
    import xarray as xr

# Different views of a layer (geometry, subspaces, prediction, matching of features, neighbours), each at most n d^2 or
# n^2 d for a pair.
CHEAP = (
    "cka",
    "procrustes",
    "svcca",
    "pwcca",
    "linear_regression",
    "gulp",
    "aligned_cosine",
    "soft_matching",
    "rsa",
    "mutual_knn",
)


def compare_models(
    models: Sequence[Model | str],
    measures: str | Measure | Sequence[str | Measure] = CHEAP,
    corpus: Corpus | str | Sequence[str] | None = None,
    *,
    layers: str | int | Sequence[int] = "all",
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 2048,
    seed: int = 0,
    memory_limit: int | None = None,
) -> xr.Dataset:
    """How unlike all pairs of models are at each layer, the same layer in both, on the same rows.

    Models that are given by name are loaded one at a time; the activations of all are kept.

    Args:
        models: at least two of one depth and one tokenizer, or anything `load_model` takes.
        measures: names from `list_measures()` or configured measures, one or several; by default the ten of `CHEAP`.
        corpus, site, rows, n_rows, seed: as in `extract`.
        layers: "all", a position or several, counted as in each model.
        memory_limit: bytes that activations may take; None is half of what is available.

    Returns:
        Dataset with one variable for each measure, dims ("layer", "model_a", "model_b"): 0 = the same up to what the
        measure is invariant to (`Measure.dissimilarity`), larger = less alike; the diagonal is a model against itself.
        Measures that are not symmetric take x from model_a and y from model_b. attrs["provenance"] is one JSON string.

    Raises:
        InputError: fewer than two models, models of one name, different depth or with different rows, activations
            beyond memory_limit, or what `extract` and the measures raise.
    """
    import xarray as xr

    chosen = _chosen(measures)
    if isinstance(models, str | Model):
        raise InputError(f"models={models!r}; expected a list of at least two.")
    texts: Any = corpus
    kept: dict[str, Activations] = {}
    for given in tqdm(models, "extracting", delay=PATIENCE, leave=False):
        model = load_model(given)
        texts = load_corpus(model.made_for if texts is None else texts)
        positions = model.positions(layers, site)
        _check_memory(len(models) * len(positions) * n_rows * model.d_model * 4, memory_limit)
        if model.name in kept:
            raise InputError(f"{model.name} was given twice; a population has each model once.")
        kept[model.name] = extract(model, texts, positions, site, rows, n_rows, seed)
        _check_alike(next(iter(kept.values())), kept[model.name])
    if len(kept) < 2:
        raise InputError(f"{len(kept)} model was given; expected at least two.")
    names, positions = list(kept), list(next(iter(kept.values())))
    values = {measure.name: np.empty((len(positions), len(names), len(names))) for measure in chosen}
    cells = [(place, layer, measure) for place, layer in enumerate(positions) for measure in chosen]
    for place, layer, measure in tqdm(cells, "comparing", delay=PATIENCE, leave=False):
        prepared = [measure.prepare(acts[layer], f"layer {layer} of {name}") for name, acts in kept.items()]
        values[measure.name][place] = measure.dissimilarities(prepared, prepared)
    dims = ("layer", "model_a", "model_b")
    about = {
        "measures": {m.name: recorded_params(m) for m in chosen},
        "models": {name: acts.provenance["model"] for name, acts in kept.items()},
        **{key: value for key, value in next(iter(kept.values())).provenance.items() if key != "model"},
        "versions": versions(),
    }
    return xr.Dataset(
        {m.name: (dims, values[m.name], {"long_name": m.title, "direction": "dissimilarity"}) for m in chosen},
        coords={"layer": positions, "model_a": names, "model_b": names},
        attrs={"provenance": as_json(about)},
    )


def _chosen(measures: str | Measure | Sequence[str | Measure]) -> list[Measure]:
    given = [measures] if isinstance(measures, str | Measure) else list(measures)
    chosen = [get_measure(measure) for measure in given]
    names = [measure.name for measure in chosen]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice or not chosen:
        raise InputError(
            f"Measure {twice!r} was given twice; compare its settings in calls of their own."
            if twice
            else "measures is empty; expected at least one name from list_measures()."
        )
    return chosen


def _check_alike(first: Activations, other: Activations) -> None:
    if list(first) != list(other):
        raise InputError(f"Expected models of one depth, compared at the same layers; got {first!r} and {other!r}.")
    same_rows(first, other)


def _check_memory(needed: int, given: int | None) -> None:
    limit = limit_bytes(given)
    if limit is not None and needed > limit:
        raise InputError(
            f"The activations of all models take {readable_size(needed)}; the limit is {readable_size(limit)}. Choose "
            "fewer rows, layers or models, or raise memory_limit."
        )
