"""Compare every model of a population with every other, layer by layer, under several measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from repsim_nb.activations import Activations, Sampling, Store
from repsim_nb.activations.extraction import aligned, arrived, departing
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.result import as_json, recorded_params
from repsim_nb.comparison.rows import Rows, Side, check_memory
from repsim_nb.comparison.sides import Layers, as_side, layers_of, same_rows
from repsim_nb.errors import InputError, check_effect, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.models import Model, Packing, load_model
from repsim_nb.models.sending import sendable
from repsim_nb.system.executor import mapped, remembered
from repsim_nb.system.memory import limit_bytes, most_rows, readable_size
from repsim_nb.system.resources import Resources
from repsim_nb.system.versions import versions
from repsim_nb.uncertainty import Uncertainty

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.corpora import Corpus

# One or more measures of each type (geometry, subspaces, prediction, feature matching, neighbours) that cost at most
# n d^2 or n^2 d per pair.
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
    executor: Executor | None = None,
) -> xr.Dataset:
    """Compute the dissimilarity of all pairs of models at each layer, on the same rows.

    Each layer is compared with the same layer of the other model. Models given by name are loaded one at a time; the
    activations of all models are kept in memory.

    Parameters
    ----------
    models
        At least two models with the same depth and tokenizer (anything that `load_model` takes). Alternatively
        activations with equal rows, as a list or by name: results of `extract`, mappings layer -> (n_rows, d) array,
        or single arrays, which become layer 0.
    measures
        One or more names from `list_measures()` or configured measures. The default is the ten of `CHEAP`.
    corpus, site, rows, n_rows, rows_per_document, seed, packing
        Text, place in the model and sampling of rows; see `Sampling`. Not allowed for activations and arrays.
    layers
        "all", one layer or a list.
    groups, between_documents
        As in `compare`. With between_documents=True every measure must have a parameter `groups`.
    leave_out_first, leave_out_norms, standardize, remove_components
        As in `compare`. Rows left out for one model are left out for all.
    store, memory_limit, batch_tokens, executor
        Resources; see `system.resources.Resources`. For activations and arrays the limit covers only the work on them.
        Units of work are the extraction of a model, which needs its name, and a measure of a layer.

    Returns
    -------
    xarray.Dataset
        One variable per measure, dims ("layer", "model_a", "model_b"). 0 means equal up to the measure's invariances
        (`Measure.dissimilarity`); larger means less similar. The diagonal compares a model with itself. Asymmetric
        measures take x from model_a and y from model_b. attrs["provenance"] is one JSON string.

    Raises
    ------
    InputError
        If there are fewer than two models, two models have the same name, depths or rows differ, activations exceed
        memory_limit, models and activations are mixed, or an argument would have no effect; also whatever `extract`
        and the measures raise.

    Notes
    -----
    All pairs share the same rows and every model appears in many pairs, so values of different pairs are not
    independent: tests must use the model as the unit (see `groups`). Values of different measures have different
    scales and cannot be compared with each other.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> compare_models({"one": x, "double": 2 * x}, "cka").cka.values.round(6)[0]
    array([[0., 0.],
           [0., 0.]])
    """
    chosen = _resolve_measures(measures)
    uncertainty = Uncertainty(None, None, groups, between_documents, seed)
    controls = Controls(leave_out_first, leave_out_norms, standardize, remove_components)
    resources = Resources(store, memory_limit, batch_tokens, executor)
    if isinstance(models, str | Model) or not isinstance(models, Mapping | Iterable):
        raise InputError(f"models={models!r}; expected a list of at least two models.")
    given = _activations_by_name(models)
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
        check_effect(compare_models, extracted, "activations already have their rows. Pass it to extract instead.")
        kept = {name: layers_of(acts, layers) for name, acts in given.items()}
        for acts in kept.values():
            _check_same_layers(next(iter(kept.values())), acts)
    if len(kept) < 2:
        raise InputError(f"Need at least two models, got {len(kept)}.")
    same = Rows.of(kept, uncertainty.groups, controls)
    chosen = [same.measure(measure, between_documents) for measure in chosen]
    if given is not None:
        for layer in zip(*(side.tensors for side in same.sides), strict=True):
            for measure in chosen:
                check_memory(measure, [layer], memory_limit)
    return _dataset(same.sides, chosen, resources.executor)


@dataclass(frozen=True)
class _Cell:
    """One layer of all models under one measure."""

    layer: int
    measure: Measure
    rows: Mapping[str, Tensor] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.measure.name} at layer {self.layer}"


def _compared(_: None, cell: _Cell) -> np.ndarray:
    """Dissimilarities of all pairs."""
    prepared = [cell.measure.prepare(x, f"layer {cell.layer} of {name}") for name, x in cell.rows.items()]
    return cell.measure.dissimilarities(prepared, prepared)


def _dataset(sides: Sequence[Side], measures: Sequence[Measure], executor: Executor | None) -> xr.Dataset:
    """Compute every measure for all pairs, layer by layer."""
    import xarray as xr

    names, positions = [side.name for side in sides], list(sides[0].acts)
    values = {measure.name: np.empty((len(positions), len(names), len(names))) for measure in measures}
    cells = [(place, measure) for place in range(len(positions)) for measure in measures]
    units = (
        _Cell(positions[place], measure, {side.name: side.tensors[place] for side in sides}) for place, measure in cells
    )
    found = mapped(_compared, None, units, executor, what="comparing", unit="layer", name=str, total=len(cells))
    for (place, measure), square in zip(cells, found, strict=True):
        values[measure.name][place] = square
    dims = ("layer", "model_a", "model_b")
    about = {
        "measures": {m.name: recorded_params(m) for m in measures},
        "models": {side.name: _model_provenance(side.acts) for side in sides},
        **_shared_provenance(sides[0].acts),
        "versions": versions(),
    }
    return xr.Dataset(
        {m.name: (dims, values[m.name], {"long_name": m.title, "direction": "dissimilarity"}) for m in measures},
        coords={"layer": positions, "model_a": names, "model_b": names},
        attrs={"provenance": as_json(about)},
    )


def _activations_by_name(models: Sequence[Any] | Mapping[str, Any]) -> dict[str, Mapping[int, Any]] | None:
    """Activations by name, or None if models were given."""
    entries = list(models.items()) if isinstance(models, Mapping) else [(None, model) for model in models]
    sides = [as_side(model, f"model {place} of models") for place, (_, model) in enumerate(entries)]
    here = [isinstance(side, Mapping) for side in sides]
    if not any(here) and not isinstance(models, Mapping):
        return None
    if not all(here) or not sides:
        raise InputError(
            "models mixes models with activations. Pass either a list of models to load, or activations or arrays by "
            "name, {name: activations}."
        )
    named: dict[str, Mapping[int, Any]] = {}
    for place, ((key, _), side) in enumerate(zip(entries, sides, strict=True)):
        own = side.provenance["model"]["model"] if isinstance(side, Activations) else str(place)
        name = own if key is None else str(key)
        if name in named:
            raise InputError(f"{name} appears twice. Pass activations by name, as {{name: activations}}.")
        named[name] = side
    return named


def _model_provenance(acts: Mapping[int, Any]) -> Any:
    return acts.provenance["model"] if isinstance(acts, Activations) else "arrays given by the caller"


def _shared_provenance(acts: Mapping[int, Any]) -> dict[str, Any]:
    """The part of the provenance that all models share."""
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
    """Activations of every model at the same rows, by name."""
    models = list(models)
    kept: dict[str, Mapping[int, Any]] = {}
    elsewhere = resources.executor if sendable(models) else None
    job = _Population(tuple(models), layers, sampling, resources.alone, measures, elsewhere is not None)
    kept_there = resources.store not in (None, False)
    for acts in mapped(_of_model, job, models, elsewhere, what="extracting", unit="model", kept=kept_there):
        name = acts.provenance["model"]["model"]
        if name in kept:
            raise InputError(f"{name} appears twice; list each model once.")
        kept[name] = arrived(acts, resources)
        _check_same_layers(next(iter(kept.values())), kept[name])
    return kept


@dataclass(frozen=True)
class _Population:
    """What the extractions of a population have in common."""

    models: tuple[Model | str, ...]
    layers: Layers
    sampling: Sampling
    resources: Resources
    measures: Sequence[Measure]
    elsewhere: bool  # whether another process asks for them

    def loaded(self) -> Sampling:
        """The sampling with its corpus, by default that of the first model."""
        return self.sampling.loaded("" if self.sampling.corpus is not None else load_model(self.models[0]).made_for)


def _of_model(job: _Population, given: Model | str) -> Activations:
    """Activations of one model, if those of all fit."""
    sampling = remembered("corpus", job.loaded)
    model = load_model(given)
    positions = model.positions(job.layers, sampling.site)
    widths = [model.width(sampling.site)] * len(job.models)
    _check_memory(job.measures, widths, len(positions), sampling.n_rows, job.resources.memory_limit)
    (acts,) = aligned([model], [positions], sampling, job.resources)
    return departing(acts) if job.elsewhere else acts


def _resolve_measures(measures: str | Measure | Sequence[str | Measure]) -> list[Measure]:
    given = [measures] if isinstance(measures, str | Measure) else list(measures)
    chosen = [get_measure(measure) for measure in given]
    names = [measure.name for measure in chosen]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice or not chosen:
        raise InputError(
            f"Measure {twice!r} appears twice; use separate calls for different settings of a measure."
            if twice
            else "measures is empty; expected at least one name from list_measures()."
        )
    return chosen


def _check_same_layers(first: Mapping[int, Any], other: Mapping[int, Any]) -> None:
    if list(first) != list(other):
        raise InputError(f"All models need the same layers; got {first!r} and {other!r}.")
    if isinstance(first, Activations) and isinstance(other, Activations):
        same_rows(first, other)


def _check_memory(
    measures: Sequence[Measure], widths: Sequence[int], layers: int, n_rows: int, given: int | None
) -> None:
    """Raise if all activations, plus the work of the most demanding measure on one layer, exceed the limit."""
    limit = limit_bytes(given)

    def needed(n: int) -> int:
        return 4 * n * layers * sum(widths) + max(measure.memory(n, widths) for measure in measures)

    if limit is not None and needed(n_rows) > limit:
        greediest = max(measures, key=lambda measure: measure.memory(n_rows, widths))
        most = most_rows(needed, n_rows, limit)
        fewer = f"n_rows of at most {most:,}" if most else "fewer rows"
        raise InputError(
            f"The activations of all models and the work of {greediest.name} need {readable_size(needed(n_rows))}; the "
            f"limit is {readable_size(limit)}. Choose {fewer}, fewer layers or models, or raise memory_limit."
        )
