"""What changed between a base model and its descendant: geometry, weights, directions and behaviour in one table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Sampling, Store
from repsim_nb.activations.extraction import aligned
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.cost import expected_bytes
from repsim_nb.comparison.result import as_json, recorded_params
from repsim_nb.comparison.rows import check_sampled
from repsim_nb.corpora import load_corpus
from repsim_nb.descendants.behaviour_table import behaviour_variables
from repsim_nb.descendants.carriers import Swaps, behaviour
from repsim_nb.descendants.directions import Directions, directions, promoted
from repsim_nb.descendants.how_far import moved, similarity
from repsim_nb.descendants.kinship import Kin, loaded
from repsim_nb.descendants.most_moved import moved_documents, moved_tokens
from repsim_nb.descendants.verdict import verdict
from repsim_nb.descendants.weight_change import FLIPS, WeightChange, weight_change
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.models.shape import shape_of
from repsim_nb.system.memory import readable_size
from repsim_nb.system.netcdf import write_netcdf
from repsim_nb.system.resources import Resources
from repsim_nb.system.versions import versions
from repsim_nb.uncertainty import Uncertainty
from repsim_nb.uncertainty.documents import Documents

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.activations import Activations
    from repsim_nb.corpora import Corpus
    from repsim_nb.models import Model

Variables = dict[str, tuple[Any, ...]]  # of an xarray.Dataset


@named_arguments(as_parameter)
def diff(
    base: Model | str,
    tuned: Model | str,
    corpus: Corpus | str | Sequence[str] | None = None,
    measure: str | Measure = "cka",
    *,
    layers: str | int | Sequence[int] = "all",
    n_rows: int = 4096,
    rows_per_document: int | None = None,
    n_report: int | None = None,
    seed: int = 0,
    null: str | int | None = None,
    interval: float | bool | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    between_documents: bool = False,
    store: Store | str | bool | None = None,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
    executor: Executor | None = None,
    out: str | os.PathLike[str] | None = None,
) -> xr.Dataset:
    """Compare a base model with its descendant: how far every layer moved, in which directions, and where it matters.

    Parameters
    ----------
    base, tuned
        Two causal models, or two classifiers, of one shape and with one tokenizer; or anything that `load_model` takes.
    corpus
        Text, the same for activations and behaviour. None means the corpus that the base was made for.
    measure
        A similarity or dissimilarity of every layer with itself; see `compare`.
    layers
        "all", one layer or a list.
    n_rows, rows_per_document
        Tokens whose activations are compared; see `Sampling`.
    n_report
        Maximum number of windows, or examples, on which behaviour is measured; None means 192 windows or 1,024
        examples. Every one runs about as often as there are blocks that changed.
    seed
        Seed of all samples, resamples and random signs.
    null, interval, groups, between_documents
        Null distribution and confidence interval of `measure`; see `uncertainty.Uncertainty`. All other intervals are
        always there, at the level of `interval` or 0.95.
    store, memory_limit, batch_tokens, executor
        Resources; see `system.resources.Resources`. An executor runs models given by name, and parts of the
        permutations and of the jackknife.
    out
        File (.nc) for the result.

    Returns
    -------
    xarray.Dataset
        Over layer: `similarity`, with `similarity_low`, `_high`, `_p_value`, `calibrated` and its ends as asked for;
        `moved`, the share of activations that moved (0 nothing, 1 nothing in common), with low and high; and
        `mean_share`, the part of the movement that all rows have in common. Over (layer, direction):
        `direction_share` of the squared difference with low and high, `direction_agreement` between halves of the
        documents (`direction_chance` for random ones), the `direction_vector`, and for causal models the tokens that
        it `promotes` and `demotes` through the descendant's head. Over part (embedding, blocks, head):
        `weight_change`, relative; `weight_correlation`; `weight_structure`, how concentrated the change is relative to
        random signs, with `weight_structure_p`; `loss_into` and `loss_back`, what the part does to the loss inside the
        base, and the base's part inside the descendant, in nats per token or example with low and high; and
        `divergence_into` and `divergence_back`, what it does to predictions. Single numbers: `base_loss`,
        `tuned_loss`, `loss_change` and `divergence` with low and high. By rank: the tokens and documents that `moved`
        most, with their names. Over document: sums for other intervals. attrs["verdict"] is one sentence, see
        `descendants.verdict`; attrs["provenance"] one JSON string.

    Raises
    ------
    InputError
        If the models differ in shape, kind or tokenizer, or as for `compare` and `stitch`.

    Notes
    -----
    Base and descendant share a basis, so rows are compared in place; `measure` compares their geometry whatever the
    basis. Intervals generalise to other documents of the corpus, not to other descendants. Noise on weights moves
    activations in stable directions too: whether a change was learned shows in `weight_structure`. Divergences of
    single parts do not add up to that of all: parts act together.

    Examples
    --------
    >>> found = diff("tiny-neox-w32-d8", "tiny-neox-w32-d8-code-b3-b6", n_rows=500, n_report=4)
    >>> found.part.values[found.weight_change > 0].tolist()
    ['block 3', 'block 6']
    >>> found.attrs["verdict"]
    'tiny-neox-w32-d8-code-b3-b6 is tiny-neox-w32-d8, fine-tuned: the change is in blocks 3 and 6.'
    """
    chosen = get_measure(measure)
    uncertainty = Uncertainty(null, interval, groups, between_documents, seed)
    resources = Resources(store, memory_limit, batch_tokens, executor)
    check_sampled(chosen, uncertainty)
    kin = loaded(base, tuned)
    positions = kin.base.positions(layers)
    text = load_corpus(kin.base.made_for if corpus is None else corpus)
    sampling = Sampling(text, n_rows=n_rows, rows_per_document=rows_per_document, seed=seed)
    check_fits(kin, positions, chosen, sampling, uncertainty, resources)
    acts = aligned([kin.base, kin.tuned], [positions, positions], sampling, resources)
    level = uncertainty.level or 0.95
    documents = Documents(acts[0].rows.document.to_numpy() if groups is None else groups, len(acts[0].rows))
    variables = _geometry(acts, chosen, uncertainty, resources, documents, level)
    variables |= _of_directions(kin, acts, documents, level, seed)
    variables |= _of_weights(weight_change(kin, seed))
    swaps = Swaps(base, tuned, text, n_report, seed)
    variables |= behaviour_variables(behaviour(kin, swaps, executor), level, seed, kin.base.kind == "causal")
    variables |= _most_moved(kin, acts, text, variables.pop("_rows")[1])
    table = _assembled(kin, positions, variables, chosen)
    table.attrs["provenance"] = as_json(
        {
            "measure": chosen.name,
            "measure_params": recorded_params(chosen),
            "a": acts[0].provenance,
            "b": acts[1].provenance,
            "n_report": n_report,
            "flips": FLIPS,
            "level": level,
            "uncertainty": {"null": null, "interval": uncertainty.level, "between_documents": between_documents},
            "seed": seed,
            "versions": versions(),
        }
    )
    table.attrs["verdict"] = verdict(table).text
    if out:
        write_netcdf(table, out)
    return table


def check_fits(
    kin: Kin,
    positions: Sequence[int],
    measure: Measure,
    sampling: Sampling,
    uncertainty: Uncertainty,
    resources: Resources,
) -> None:
    """Raise unless the activations of both models, and the work on one pair of layers, fit in memory."""
    shapes = [shape_of(model) for model in (kin.base, kin.tuned)]
    cost = expected_bytes(shapes, [positions[:1]] * 2, measure, sampling, uncertainty, Controls(), resources)
    held = len(positions) * cost.activations
    if cost.limit is not None and held + cost.work > cost.limit:
        raise InputError(
            f"The activations of {len(positions)} layers and {sampling.n_rows:,} rows need {readable_size(held)}, the "
            f"work on them {readable_size(cost.work)}; the limit is {readable_size(cost.limit)}. Raise memory_limit, "
            "or choose fewer rows or layers."
        )


def _geometry(
    acts: Sequence[Activations],
    measure: Measure,
    uncertainty: Uncertainty,
    resources: Resources,
    documents: Documents,
    level: float,
) -> Variables:
    """Variables over layer, and the distance of every row."""
    names = {"value": "similarity", "low": "similarity_low", "high": "similarity_high", "p_value": "similarity_p_value"}
    found = similarity(acts[0], acts[1], measure, uncertainty, resources)
    variables: Variables = {names.get(name, name): ("layer", values) for name, values in found.items()}
    bounds = {"direction": measure.direction, "long_name": f"{measure.title} of base and descendant"}
    variables["similarity"] = ("layer", found["value"], bounds)
    away = moved(acts[0], acts[1], documents, level, uncertainty.seed)
    words = {"long_name": "share of activations that moved (0 nothing, 1 nothing in common)", "units": "1"}
    variables["moved"] = ("layer", away.share, words)
    variables |= {"moved_low": ("layer", away.low), "moved_high": ("layer", away.high), "_rows": ("row", away.rows)}
    return variables


def _of_directions(kin: Kin, acts: Sequence[Activations], documents: Documents, level: float, seed: int) -> Variables:
    """Variables over (layer, direction), and what the directions promote."""
    found = directions(acts[0], acts[1], documents, level, seed)
    both = ("layer", "direction")
    variables: Variables = {
        "mean_share": ("layer", found.mean_share, {"long_name": "share of the movement that all rows have in common"}),
        "direction_share": (both, found.share, {"long_name": "share of the squared difference of activations"}),
        "direction_low": (both, found.low),
        "direction_high": (both, found.high),
        "direction_agreement": (both, found.agreement, {"long_name": "cosine between halves of the documents"}),
        "direction_size": (both, found.size, {"long_name": "root mean square difference along the direction"}),
        "direction_vector": ((*both, "dimension"), found.vectors),
        "direction_chance": ((), found.chance),
    }
    return variables | (_promoted(kin, acts[1], found) if kin.base.kind == "causal" else {})


def _promoted(kin: Kin, acts: Activations, found: Directions) -> Variables:
    model = kin.tuned
    batch = model.batch([" ".join(["and"] * 4)])
    lists = [
        promoted(model, vectors, sizes, acts[layer].mean(0), batch)
        for layer, vectors, sizes in zip(acts, found.vectors, found.size, strict=True)
    ]
    dims = ("layer", "direction", "rank")
    return {"promotes": (dims, [up for up, _ in lists]), "demotes": (dims, [down for _, down in lists])}


def _of_weights(found: WeightChange) -> Variables:
    """Variables over part."""
    words = {
        "relative": ("weight_change", "change of weights, relative to the base's"),
        "correlation": ("weight_correlation", "correlation of weights"),
        "structure": ("weight_structure", "concentration of the change, relative to random signs"),
        "p_value": ("weight_structure_p", "p-value of the concentration, family-wise over parts"),
        "entries": ("weight_entries", "entries of matrices"),
    }
    return {name: ("part", getattr(found, key), {"long_name": text}) for key, (name, text) in words.items()}


def _most_moved(kin: Kin, acts: Sequence[Activations], text: Corpus, rows: np.ndarray) -> Variables:
    """The tokens and documents that moved most, by rank."""
    tokens, documents = moved_tokens(kin.base, acts[0], text, rows), moved_documents(acts[0], rows)
    variables: Variables = {f"token_{name}": ("nth_token", tokens[name].to_numpy()) for name in tokens}
    return variables | {f"document_most_{n}": ("nth_document", documents[n].to_numpy()) for n in documents}


def _assembled(kin: Kin, positions: Sequence[int], variables: Variables, measure: Measure) -> xr.Dataset:
    import xarray as xr

    names = variables.pop("_documents")[1]
    coords = {"layer": list(positions), "part": kin.parts, "document": names}
    for dims, values, *_ in variables.values():
        for dim, size in zip((dims,) if isinstance(dims, str) else dims, np.shape(values), strict=True):
            if dim not in coords and dim != "dimension":
                coords[dim] = list(range(1, size + 1))
    table = xr.Dataset(variables, coords)
    table.attrs |= {"model_a": kin.base.name, "model_b": kin.tuned.name, "measure": measure.name}
    return table
