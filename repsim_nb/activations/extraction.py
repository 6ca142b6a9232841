"""Run models over the selected tokens and record their activations."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from repsim_nb.activations.sampling import Sampling
from repsim_nb.activations.selection import Selection, select
from repsim_nb.activations.store import Store, as_store, key_of
from repsim_nb.activations.values import Activations
from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.models import Model, Packing, load_model
from repsim_nb.models.batch import Windows
from repsim_nb.models.model import not_finite
from repsim_nb.models.sending import check_sendable, sendable
from repsim_nb.models.shape import Shape, shape_of
from repsim_nb.system.executor import mapped, remembered
from repsim_nb.system.memory import limit_bytes
from repsim_nb.system.progress import steps
from repsim_nb.system.resources import Resources

if TYPE_CHECKING:
    import pandas as pd

Layers = str | int | Sequence[int]
MLP_BYTES = {"cpu": 2**23}  # of one batch's MLP activations: fits the cache, and malloc reuses it
MLP_BYTES_ACCELERATOR = 2**28  # accelerators need larger batches
BATCH_SHARE = 0.1  # maximum share of the memory limit for one batch inside the model
MAX_BATCH_TOKENS = 2**16  # tokens


@named_arguments()
def extract(
    model: Model | str,
    corpus: Corpus | str | Sequence[str] | None = None,
    layers: Layers = "all",
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    seed: int = 0,
    packing: str | Packing = "documents",
    *,
    rows_per_document: int | None = None,
    store: Store | str | os.PathLike[str] | bool | None = None,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
) -> Activations:
    """Extract the activations of one model at sampled rows of a corpus.

    Parameters
    ----------
    model
        A Model, or anything that `load_model` takes.
    corpus, site, rows, n_rows, rows_per_document, seed, packing
        Text, place in the model and sampling of rows; see `Sampling`.
    layers
        "all", one layer or a list. Layer 0 is the embedding output, layer l the residual stream after block l.
    store, memory_limit, batch_tokens
        Resources; see `system.resources.Resources`. Text that needs more than the limit to tokenize raises an error.

    Returns
    -------
    Activations
        Layer -> float32 tensor (n_rows, d_model) on the CPU, whatever the model's precision; (n_rows, d_mlp) for
        site="mlp_act".

    Raises
    ------
    InputError
        If the model, corpus, site, kind of rows or layer is unknown, or the store cannot be written.

    Notes
    -----
    Rows from the same document are not independent, so statistics computed from them have fewer degrees of freedom
    than rows.

    Examples
    --------
    >>> acts = extract("tiny-neox-w32-d2", n_rows=100, layers=[0, 2])
    >>> acts[2].shape, list(acts.rows.columns)
    (torch.Size([100, 32]), ['document', 'sequence', 'position', 'char_end'])
    """
    sampling = Sampling(corpus, site, rows, n_rows, rows_per_document, seed, packing)
    return aligned([model], [layers], sampling, Resources(store, memory_limit, batch_tokens))[0]


@named_arguments()
def extract_aligned(
    models: Sequence[Model | str],
    corpus: Corpus | str | Sequence[str] | None = None,
    layers: Sequence[Layers] | None = None,
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    seed: int = 0,
    packing: str | Packing = "documents",
    *,
    rows_per_document: int | None = None,
    store: Store | str | os.PathLike[str] | bool | None = None,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
    executor: Executor | None = None,
) -> list[Activations]:
    """Extract several models at the same rows: row i is the same place in the same document for all of them.

    Parameters
    ----------
    models
        Models, or anything that `load_model` takes. Models given by name are loaded one at a time if they do not fit
        in memory together.
    layers
        One entry per model; None takes all layers of every model.
    corpus, site, rows, n_rows, rows_per_document, seed, packing, store, memory_limit, batch_tokens
        As in `extract`.
    executor
        Where the models run, each one a unit of work; see `system.resources.Resources`. It needs names of models.

    Returns
    -------
    list of Activations
        One per model.

    Raises
    ------
    InputError
        As for `extract`, or if the tokenizers share too few token boundaries.

    Notes
    -----
    Models with different tokenizers are compared only at the token boundaries they share, which favours whole words.
    `rows` and the provenance's "coverage" show which and how many places those are.

    Examples
    --------
    >>> a, b = extract_aligned(["tiny-neox-w32-d2", "tiny-neox-w64-d4"], n_rows=50)
    >>> bool((a.rows.char_end == b.rows.char_end).all())
    True
    """
    if layers is not None and (isinstance(layers, str) or len(layers) != len(models)):
        raise InputError(
            f"layers={layers!r} for {len(models)} models; expected one entry for each model, such as "
            f"{['all'] * len(models)!r}."
        )
    sampling = Sampling(corpus, site, rows, n_rows, rows_per_document, seed, packing)
    check_sendable(models, executor)
    return aligned(models, layers, sampling, Resources(store, memory_limit, batch_tokens, executor))


def aligned(
    models: Sequence[Model | str],
    layers: Sequence[Layers] | None,
    sampling: Sampling,
    resources: Resources,
) -> list[Activations]:
    """`extract_aligned`, with its options as objects."""
    layers = layers or ["all"] * len(models)
    elsewhere = resources.executor if sendable(models) else None
    if elsewhere is None and not one_at_a_time(models, layers, sampling, resources):
        kept = as_store(resources.store)
        return [plan.activations(kept) for plan in plan_aligned(models, layers, sampling, resources)]
    units = list(zip(range(len(models)), models, layers, strict=True))
    job = _Extraction(tuple(models), sampling, resources.alone, elsewhere is not None)
    made = mapped(_extracted, job, units, elsewhere, what="extracting", unit="model", name=lambda unit: str(unit[1]))
    return _of_one_text([arrived(acts, resources) for acts in made])


def one_at_a_time(
    models: Sequence[Model | str], layers: Sequence[Layers], sampling: Sampling, resources: Resources
) -> bool:
    """Whether the models still to be loaded do not fit in memory together with all activations."""
    if len({model for model in models if not isinstance(model, Model)}) < 2:
        return False
    shapes = [shape_of(model) for model in models]
    limit = limit_bytes(resources.memory_limit)
    kept = sum(
        4 * sampling.n_rows * shape.width(sampling.site) * len(shape.positions(which, sampling.site))
        for shape, which in zip(shapes, layers, strict=True)
    )
    return limit is not None and kept + sum(shape.weights for shape in shapes) > limit


@dataclass(frozen=True)
class _Extraction:
    """What the extractions of several models at the same rows have in common."""

    models: tuple[Model | str, ...]
    sampling: Sampling
    resources: Resources
    elsewhere: bool  # whether another process asks for them

    def selections(self) -> tuple[Sampling, list[Selection]]:
        """The rows of every model. Loads each for its tokenizer, since row selection needs all of them."""
        outlines = [Outline.of(load_model(model)) for model in self.models]
        sampling = self.sampling.loaded(outlines[0].made_for)
        return sampling, select(cast(Any, outlines), sampling, self.resources.memory_limit)


def _extracted(job: _Extraction, unit: tuple[int, Model | str, Layers]) -> Activations:
    """Extract one of several models."""
    number, given, layers = unit
    sampling, selections = remembered("selections", job.selections)
    plan = _plan(load_model(given), selections[number], layers, sampling, job.resources)
    acts = plan.activations(as_store(job.resources.store))
    return departing(acts) if job.elsewhere else acts


def departing(acts: Activations) -> Activations:
    """What travels from a worker: activations that a store keeps leave their values there."""
    return Activations({}, acts.rows, acts.provenance, acts.stored_as) if acts.stored_as else acts


def arrived(acts: Activations, resources: Resources) -> Activations:
    """Activations from a worker, with the values that it left in the store.

    Raises
    ------
    InputError
        The store here does not have them.
    """
    if len(acts) or acts.stored_as is None:
        return acts
    store = as_store(resources.store)
    layers = store.find(acts.stored_as) if store else None
    if layers is None:
        raise InputError(
            f"A worker stored the activations of {acts.provenance['model']['model']}, but {store} does not have them. "
            "Give store= a folder that all workers see, and a limit above the size of all activations."
        )
    return Activations(layers, acts.rows, acts.provenance, acts.stored_as)


def _of_one_text(acts: list[Activations]) -> list[Activations]:
    """The same activations, if all workers read the same text: that of a name may differ between installations."""
    texts = [each.provenance["corpus"] for each in acts]
    if any(text != texts[0] for text in texts):
        raise InputError(
            f"The workers read different texts under one name: {texts}. Install the same packages everywhere, or pass "
            "the loaded corpus, load_corpus(...)."
        )
    return acts


@dataclass(frozen=True)
class Outline:
    """What row selection needs to know about a model, without its weights."""

    name: str
    kind: str
    context: int
    made_for: str
    windows: Windows

    @classmethod
    def of(cls, model: Model) -> Outline:
        """That of a loaded model."""
        return cls(model.name, model.kind, model.context, model.made_for, model.windows)


def plan_aligned(
    models: Sequence[Model | str],
    layers: Sequence[Layers] | None,
    sampling: Sampling,
    resources: Resources = Resources(),  # noqa: B008
) -> list[Plan]:
    """Plan what `aligned` runs, without running it."""
    once = {model: load_model(model) for model in models}  # a model given twice is loaded once
    loaded = [once[model] for model in models]
    layers = layers or ["all"] * len(loaded)
    for model, which in zip(loaded, layers, strict=True):
        model.positions(which, sampling.site)  # fail before tokenizing
    sampling = sampling.loaded(loaded[0].made_for)
    selections = select(loaded, sampling, resources.memory_limit)
    return [
        _plan(model, selection, which, sampling, resources)
        for model, selection, which in zip(loaded, selections, layers, strict=True)
    ]


def _plan(model: Model, selection: Selection, layers: Layers, sampling: Sampling, resources: Resources) -> Plan:
    return Plan(model, selection, model.positions(layers, sampling.site), sampling, resources)


@dataclass(frozen=True)
class Plan:
    """A model, its selected rows and the layers to record."""

    model: Model
    selection: Selection
    layers: list[int]
    sampling: Sampling  # with its corpus loaded
    resources: Resources

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The place of each row: document, sequence, position, char_end."""
        return _frame(self.selection, self.sampling.text)

    @property
    def provenance(self) -> dict[str, Any]:
        """Everything that determines the values."""
        how = self.sampling.settings | {"n_rows": len(self), "coverage": self.selection.coverage}
        if self.selection.rows_per_document is not None:
            how["rows_per_document"] = self.selection.rows_per_document
        return {"model": self.model.provenance, **how, "corpus": self.sampling.text.provenance}

    @cached_property
    def batch_tokens(self) -> int:
        """Tokens per forward pass."""
        return tokens_per_batch(shape_of(self.model), self.model.device.type, given=self.resources.batch_tokens)

    def __len__(self) -> int:
        return len(self.selection)

    def run(self, index: np.ndarray | None = None, progress: bool = True) -> dict[int, Tensor]:
        """Run the model and return activations by layer, (rows, d_model) each, for all rows or those at `index`."""
        selection = self.selection if index is None else self.selection.take(index)
        return _run(self.model, selection, self.layers, self.sampling, self.batch_tokens, progress)

    def activations(self, store: Store | None = None) -> Activations:
        """Activations at all rows: from the store if it has them, else computed and stored."""
        if store is None:
            return Activations(self.run(), self.rows, self.provenance)
        self.model.weights_sha256 = self.model.hashed()  # hash the weights as they are now, so the store is never stale
        key = key_of(self.model, self.selection, self.layers, self.sampling)
        layers = store.find(key) if key else None
        kept = layers is not None
        if layers is None:
            layers = self.run()
            kept = key is not None and store.keep(key, layers, self.rows, self.provenance)
        return Activations(layers, self.rows, self.provenance, key if kept else None)

    def batches(self) -> list[np.ndarray]:
        """All rows, split by index: each part holds the rows of one batch of windows of this model."""
        batches = _batches(self.model, self.selection, self.batch_tokens)
        batch = np.empty(len(self.selection.windows), dtype=int)
        for number, windows in enumerate(batches):
            batch[[w for w, _ in windows]] = number
        batch = batch[self.selection.window]
        return np.split(np.argsort(batch, kind="stable"), np.cumsum(np.bincount(batch))[:-1])

    def tokens(self, index: np.ndarray | None = None) -> int:
        """Number of tokens that `run` passes through the model."""
        selection = self.selection if index is None else self.selection.take(index)
        return sum(length for batch in _batches(self.model, selection, self.batch_tokens) for _, length in batch)


