"""Activations of one model: its layers at selected rows, and how they were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


class Activations(Mapping[int, Tensor]):
    """A model's activations by layer: `acts[layer]` is a float32 tensor of shape (n_rows, d).

    Attributes
    ----------
    rows
        DataFrame(document, sequence, position, char_end); line i describes row i of every tensor.
    provenance
        How they were made: model, corpus, site, rows, seed.
    stored_as
        Their key in the store that keeps them, or None.
    """

    def __init__(
        self,
        layers: Mapping[int, Tensor],
        rows: pd.DataFrame,
        provenance: dict[str, Any],
        stored_as: Mapping[str, Any] | None = None,
    ):
        self._layers = layers
        self.rows = rows
        self.provenance = provenance
        self.stored_as = stored_as

    def __getitem__(self, layer: int) -> Tensor:
        if layer not in self._layers:
            raise InputError(f"Layer {layer!r} was not extracted. Extracted layers: {sorted(self._layers)}.")
        return self._layers[layer]

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __contains__(self, layer: object) -> bool:
        return layer in self._layers

    def __repr__(self) -> str:
        return f"Activations({self.provenance['model']['model']!r}, layers {list(self)}, {len(self.rows):,} rows)"
