"""Measure x layers x layers -> labelled xarray results with their provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from repsim_nb.activations import Activations, Store, extract_aligned
from repsim_nb.activations.extraction import as_json
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.cost import expected_bytes, shapes_and_layers
from repsim_nb.comparison.result import labelled
from repsim_nb.comparison.streaming import stream
from repsim_nb.errors import InputError, check_effect, unknown
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.arrays import as_matrix, check_order, is_array
from repsim_nb.measures.cka import CKA
from repsim_nb.measures.registry import Prepared
from repsim_nb.models import Model, Packing
from repsim_nb.models.model import as_layers
from repsim_nb.system.memory import limit_bytes, most_rows, readable_size
from repsim_nb.system.progress import steps
from repsim_nb.uncertainty import (
    LEVEL,
    Documents,
    Grids,
    LinearCKA,
    Null,
    Recomputed,
    closed_form,
    jackknife_grid,
    max_statistic,
)
from repsim_nb.uncertainty.grids import of_rows
from repsim_nb.uncertainty.jackknife import BLOCKS

if TYPE_CHECKING:
    import xarray as xr
    from torch import Tensor

    from repsim_nb.corpora import Corpus

Layers = str | int | Sequence[int]
Side = Model | str | Mapping[int, Any] | Any
NULLS = ("permutation", "moments")
PERMUTATIONS = 200
MIN_BLOCKS = 5  # documents at least for an interval
T = TypeVar("T")


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
    packing: str | Packing = "documents",
    null: str | int | None = None,
    interval: float | bool | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    between_documents: bool = False,
    fast: bool = False,
    memory_limit: int | None = None,
    store: Store | str | bool | None = None,
    leave_out_first: int = 0,
    leave_out_norms: float | None = None,
    standardize: bool = False,
    remove_components: int = 0,
    **measure_params: Any,
) -> xr.DataArray:
    """Every layer of `a` against every layer of `b` under one measure, with its null and interval where asked for.

    The unit of both is the document, because tokens of one document are not independent.

    The null exchanges whole documents of `b` for others with equally many rows, and asks of each cell whether it is
    more alike than the most alike cell of an unrelated grid (the max statistic; p-values hold for the grid as a whole).
    The interval leaves out groups of documents in turn (a jackknife), never repeats a row, and holds for each cell by
    itself. It is about the value that so many rows of so many such documents give on average: a bias that a measure
    has with few rows or, as debiased CKA of token rows, with few documents, is not removed; see `between_documents`.

    Args:
        a, b: models, names `load_model` takes, or activations (from `extract`, any mapping layer -> (n_rows, d) array
            with equal n_rows, or one such array, tensor or data frame, which is layer 0); b=None compares a with
            itself.
        corpus, site, rows, n_rows, packing: as in `extract`; an error where both sides are activations already.
        seed: of the choice of rows, the permutations and the jackknife's groups.
        measure: a name from `list_measures()` or a configured Measure.
        layers_a, layers_b: "all", a position or several.
        null: None, "permutation" (200 of them), a number of permutations (at least 19), or "moments" for linear CKA:
            the same null in closed form, many times faster, its tails those of a Pearson III distribution (see
            `uncertainty.moments`).
        interval: None or False, the level, or True for 0.95.
        groups: the document of each row, (n_rows,), for plain arrays; activations know theirs, and without either each
            row is its own document. For null, interval and between_documents; an error without one of them.
        between_documents: leave out pairs of rows of one document, for measures with a parameter `groups` (cka), which
            receives the documents. Tokens of one document are alike in any two models.
        fast: estimate linear CKA from a random sample of pairs of rows (see `measures.cka.CKA.sampled`); the result
            then has the coordinate standard_error, of the sampling.
        memory_limit: bytes that activations and the work on them may take; None is half of what is available. Two
            models that would take more are run batch by batch and only sums kept (see `streaming.stream`), to the same
            values, or refused where the measure needs all rows; of arrays the limit is for the work alone. Of two
            models that are given by name and do not fit beside each other, one is in memory at a time.
        store: where activations are kept on disk and looked for first, as in `extract`; an error for activations, and
            for a comparison that is run batch by batch, which has none to keep.
        leave_out_first, leave_out_norms, standardize, remove_components: controls, which take first tokens, rows of
            large norm, scales of features or first principal components out beforehand (see `controls.Controls`). They
            are seen as fixed by null and interval.
        measure_params: parameters of the measure.

    Returns:
        DataArray with dims ("layer_a", "layer_b"), named like the measure; attrs["provenance"] is one JSON string, and
        attrs["coverage"] the share of places at which both tokenizers end a token, of those of the one with fewer; of
        rows="mean" and "cls" of different tokenizers, the share of documents that are one window in both.
        With a null it has the coordinates null_mean, null_high (the 5% level of each cell by itself),
        null_high_family (of the whole grid: a cell beyond it has p_value <= 0.05) and p_value, with an interval low
        and high, all on both dims. For a dissimilarity the null levels are on the low side.

    Raises:
        InputError: unknown model, measure, parameter, layer or null; activations whose rows are not the same; documents
            that cannot be exchanged, or fewer than 5 for an interval; an argument that would have no effect; more
            memory than the limit.

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
    kind, level = _kind_of_null(null), _level(interval)
    layers_a, layers_b = as_layers(layers_a), as_layers(layers_b)
    controls = Controls(leave_out_first, leave_out_norms, standardize, remove_components)
    if not (kind or level or between_documents):
        check_effect(
            compare,
            {"groups": groups},
            "they are for null, interval and between_documents=True. For a measure with groups of its own give "
            "get_measure(name, groups=...).",
        )
    check_order(a, b)
    a, b = as_side(a, "a"), None if b is None else as_side(b, "b")
    if isinstance(a, Mapping):
        chosen_already = {"corpus": corpus, "site": site, "rows": rows, "n_rows": n_rows, "packing": packing}
        check_effect(
            compare,
            chosen_already | {"store": store},
            "the rows of activations are chosen already. Give it to extract instead.",
        )
    elif not isinstance(b, Mapping):
        how: dict[str, Any] = {
            "layers_a": layers_a,
            "layers_b": layers_b,
            "site": site,
            "rows": rows,
            "n_rows": n_rows,
            "seed": seed,
            "packing": packing,
        }
        plain = not (kind or level or between_documents or fast or controls)
        if _must_stream(
            a, b, get_measure(measure, **measure_params), layers_a, layers_b, site, n_rows, memory_limit, plain
        ):
            check_effect(
                compare,
                {"store": store},
                "these activations would take more than the memory limit, so that only sums are kept. Leave it out, or "
                "raise memory_limit.",
            )
            return stream(a, b, corpus, measure, memory_limit=memory_limit, **how, **measure_params)
    acts_a, acts_b = _both(a, b, corpus, layers_a, layers_b, site, rows, n_rows, seed, packing, store, memory_limit)
    if controls:
        acts_a, acts_b, kept = controls.applied(acts_a, acts_b)
        groups = None if groups is None else of_rows({"groups": groups}, kept)["groups"]
        measure_params = of_rows(measure_params, kept)
    xs = matrices(acts_a, "a")
    ys = xs if acts_b is acts_a else matrices(acts_b, "b")
    documents = _documents(acts_a, acts_b, groups, len(xs[0]))
    chosen = _configured(measure, measure_params, documents if between_documents else None)
    if isinstance(a, Mapping) or kind or level:
        check_memory(chosen, xs, ys, memory_limit, times=2 if kind or level else 1)
    left = _prepared(chosen, dict(zip(acts_a, xs, strict=True)), "a")
    right = left if ys is xs else _prepared(chosen, dict(zip(acts_b, ys, strict=True)), "b")
    if fast:
        if not isinstance(chosen, CKA):
            raise InputError(f"fast=True is for linear cka; {chosen.name} has no fast form. Leave fast out.")
        if kind or level or between_documents:
            raise InputError("fast=True has a standard error of its own; leave null, interval, between_documents out.")
        sampled, errors = chosen.sampled(left, right, seed=seed)
        result = labelled(sampled, chosen, acts_a, acts_b, estimator="sampled pairs of rows")
        return result.assign_coords(standard_error=(result.dims, errors))
    result = labelled(chosen.grid(left, right), chosen, acts_a, acts_b, between_documents)
    if kind or level:
        fast = LinearCKA.suits(left, right, documents)
        grids = LinearCKA(left, right, documents) if fast else Recomputed(chosen, xs, ys, documents)
        result = _with_uncertainty(result, chosen, grids, documents, kind, level, seed)
    return result