def tokens_per_batch(
    shape: Shape, device: str = "cpu", memory_limit: int | None = None, given: int | None = None
) -> int:
    """Tokens per forward pass for a model of this shape; a longer window is a batch of its own.

    The batch size changes values within rounding: 1e-5 of a row's largest entry in float32.
    """
    if given is not None:
        return int(given)
    widest = MLP_BYTES.get(device, MLP_BYTES_ACCELERATOR) // (shape.item * max(shape.d_mlp, shape.d_model))
    limit = limit_bytes(memory_limit)
    fitting = widest if limit is None else int(BATCH_SHARE * limit) // shape.token_bytes
    return max(1, min(widest, fitting, MAX_BATCH_TOKENS))


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
    model: Model,
    selection: Selection,
    layers: list[int],
    sampling: Sampling,
    batch_tokens: int,
    progress: bool = True,
) -> dict[int, Tensor]:
    width = model.width(sampling.site)
    kept = {layer: torch.empty(len(selection), width, dtype=torch.float32) for layer in layers}
    planned = _batches(model, selection, batch_tokens)
    tokens_of = [sum(end for _, end in batch) for batch in planned]
    each = selection.rows_per_document
    more = "" if each is None else f"more rows of each document (rows_per_document, now {each}), "
    cheaper = f"Cheaper: fewer rows (n_rows, now {len(selection):,}), {more}or no layers above those you need."
    batches = steps(planned, model.name, "token", progress, sizes=tokens_of, cheaper=cheaper)
    filled = dict.fromkeys(layers, 0)
    by_window = selection.by_window()
    for batch in batches:
        longest = max(end for _, end in batch)
        tokens = model.collate([selection.windows[w].truncated(end) for w, end in batch], longest)
        rows = [by_window[w] for w, _ in batch]
        into = torch.from_numpy(np.concatenate(rows))
        sequence = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(r) for r in rows]))
        place = sequence * tokens.ids.shape[1] + torch.from_numpy(selection.position)[into]
        take = partial(_means, model.pooled(tokens), sequence) if sampling.rows == "mean" else partial(_at, place)

        def keep(layer: int, hidden: Tensor, take: Callable[[Tensor], Tensor] = take, into: Tensor = into) -> None:
            values = take(hidden).float().cpu()
            if not _finite(values):
                raise not_finite(model, f"at layer {layer}")
            kept[layer].index_copy_(0, into, values)
            filled[layer] += len(values)

        model.read(tokens, layers, keep, sampling.site)
    wrong = next((layer for layer in layers if filled[layer] != len(selection)), None)
    if wrong is not None:
        raise InputError(
            f"{model.name} returned {filled[wrong]:,} of {len(selection):,} rows at layer {wrong}. Its layers cannot "
            "be read; use another model."
        )
    return kept


