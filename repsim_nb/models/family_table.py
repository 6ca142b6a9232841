"""Families of models: what each is for, and the catalogue shown family by family."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import pandas as pd

PURPOSES = {
    "tiny-bert-nli": "one recipe, many seeds: which of them generalise",
    "tiny-bert-b-nli": "one recipe, many seeds, from a second encoder",
    "tiny-bert-nli-varied": "other data and learning rates than tiny-bert-nli",
    "tiny-embed": "sentence encoders: what two of them retrieve",
    "tiny-gelu": "GELU, to stitch with tiny-solu",
    "tiny-solu": "SoLU, to stitch with tiny-gelu",
    "tiny-neox": "widths, depths and checkpoints: scale and training",
    "tiny-neox-heads": "other heads and rotary dimensions at one size",
    "tiny-neox-descendants": "tiny-neox-w32-d8 fine-tuned, and from another seed: what changed",
    "smollm2": "a real language model, without the hub",
    "minilm": "a real sentence-embedding model, without the hub",
    "gelu": "TransformerLens' toy models with GELU",
    "solu": "TransformerLens' toy models with SoLU",
    "attn-only": "TransformerLens' toy models without MLPs",
    "pythia": "sizes, seeds and 154 checkpoints: scale and training",
}


def by_family(models: pd.DataFrame) -> pd.DataFrame:
    """Summarise a catalogue: one row per family (index), in the order of its first model."""
    rows = []
    for family, members in models.groupby("family", sort=False):
        rows.append(
            {
                "family": family,
                "models": len(members),
                "kind": " or ".join(members.kind.unique()),
                "source": " or ".join(members.source.unique()),
                "n_layers": _range(members.n_layers),
                "d_model": _range(members.d_model),
                "n_parameters": _range(members.n_parameters, _counted),
                "for": PURPOSES.get(str(family), ""),
                "names": ", ".join(map(str, members.index)),
            }
        )
    return pd.DataFrame(rows).set_index("family")


def _range(values: pd.Series, write: Callable[[int], str] = str) -> str:
    known = values.dropna()
    low, high = (write(int(known.min())), write(int(known.max()))) if len(known) else ("", "")
    return low if low == high else f"{low} to {high}"


def _counted(count: int) -> str:
    return f"{count / 1e6:.3g} M" if count < 1e9 else f"{count / 1e9:.3g} B"


class Catalogue(pd.DataFrame):
    """All models, one row each, printed and displayed with one row per family.

    Whatever is taken from it (columns, rows, `head()`) is an ordinary DataFrame that shows what it holds.
    """

    def __repr__(self) -> str:
        if self._changed:
            return super().__repr__()
        table = self._summary()
        table["for"] = table["for"].str.ljust(table["for"].str.len().max())
        return f"{table.to_string()}\n\n{self._note}"

    def _repr_html_(self) -> str:
        if self._changed:
            return self.to_html(max_rows=pd.get_option("display.max_rows"))
        return f"{self._summary().to_html()}<p>{escape(self._note)}</p>"

    @property
    def _changed(self) -> bool:
        """Whether columns that the families are told by have been removed in place."""
        return not {"family", "kind", "source", "n_layers", "d_model", "n_parameters"} <= {*self.columns}

    @property
    def _note(self) -> str:
        return (
            f"{len(self)} models in {self['family'].nunique()} families. The index holds every model; "
            'list_models(family="...") shows one family.'
        )

    def _summary(self) -> pd.DataFrame:
        return by_family(self).drop(columns=["d_model", "names"])