def as_side(given: Any, name: str) -> Any:
    """A model as it is, activations as layer -> rows; one array is layer 0."""
    if is_array(given):
        return {0: given}
    if isinstance(given, list | tuple | set | int | float | None):
        raise InputError(
            f"{name} is a {type(given).__name__}; expected a model or its name, activations (layer -> array of shape "
            "(rows, features)) or one such array."
        )
    return given


def check_memory(
    measure: Measure, xs: Sequence[Tensor], ys: Sequence[Tensor], given: int | None, times: int = 1
) -> None:
    """Raise where work on layers takes more than the limit; `times` is how often what is prepared is held."""
    limit, n = limit_bytes(given), len(xs[0])
    widths = [[x.shape[1] for x in side] for side in ((xs,) if ys is xs else (xs, ys))]

    def needed(rows: int) -> int:
        return times * measure.memory(rows, *widths)

    if limit is not None and needed(n) > limit:
        most = most_rows(needed, n, limit)
        fewer = f"Take at most {most:,} rows" if most else "Take fewer rows"
        raise InputError(
            f"{measure.name} of {n:,} rows takes {readable_size(needed(n))} beside them; the limit is "
            f"{readable_size(limit)}. {fewer}, fewer layers, or raise memory_limit."
        )


def compare_all(
    activations: Mapping[str, Mapping[int, Any] | Any],
    measure: str | Measure = "cka",
    *,
    memory_limit: int | None = None,
    **measure_params: Any,
) -> dict[tuple[str, str], xr.DataArray]:
    """Every pair of several models, each once, and each model with itself: (later, earlier) -> their map.

    Args:
        activations: model name -> its activations, all at the same rows (from one call of `extract_aligned`), or one
            array, which is layer 0.
        measure, memory_limit, measure_params: as in `compare`.

    Raises:
        InputError: activations whose rows are not the same, an unknown measure or parameter.
    """
    chosen = get_measure(measure, **measure_params)
    if not isinstance(activations, Mapping) or not activations:
        raise InputError("compare_all needs activations by name, as name -> activations, of at least one model.")
    activations = {name: layers_of(as_side(acts, str(name)), "all") for name, acts in activations.items()}
    tensors = {name: matrices(acts, name) for name, acts in activations.items()}
    every = [x for side in tensors.values() for x in side]
    check_memory(chosen, every, every, memory_limit)
    extracted = [acts for acts in activations.values() if isinstance(acts, Activations)]
    for a, b in pairwise(extracted):
        same_rows(a, b)
    prepared = {
        name: _prepared(chosen, dict(zip(acts, tensors[name], strict=True)), name) for name, acts in activations.items()
    }
    names = list(activations)
    return {
        (a, b): labelled(chosen.grid(prepared[a], prepared[b]), chosen, activations[a], activations[b])
        for i, a in enumerate(names)
        for b in names[: i + 1]
    }


