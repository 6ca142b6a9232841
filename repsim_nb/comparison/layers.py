"""Measure x layers x layers -> labelled xarray results with their provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Sampling, Store
from repsim_nb.activations.extraction import aligned
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.cost import expected_bytes
from repsim_nb.comparison.rows import Rows, check_memory
from repsim_nb.comparison.sides import Layers, as_side, layers_of, shapes_and_positions, two_sides
from repsim_nb.comparison.streaming import streamed
from repsim_nb.errors import InputError, check_effect, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.arrays import check_order
from repsim_nb.measures.registry import as_parameter
from repsim_nb.models import Model, Packing
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
) -> xr.DataArray:
    """Every layer of `a` against every layer of `b` under one measure, with its null and interval where asked for.

    Parameters
    ----------
    a, b
        Models, names `load_model` takes, or activations: from `extract`, any mapping layer -> (n_rows, d) array with
        equal n_rows, one such array, tensor or data frame, which is layer 0, or a TransformerLens ActivationCache or
        mapping of hook names, as `activations.from_cache` reads it. b=None compares a with itself.
    corpus, site, rows, n_rows, rows_per_document, packing
        Which rows of which text, see `Sampling`; an error for activations, whose rows are chosen already.
    measure
        A name from `list_measures()`, or a configured measure, as in `get_measure("cka", debiased=False)`.
    layers_a, layers_b
        "all", a position or several.
    seed
        Of the choice of rows, the permutations and the jackknife's blocks.
    null, interval, groups, between_documents
        How sure the result is to be made, see `uncertainty.Uncertainty`.
    leave_out_first, leave_out_norms, standardize, remove_components
        What is taken out of the activations beforehand, see `controls.Controls`. Null and interval take it as fixed.
    store, memory_limit, batch_tokens
        What may be used, see `system.resources.Resources`. Two models that would take more than the limit are run batch
        by batch and only sums are kept (see `stream`), to the same values, or refused where the measure needs all rows;
        of activations the limit is for the work alone. Two models given by name that do not fit beside each other are
        in memory one at a time.

    Returns
    -------
    xarray.DataArray
        Dims ("layer_a", "layer_b"), named like the measure. attrs["provenance"] is one JSON string; attrs["coverage"]
        is the share of places at which both tokenizers end a token, of those of the tokenizer with fewer (for
        rows="mean" and "cls" of different tokenizers, the share of documents that are one window in both).
        With a null it has the coordinates null_mean, null_high (the 5% level of each cell by itself),
        null_high_family (of the whole grid: a cell beyond it has p_value <= 0.05) and p_value, with an interval low
        and high, all on both dims. For a dissimilarity the null levels are on the low side. A measure that samples
        pairs of rows adds standard_error.

    Raises
    ------
    InputError
        Unknown model, measure, layer, null or argument; activations whose rows are not the same; documents that cannot
        be exchanged, or fewer than 5 for an interval; an argument that would have no effect; more memory than the
        limit.

    Notes
    -----
    The unit of null and interval is the document, because tokens of one document are not independent. The null
    exchanges whole documents of `b` for others with equally many rows, and asks of each cell whether it is more alike
    than the most alike cell of an unrelated grid (the max statistic: p-values hold for the grid as a whole). The
    interval leaves out groups of documents in turn (a jackknife), never repeats a row, and holds for each cell by
    itself. It is about the value that so many rows of so many such documents give on average: a bias that a measure
    has with few rows or, as debiased CKA of token rows, with few documents, is not removed; see `between_documents`.

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
    resources = Resources(store, memory_limit, batch_tokens)
    check_order(a, b)
    sides, layers = two_sides(as_side(a, "a"), None if b is None else as_side(b, "b"), layers_a, layers_b)
    here = [isinstance(side, Mapping) for side in sides]
    if all(here):
        extracted: dict[str, Any] = {"corpus": corpus, "site": site, "rows": rows, "n_rows": n_rows, "packing": packing}
        extracted |= {"rows_per_document": rows_per_document, "store": store, "batch_tokens": batch_tokens}
        extracted |= {} if uncertainty.resampled else {"seed": seed}
        check_effect(compare, extracted, "the rows of activations are chosen already. Give it to extract instead.")
        given = [layers_of(side, which) for side, which in zip(sides, layers, strict=True)]
        return _of_activations(given, chosen, uncertainty, controls, resources)
    if any(here):
        raise InputError("One side is a model and the other activations: extract both with the same arguments first.")
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
    """`compare` of models: in memory where their activations fit, else in sums."""
    shapes, positions = shapes_and_positions(models, layers, sampling.site)
    cost = expected_bytes(shapes, positions, measure, sampling, uncertainty, controls, resources)
    if cost.route == "stream":
        check_effect(
            compare,
            {"store": resources.store},
            "these activations would take more than the memory limit, so that only sums are kept. Leave it out, or "
            "raise memory_limit.",
        )
        return streamed(models, layers, measure, sampling, resources)
    acts = aligned(models, layers, sampling, resources)
    resources = replace(resources, memory_limit=cost.limit)  # what was free then: now the activations take of it
    return _of_activations(acts, measure, uncertainty, controls, resources)


