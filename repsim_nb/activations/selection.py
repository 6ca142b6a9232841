"""Select the tokens that become rows: the same in every model, spread over documents.

A row is a place in a document, not a token id: the character at which a token ends. Two models with different
tokenizers share the places at which both end a token.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from repsim_nb.activations.sampling import Sampling
from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError
from repsim_nb.models import Model, Packing
from repsim_nb.models.window import WindowTable

TOKENS_AT_ONCE = 2**18  # tokens
# Both from the curve in docs/cost.md: up to 16 rows of a document widen the interval little and save most of the cost.
TOKENS_PER_ROW = 6  # tokens that the default choice of rows runs for each of them, at most
FEWEST_DOCUMENTS = 64  # documents from which it takes rows all the same; three for each block of the jackknife
SURVEYED = 1024  # documents that are tokenized to choose rows, if they hold enough
MIN_COVERAGE = 0.1  # minimum share of token boundaries that different tokenizers must have in common


class FewerRowsWarning(UserWarning):
    """The corpus has fewer rows than requested; all of them are used."""


@dataclass(frozen=True)
class Selection:
    """The selected rows of one model, ordered by (document, character).

    Attributes
    ----------
    windows
        All windows of the corpus under this model's tokenizer.
    window, position
        Window of each row and position in it, (n_rows,) each. For rows="mean" the position is that of the last token,
        for rows="cls" it is 0.
    document
        Index into the corpus, (n_rows,).
    char_end
        Character at which the row's token ends, (n_rows,); -1 at special tokens and padding.
    coverage
        Share of the coarsest tokenizer's token boundaries that all tokenizers have in common, 0 to 1. For rows="mean"
        and "cls" with different tokenizers: share of the documents that fit one window in every model.
    rows_per_document
        Rows that were to come from each document, given or chosen by cost; None for other kinds than "tokens".
    """

    windows: WindowTable
    window: np.ndarray
    position: np.ndarray
    document: np.ndarray
    char_end: np.ndarray
    coverage: float = 1.0
    rows_per_document: int | None = None

    def __len__(self) -> int:
        return len(self.window)

    def by_window(self) -> dict[int, np.ndarray]:
        """Window -> indices of its rows."""
        order = np.argsort(self.window, kind="stable")
        windows, start = np.unique(self.window[order], return_index=True)
        return dict(zip(windows.tolist(), np.split(order, start[1:]), strict=True))

    def take(self, index: np.ndarray) -> Selection:
        """Only the rows at `index`."""
        where = {name: getattr(self, name)[index] for name in ("window", "position", "document", "char_end")}
        return replace(self, **where)


def select(models: Sequence[Model], sampling: Sampling, memory_limit: int | None = None) -> list[Selection]:
    """Select rows for every model: row i is the same place of the same document in each. The corpus must be loaded.

    Documents are drawn at random, as many as `rows_per_document` requires; if there are not enough, each gives more
    rows, as equally as their sizes allow. Without it the number is chosen by cost (`_rows_by_cost`). Of a large corpus
    only some documents are tokenized then. Within a document rows are drawn at random from as few windows as possible.
    The selection does not depend on the order of models. Windows are as long as the shortest context, or as the
    packing says.

    Raises
    ------
    InputError
        If there is nothing to select, the tokenizers share too few token boundaries, the packing does not fit, or the
        text needs more than `memory_limit` bytes to tokenize (None: half of the available memory).
    """
    corpus, kind, n_rows, packing = sampling.text, sampling.rows, sampling.n_rows, sampling.packing
    causal = [model.name for model in models if model.kind == "causal"]
    if kind == "cls" and causal:
        raise InputError(
            f'rows="cls" does not work for the causal model {causal[0]}: its first token attends to no other. Use '
            'rows="last" or rows="mean".'
        )
    length = _length(models, packing)
    if packing.kind == "packed" and kind in ("mean", "cls"):
        raise InputError(
            f'rows="{kind}" needs one document per window; with packing="packed" use "tokens", "last" or "padded".'
        )
    if kind == "padded":
        return [_padded(models, sampling, length, memory_limit)] * len(models)
    order = np.random.default_rng(sampling.seed).permutation(len(corpus))  # in which documents are drawn

    @lru_cache(maxsize=1)
    def first(count: int) -> _Shared:
        return _Shared.of(models, sampling, order[:count], length, memory_limit)

    count = min(SURVEYED, len(corpus)) if packing.kind == "documents" else len(corpus)
    each = 1 if kind != "tokens" else sampling.rows_per_document or _rows_by_cost(first(count), n_rows)
    if each == 1:
        count = len(corpus)
    while count < len(corpus) and np.minimum(first(count).available, each).sum() < n_rows:
        count = min(4 * count, len(corpus))
    shared = first(count)
    if not len(shared.keys):
        raise _no_rows_error(models, corpus)
    if len(shared.keys) < n_rows and kind == "tokens":
        _warn_fewer_rows(n_rows, corpus, len(shared.keys))
    chosen = _draw(shared, n_rows, each, order, np.random.default_rng(sampling.seed))
    given = each if kind == "tokens" else None
    selections = [replace(t.at(chosen), coverage=shared.coverage, rows_per_document=given) for t in shared.tables]
    return [replace(s, position=np.zeros_like(s.position)) for s in selections] if kind == "cls" else selections


def _no_rows_error(models: Sequence[Model], corpus: Corpus) -> InputError:
    names = " and ".join(dict.fromkeys(model.name for model in models))
    return InputError(
        f"{corpus!r} gives no rows for {names}: there is no place at which every tokenizer ends a token. Use text that "
        "these tokenizers can encode."
    )


def _warn_fewer_rows(asked: int, corpus: Corpus, there: int) -> None:
    message = f"Requested {asked:,} rows, but {corpus!r} has only {there:,}; using all of them."
    warnings.warn(message, FewerRowsWarning, stacklevel=4)


def _length(models: Sequence[Model], packing: Packing) -> int:
    """Window length in tokens."""
    shortest = min(models, key=lambda model: model.context)
    if packing.length is not None and packing.length > shortest.context:
        raise InputError(
            f"length={packing.length} is longer than the context of {shortest.name}, {shortest.context} tokens."
        )
    return packing.length or shortest.context


def _padded(models: Sequence[Model], sampling: Sampling, length: int, memory_limit: int | None) -> Selection:
    """Every position of randomly drawn windows, all padded to one length."""
    corpus, n_rows, packing = sampling.text, sampling.n_rows, sampling.packing
    keys = [model.windows.key_for(packing) for model in models]
    other = next((m for m, key in zip(models, keys, strict=True) if key != keys[0]), None)
    if other is not None:
        raise InputError(
            f'rows="padded" needs a shared tokenizer; {models[0].name} and {other.name} have different ones, so their '
            "positions hold different text."
        )
    windows = models[0].windows(corpus.inputs, length, packing, memory_limit)
    for model in models:
        model.windows.check(windows)
    if not (windows.offsets >= 0).any():
        raise _no_rows_error(models, corpus)
    if n_rows < length:
        raise InputError(
            f'n_rows={n_rows} is less than one window of {length} positions, and rows="padded" uses whole windows.'
        )
    if length * len(windows) < n_rows:
        _warn_fewer_rows(n_rows, corpus, length * len(windows))
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
class _Shared:
    """The rows that all models share, among which to choose.

    Attributes
    ----------
    tables
        The token boundaries of each model.
    drawn
        The table from whose windows rows are drawn, whatever the order of models.
    keys
        (document, character) of every row, sorted.
    """

    tables: list[_Places]
    drawn: _Places
    keys: np.ndarray
    coverage: float

    @classmethod
    def of(
        cls,
        models: Sequence[Model],
        sampling: Sampling,
        documents: np.ndarray,
        length: int,
        memory_limit: int | None,
    ) -> _Shared:
        """Those of some documents of the corpus."""
        corpus, kind, packing = sampling.text, sampling.rows, sampling.packing
        documents = np.sort(documents)
        inputs = [corpus.inputs[i] for i in documents]
        cuts = [model.windows.key_for(packing) for model in models]
        by_tokenizer: dict[str, _Places] = {}
        for model, cut in zip(models, cuts, strict=True):
            if cut not in by_tokenizer:
                by_tokenizer[cut] = _places(model.windows(inputs, length, packing, memory_limit), documents)
            model.windows.check(by_tokenizer[cut].windows)
        tables = [by_tokenizer[cut] for cut in cuts]
        keys = tables[0].key
        for table in tables[1:]:
            keys = np.intersect1d(keys, table.key, assume_unique=True)
        coverage = check_coverage(models, [len(table.key) for table in tables], len(keys))
        if kind != "tokens":
            keys = _last_of_each_document(keys)
        if kind in ("mean", "cls") and len(by_tokenizer) > 1:  # the window must hold the same text in every model
            keys, coverage = _whole_documents(models, corpus, list(by_tokenizer.values()), keys, kind)
        return cls(tables, by_tokenizer[min(by_tokenizer)], keys, coverage)

    @property
    def available(self) -> np.ndarray:
        """Rows of each document that has any."""
        return np.unique(self.keys >> 32, return_counts=True)[1]

    @property
    def window(self) -> np.ndarray:
        """The window of each row that is drawn from."""
        return self.drawn.window[np.searchsorted(self.drawn.key, self.keys)]


@dataclass(frozen=True)
class _Places:
    """All token boundaries, sorted by key = (document, character)."""

    windows: WindowTable
    key: np.ndarray
    window: np.ndarray
    position: np.ndarray

    def at(self, keys: np.ndarray) -> Selection:
        index = np.searchsorted(self.key, keys)
        window, position = (column[index].astype(np.int64) for column in (self.window, self.position))
        return Selection(self.windows, window, position, keys >> 32, keys & 0xFFFFFFFF)


def _places(windows: WindowTable, documents: np.ndarray | None = None) -> _Places:
    """All token boundaries of the windows of these documents of the corpus, in ascending order; None: of all.

    Works on `TOKENS_AT_ONCE` tokens at a time, since intermediates are many times larger.
    """
    text = windows.text_of if documents is None else documents[windows.text_of]
    begins = np.append(np.flatnonzero(np.diff(text)) + 1, len(text))
    about = np.arange(TOKENS_AT_ONCE, len(text), TOKENS_AT_ONCE)
    cuts = np.unique([0, *begins[np.searchsorted(begins, about)], len(text)]).tolist()
    found = [_places_of(windows, text, slice(a, b)) for a, b in pairwise(cuts)] or [(begins[:0],) * 3]
    return _Places(windows, *map(np.concatenate, zip(*found, strict=True)))


def _places_of(windows: WindowTable, text: np.ndarray, part: slice) -> tuple[np.ndarray, ...]:
    """Key, window and position of every token boundary in one part."""
    starts, ends = windows.offsets[part].T
    real = np.flatnonzero(ends > starts)
    document = text[part][real].astype(np.int64) << 32
    key = document | ends[real]
    whole = ends_a_place(document | starts[real], key)
    token = real[whole] + part.start
    window = np.searchsorted(windows.ends, token, side="right")
    position = token - windows.starts[window] + len(windows.before)
    return key[whole], window.astype(np.int32), position.astype(np.int32)


def ends_a_place(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which tokens end at a clean boundary: the text up to it is exactly the tokens up to it.

    One character may be split into several tokens, and a token may hold the end of one character and the start of the
    next. Of these, only tokens that complete a character count.

    Parameters
    ----------
    starts, ends
        First and last character of every token that stands for text, in order, (tokens,) each.

    Returns
    -------
    numpy.ndarray
        Bool (tokens,). The ends of the True tokens strictly increase.
    """
    before = np.maximum.accumulate(ends)
    behind = np.append(np.minimum.accumulate(starts[::-1])[::-1][1:], np.iinfo(np.int64).max)
    return (ends == before) & (behind >= ends)


