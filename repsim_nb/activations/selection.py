"""Which tokens become rows: the same ones in every model, spread over documents.

A row is a place in a document, not a token id: the character at which a token ends. Two models with different
tokenizers share the rows at which both end a token.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from repsim_nb.activations.sampling import Sampling
from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError
from repsim_nb.models import Model, Packing
from repsim_nb.models.window import WindowTable

AT_ONCE = 2**18  # tokens
MIN_COVERAGE = 0.1  # of the rows of the model with fewer, when tokenizers differ


class FewerRowsWarning(UserWarning):
    """The corpus has fewer rows than were asked for; all of them are used."""


@dataclass(frozen=True)
class Selection:
    """The chosen rows of one model, in the order (document, character).

    Attributes
    ----------
    windows
        All windows of the corpus under this model's tokenizer.
    window, position
        Where each row is, (n_rows,) each. For rows="mean" the position is that of the last token. For rows="cls" it is
        0.
    document
        Index into the corpus, (n_rows,).
    char_end
        Character at which the row's token ends, (n_rows,); -1 at special tokens and padding.
    coverage
        Share of the places of the tokenizer with fewer at which all end a token, 0 to 1. For rows="mean" and "cls" of
        different tokenizers: share of the documents that are one window in all of them.
    """

    windows: WindowTable
    window: np.ndarray
    position: np.ndarray
    document: np.ndarray
    char_end: np.ndarray
    coverage: float = 1.0

    def __len__(self) -> int:
        return len(self.window)

    def by_window(self) -> dict[int, np.ndarray]:
        """Window -> indices of the rows in it."""
        order = np.argsort(self.window, kind="stable")
        windows, start = np.unique(self.window[order], return_index=True)
        return dict(zip(windows.tolist(), np.split(order, start[1:]), strict=True))

    def take(self, index: np.ndarray) -> Selection:
        """The rows at `index` alone."""
        where = {name: getattr(self, name)[index] for name in ("window", "position", "document", "char_end")}
        return replace(self, **where)


def select(models: Sequence[Model], sampling: Sampling, memory_limit: int | None = None) -> list[Selection]:
    """One Selection per model, row by row at the same place of the same document; the corpus is loaded already.

    Documents take turns, so that n_rows spread over as many of them as there are, or as rows_per_document needs; within
    a document rows are drawn from as few windows as will do, at random places. Which rows these are does not depend on
    the order of models. Windows are as long as the shortest context, or as the packing says.

    Raises
    ------
    InputError
        Nothing to select from, tokenizers that share too few places, packing that does not fit, or text that takes more
        than `memory_limit` to tokenize (None is half of what is available now).
    """
    corpus, kind, n_rows, packing = sampling.text, sampling.rows, sampling.n_rows, sampling.packing
    causal = [model.name for model in models if model.kind == "causal"]
    if kind == "cls" and causal:
        raise InputError(f'rows="cls" was asked of the causal model {causal[0]}, whose first token has seen no other.')
    length = _length(models, packing)
    if packing.kind == "packed" and kind in ("mean", "cls"):
        raise InputError(
            f'rows="{kind}" is of documents apart; with packing="packed" there are "tokens", "last" and "padded".'
        )
    if kind == "padded":
        return [_padded(models, sampling, length, memory_limit)] * len(models)
    cuts = [model.windows.key_for(packing) for model in models]
    by_tokenizer: dict[str, _Places] = {}
    for model, cut in zip(models, cuts, strict=True):
        if cut not in by_tokenizer:
            by_tokenizer[cut] = _places(model.windows(corpus.inputs, length, packing, memory_limit))
        model.windows.check(by_tokenizer[cut].windows)
    tables = [by_tokenizer[cut] for cut in cuts]
    keys = tables[0].key
    for table in tables[1:]:
        keys = np.intersect1d(keys, table.key, assume_unique=True)
    coverage = covered(models, [len(table.key) for table in tables], len(keys))
    if kind != "tokens":
        keys = _last_of_each_document(keys)
    if kind in ("mean", "cls") and len(by_tokenizer) > 1:  # of one window, which then must hold the same text in all
        keys, coverage = _whole_documents(models, corpus, list(by_tokenizer.values()), keys, kind)
    if not len(keys):
        raise _no_row(models, corpus)
    available = _most(keys, sampling.rows_per_document)
    if available < n_rows and kind == "tokens":
        _say_fewer(n_rows, corpus, available)
    any_order = by_tokenizer[min(by_tokenizer)]  # whose windows rows are drawn from, whichever model comes first
    chosen = _spread(any_order, keys, sampling)
    selections = [replace(table.at(chosen), coverage=coverage) for table in tables]
    return [replace(s, position=np.zeros_like(s.position)) for s in selections] if kind == "cls" else selections


def _no_row(models: Sequence[Model], corpus: Corpus) -> InputError:
    names = " and ".join(dict.fromkeys(model.name for model in models))
    return InputError(
        f"{corpus!r} gives no row of {names}: no place at which every tokenizer ends a token. Give text that they know."
    )


def _say_fewer(asked: int, corpus: Corpus, there: int) -> None:
    message = f"{asked:,} rows were asked for; {corpus!r} has {there:,}, and all are used."
    warnings.warn(message, FewerRowsWarning, stacklevel=4)


def _length(models: Sequence[Model], packing: Packing) -> int:
    """Tokens of a window."""
    shortest = min(models, key=lambda model: model.context)
    if packing.length is not None and packing.length > shortest.context:
        raise InputError(
            f"length={packing.length} is more than the {shortest.context} tokens that {shortest.name} reads at once."
        )
    return packing.length or shortest.context


def _padded(models: Sequence[Model], sampling: Sampling, length: int, memory_limit: int | None) -> Selection:
    """Every position of random windows that are all padded to one length."""
    corpus, n_rows, packing = sampling.text, sampling.n_rows, sampling.packing
    keys = [model.windows.key_for(packing) for model in models]
    other = next((m for m, key in zip(models, keys, strict=True) if key != keys[0]), None)
    if other is not None:
        raise InputError(
            f'rows="padded" needs one tokenizer; {models[0].name} and {other.name} have different ones, whose '
            "positions do not stand for the same text."
        )
    windows = models[0].windows(corpus.inputs, length, packing, memory_limit)
    for model in models:
        model.windows.check(windows)
    if not (windows.offsets >= 0).any():
        raise _no_row(models, corpus)
    if n_rows < length:
        raise InputError(
            f'n_rows={n_rows} is less than one window of {length} positions, which rows="padded" takes whole.'
        )
    if length * len(windows) < n_rows:
        _say_fewer(n_rows, corpus, length * len(windows))
    order = np.random.default_rng(sampling.seed).permutation(len(windows))[: n_rows // length]
    window = np.sort(order).repeat(length)
    position = np.tile(np.arange(length), len(order))
    char_end = np.full((len(order), length), -1)
    document = np.empty_like(char_end)
    for place, number in enumerate(np.sort(order)):
        own = windows[number]
        char_end[place, : len(own)] = own.offsets[:, 1]
        document[place] = np.pad(own.text_of, (0, length - len(own)), mode="edge")
    return Selection(windows, window, position, document.ravel(), char_end.ravel())


@dataclass(frozen=True)
class _Places:
    """Every place at which a token ends, sorted by key = (document, character)."""

    windows: WindowTable
    key: np.ndarray
    window: np.ndarray
    position: np.ndarray

    def at(self, keys: np.ndarray) -> Selection:
        index = np.searchsorted(self.key, keys)
        window, position = (column[index].astype(np.int64) for column in (self.window, self.position))
        return Selection(self.windows, window, position, keys >> 32, keys & 0xFFFFFFFF)


def _places(windows: WindowTable) -> _Places:
    """Documents are looked at together up to `AT_ONCE` tokens: what is in between takes many times their place."""
    text = windows.text_of
    begins = np.append(np.flatnonzero(np.diff(text)) + 1, len(text))
    about = np.arange(AT_ONCE, len(text), AT_ONCE)
    cuts = np.unique([0, *begins[np.searchsorted(begins, about)], len(text)]).tolist()
    found = [_places_of(windows, text, slice(a, b)) for a, b in pairwise(cuts)] or [(begins[:0],) * 3]
    return _Places(windows, *map(np.concatenate, zip(*found, strict=True)))


def _places_of(windows: WindowTable, text: np.ndarray, part: slice) -> tuple[np.ndarray, ...]:
    """Key, window and position of every place among some tokens."""
    starts, ends = windows.offsets[part].T
    real = np.flatnonzero(ends > starts)
    document = text[part][real].astype(np.int64) << 32
    key = document | ends[real]
    whole = complete(document | starts[real], key)
    token = real[whole] + part.start
    window = np.searchsorted(windows.ends, token, side="right")
    position = token - windows.starts[window] + len(windows.before)
    return key[whole], window.astype(np.int32), position.astype(np.int32)


def complete(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which tokens end a place: what is up to them is the text up to their end, and what is behind them the rest.

    A character may be several tokens, and a token may be the end of one character and the beginning of the next; of
    these only those that complete a character end a place.

    Parameters
    ----------
    starts, ends
        Characters of every token that stands for text, in order, (tokens,) each.

    Returns
    -------
    numpy.ndarray
        Bool (tokens,); the ends of those that are True increase strictly.
    """
    before = np.maximum.accumulate(ends)
    behind = np.append(np.minimum.accumulate(starts[::-1])[::-1][1:], np.iinfo(np.int64).max)
    return (ends == before) & (behind >= ends)