def _prepared(measure: Measure, layers: Mapping[int, Any], side: str) -> list[Prepared]:
    """Every layer, as far as `measure` can work on it alone."""
    return [measure.prepare(x, f"layer {layer} of {side}") for layer, x in layers.items()]


def _must_stream(
    a: Model | str,
    b: Model | str | None,
    measure: Measure,
    layers_a: Layers,
    layers_b: Layers,
    site: str,
    n_rows: int,
    limit: int | None,
    plain: bool,
) -> bool:
    """Whether activations would take more than the limit; an error where that cannot be helped."""
    shapes, positions = shapes_and_layers(a, b, layers_a, layers_b, site)
    if expected_bytes(shapes, positions, measure, n_rows, limit).route == "memory":
        return False
    if not plain:
        raise InputError(
            "A null, an interval, controls, between_documents and fast need all activations in memory, and these would "
            "take more than the limit. Raise memory_limit, or choose fewer rows or layers."
        )
    return True


def _kind_of_null(null: str | int | None) -> str | int | None:
    """ "moments", a number of permutations, or None."""
    if null is None or null is False:
        return None
    if isinstance(null, str):
        if null not in NULLS:
            raise unknown("null", null, NULLS)
        return PERMUTATIONS if null == "permutation" else null
    if isinstance(null, bool) or not isinstance(null, int | np.integer) or null < 19:
        raise InputError(
            f'null={null!r}; expected None, "permutation", "moments" or a number of permutations, at least 19.'
        )
    return int(null)