def check_coverage(models: Sequence[Model], places: Sequence[int], shared: int) -> float:
    """Share of token boundaries in common, relative to the coarsest tokenizer.

    Raises
    ------
    InputError
        If the share is too small for a comparison.
    """
    fewest = min(places)
    if shared < MIN_COVERAGE * fewest:
        raise InputError(
            f"The tokenizers of {' and '.join(m.name for m in models)} end tokens at the same character in only "
            f"{shared:,} of {fewest:,} places ({shared / fewest:.1%}); a comparison needs {MIN_COVERAGE:.0%}. Compare "
            "models whose tokenizers split this text more similarly, or use another text."
        )
    return shared / fewest if fewest else 0.0


def _last_of_each_document(keys: np.ndarray) -> np.ndarray:
    document = keys >> 32
    return keys[np.append(document[1:] != document[:-1], True)] if len(keys) else keys


def _whole_documents(
    models: Sequence[Model], corpus: Corpus, tables: Sequence[_Places], keys: np.ndarray, kind: str
) -> tuple[np.ndarray, float]:
    """Keys of the documents that fit one window in every model, and their share of all documents.

    Raises
    ------
    InputError
        If there are none.
    """
    counts = [np.bincount(table.windows.text, minlength=len(corpus)) for table in tables]
    whole = np.all([count == 1 for count in counts], axis=0)[keys >> 32]
    if not whole.any():
        raise InputError(
            f'rows="{kind}" with different tokenizers needs documents that fit one window in every model. None of '
            f"{len(keys):,} documents does in {' and '.join(m.name for m in models)}. Use shorter documents or longer "
            'windows, or rows="tokens" or rows="last".'
        )
    return keys[whole], float(whole.sum() / len(corpus))