def _at(place: Tensor, hidden: Tensor) -> Tensor:
    """Rows of a (sequences, length, d) tensor by flat index."""
    return hidden.flatten(0, 1).index_select(0, place.to(hidden.device))


def _means(text: Tensor, sequence: Tensor, hidden: Tensor) -> Tensor:
    """Mean over the text tokens of each sequence, one row per entry of `sequence`."""
    weight = text.to(hidden.device, torch.float32)[..., None]
    means = (hidden.float() * weight).sum(1) / weight.sum(1)
    return means.index_select(0, sequence.to(hidden.device))


def _finite(values: Tensor) -> bool:
    """Check the sum first, which is cheap; if it is not finite it may only have overflowed."""
    return bool(torch.isfinite(values.sum()) or torch.isfinite(values).all())


def _batches(model: Model, selection: Selection, tokens: int) -> list[list[tuple[int, int]]]:
    """Group windows into batches of (window, tokens to run), similar lengths together, longest first.

    Longest first lets malloc reuse the memory of one batch for the next. A causal model stops after the last selected
    row of a window if later tokens cannot change it. Windows share a batch only if that does not change their values
    (`model.neutral`).

    Raises
    ------
    InputError
        If windows need padding and padding changes this model's values.
    """
    neutral = model.neutral
    end: dict[int, int] = {}
    for window, position in zip(selection.window.tolist(), selection.position.tolist(), strict=True):
        end[window] = max(end.get(window, 0), position + 1)
    table = selection.windows
    lengths = table.counts + len(table.before) + len(table.after)
    for window, wanted in end.items():
        length = int(lengths[window])
        if model.kind != "causal" or not neutral.cut(length):
            end[window] = max(wanted, length)
        if end[window] > length:
            neutral.check(model.name, [length], end[window])
    batches: list[list[tuple[int, int]]] = []
    for window, length in sorted(end.items(), key=lambda item: -item[1]):
        room = batches and (len(batches[-1]) + 1) * batches[-1][0][1] <= tokens
        if not room or not neutral.together(batches[-1][0][1], length):
            batches.append([])
        batches[-1].append((window, length))
    return batches