def covered(models: Sequence[Model], places: Sequence[int], shared: int) -> float:
    """Share of the fewest places that are shared.

    Raises
    ------
    InputError
        Fewer than comparisons need.
    """
    fewest = min(places)
    if shared < MIN_COVERAGE * fewest:
        raise InputError(
            f"The tokenizers of {' and '.join(m.name for m in models)} end tokens at the same character in only "
            f"{shared:,} of {fewest:,} places ({shared / fewest:.1%}), under the {MIN_COVERAGE:.0%} that a comparison "
            "needs. Compare models whose tokenizers cut this text more alike, or take another text."
        )
    return shared / fewest if fewest else 0.0


def _last_of_each_document(keys: np.ndarray) -> np.ndarray:
    document = keys >> 32
    return keys[np.append(document[1:] != document[:-1], True)] if len(keys) else keys


def _whole_documents(
    models: Sequence[Model], corpus: Corpus, tables: Sequence[_Places], keys: np.ndarray, kind: str
) -> tuple[np.ndarray, float]:
    """Those of the places that end a document which is one window in every model, and their share of all documents.

    Raises
    ------
    InputError
        None.
    """
    counts = [np.bincount(table.windows.text, minlength=len(corpus)) for table in tables]
    whole = np.all([count == 1 for count in counts], axis=0)[keys >> 32]
    if not whole.any():
        raise InputError(
            f'rows="{kind}" of different tokenizers needs documents that are one window in every model; of '
            f"{len(keys):,} documents none is one in {' and '.join(m.name for m in models)}. Give shorter documents or "
            'longer windows, or take rows="tokens" or rows="last".'
        )
    return keys[whole], float(whole.sum() / len(corpus))


