"""Stitches between all pairs of senders and receivers, with intermediate results kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.models import Model, load_model
from repsim_nb.models.sending import check_sendable
from repsim_nb.stitching.fitting import STEPS, Method, Seam
from repsim_nb.stitching.ground import Ground
from repsim_nb.stitching.stitched import N_FIT, RESAMPLES, common_ground, document_draws, join, stitch_on
from repsim_nb.system.atomic import atomic
from repsim_nb.system.executor import mapped, remembered
from repsim_nb.system.netcdf import write_netcdf
from repsim_nb.system.resources import Resources
from repsim_nb.system.shard import Shard

if TYPE_CHECKING:
    import xarray as xr

Key = tuple[str, str, int]  # names of sender and receiver, layer
CELLS = 3  # format version of stored cells; increase when their content changes


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
    rank: int = 8,
    steps: int = STEPS,
    warmup: int = 0,
    n_fit: int = N_FIT,
    n_report: int | None = None,
    shuffle: bool = False,
    out: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
) -> xr.Dataset:
    """Stitch every sender into every receiver at every layer, on the same documents.

    Parameters
    ----------
    senders, receivers
        Causal models, or classifiers with the same tokenizer; a model can be both. With several tokenizers every loss
        is taken on the tokens before which all models have read the same text.
    layers
        Layers that all models have; sender and receiver use the same one. "all" takes every layer.
    corpus, map, fit, seed, rank, steps, warmup, n_fit, n_report, shuffle
        As in `stitch`.
    out
        File (.nc) for the result. Finished stitches are stored next to it, so that a call resumes after an
        interruption.
    executor
        Where stitches are fitted, each one a unit of work; see `system.resources.Resources`. It needs names of models,
        and with `out` workers that see the same folders.

    Returns
    -------
    xarray.Dataset
        Over (sender, receiver, layer): `loss` and `penalty` (nats per token, or per example for classifiers),
        `penalty_low` and `penalty_high` (95% bootstrap over documents), `accuracy`, `bits_per_byte` (causal models
        only), `recovered` and `steps`. Over (receiver): `receiver_loss` and `receiver_accuracy`; over (receiver,
        layer): `mean_loss`, with the receiver given its mean activation. For other intervals and tests, sums per
        report document: `document_loss` (nats) and `document_right` (number correct) over (sender, receiver, layer,
        document), `document_receiver_loss` and `document_receiver_right` over (receiver, document), and the numbers
        of predictions, `document_tokens` or `document_examples`. If the corpus has them, `case` and `label` are
        coordinates of document. attrs["provenance"] is one JSON string.

    Raises
    ------
    InputError
        As for `stitch`, or if a model lacks one of the layers, or two different models have the same name.

    Notes
    -----
    Penalties depend on how much text each map was fitted on and on the family of maps. Intervals hold for each cell by
    itself and cover the choice of report documents only: not the fitted map, nor other seeds of the models. Cells
    that share a sender or receiver are not independent; see `asymmetry`.

    Examples
    --------
    >>> names = ["tiny-neox-w32-d2", "tiny-neox-w64-d2"]
    >>> table = stitching_table(names[:1], names, 1, fit="least_squares", n_fit=16, n_report=4)
    >>> dict(table.penalty.sizes)
    {'sender': 1, 'receiver': 2, 'layer': 1}
    """
    method = Method(map, fit, rank, steps, warmup)
    if not isinstance(Resources(executor=executor).executor, Shard):
        check_sendable([*senders, *receivers], executor)
    job = _Job(tuple(senders), tuple(receivers), layers, corpus, seed, method, n_fit, n_report, shuffle)
    made = job.table()
    how = asdict(method) | {"shuffled_sender": shuffle} | made.ground.provenance
    folder = _cells_folder(Path(out), how) if out else None
    job = replace(job, folder=folder)
    here = executor is None or isinstance(executor, Shard)  # then with the models that are loaded already
    function, shared = (_fitted, (made, folder)) if here else (_stitched, job)
    words: dict[str, Any] = {"what": "stitching", "unit": "stitch", "name": _key_name, "kept": folder is not None}
    cells = list(mapped(function, shared, list(made.seams), executor, **words))  # type: ignore[arg-type]
    table = _assemble(dict(zip(list(made.seams), cells, strict=True)), made)
    about = how | {"models": {name: m.provenance for name, m in made.models.items()}}
    table.attrs["provenance"] = json.dumps(about, sort_keys=True)
    if folder is not None and out:
        write_netcdf(table, out)
        shutil.rmtree(folder, ignore_errors=True)
    return table


@dataclass(frozen=True)
class _Table:
    """Models, layers and documents of a table."""

    senders: list[Model]
    receivers: list[Model]
    layers: list[int]
    seams: dict[Key, Seam]  # those of one sender and layer in a row, sharing activations
    ground: Ground
    method: Method

    @property
    def models(self) -> dict[str, Model]:
        """All models by name."""
        return _by_name([*self.senders, *self.receivers])


@dataclass(frozen=True)
class _Job:
    """What a table is made from, here and in workers, and the folder of finished cells."""

    senders: tuple[Any, ...]
    receivers: tuple[Any, ...]
    layers: Any
    corpus: Any
    seed: int
    method: Method
    n_fit: int
    n_report: int | None
    shuffle: bool
    folder: Path | None = None

    def table(self) -> _Table:
        """Load the models and choose the documents."""
        sides = (self.senders, self.receivers)
        once = {m: load_model(m) for m in dict.fromkeys(m for side in sides for m in side if isinstance(m, str))}
        lower, higher = ([once[m] if isinstance(m, str) else load_model(m) for m in side] for side in sides)
        if not lower or not higher:
            raise InputError("Need at least one sender and one receiver.")
        models = _by_name([*lower, *higher])
        positions = min(models.values(), key=lambda m: m.n_layers).positions(self.layers)
        seams = [join(s, r, layer, layer, self.shuffle) for s in lower for layer in positions for r in higher]
        every = list(models.values())
        ground = common_ground(every, self.corpus, self.n_fit, self.n_report, self.seed, self.method.fits, seams)
        for model in (*lower, *higher):
            if ground.identity(model) != ground.identity(models[model.name]):
                raise _duplicate_name(model.name)
        by_key = {(seam.sender.name, seam.receiver.name, seam.layer): seam for seam in seams}
        return _Table(lower, higher, positions, by_key, ground, self.method)


def _fitted(shared: tuple[_Table, Path | None], key: Key) -> dict[str, Any]:
    """Fit one cell where the models are."""
    made, folder = shared
    return _cell(made, key, folder)


def _stitched(job: _Job, key: Key) -> dict[str, Any]:
    """Fit one cell in a worker, which keeps models and activations for the next."""
    return _cell(remembered("table", job.table), key, job.folder)


def _key_name(key: Key) -> str:
    return "{} into {} at layer {}".format(*key)


def _by_name(models: Sequence[Model]) -> dict[str, Model]:
    named: dict[str, Model] = {}
    for model in models:
        if named.setdefault(model.name, model).provenance != model.provenance:
            raise _duplicate_name(model.name)
    return named


def _duplicate_name(name: str) -> InputError:
    return InputError(f"Two different models are named {name!r}. Rename one: model.name = ...")


def _cells_folder(out: Path, about: dict[str, Any]) -> Path:
    """Folder next to the result for finished cells, named by what they share.

    A table with more models reuses what an interrupted one with fewer models left behind.
    """
    digest = hashlib.sha256(json.dumps(about | {"cells": CELLS}, sort_keys=True).encode()).hexdigest()[:12]
    return out.absolute().with_name(f".{out.name}.{digest}")


def _cell_file(folder: Path, ground: Ground, seam: Seam) -> Path:
    """A small file named by everything else that the cell's values depend on."""
    whose = [ground.identity(seam.sender), ground.identity(seam.receiver), ground.task.key(seam.receiver)]
    return folder / f"{hashlib.sha256(json.dumps(whose).encode()).hexdigest()[:32]}-{seam.layer}.json"


