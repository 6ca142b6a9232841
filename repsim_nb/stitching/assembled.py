"""The finished cells of a table as one labelled Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.stitching.planned import Cut, Planned
from repsim_nb.stitching.stitched import RESAMPLES, document_draws

if TYPE_CHECKING:
    import xarray as xr

Cells = dict[tuple[Cut, int], dict[str, Any]]  # of a cut and an entry
APART = ("mean_loss", "document_loss", "document_right")
MISSING = {"f": np.nan, "i": 0, "b": False}  # by kind of number, where a model has no such layer


def assembled(done: Cells, made: Planned) -> xr.Dataset:
    """Lay out the cells; see `stitching_table`."""
    import xarray as xr

    ground, noun, units = made.ground, made.ground.task.noun, made.ground.task.units
    own = [ground.losses_of(r) for r in made.receivers]
    documents = [losses.by_document() for losses in own]
    each, corpus = documents[0], ground.corpora["report"]
    whole = np.min_scalar_type(-int(each.predictions.max()))  # smallest integer type that fits
    axes = _Axes(done, made)
    units_of = {"loss": units, "penalty": units, "bits_per_byte": "bits per byte"}
    fields = [field for field in next(iter(done.values())) if field not in APART]
    fields = [field for field in fields if field != "raced" or made.race is not None]
    plain, received = axes.grid, axes.received
    dims, entry = axes.dims, ("receiver", axes.dims[-1])
    table = xr.Dataset(
        {
            **{field: (dims, plain(field), {"units": units_of.get(field, "1")}) for field in fields},
            "receiver_loss": ("receiver", [losses.mean for losses in own], {"units": units}),
            "receiver_accuracy": ("receiver", [losses.accuracy for losses in own], {"units": "1"}),
            "mean_loss": (entry, received("mean_loss"), {"units": units}),
            "document_loss": ((*dims, "document"), plain("document_loss").astype(np.float32), {"units": "nats"}),
            "document_right": ((*dims, "document"), plain("document_right").astype(whole)),
            "document_receiver_loss": (
                ("receiver", "document"),
                np.array([d.nats for d in documents]),
                {"units": "nats"},
            ),
            "document_receiver_right": (("receiver", "document"), np.array([d.right for d in documents], whole)),
            f"document_{noun}s": ("document", each.predictions.to_numpy()),
            **axes.of_controls(units),
        },
        coords={
            "sender": [s.name for s in made.senders],
            "receiver": [r.name for r in made.receivers],
            **axes.coordinates,
            "document": [corpus.documents[i] for i in each.index],
            **{
                name: ("document", [of[i] for i in each.index])
                for name, of in {"case": corpus.cases, "label": corpus.labels}.items()
                if of is not None
            },
        },
    )
    return with_intervals(table)


class _Axes:
    """Places of cells in the arrays of a table."""

    def __init__(self, done: Cells, made: Planned) -> None:
        self.done, self.made = done, made
        many = made.entries is not None
        self.dims = ("sender", "receiver", "layer", *(["into"] if many else []))
        self.sender = {m.name: i for i, m in enumerate(made.senders)}
        self.receiver = {m.name: i for i, m in enumerate(made.receivers)}
        self.layer = {layer: i for i, layer in enumerate(made.layers)}
        self.into = {into: i for i, into in enumerate(made.entries or ())}
        self.shape = (len(self.sender), len(self.receiver), len(self.layer), *([len(self.into)] if many else []))

    @property
    def coordinates(self) -> dict[str, Any]:
        """Of the layers, and with many entries also the depth of each model."""
        if not self.into:
            return {"layer": self.made.layers}
        depths = {
            f"{side}_layers": (side, [m.n_layers for m in models])
            for side, models in (("sender", self.made.senders), ("receiver", self.made.receivers))
        }
        return {"layer": self.made.layers, "into": list(self.into), **depths}

    def grid(self, field: str, control: str = "") -> np.ndarray:
        """A field of the cells of all pairs."""
        chosen = [
            ((self.sender[c.sender], self.receiver[c.receiver], *self._place(c.layer, into)), cell[field])
            for (c, into), cell in self.done.items()
            if c.control == control and c.sender in self.sender
        ]
        return _filled(self.shape, chosen)

    def received(self, field: str) -> np.ndarray:
        """A field that all senders share, by receiver and entry."""
        last = self.into or self.layer
        chosen = [((self.receiver[cut.receiver], last[into]), cell[field]) for (cut, into), cell in self.done.items()]
        return _filled((len(self.receiver), len(last)), chosen)

    def of_controls(self, units: str) -> dict[str, Any]:
        """Penalties of the controls."""
        found: dict[str, Any] = {}
        if "self" in self.made.controls:
            chosen = [
                ((self.receiver[c.receiver], *self._place(c.layer, into)), cell["penalty"])
                for (c, into), cell in self.done.items()
                if not c.control and c.sender == c.receiver
            ]
            found["self_penalty"] = self.dims[1:], _filled(self.shape[1:], chosen)
        for control in ("shuffled", "untrained"):
            if control in self.made.controls:
                found[f"{control}_penalty"] = self.dims, self.grid("penalty", control)
        return {name: (dims, values, {"units": units}) for name, (dims, values) in found.items()}

    def _place(self, layer: int, into: int) -> tuple[int, ...]:
        return (self.layer[layer], self.into[into]) if self.into else (self.layer[layer],)


def _filled(shape: Sequence[int], chosen: Sequence[tuple[tuple[int, ...], Any]]) -> np.ndarray:
    """An array of the values at their places; where there is none, NaN or, for whole numbers, 0."""
    first = np.asarray(chosen[0][1])
    if all(np.asarray(value).dtype.kind == "i" for _, value in chosen):
        first = first.astype(int)
    filled = np.full((*shape, *first.shape), MISSING[first.dtype.kind], dtype=first.dtype)
    for place, value in chosen:
        filled[place] = value
    return filled


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