def _most(keys: np.ndarray, rows_per_document: int | None) -> int:
    """How many rows there are."""
    if rows_per_document is None:
        return len(keys)
    return int(np.minimum(np.unique(keys >> 32, return_counts=True)[1], rows_per_document).sum())


def _spread(table: _Places, keys: np.ndarray, sampling: Sampling) -> np.ndarray:
    document, rng = keys >> 32, np.random.default_rng(sampling.seed)
    _, start, available = np.unique(document, return_index=True, return_counts=True)
    if sampling.rows_per_document is None:
        quota = _quotas(available, sampling.n_rows, rng)
    else:
        quota = _from_few_documents(available, sampling.n_rows, sampling.rows_per_document, rng)
    window = table.window[np.searchsorted(table.key, keys)]
    chosen = []
    for first, count, wanted in zip(start, available, quota, strict=True):
        if wanted:
            here = np.arange(first, first + count)
            chosen.append(keys[_draw(here, window[here], wanted, rng)])
    return np.sort(np.concatenate(chosen))


def _quotas(available: np.ndarray, n_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Rows per document: as equal as the documents' sizes allow, the remainder to random ones."""
    quota = np.zeros_like(available)
    while (left := min(n_rows, available.sum()) - quota.sum()) > 0:
        open_ = np.flatnonzero(quota < available)
        share = left // len(open_)
        if share == 0:
            quota[rng.choice(open_, left, replace=False)] += 1
        else:
            quota[open_] = np.minimum(quota[open_] + share, available[open_])
    return quota


def _from_few_documents(available: np.ndarray, n_rows: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Rows per document: `most` of it, or all it has, from random documents until there are n_rows."""
    order = rng.permutation(len(available))
    before = np.cumsum(np.minimum(available[order], most)) - np.minimum(available[order], most)
    quota = np.zeros_like(available)
    quota[order] = np.clip(n_rows - before, 0, np.minimum(available[order], most))
    return quota


def _draw(rows: np.ndarray, window: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """`wanted` of a document's rows, from random windows of it, as few as hold enough."""
    pool: list[np.ndarray] = []
    for w in rng.permutation(np.unique(window)):
        pool.append(rows[window == w])
        if sum(map(len, pool)) >= wanted:
            break
    return rng.choice(np.concatenate(pool), wanted, replace=False)