def _level(interval: float | bool | None) -> float | None:
    if interval is None or interval is False:
        return None
    level = 0.95 if interval is True else interval
    if not isinstance(level, int | float | np.floating) or not 0 < level < 1:
        raise InputError(f"interval={interval!r}; expected None, True or a level between 0 and 1 such as 0.95.")
    return float(level)


def _documents(a: Mapping[int, Any], b: Mapping[int, Any], groups: Any, n: int) -> Documents:
    known = next((acts for acts in (a, b) if isinstance(acts, Activations)), None)
    return Documents(known.rows["document"].to_numpy() if groups is None and known is not None else groups, n)


def _configured(measure: str | Measure, params: dict[str, Any], documents: Documents | None) -> Measure:
    chosen = get_measure(measure, **params)
    if documents is None:
        return chosen
    if "groups" not in chosen.params:
        raise InputError(f"between_documents=True is for measures with a parameter groups; {chosen.name} has none.")
    if len(documents) == documents.n:  # no two rows of one document
        return chosen
    return chosen.configured(groups=documents.codes)


def matrices(acts: Mapping[Any, Any], side: str) -> list[Tensor]:
    """Layers as tensors, checked unless extraction has done so."""
    if isinstance(acts, Activations):
        return list(acts.values())
    return [as_matrix(values, f"layer {layer} of {side}") for layer, values in acts.items()]


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
    packing: str | Packing,
    store: Store | str | bool | None,
    memory_limit: int | None,
) -> tuple[Mapping[int, Any], Mapping[int, Any]]:
    """Aligned activations of both sides; the same object twice when a is compared with itself, all its layers."""
    given = [side for side in (a, b) if isinstance(side, Mapping)]
    how: Any = {"packing": packing, "store": store, "memory_limit": memory_limit}
    if not given:
        if b is None and layers_a == layers_b:
            alone = extract_aligned([a], corpus, [layers_a], site, rows, n_rows, seed, **how)[0]  # type: ignore[list-item]
            return alone, alone
        models: Any = [a, a if b is None else b]
        pair = extract_aligned(models, corpus, [layers_a, layers_b], site, rows, n_rows, seed, **how)
        return pair[0], pair[1]
    if len(given) == 1 and b is not None:
        raise InputError("One side is a model and the other activations: extract both with the same arguments first.")
    first = layers_of(a, layers_a)  # type: ignore[arg-type]
    second = first if b is None and layers_a == layers_b else layers_of(a if b is None else b, layers_b)  # type: ignore[arg-type]
    if isinstance(a, Activations) and isinstance(b, Activations):
        same_rows(a, b)
    return first, second


