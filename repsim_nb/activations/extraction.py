"""Run models over the selected rows and keep what the residual stream holds there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from repsim_nb.activations.selection import KINDS, Selection, select
from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.errors import InputError, unknown
from repsim_nb.models import Model, load_model
from repsim_nb.progress import PATIENCE as PATIENCE
from repsim_nb.progress import steps

if TYPE_CHECKING:
    import pandas as pd

TOKENS_PER_BATCH = 8192


class Activations(Mapping[int, Tensor]):
    """Rows of a model's activations by layer: `acts[layer]` is float32, (n_rows, d).

    Attributes:
        rows: DataFrame(document, sequence, position, char_end), one line per row, in the order of the tensors' rows.
        provenance: what made them: model, corpus, site, rows, seed.
    """

    def __init__(self, layers: dict[int, Tensor], rows: pd.DataFrame, provenance: dict[str, Any]):
        self._layers = layers
        self.rows = rows
        self.provenance = provenance

    def __getitem__(self, layer: int) -> Tensor:
        if layer not in self._layers:
            raise InputError(f"Layer {layer!r} was not extracted; there are layers {sorted(self._layers)}.")
        return self._layers[layer]

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __contains__(self, layer: object) -> bool:
        return layer in self._layers

    def __repr__(self) -> str:
        return f"Activations({self.provenance['model']['model']!r}, layers {list(self)}, {len(self.rows):,} rows)"


def extract(
    model: Model | str,
    corpus: Corpus | str | Sequence[str] | None = None,
    layers: str | int | Sequence[int] = "all",
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    seed: int = 0,
) -> Activations:
    """Activations of one model at chosen rows of a corpus.

    Args:
        model: a Model or anything `load_model` takes.
        corpus: a Corpus or anything `load_corpus` takes; None is the one that the model was made for (python-docs for
            language models, nli-heuristics for classifiers), split "test".
        layers: "all", a position or several; 0 is the embedding output, l the residual stream after block l.
        site: "resid_post", the residual stream, or one inside the blocks, where the model has it (`model.sites`):
            "attn_out", "mlp_out", "pre_residual"; these have no layer 0.
        rows: "tokens" (one row per chosen token, spread over documents), "last" (one per document: its last token),
            "mean" (one per document: the mean over the window that its last token is in) or, of classifiers, "cls" (one
            per document: the token that the head reads, the first of that window). Special tokens and padding are rows
            in "padded" alone: every position of whole windows that are filled up to the model's context.
        n_rows: rows at most; a corpus with fewer gives a FewerRowsWarning and all it has.
        seed: of the choice of rows.

    Returns:
        Activations: layer -> float32 (n_rows, d_model), on the CPU.

    Raises:
        InputError: unknown model, corpus, site, kind of rows or layer.
    """
    return extract_aligned([model], corpus, [layers], site, rows, n_rows, seed)[0]


def extract_aligned(
    models: Sequence[Model | str],
    corpus: Corpus | str | Sequence[str] | None,
    layers: Sequence[str | int | Sequence[int]] | None = None,
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    seed: int = 0,
) -> list[Activations]:
    """`extract` for several models at once: row i is the same place in the same document in all of them.

    `layers` holds one entry per model; None takes all layers of each. The rest is as in `extract`.
    """
    return [
        Activations(plan.run(), plan.rows, plan.provenance)
        for plan in plan_aligned(models, corpus, layers, site, rows, n_rows, seed)
    ]


def plan_aligned(
    models: Sequence[Model | str],
    corpus: Corpus | str | Sequence[str] | None,
    layers: Sequence[str | int | Sequence[int]] | None = None,
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    seed: int = 0,
) -> list[Plan]:
    """What `extract_aligned` would run, nothing run yet."""
    if rows not in KINDS:
        raise unknown("kind of rows", rows, KINDS)
    loaded = [load_model(model) for model in models]
    texts = load_corpus(loaded[0].made_for if corpus is None else corpus)
    wanted = [
        model.positions(which, site) for model, which in zip(loaded, layers or ["all"] * len(loaded), strict=True)
    ]
    selections = select(loaded, texts, rows, n_rows, seed)
    how = {"site": site, "rows": rows, "n_rows": len(selections[0]), "seed": seed, "corpus": texts.provenance}
    return [
        Plan(
            model,
            selection,
            positions,
            site,
            rows == "mean",
            _frame(selection, texts),
            {"model": model.provenance, **how},
        )
        for model, selection, positions in zip(loaded, selections, wanted, strict=True)
    ]


@dataclass(frozen=True)
class Plan:
    """A model, the rows chosen for it and the layers to take there."""

    model: Model
    selection: Selection
    layers: list[int]
    site: str
    mean: bool
    rows: pd.DataFrame
    provenance: dict[str, Any]

    def __len__(self) -> int:
        return len(self.selection)

    def run(self, index: np.ndarray | None = None, progress: bool = True) -> dict[int, Tensor]:
        """Activations by layer, (rows, d_model) each: of all rows, or of those at `index`."""
        selection = self.selection if index is None else self.selection.take(index)
        return _run(self.model, selection, self.layers, self.site, self.mean, progress)

    def batches(self) -> list[np.ndarray]:
        """All rows in parts, by index: each what one batch of windows of this model gives."""
        batches = _batches(self.model, self.selection)
        batch = np.empty(len(self.selection.windows), dtype=int)
        for number, windows in enumerate(batches):
            batch[[w for w, _ in windows]] = number
        batch = batch[self.selection.window]
        return np.split(np.argsort(batch, kind="stable"), np.cumsum(np.bincount(batch))[:-1])

    def tokens(self, index: np.ndarray | None = None) -> int:
        """How many tokens `run` runs through the model."""
        selection = self.selection if index is None else self.selection.take(index)
        return sum(length for batch in _batches(self.model, selection) for _, length in batch)


def _frame(selection: Selection, corpus: Corpus) -> pd.DataFrame:
    import pandas as pd

    names = np.array(corpus.documents, dtype=object)
    return pd.DataFrame(
        {
            "document": names[selection.document],
            "sequence": selection.window,
            "position": selection.position,
            "char_end": selection.char_end,
        }
    )


@torch.no_grad()
def _run(
    model: Model, selection: Selection, layers: list[int], site: str, mean: bool, progress: bool = True
) -> dict[int, Tensor]:
    kept = {layer: torch.empty(len(selection), model.d_model) for layer in layers}
    batches = steps(_batches(model, selection), model.name, shown=progress)
    by_window = selection.by_window()
    for batch in batches:
        longest = max(end for _, end in batch)
        tokens = model.collate([selection.windows[w].truncated(end) for w, end in batch], longest)
        rows = [by_window[w] for w, _ in batch]
        into = torch.from_numpy(np.concatenate(rows))
        sequence = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(r) for r in rows]))
        place = sequence * tokens.ids.shape[1] + torch.from_numpy(selection.position)[into]
        take = partial(_means, tokens.carries_text, sequence) if mean else partial(_at, place)

        def keep(layer: int, hidden: Tensor, take: Callable[[Tensor], Tensor] = take, into: Tensor = into) -> None:
            values = take(hidden).float().cpu()
            if not _finite(values):
                raise InputError(
                    f"{model.name} gives values that are not finite at layer {layer} in {model.dtype}. "
                    "Load it with dtype='float32'."
                )
            kept[layer].index_copy_(0, into, values)

        model.read(tokens, layers, keep, site)
    return kept


def _at(place: Tensor, hidden: Tensor) -> Tensor:
    """Rows of (sequences, length, d) by their flat place."""
    return hidden.flatten(0, 1).index_select(0, place.to(hidden.device))


def _means(text: Tensor, sequence: Tensor, hidden: Tensor) -> Tensor:
    """Means over the text of each sequence, one row per entry of `sequence`."""
    weight = text.to(hidden.device, torch.float32)[..., None]
    means = (hidden.float() * weight).sum(1) / weight.sum(1)
    return means.index_select(0, sequence.to(hidden.device))


def _finite(values: Tensor) -> bool:
    """A finite sum needs no second look; one that is not may have overflowed."""
    return bool(torch.isfinite(values.sum()) or torch.isfinite(values).all())


def _batches(model: Model, selection: Selection) -> list[list[tuple[int, int]]]:
    """Batches of (window, tokens to run), windows of like length together.

    A causal model runs no further than the last row of a window: what comes after cannot change it.
    """
    end: dict[int, int] = {}
    for window, position in zip(selection.window.tolist(), selection.position.tolist(), strict=True):
        end[window] = max(end.get(window, 0), position + 1)
    if model.kind != "causal":
        end = {w: max(e, len(selection.windows[w])) for w, e in end.items()}
    batches: list[list[tuple[int, int]]] = [[]]
    for window, length in sorted(end.items(), key=lambda item: item[1]):
        if batches[-1] and (len(batches[-1]) + 1) * length > TOKENS_PER_BATCH:
            batches.append([])
        batches[-1].append((window, length))
    return batches


def as_json(*parts: dict[str, Any]) -> str:
    """Provenance as one JSON string, which every file format can carry."""
    return json.dumps({k: v for part in parts for k, v in part.items()}, sort_keys=True)