def _of_activations(
    sides: Sequence[Mapping[int, Any]],
    measure: Measure,
    uncertainty: Uncertainty,
    controls: Controls,
    resources: Resources,
) -> xr.DataArray:
    """`compare` of rows that are there: of two sides, or one with itself."""
    rows = Rows.of(dict(zip("ab", sides, strict=False)), uncertainty.groups, controls)
    measure = rows.measure(measure, uncertainty.between_documents)
    check_memory(measure, [side.tensors for side in rows.sides], resources.memory_limit, uncertainty)
    prepared = [side.prepared(measure) for side in rows.sides]
    return rows.grid(prepared[0], prepared[-1], measure, uncertainty)


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
) -> dict[tuple[str, str], xr.DataArray]:
    """Every pair of several models, each once, and each model with itself: (later, earlier) -> their map.

    Parameters
    ----------
    activations
        Model name -> its activations, all at the same rows (from one call of `extract_aligned`), or one array, which
        is layer 0.
    measure, seed, null, interval, groups, between_documents
        As in `compare`. p-values are family-wise within one map, not over all of them.
    leave_out_first, leave_out_norms, standardize, remove_components
        As in `compare`; rows that are left out of one model are left out of all.
    memory_limit
        Bytes that the work may take beside the activations; None is half of what is available.

    Returns
    -------
    dict
        (later model, earlier one) -> DataArray (layer_a, layer_b), as `compare` returns.

    Raises
    ------
    InputError
        Activations whose rows are not the same, and what `compare` raises.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> list(compare_all({"one": x, "two": 2 * x}))
    [('one', 'one'), ('two', 'one'), ('two', 'two')]
    """
    chosen = get_measure(measure)
    uncertainty = Uncertainty(null, interval, groups, between_documents, seed)
    controls = Controls(leave_out_first, leave_out_norms, standardize, remove_components)
    if not uncertainty.resampled:
        check_effect(compare_all, {"seed": seed}, "it is of null and interval, which are not asked for.")
    if not isinstance(activations, Mapping) or not activations:
        raise InputError("compare_all needs activations by name, as name -> activations, of at least one model.")
    sides = {str(name): layers_of(as_side(acts, str(name)), "all") for name, acts in activations.items()}
    rows = Rows.of(sides, uncertainty.groups, controls)
    chosen = rows.measure(chosen, between_documents)
    check_memory(chosen, [[x for side in rows.sides for x in side.tensors]], memory_limit, uncertainty)
    ready = [side.prepared(chosen) for side in rows.sides]
    names = list(activations)
    return {
        (names[i], names[j]): rows.grid(ready[i], ready[j], chosen, uncertainty)
        for i in range(len(ready))
        for j in range(i + 1)
    }