def _cell(table: _Table, key: Key, folder: Path | None) -> dict[str, Any]:
    """Values of one cell, from its file if there is one."""
    ground, seam = table.ground, table.seams[key]
    file = _cell_file(folder, ground, seam) if folder else None
    if file and file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    stitched = stitch_on(ground, seam, table.method)
    documents = stitched.losses.by_document()
    cell = {
        "loss": stitched.loss,
        "penalty": stitched.penalty,
        "accuracy": stitched.accuracy,
        **({"bits_per_byte": stitched.bits_per_byte} if seam.receiver.kind == "causal" else {}),
        "recovered": stitched.recovered,
        "steps": int(stitched.history.step.iloc[-1]),
        "mean_loss": stitched.mean_losses.mean,
        "document_loss": documents.nats.tolist(),
        "document_right": documents.right.tolist(),
    }
    if file:
        with atomic(file) as path:
            path.write_text(json.dumps(cell), encoding="utf-8")
    return cell


def _assemble(done: dict[Key, dict[str, Any]], made: _Table) -> xr.Dataset:
    senders, receivers, layers, ground = made.senders, made.receivers, made.layers, made.ground
    import xarray as xr

    def grid(field: str) -> np.ndarray:
        return np.array(
            [[[done[s.name, r.name, layer][field] for layer in layers] for r in receivers] for s in senders]
        )

    own = [ground.losses_of(r) for r in receivers]
    documents = [losses.by_document() for losses in own]
    each, noun, units = documents[0], ground.task.noun, ground.task.units
    dims = ("sender", "receiver", "layer")
    units_of = {"loss": units, "penalty": units, "bits_per_byte": "bits per byte"}
    fields = [
        field for field in next(iter(done.values())) if field not in ("mean_loss", "document_loss", "document_right")
    ]
    whole = np.min_scalar_type(-int(each.predictions.max()))  # smallest integer type that fits
    corpus = ground.corpora["report"]
    about = {"case": corpus.cases, "label": corpus.labels}
    table = xr.Dataset(
        {
            **{field: (dims, grid(field), {"units": units_of.get(field, "1")}) for field in fields},
            "receiver_loss": ("receiver", [losses.mean for losses in own], {"units": units}),
            "receiver_accuracy": ("receiver", [losses.accuracy for losses in own], {"units": "1"}),
            "mean_loss": (dims[1:], grid("mean_loss")[0], {"units": units}),
            "document_loss": ((*dims, "document"), grid("document_loss").astype(np.float32), {"units": "nats"}),
            "document_right": ((*dims, "document"), grid("document_right").astype(whole)),
            "document_receiver_loss": (
                ("receiver", "document"),
                np.array([d.nats for d in documents]),
                {"units": "nats"},
            ),
            "document_receiver_right": (("receiver", "document"), np.array([d.right for d in documents], whole)),
            f"document_{noun}s": ("document", each.predictions.to_numpy()),
        },
        coords={
            "sender": [s.name for s in senders],
            "receiver": [r.name for r in receivers],
            "layer": list(layers),
            "document": [corpus.documents[i] for i in each.index],
            **{name: ("document", [of[i] for i in each.index]) for name, of in about.items() if of is not None},
        },
    )
    return with_intervals(table)


def with_intervals(table: xr.Dataset, level: float = 0.95, seed: int = 0) -> xr.Dataset:
    """Add `penalty_low` and `penalty_high`, a percentile bootstrap over documents."""
    excess = (table.document_loss - table.document_receiver_loss).transpose("document", ...)
    drawn = document_draws(table.sizes["document"], np.random.default_rng(seed), RESAMPLES)
    ratios = (drawn @ excess.values.reshape(len(excess), -1)) / (drawn @ document_sizes(table))[:, None]
    bounds = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2], axis=0).reshape(2, *excess.shape[1:])
    about = {"units": f"nats per {prediction(table)}"}
    return table.assign(
        {f"penalty_{end}": (excess.dims[1:], b, about) for end, b in zip(("low", "high"), bounds, strict=True)}
    )


def prediction(table: xr.Dataset) -> str:
    """The unit of prediction, "token" or "example"."""
    return "token" if "document_tokens" in table else "example"


def document_sizes(table: xr.Dataset) -> np.ndarray:
    """Number of tokens or examples in each document."""
    return table[f"document_{prediction(table)}s"].values
