"""One vector per text: a sentence encoder's own, or the states of any model pooled over a whole text."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from repsim_nb.activations.extraction import Plan, tokens_per_batch
from repsim_nb.activations.sampling import Sampling
from repsim_nb.activations.selection import Selection
from repsim_nb.activations.store import Store, as_store, model_key
from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.errors import InputError, named_arguments, unknown
from repsim_nb.models import Model, load_model
from repsim_nb.models.positions import RESIDUAL
from repsim_nb.models.shape import shape_of
from repsim_nb.models.window import WindowTable
from repsim_nb.system.memory import limit_bytes, readable_size
from repsim_nb.system.progress import steps
from repsim_nb.system.resources import Resources
from repsim_nb.system.versions import versions

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

ROLES = {"query": ("query",), "passage": ("document", "passage", "corpus")}  # names of a model's prompts, first found
ROWS = ("mean", "last", "cls")
SENTENCE = "sentence"
AT_ONCE = 1024  # texts between two steps of the progress bar


@dataclass(frozen=True)
class Reading:
    """How a model turns a text into a vector.

    Parameters
    ----------
    rows
        "sentence", "mean", "last" or "cls"; None chooses "sentence" where the model has a pooling, else "mean".
    layer
        Layer, negative from the end; None is the last.
    site
        Place in the model, as in `extract`.

    Raises
    ------
    InputError
        If the kind of rows is unknown.
    """

    rows: str | None = None
    layer: int | None = None
    site: str = RESIDUAL

    def __post_init__(self) -> None:
        if self.rows not in (None, SENTENCE, *ROWS):
            raise unknown("kind of rows", self.rows, (SENTENCE, *ROWS))

    def of(self, model: Model) -> Reading:
        """The same with nothing left open.

        Raises
        ------
        InputError
            If the model has no such layer, site or pooling, or the layer would have no effect.
        """
        rows = self.rows or ("mean" if model.pooling is None else SENTENCE)
        if rows == SENTENCE:
            if model.pooling is None:
                raise InputError(
                    f"{model.name} has no sentence vectors of its own: it has no modules.json that defines a pooling. "
                    'Use rows="mean" or rows="last".'
                )
            if self.layer is not None or self.site != RESIDUAL:
                raise InputError(
                    f"layer and site would have no effect: {model.name} has sentence vectors of its own. Leave both "
                    'out, or give rows="mean" to pool the states of a layer.'
                )
            return Reading(rows, model.n_layers)
        if rows == "cls" and model.kind == "causal":
            raise InputError(
                f'rows="cls" does not work for the causal model {model.name}: its first token attends to no other. '
                'Use rows="last" or rows="mean".'
            )
        (layer,) = model.positions(model.n_layers if self.layer is None else self.layer, self.site)
        return Reading(rows, layer, self.site)


@named_arguments()
def embed(
    model: Model | str,
    texts: Corpus | str | Sequence[str],
    role: str = "passage",
    *,
    prefix: str | None = None,
    rows: str | None = None,
    layer: int | None = None,
    site: str = RESIDUAL,
    store: Store | str | os.PathLike[str] | bool | None = None,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
) -> xr.DataArray:
    """Compute one vector per text with one model.

    Parameters
    ----------
    model
        A Model, or anything that `load_model` takes.
    texts
        A corpus, or anything that `load_corpus` takes, such as a list of texts.
    role
        "query" or "passage": which of the model's own prompts to use.
    prefix
        Text to prepend to every text, "" for none. None takes the model's own prompt for this role where its
        sentence-transformers configuration has one ("query"; "document", "passage" or "corpus", as in `encode_query`
        and `encode_document`), else its default prompt, if any. Many models were trained with prefixes that only
        their model card mentions, such as "query: " and "passage: " of E5; pass those.
    rows
        "sentence": the model's own sentence vector, equal to sentence-transformers' `encode`. "mean": the mean over the
        tokens of the text (for encoders, special tokens included). "last", "cls": its last token, or the first token
        of its first window. None takes "sentence" where the model has a pooling of its own, else "mean".
    layer, site
        Where "mean", "last" and "cls" are read; None is the last layer. See `extract` for the sites.
    store, memory_limit, batch_tokens
        Resources; see `system.resources.Resources`.

    Returns
    -------
    xarray.DataArray
        Dims text x feature, float32; the coordinate `text` holds the names of the documents. attrs["provenance"] is
        one JSON string: model with revision and hash, text with hash, prefix, how it was read, versions.

    Raises
    ------
    InputError
        If model, corpus, role, rows, layer or site is unknown, a text has no tokens, a pair of texts is given, or the
        vectors alone need more than `memory_limit`.

    Notes
    -----
    A text longer than the model's context: "sentence" cuts it off at the model's maximum length, as published; the rest
    has no part in its vector. "mean" cuts it into windows of the context and averages over the tokens of all of
    them, each read without the others. "last" reads the last window only, "cls" the first. A prefix is part of the
    text: "mean" averages over its tokens too (in the first window), "sentence" does as the model says.

    How vectors mislead: models that were not trained for it put all texts into a narrow cone, where cosines are high
    and the order of neighbours depends on little.

    Examples
    --------
    >>> vectors = embed("tiny-neox-w32-d2", ["One text.", "Another one."])
    >>> vectors.dims, vectors.shape, vectors["text"].values.tolist()
    (('text', 'feature'), (2, 32), ['texts:0', 'texts:1'])
    """
    import xarray as xr

    if role not in ROLES:
        raise unknown("role", role, ROLES)
    reading, resources = Reading(rows, layer, site), Resources(store, memory_limit, batch_tokens)
    corpus = load_corpus(texts)
    if corpus.second_texts is not None:
        raise InputError(f"{corpus!r} holds pairs of texts; expected single texts, such as a list of its queries.")
    check_room(model, len(corpus), resources.memory_limit)
    loaded = load_model(model)
    reading, before = reading.of(loaded), prefix_of(loaded, role, prefix)
    compute = _sentences if reading.rows == SENTENCE else _pooled
    values = compute(loaded, corpus, before, reading, resources).numpy()
    about = {"model": loaded.provenance, "corpus": corpus.provenance, "role": role, **_about(before, reading)}
    return xr.DataArray(
        values,
        dims=("text", "feature"),
        coords={"text": list(corpus.documents)},
        name="embedding",
        attrs={"provenance": json.dumps(about | {"versions": versions()}, sort_keys=True)},
    )


def prefix_of(model: Model, role: str, prefix: str | None) -> str:
    """The text to prepend: `prefix`, else the model's own prompt for the role, else its default prompt, else none."""
    if prefix is not None and not isinstance(prefix, str):
        raise InputError(f"prefix={prefix!r}; expected a text, or None for the model's own prompt.")
    if prefix is not None or model.pooling is None:
        return prefix or ""
    name = next((name for name in ROLES[role] if name in model.pooling.prompts), None)
    return model.pooling.prompt(name, None)


