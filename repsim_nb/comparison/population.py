"""Every model of a population against every other, layer by layer, under several measures at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations, Sampling, Store
from repsim_nb.activations.extraction import aligned
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.result import as_json, recorded_params
from repsim_nb.comparison.rows import Rows, Side, check_memory
from repsim_nb.comparison.sides import Layers, as_side, layers_of, same_rows
from repsim_nb.errors import InputError, check_effect, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.models import Model, Packing, load_model
from repsim_nb.system.memory import limit_bytes, most_rows, readable_size
from repsim_nb.system.progress import steps
from repsim_nb.system.resources import Resources
from repsim_nb.system.versions import versions
from repsim_nb.uncertainty import Uncertainty

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.corpora import Corpus

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


@named_arguments(as_parameter)
def compare_models(
    models: Sequence[Any] | Mapping[str, Any],
    measures: str | Measure | Sequence[str | Measure] = CHEAP,
    corpus: Corpus | str | Sequence[str] | None = None,
    *,
    layers: str | int | Sequence[int] = "all",
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    rows_per_document: int | None = None,
    seed: int = 0,
    packing: str | Packing = "documents",
    groups: Sequence[Any] | np.ndarray | None = None,
    between_documents: bool = False,
    leave_out_first: int = 0,
    leave_out_norms: float | None = None,
    standardize: bool = False,
    remove_components: int = 0,
    store: Store | str | bool | None = None,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
) -> xr.Dataset:
    """How unlike all pairs of models are at each layer, the same layer in both, on the same rows.

    Models that are given by name are loaded one at a time; the activations of all are kept.

    Parameters
    ----------
    models
        At least two of one depth and one tokenizer, or anything `load_model` takes; or what they gave, by name or in a
        list: activations (from `extract`, or layer -> (n_rows, d) array) or one array each (layer 0), with equal rows.
    measures
        Names from `list_measures()` or configured measures, one or several; by default the ten of `CHEAP`.
    corpus, site, rows, n_rows, rows_per_document, seed, packing
        Which rows of which text, see `Sampling`; an error for activations and arrays.
    layers
        "all", a position or several, counted as in each model.
    groups, between_documents
        As in `compare`; every measure must be able to leave out pairs of rows of one document.
    leave_out_first, leave_out_norms, standardize, remove_components
        As in `compare`; rows that are left out of one model are left out of all.
    store, memory_limit, batch_tokens
        What may be used, see `system.resources.Resources`. Of activations and arrays the limit is for the work alone.

    Returns
    -------
    xarray.Dataset
        One variable for each measure, dims ("layer", "model_a", "model_b"): 0 = the same up to what the measure is
        invariant to (`Measure.dissimilarity`), larger = less alike; the diagonal is a model against itself. Measures
        that are not symmetric take x from model_a and y from model_b. attrs["provenance"] is one JSON string.

    Raises
    ------
    InputError
        Fewer than two models, models of one name, different depth or with different rows, activations beyond
        memory_limit, models and activations mixed, an argument that would have no effect, or what `extract` and the
        measures raise.

    Notes
    -----
    All pairs share the same rows, so that values of different pairs are not independent: see `groups` for tests that
    take models as the unit.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> compare_models({"one": x, "double": 2 * x}, "cka").cka.values.round(6)[0]
    array([[0., 0.],
           [0., 0.]])
    """
    chosen = _chosen(measures)
    uncertainty = Uncertainty(None, None, groups, between_documents, seed)
    controls = Controls(leave_out_first, leave_out_norms, standardize, remove_components)
    resources = Resources(store, memory_limit, batch_tokens)
    if isinstance(models, str | Model) or not isinstance(models, Mapping | Iterable):
        raise InputError(f"models={models!r}; expected a list of at least two.")
    given = _given(models)
    kept: dict[str, Mapping[int, Any]]
    if given is None:
        sampling = Sampling(corpus, site, rows, n_rows, rows_per_document, seed, packing)
        kept = _extracted(models, layers, sampling, resources, chosen)  # type: ignore[arg-type]
    else:
        extracted: dict[str, Any] = {
            "corpus": corpus,
            "site": site,
            "rows": rows,
            "n_rows": n_rows,
            "seed": seed,
            "packing": packing,
        }
        extracted |= {"rows_per_document": rows_per_document, "store": store, "batch_tokens": batch_tokens}
        check_effect(compare_models, extracted, "the rows of activations are chosen already. Give it to extract.")
        kept = {name: layers_of(acts, layers) for name, acts in given.items()}
        for acts in kept.values():
            _check_alike(next(iter(kept.values())), acts)
    if len(kept) < 2:
        raise InputError(f"{len(kept)} model was given; expected at least two.")
    same = Rows.of(kept, uncertainty.groups, controls)
    chosen = [same.measure(measure, between_documents) for measure in chosen]
    if given is not None:
        for layer in zip(*(side.tensors for side in same.sides), strict=True):
            for measure in chosen:
                check_memory(measure, [layer], memory_limit)
    return _dataset(same.sides, chosen)


def _dataset(sides: Sequence[Side], measures: Sequence[Measure]) -> xr.Dataset:
    """Every measure of all pairs, layer by layer."""
    import xarray as xr

    names, positions = [side.name for side in sides], list(sides[0].acts)
    values = {measure.name: np.empty((len(positions), len(names), len(names))) for measure in measures}
    cells = [(place, layer, measure) for place, layer in enumerate(positions) for measure in measures]
    for place, layer, measure in steps(cells, "comparing", "layer"):
        prepared = [measure.prepare(side.tensors[place], f"layer {layer} of {side.name}") for side in sides]
        values[measure.name][place] = measure.dissimilarities(prepared, prepared)
    dims = ("layer", "model_a", "model_b")
    about = {
        "measures": {m.name: recorded_params(m) for m in measures},
        "models": {side.name: _origin(side.acts) for side in sides},
        **_common(sides[0].acts),
        "versions": versions(),
    }
    return xr.Dataset(
        {m.name: (dims, values[m.name], {"long_name": m.title, "direction": "dissimilarity"}) for m in measures},
        coords={"layer": positions, "model_a": names, "model_b": names},
        attrs={"provenance": as_json(about)},
    )


def _given(models: Sequence[Any] | Mapping[str, Any]) -> dict[str, Mapping[int, Any]] | None:
    """Activations by name; None where models were given."""
    entries = list(models.items()) if isinstance(models, Mapping) else [(None, model) for model in models]
    sides = [as_side(model, f"model {place} of models") for place, (_, model) in enumerate(entries)]
    here = [isinstance(side, Mapping) for side in sides]
    if not any(here) and not isinstance(models, Mapping):
        return None
    if not all(here) or not sides:
        raise InputError(
            "models holds names with activations or arrays, {name: activations}, or is a list of models to load, not "
            "both: extract all of them first, or give a list of models."
        )
    named: dict[str, Mapping[int, Any]] = {}
    for place, ((key, _), side) in enumerate(zip(entries, sides, strict=True)):
        own = side.provenance["model"]["model"] if isinstance(side, Activations) else str(place)
        name = own if key is None else str(key)
        if name in named:
            raise InputError(f"{name} was given twice; give activations by name, as {{name: activations}}.")
        named[name] = side
    return named


def _origin(acts: Mapping[int, Any]) -> Any:
    return acts.provenance["model"] if isinstance(acts, Activations) else "arrays given by the caller"


def _common(acts: Mapping[int, Any]) -> dict[str, Any]:
    """What the provenance says of all models."""
    if isinstance(acts, Activations):
        return {key: value for key, value in acts.provenance.items() if key != "model"}
    return {"n_rows": len(next(iter(acts.values())))}


def _extracted(
    models: Sequence[Model | str],
    layers: Layers,
    sampling: Sampling,
    resources: Resources,
    measures: Sequence[Measure],
) -> dict[str, Mapping[int, Any]]:
    """The activations of every model at the same rows, by name."""
    kept: dict[str, Mapping[int, Any]] = {}
    for given in steps(models, "extracting", "model"):
        model = load_model(given)
        sampling = sampling.loaded(model.made_for)
        positions = model.positions(layers, sampling.site)
        widths = [model.d_model] * len(models)
        _check_memory(measures, widths, len(positions), sampling.n_rows, resources.memory_limit)
        if model.name in kept:
            raise InputError(f"{model.name} was given twice; a population has each model once.")
        kept[model.name] = aligned([model], [positions], sampling, resources)[0]
        _check_alike(next(iter(kept.values())), kept[model.name])
    return kept


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


def _check_alike(first: Mapping[int, Any], other: Mapping[int, Any]) -> None:
    if list(first) != list(other):
        raise InputError(f"Expected models of one depth, compared at the same layers; got {first!r} and {other!r}.")
    if isinstance(first, Activations) and isinstance(other, Activations):
        same_rows(first, other)


def _check_memory(
    measures: Sequence[Measure], widths: Sequence[int], layers: int, n_rows: int, given: int | None
) -> None:
    """Raise where activations of models so wide, and what one measure does to one layer of them, exceed the limit."""
    limit = limit_bytes(given)

    def needed(n: int) -> int:
        return 4 * n * layers * sum(widths) + max(measure.memory(n, widths) for measure in measures)

    if limit is not None and needed(n_rows) > limit:
        greediest = max(measures, key=lambda measure: measure.memory(n_rows, widths))
        most = most_rows(needed, n_rows, limit)
        fewer = f"n_rows of at most {most:,}" if most else "fewer rows"
        raise InputError(
            f"The activations of all models and {greediest.name} of them take {readable_size(needed(n_rows))}; the "
            f"limit is {readable_size(limit)}. Choose {fewer}, fewer layers or models, or raise memory_limit."
        )
