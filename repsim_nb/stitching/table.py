"""Stitches between all pairs of senders and receivers, with intermediate results kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.models import Model, load_model
from repsim_nb.stitching.fitting import STEPS, Method, Seam
from repsim_nb.stitching.ground import Ground
from repsim_nb.stitching.stitched import N_FIT, RESAMPLES, common_ground, document_draws, join, stitch_on
from repsim_nb.system.atomic import atomic
from repsim_nb.system.netcdf import write_netcdf
from repsim_nb.system.progress import steps as progress

if TYPE_CHECKING:
    import xarray as xr

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
    lower, higher = [load_model(m) for m in senders], [load_model(m) for m in receivers]
    if not lower or not higher:
        raise InputError("Need at least one sender and one receiver.")
    models = _by_name([*lower, *higher])
    shallowest = min(models.values(), key=lambda m: m.n_layers)
    positions = shallowest.positions(layers)
    seams = [join(s, r, layer, layer, shuffle) for s in lower for layer in positions for r in higher]
    ground = common_ground(list(models.values()), corpus, n_fit, n_report, seed, method.fits, seams)
    for model in (*lower, *higher):
        if ground.identity(model) != ground.identity(models[model.name]):
            raise _duplicate_name(model.name)
    how = asdict(method) | {"shuffled_sender": shuffle} | ground.provenance
    cells = _Cells(Path(out), ground, how) if out else None
    done: dict[tuple[str, str, int], dict[str, Any]] = {}
    for seam in progress(seams, "stitching", "stitch"):
        key = seam.sender.name, seam.receiver.name, seam.layer
        done[key] = _cell(ground, seam, method, cells)
    table = _assemble(done, ground, lower, higher, positions)
    about = how | {"models": {name: m.provenance for name, m in models.items()}}
    table.attrs["provenance"] = json.dumps(about, sort_keys=True)
    if out:
        write_netcdf(table, out)
        assert cells is not None
        cells.clear()
    return table


def _by_name(models: Sequence[Model]) -> dict[str, Model]:
    named: dict[str, Model] = {}
    for model in models:
        if named.setdefault(model.name, model).provenance != model.provenance:
            raise _duplicate_name(model.name)
    return named


def _duplicate_name(name: str) -> InputError:
    return InputError(f"Two different models are named {name!r}. Rename one: model.name = ...")


class _Cells:
    """Finished cells as small files next to the result, named by everything their values depend on.

    A table with more models reuses what an interrupted one with fewer models left behind.
    """

    def __init__(self, out: Path, ground: Ground, about: dict[str, Any]) -> None:
        self._ground = ground
        about = about | {"cells": CELLS}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = out.with_name(f".{out.name}.{digest}")

    def file(self, seam: Seam) -> Path:
        ground, receiver = self._ground, seam.receiver
        whose = json.dumps([ground.identity(seam.sender), ground.identity(receiver), ground.task.key(receiver)])
        return self.folder / f"{hashlib.sha256(whose.encode()).hexdigest()[:32]}-{seam.layer}.json"

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _cell(ground: Ground, seam: Seam, method: Method, cells: _Cells | None) -> dict[str, Any]:
    file = cells.file(seam) if cells else None
    if file and file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    stitched = stitch_on(ground, seam, method)
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


def _assemble(
    done: dict[tuple[str, str, int], dict[str, Any]],
    ground: Ground,
    senders: Sequence[Model],
    receivers: Sequence[Model],
    layers: Sequence[int],
) -> xr.Dataset:
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