def layers_of(acts: Mapping[int, Any], layers: Layers) -> Mapping[int, Any]:
    """The layers asked for of activations, at least one."""
    if not isinstance(acts, Mapping):
        raise InputError(f"Expected activations, layer -> array of shape (rows, features), got {type(acts).__name__}.")
    if not acts:
        raise InputError("The activations hold no layer: an empty mapping was given.")
    if isinstance(layers, str):
        if layers != "all":
            raise InputError(f'layers={layers!r} was given; expected "all", a position or a list of positions.')
        return acts
    asked = list(layers) if isinstance(layers, Iterable) else [layers]
    if not asked:
        raise InputError("layers is empty: give at least one position.")
    missing = [layer for layer in asked if layer not in acts]
    if missing:
        raise InputError(f"Layer {missing[0]!r} is not among the activations' layers {list(acts)}.")
    return {layer: acts[layer] for layer in asked}


def same_rows(a: Activations, b: Activations) -> None:
    """Raise an InputError unless row i is the same place of the same document in both."""
    where = ["document", "char_end"]
    if len(a.rows) != len(b.rows) or not (a.rows[where].to_numpy() == b.rows[where].to_numpy()).all():
        raise InputError(
            f"Row i must be the same place of the same document on both sides; {a!r} and {b!r} have other rows. "
            "Compare the models in one call, or extract both from one corpus with the same n_rows and seed."
        )


def _with_uncertainty(
    result: xr.DataArray,
    measure: Measure,
    grids: Grids,
    documents: Documents,
    kind: str | int | None,
    level: float | None,
    seed: int,
) -> xr.DataArray:
    """The result with its null and its interval as coordinates, and how they were made in its provenance."""
    coordinates: dict[str, tuple[np.ndarray, str]] = {}
    how: dict[str, Any] = {"documents": len(documents), "seed": seed}
    if kind:
        null, made = _null(result.values, measure, grids, documents, kind, seed)
        side = "reach or exceed" if measure.direction == "similarity" else "reach or fall below"
        family = f"family-wise over {result.size} cells, by " + ("Sidak" if kind == "moments" else "the max statistic")
        coordinates |= {
            "null_mean": (null.mean, "mean over exchanges of documents"),
            "null_high": (null.high, f"what {LEVEL:.0%} of exchanges of documents {side} in this cell by itself"),
            "null_high_family": (null.high_family, f"what {LEVEL:.0%} of exchanges of documents {side} in any cell"),
            "p_value": (null.p_value, family),
        }
        how["null"] = {**made, "p_value": family, "rows_exchanged": documents.moving}
    if level:
        if len(documents) < MIN_BLOCKS:
            raise InputError(f"An interval needs at least {MIN_BLOCKS} documents; there are {len(documents)}.")
        blocks = documents.blocks(BLOCKS, seed)
        without = _watched(grids.without(blocks), blocks.max() + 1, "interval")
        ends = jackknife_grid(result.values, without, measure.bounds, level)
        text = f"end of the {level:.4g} jackknife interval over documents, of each cell by itself"
        coordinates |= {"low": (ends.low, f"lower {text}"), "high": (ends.high, f"upper {text}")}
        how["interval"] = {"level": level, "kind": "delete-a-group jackknife", "blocks": int(blocks.max()) + 1}
    result = result.assign_coords(
        {name: (result.dims, values, {"long_name": text}) for name, (values, text) in coordinates.items()}
    )
    result.attrs["provenance"] = as_json(json.loads(result.attrs["provenance"]), {"uncertainty": how})
    return result


def _null(
    values: np.ndarray, measure: Measure, grids: Grids, documents: Documents, kind: str | int, seed: int
) -> tuple[Null, dict[str, Any]]:
    """The null of that kind and what the provenance says of it."""
    documents.check_exchangeable()
    if isinstance(kind, int):
        arrangements = _watched(documents.arrangements(kind, seed), kind, "null")
        null = max_statistic(values, grids.permuted(arrangements), measure)
        return null, {"kind": "permutation", "permutations": kind}
    if not isinstance(grids, LinearCKA):
        raise InputError(
            f'null="moments" is in closed form and exists for linear CKA with more rows than features of all layers '
            f'together; {measure.name} here has only null="permutation".'
        )
    return closed_form(values, grids), {"kind": "moments"}


def _watched(grids: Iterable[T], total: int, what: str) -> Iterable[T]:
    return steps(grids, what, "grid", total=int(total))