def check_room(model: Model | str, n_texts: int, memory_limit: int | None) -> None:
    """Raise if the vectors of so many texts alone need more than the limit. Loads no weights."""
    shape, limit = shape_of(model), limit_bytes(memory_limit)
    needed = vector_bytes(n_texts, shape.d_model)
    if limit is not None and needed > limit:
        raise InputError(
            f"The vectors of {n_texts:,} texts, {shape.d_model} wide, need {readable_size(needed)}; the limit is "
            f"{readable_size(limit)}. Raise memory_limit, or take fewer texts."
        )


def vector_bytes(n_texts: int, width: int) -> int:
    """Bytes of float32 vectors, with a second copy while they are put in order."""
    return 2 * 4 * n_texts * width


def _about(prefix: str, reading: Reading) -> dict[str, Any]:
    return {"prefix": prefix, "rows": reading.rows, "layer": reading.layer, "site": reading.site}


@torch.no_grad()
def _sentences(model: Model, corpus: Corpus, prefix: str, reading: Reading, resources: Resources) -> torch.Tensor:
    """The model's own sentence vectors, (texts, width)."""
    assert model.pooling is not None  # as `Reading.of` has checked
    model.pooling.check()
    store = as_store(resources.store)
    key = None
    if store is not None:
        model.weights_sha256 = model.hashed()
        how = {"rows": SENTENCE, "where": f"after {prefix!r}", "site": SENTENCE, "layers": [reading.layer]}
        key = model_key(model, corpus=corpus.sha256, **how)
        found = store.find(key) if key else None
        if found is not None:
            return next(iter(found.values()))
    longest = min(model.context, model.pooling.max_seq_length or model.context)
    tokens = tokens_per_batch(shape_of(model), model.device.type, given=resources.batch_tokens)
    order = np.argsort([len(text) for text in corpus.texts], kind="stable")[::-1]  # alike lengths run together
    parts = [order[start : start + AT_ONCE] for start in range(0, len(order), AT_ONCE)]
    vectors: torch.Tensor | None = None
    for part in steps(parts, model.name, "text", sizes=[len(part) for part in parts]):
        texts = [corpus.texts[i] for i in part]
        together = max(1, tokens // min(longest, 1 + len(prefix) + len(texts[0])))  # a token has a character or more
        made = model.sentences(texts, prompt=prefix, batch_size=together).float().cpu()
        vectors = torch.empty(len(corpus), made.shape[1]) if vectors is None else vectors
        vectors[torch.from_numpy(part.copy())] = made
    assert vectors is not None
    assert reading.layer is not None
    if store is not None and key is not None:
        about = {"model": model.provenance, "corpus": corpus.provenance, "site": SENTENCE, "n_rows": len(corpus)}
        store.keep(key, {reading.layer: vectors}, _rows_of(corpus), about | _about(prefix, reading))
    return vectors


def _rows_of(corpus: Corpus) -> pd.DataFrame:
    """Whole texts as rows of a store."""
    import pandas as pd

    ends = [len(text) for text in corpus.texts]
    return pd.DataFrame({"document": corpus.documents, "sequence": range(len(corpus)), "position": 0, "char_end": ends})


def _pooled(model: Model, corpus: Corpus, prefix: str, reading: Reading, resources: Resources) -> torch.Tensor:
    """States of one layer pooled over whole texts, (texts, width)."""
    assert reading.rows is not None
    assert reading.layer is not None
    read = Corpus(corpus.name, tuple(prefix + text for text in corpus.texts), corpus.documents, corpus.split)
    windows = model.windows(read.inputs, memory_limit=resources.memory_limit)
    missing = np.flatnonzero(np.bincount(windows.text, minlength=len(corpus)) == 0)
    if missing.size:
        raise InputError(
            f"The text {corpus.documents[missing[0]]!r} has no tokens for {model.name} ({missing.size} such texts). "
            "Leave these texts out."
        )
    selection = _selected(windows, reading.rows)
    sampling = Sampling(read, reading.site, reading.rows, len(selection))
    plan = Plan(model, selection, [reading.layer], sampling, resources)
    states = plan.activations(as_store(resources.store))[reading.layer]
    if len(states) == len(corpus):
        return states
    weights = torch.ones(len(windows), 1)
    parts = np.bincount(windows.text)
    for i in np.flatnonzero(parts[windows.text] > 1).tolist():
        weights[i] = model.pooled(model.collate([windows[i]])).sum()
    text = torch.from_numpy(windows.text.astype(np.int64))
    total = torch.zeros(len(corpus), 1).index_add_(0, text, weights)
    return torch.zeros(len(corpus), states.shape[1]).index_add_(0, text, states * weights) / total


def _selected(windows: WindowTable, rows: str) -> Selection:
    """One row of each window for "mean", else one of each text: its last window, or for "cls" its first."""
    chosen = np.arange(len(windows))
    if rows == "last":
        chosen = np.flatnonzero(np.append(windows.text[1:] != windows.text[:-1], True))
    elif rows == "cls":
        chosen = np.flatnonzero(np.append(True, windows.text[1:] != windows.text[:-1]))
    position = np.zeros(len(windows), dtype=np.int64) if rows == "cls" else windows.counts + len(windows.before) - 1
    end = windows.offsets[windows.ends - 1, 1].astype(np.int64)
    return Selection(windows, chosen, position[chosen], windows.text[chosen].astype(np.int64), end[chosen])