def _rows_by_cost(shared: _Shared, n_rows: int) -> int:
    """Rows to take from each document: the fewest for which a model runs at most `TOKENS_PER_ROW` tokens a row.

    One row per document gives the narrowest interval for a number of rows, but each row costs a whole window. A few
    more rows from the same window cost little and widen the interval little (docs/cost.md). Rows come from at least
    `FEWEST_DOCUMENTS` documents if the corpus has that many, whatever that costs.
    """
    available = shared.available
    if not len(available):
        return 1
    windows = shared.drawn.windows
    around = len(windows.before) + len(windows.after)
    tokens = (windows.counts[np.unique(shared.window)].mean() + around) * len(available)
    most = max(1, n_rows // min(FEWEST_DOCUMENTS, len(available)))

    def affordable(each: int) -> bool:
        return bool(tokens <= TOKENS_PER_ROW * np.minimum(available, each).sum())

    return 1 + bisect_left(range(1, most), True, key=affordable)


def _draw(shared: _Shared, n_rows: int, each: int, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    keys, window = shared.keys, shared.window
    document, start, available = np.unique(keys >> 32, return_index=True, return_counts=True)
    if each == 1 or np.minimum(available, each).sum() <= n_rows:
        quota = _equal_quotas(available, n_rows, rng)
    else:
        drawn = order[np.isin(order, document)]
        quota = _quotas_in_order(available, n_rows, each, np.searchsorted(document, drawn))
    chosen = []
    for first, count, wanted in zip(start, available, quota, strict=True):
        if wanted:
            here = np.arange(first, first + count)
            chosen.append(keys[_draw_from_windows(here, window[here], wanted, rng)])
    return np.sort(np.concatenate(chosen))


def _quotas_in_order(available: np.ndarray, n_rows: int, each: int, order: np.ndarray) -> np.ndarray:
    """Rows per document: `each` from one after the other, in this order, until there are n_rows."""
    mine = np.minimum(available[order], each)
    quota = np.zeros_like(available)
    quota[order] = np.clip(n_rows - (np.cumsum(mine) - mine), 0, mine)
    return quota


def _equal_quotas(available: np.ndarray, n_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Rows per document: as equal as the documents' sizes allow, with the remainder assigned at random."""
    quota = np.zeros_like(available)
    while (left := min(n_rows, available.sum()) - quota.sum()) > 0:
        open_ = np.flatnonzero(quota < available)
        share = left // len(open_)
        if share == 0:
            quota[rng.choice(open_, left, replace=False)] += 1
        else:
            quota[open_] = np.minimum(quota[open_] + share, available[open_])
    return quota


def _draw_from_windows(rows: np.ndarray, window: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `wanted` of a document's rows from as few of its windows as hold enough, chosen at random."""
    pool: list[np.ndarray] = []
    for w in rng.permutation(np.unique(window)):
        pool.append(rows[window == w])
        if sum(map(len, pool)) >= wanted:
            break
    return rng.choice(np.concatenate(pool), wanted, replace=False)
