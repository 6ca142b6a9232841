"""Compare all layers of two models: a labelled grid of values with its provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Sampling, Store
from repsim_nb.activations.extraction import aligned
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.cost import expected_bytes
from repsim_nb.comparison.rows import Rows, check_memory, check_sampled
from repsim_nb.comparison.rows import Side as PreparedSide
from repsim_nb.comparison.sides import Layers, as_side, layers_of, shapes_and_positions, two_sides
from repsim_nb.comparison.streaming import streamed
from repsim_nb.errors import InputError, check_effect, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.arrays import check_order
from repsim_nb.measures.registry import as_parameter
from repsim_nb.models import Model, Packing
from repsim_nb.models.sending import check_sendable
from repsim_nb.system.executor import mapped
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.corpora import Corpus

Side = Model | str | Mapping[int, Any] | Any


@named_arguments(as_parameter)
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
    rows_per_document: int | None = None,
    seed: int = 0,
    packing: str | Packing = "documents",
    null: str | int | None = None,
    interval: float | bool | None = None,
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
) -> xr.DataArray:
    """Compare every layer of `a` with every layer of `b` under one measure.

    Parameters
    ----------
    a, b
        Models, names that `load_model` takes, or activations: a result of `extract`, a mapping layer -> (n_rows, d)
        array with equal n_rows, a single array, tensor or data frame, which becomes layer 0, or a TransformerLens
        ActivationCache or mapping of hook names, as `activations.from_cache` reads it. b=None compares a with itself.
    corpus, site, rows, n_rows, rows_per_document, packing
        Text, place in the model and sampling of rows; see `Sampling`. Not allowed for activations, which already have
        their rows.
    measure
        A name from `list_measures()` or a configured measure such as `get_measure("cka", debiased=False)`.
    layers_a, layers_b
        "all", one layer or a list.
    seed
        Seed for sampling rows, for permutations and for the jackknife's blocks.
    null, interval, groups, between_documents
        Null distribution and confidence interval; see `uncertainty.Uncertainty`.
    leave_out_first, leave_out_norms, standardize, remove_components
        What to remove from the activations first; see `controls.Controls`. Null and interval treat it as fixed.
    store, memory_limit, batch_tokens, executor
        Resources; see `system.resources.Resources`. If two models exceed the limit they are streamed batch by batch
        (see `stream`), which gives the same values; a measure that needs all rows at once raises an error instead. For
        activations the limit covers only the work on them. Models given by name are loaded one at a time if they do
        not fit in memory together. An executor runs models given by name, parts of a streamed comparison, and parts of
        the permutations and of the jackknife.

    Returns
    -------
    xarray.DataArray
        Dims ("layer_a", "layer_b"), named after the measure. attrs["provenance"] is one JSON string.
        attrs["coverage"] is the share of the coarser tokenizer's token boundaries that both tokenizers have (for
        rows="mean" and "cls" with different tokenizers, the share of documents that fit one window in both).
        A null adds the coordinates null_mean, null_high (5% level of each cell by itself), null_high_family (5% level
        of the whole grid: a cell beyond it has p_value <= 0.05) and p_value; an interval adds low and high, all on
        both dims. For a similarity with an upper bound a null also adds calibrated, what exceeds null_high as a share
        of what could, and calibrated_most, one number: the same for the largest cell against the largest of an
        unrelated map. For a dissimilarity the null levels are on the low side. A measure that samples pairs of rows
        adds standard_error.

    Raises
    ------
    InputError
        If a model, measure, layer, null or argument is unknown, the rows of the activations differ, documents cannot
        be exchanged, there are fewer than 5 documents for an interval, an argument would have no effect, or the work
        exceeds the memory limit.

    Notes
    -----
    The document is the unit of null and interval, because tokens of one document are not independent. The null
    exchanges whole documents of `b` for others with equally many rows and compares each cell with the most similar
    cell of the permuted grid (max statistic), so p-values are family-wise over the grid, but not over measures or
    model pairs. The interval is a delete-a-group jackknife over documents and holds for each cell by itself. It covers
    the expected value for this many rows and documents: the bias of a measure with few rows, or of debiased CKA of
    token rows with few documents, remains; see `between_documents`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(200, 8))
    >>> compare({0: x, 1: x @ np.linalg.qr(np.ones((8, 8)) + np.eye(8))[0]}).round(3).values
    array([[1., 1.],
           [1., 1.]])
    >>> compare(x, 3 * x).round(3).item()
    1.0
    >>> noisy = x + np.random.default_rng(1).normal(size=(200, 8))
    >>> both = compare({0: x}, {0: noisy, 1: noisy[::-1].copy()}, null=99, interval=0.95)
    >>> both.p_value.values <= 0.05
    array([[ True, False]])
    >>> [f"{both[name].values[0, 0]:.2f}" for name in ("low", "high", "null_high")]
    ['0.46', '0.52', '0.01']
    """
    chosen = get_measure(measure)
    uncertainty = Uncertainty(null, interval, groups, between_documents, seed)
    controls = Controls(leave_out_first, leave_out_norms, standardize, remove_components)
    resources = Resources(store, memory_limit, batch_tokens, executor)
    check_sampled(chosen, uncertainty)
    check_order(a, b)
    sides, layers = two_sides(as_side(a, "a"), None if b is None else as_side(b, "b"), layers_a, layers_b)
    here = [isinstance(side, Mapping) for side in sides]
    if all(here):
        extracted: dict[str, Any] = {"corpus": corpus, "site": site, "rows": rows, "n_rows": n_rows, "packing": packing}
        extracted |= {"rows_per_document": rows_per_document, "store": store, "batch_tokens": batch_tokens}
        extracted |= {} if uncertainty.resampled else {"seed": seed, "executor": executor}
        check_effect(compare, extracted, "activations already have their rows. Pass it to extract instead.")
        given = [layers_of(side, which) for side, which in zip(sides, layers, strict=True)]
        return compare_activations(given, chosen, uncertainty, controls, resources)
    if any(here):
        raise InputError(
            "One side is a model and the other is activations. Extract both first, with the same arguments."
        )
    sampling = Sampling(corpus, site, rows, n_rows, rows_per_document, seed, packing)
    return _of_models(sides, layers, chosen, sampling, uncertainty, controls, resources)


def _of_models(
    models: Sequence[Model | str],
    layers: Sequence[Layers],
    measure: Measure,
    sampling: Sampling,
    uncertainty: Uncertainty,
    controls: Controls,
    resources: Resources,
) -> xr.DataArray:
    """`compare` for models: in memory if their activations fit, else streamed."""
    if not uncertainty.resampled:
        check_sendable(models, resources.executor)
    shapes, positions = shapes_and_positions(models, layers, sampling.site)
    cost = expected_bytes(shapes, positions, measure, sampling, uncertainty, controls, resources)
    if cost.route == "stream":
        check_effect(
            compare,
            {"store": resources.store},
            "these activations exceed the memory limit, so the comparison is streamed. Leave it out, or raise "
            "memory_limit.",
        )
        return streamed(models, layers, measure, sampling, resources)
    acts = aligned(models, layers, sampling, resources)
    resources = replace(resources, memory_limit=cost.limit)  # the limit from before activations took their share
    return compare_activations(acts, measure, uncertainty, controls, resources)


def compare_activations(
    sides: Sequence[Mapping[int, Any]],
    measure: Measure,
    uncertainty: Uncertainty,
    controls: Controls,
    resources: Resources,
) -> xr.DataArray:
    """`compare` for activations, its options as they travel: two sides, or one with itself."""
    rows = Rows.of(dict(zip("ab", sides, strict=False)), uncertainty.groups, controls)
    measure = rows.measure(measure, uncertainty.between_documents)
    check_memory(measure, [side.tensors for side in rows.sides], resources.memory_limit, uncertainty)
    prepared = [side.prepared(measure) for side in rows.sides]
    return rows.grid(prepared[0], prepared[-1], measure, uncertainty, resources.executor)


@named_arguments(as_parameter)
def compare_all(
    activations: Mapping[str, Mapping[int, Any] | Any],
    measure: str | Measure = "cka",
    *,
    seed: int = 0,
    null: str | int | None = None,
    interval: float | bool | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    between_documents: bool = False,
    leave_out_first: int = 0,
    leave_out_norms: float | None = None,
    standardize: bool = False,
    remove_components: int = 0,
    memory_limit: int | None = None,
    executor: Executor | None = None,
) -> dict[tuple[str, str], xr.DataArray]:
    """Compare several models pairwise: every pair once, and every model with itself.

    Parameters
    ----------
    activations
        Model name -> activations at the same rows (from one call of `extract_aligned`), or a single array, which
        becomes layer 0.
    measure, seed, null, interval, groups, between_documents
        As in `compare`.
    leave_out_first, leave_out_norms, standardize, remove_components
        As in `compare`. Rows left out for one model are left out for all.
    memory_limit
        Maximum bytes for the work, not counting the activations. None means half of the available memory.
    executor
        Where pairs are compared, each one a unit of work; see `system.resources.Resources`.

    Returns
    -------
    dict
        (later model, earlier model) -> DataArray (layer_a, layer_b), as returned by `compare`.

    Raises
    ------
    InputError
        If the rows of the activations differ; also whatever `compare` raises.

    Notes
    -----
    p-values are family-wise within one map, not over all maps: with 20 maps, one of them has a cell with p <= 0.05 by
    chance on average.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> list(compare_all({"one": x, "two": 2 * x}))
    [('one', 'one'), ('two', 'one'), ('two', 'two')]
    """
    chosen = get_measure(measure)
    uncertainty = Uncertainty(null, interval, groups, between_documents, seed)
    controls = Controls(leave_out_first, leave_out_norms, standardize, remove_components)
    check_sampled(chosen, uncertainty)
    if not uncertainty.resampled:
        check_effect(compare_all, {"seed": seed}, "it only seeds null and interval, and neither is requested.")
    if not isinstance(activations, Mapping) or not activations:
        raise InputError("compare_all needs activations of at least one model, as {name: activations}.")
    sides = {name: layers_of(as_side(acts, str(name)), "all") for name, acts in activations.items()}
    rows = Rows.of(sides, uncertainty.groups, controls)
    chosen = rows.measure(chosen, between_documents)
    resources = Resources(memory_limit=memory_limit, executor=executor)
    check_memory(chosen, [[x for side in rows.sides for x in side.tensors]], memory_limit, uncertainty)
    if resources.executor is None:
        rows = replace(rows, sides=[side.prepared(chosen) for side in rows.sides])
    pairs = [(i, j) for i in range(len(rows.sides)) for j in range(i + 1)]
    units = [(rows.sides[i], rows.sides[j]) for i, j in pairs]
    job = rows.without_sides(), chosen, uncertainty
    maps = mapped(_pair, job, units, resources.executor, what="comparing", unit="pair", name=_pair_name)
    names = list(activations)
    return {(names[i], names[j]): result for (i, j), result in zip(pairs, maps, strict=True)}


def _pair(job: tuple[Rows, Measure, Uncertainty], sides: tuple[PreparedSide, PreparedSide]) -> xr.DataArray:
    """The map of two sides, prepared here if they are not yet."""
    rows, measure, uncertainty = job
    a, b = sides
    a = a if a.ready else a.prepared(measure)
    b = a if sides[1] is sides[0] else b if b.ready else b.prepared(measure)
    return rows.grid(a, b, measure, uncertainty)


def _pair_name(sides: tuple[PreparedSide, PreparedSide]) -> str:
    return " and ".join(side.name for side in sides)
