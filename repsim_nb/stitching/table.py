"""Stitches between all pairs of senders and receivers, with intermediate results kept on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.models import Model
from repsim_nb.models.sending import check_sendable
from repsim_nb.stitching.assembled import assembled
from repsim_nb.stitching.fitting import STEPS, Method
from repsim_nb.stitching.geometry import similarities
from repsim_nb.stitching.kept_cells import cell_file, cells_folder, claimed, in_use, read_cell, write_cell
from repsim_nb.stitching.planned import Cut, Planned, TablePlan, named_controls
from repsim_nb.stitching.stitched import N_FIT, Stitched, stitches_on
from repsim_nb.system.executor import mapped, remembered
from repsim_nb.system.netcdf import write_netcdf
from repsim_nb.system.resources import Resources
from repsim_nb.system.shard import Shard

if TYPE_CHECKING:
    import xarray as xr


@named_arguments()
def stitching_table(
    senders: Sequence[Model | str],
    receivers: Sequence[Model | str],
    layers: str | int | Sequence[int] = "all",
    corpus: Corpus | str | Sequence[str] | None = None,
    map: str = "affine",
    fit: str = "gradient",
    seed: int = 0,
    *,
    into: str | int | Sequence[int] | None = None,
    rank: int = 8,
    steps: int = STEPS,
    warmup: int = 0,
    n_fit: int = N_FIT,
    n_report: int | None = None,
    shuffle: bool = False,
    controls: str | Sequence[str] | None = None,
    measures: str | Measure | Sequence[str | Measure] | None = None,
    race: float | None = None,
    out: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
) -> xr.Dataset:
    """Stitch every sender into every receiver at every layer, or every cut into every entry, on the same documents.

    Parameters
    ----------
    senders, receivers
        Causal models, or classifiers with the same tokenizer; a model can be both. With several tokenizers every loss
        is taken on the tokens before which all models have read the same text.
    layers
        The cuts: layers of the senders. "all" takes every layer. Negative layers count from the end of each model.
    into
        The entries: layers of the receivers. "all" takes every layer, so that the table is an atlas over (sender,
        receiver, layer, into), of models of any depths. None enters at the layer of the cut, which all models must
        have.
    corpus, map, fit, seed, rank, steps, warmup, n_fit, n_report, shuffle
        As in `stitch`. With `into`, n_report=None means 32 windows or 512 examples.
    controls
        "self" (each receiver into itself, at the same cuts and entries), "shuffled" (the sender's states at random
        other positions), "untrained" (a sender of the same architecture with weights as before training), several of
        them, or "all".
    measures
        Similarity measures to compute for the pair of layers of each cell, calibrated by exchanging documents; see
        `geometry_predicts`. Needs `into`.
    race
        For gradient fits with `into`: after every evaluation, a fit stops whose early-stopping loss is more than this
        many nats above the best entry of its cut. It keeps its best map so far, and is flagged.
    out
        File (.nc) for the result. Finished stitches are stored next to it, so that a call resumes after an
        interruption, and several processes that call it at the same time share the work.
    executor
        Where cuts are fitted, all entries of one cut a unit of work; see `system.resources.Resources`. It needs names
        of models, and with `out` workers that see the same folders.

    Returns
    -------
    xarray.Dataset
        Over (sender, receiver, layer), and into if it is given: `loss` and `penalty` (nats per token, or per example
        for classifiers), `penalty_low` and `penalty_high` (95% bootstrap over documents), `accuracy`, `bits_per_byte`
        (causal models only), `recovered` (the share of what mean ablation costs) and `steps`; with a race `raced`, and
        `self_penalty` (without sender), `shuffled_penalty` and `untrained_penalty` if asked for. With `measures`
        `similarity`, calibrated (0 = what 5% of exchanges reach, 1 = same), and `similarity_raw`, both over (measure,
        ...). Over (receiver): `receiver_loss` and `receiver_accuracy`; over (receiver, layer or into): `mean_loss`,
        with the receiver given its mean activation. For other intervals and tests, sums per report document:
        `document_loss` (nats) and `document_right` (number correct) over all dims and document,
        `document_receiver_loss` and `document_receiver_right` over (receiver, document), and the numbers of
        predictions, `document_tokens` or `document_examples`. If the corpus has them, `case` and `label` are
        coordinates of document. Cells of layers that a model does not have are NaN, and 0 where numbers are whole.
        attrs["provenance"] is one JSON string.

    Raises
    ------
    InputError
        As for `stitch`, if a model lacks one of the layers, two different models have the same name, a control or
        measure is unknown, or an argument would have no effect.

    Notes
    -----
    Penalties depend on how much text each map was fitted on and on the family of maps. Intervals hold for each cell by
    itself and cover the choice of report documents only: not the fitted map, nor other seeds of the models. Cells
    that share a sender or receiver are not independent; see `asymmetry`. The lowest penalty of many entries is low by
    selection too; `best_entries` selects on other documents than it reports. A raced cell says only that its entry is
    worse than the best: its penalty would have become lower. `estimate_table` says beforehand what a table takes.

    Examples
    --------
    >>> names = ["tiny-neox-w32-d2", "tiny-neox-w64-d2"]
    >>> table = stitching_table(names[:1], names, 1, fit="least_squares", n_fit=16, n_report=4)
    >>> dict(table.penalty.sizes)
    {'sender': 1, 'receiver': 2, 'layer': 1}
    >>> how = {"fit": "least_squares", "n_fit": 16, "n_report": 4}
    >>> dict(stitching_table(names[:1], names[1:], [0, 1], into="all", **how).penalty.sizes)
    {'sender': 1, 'receiver': 1, 'layer': 2, 'into': 3}
    """
    method = Method(map, fit, rank, steps, warmup)
    _check(into, measures, race, method)
    if not isinstance(Resources(executor=executor).executor, Shard):
        check_sendable([*senders, *receivers], executor)
    asked = named_controls(controls, shuffle)
    chosen = [get_measure(m) for m in ([measures] if isinstance(measures, str | Measure) else measures or ())]
    plan = TablePlan(
        tuple(senders), tuple(receivers), layers, corpus, seed, method, n_fit, n_report, shuffle, into, asked, race
    )
    made = plan.made()
    how = plan.about(made)
    folder = cells_folder(Path(out), how) if out else None
    with in_use(folder):
        table = assembled(_finished(replace(plan, folder=folder), made, executor), made)
        if chosen:
            table = table.merge(similarities(made, chosen, seed))
        about = how | {"models": {name: m.provenance for name, m in made.models.items()}}
        table.attrs["provenance"] = json.dumps(about | ({"controls": asked} if asked else {}), sort_keys=True)
        if out:
            write_netcdf(table, out)
    return table


def _check(into: Any, measures: Any, race: float | None, method: Method) -> None:
    if into is None:
        for name, given in (("measures", measures), ("race", race)):
            if given is not None:
                raise InputError(f"{name} would have no effect: it is for tables of cuts and entries. Give into='all'.")
    if race is None:
        return
    if isinstance(race, bool) or not isinstance(race, int | float) or not race > 0:
        raise InputError(f"race={race!r}; expected nats above 0, such as 0.5, or None.")
    if not method.descends:
        raise InputError("race would have no effect: only gradient fits can stop early. Leave it out.")


def _finished(plan: TablePlan, made: Planned, executor: Executor | None) -> dict[tuple[Cut, int], dict[str, Any]]:
    """The cells of all cuts: first those that no other process is at, then the rest."""
    done: dict[Cut, list[dict[str, Any]]] = {}
    for wait in (False, True):
        rest = [cut for cut in made.cuts if cut not in done]
        if not rest:
            break
        here = executor is None or isinstance(executor, Shard)  # then with the models that are loaded already
        function, shared = (_fitted, (made, plan.folder, wait)) if here else (_stitched, (plan, wait))
        words: dict[str, Any] = {"what": "stitching", "unit": "cut", "kept": plan.folder is not None}
        found = mapped(function, shared, rest, executor, **words)  # type: ignore[arg-type]
        done |= {cut: cells for cut, cells in zip(rest, found, strict=True) if cells is not None}
    return {(cut, into): cell for cut in made.cuts for into, cell in zip(cut.entries, done[cut], strict=True)}


def _fitted(shared: tuple[Planned, Path | None, bool], cut: Cut) -> list[dict[str, Any]] | None:
    """Fit one cut where the models are."""
    made, folder, wait = shared
    return _cells(made, cut, folder, wait)


def _stitched(shared: tuple[TablePlan, bool], cut: Cut) -> list[dict[str, Any]] | None:
    """Fit one cut in a worker, which keeps models and activations for the next."""
    plan, wait = shared
    return _cells(remembered("table", plan.made), cut, plan.folder, wait)


def _cells(made: Planned, cut: Cut, folder: Path | None, wait: bool) -> list[dict[str, Any]] | None:
    """The cells of one cut, from their files if there are some; None if another process is at them."""
    seams = made.seams(cut)
    if folder is None:
        return [_values(stitched) for stitched in stitches_on(made.ground, seams, made.method, made.race)]
    files = [cell_file(folder, made.ground, seam) for seam in seams]
    with claimed(files, wait) as mine:
        found = [read_cell(file) for file in files]
        if not mine and not all(found):
            return None
        missing = [place for place, cell in enumerate(found) if cell is None]
        if missing and made.race is not None:
            missing = list(range(len(files)))  # who stops depends on all
        chosen = [seams[place] for place in missing]
        fitted = stitches_on(made.ground, chosen, made.method, made.race) if chosen else ()
        for place, stitched in zip(missing, fitted, strict=True):
            found[place] = cell = _values(stitched)
            write_cell(files[place], cell)
    return [cell for cell in found if cell is not None]


def _values(stitched: Stitched) -> dict[str, Any]:
    """What is kept of a stitch."""
    documents = stitched.losses.by_document()
    return {
        "loss": stitched.loss,
        "penalty": stitched.penalty,
        "accuracy": stitched.accuracy,
        **({"bits_per_byte": stitched.bits_per_byte} if stitched.receiver.kind == "causal" else {}),
        "recovered": stitched.recovered,
        "steps": int(stitched.history.step.iloc[-1]),
        "raced": stitched.raced,
        "mean_loss": stitched.mean_losses.mean,
        "document_loss": documents.nats.tolist(),
        "document_right": documents.right.tolist(),
    }
