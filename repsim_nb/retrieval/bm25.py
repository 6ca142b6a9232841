"""BM25, the baseline of words: which passages share rare words with a query."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.retrieval.retrieving import with_queries
from repsim_nb.retrieval.search import check_k, places_left_out, ranked, unique_ids
from repsim_nb.system.versions import versions

if TYPE_CHECKING:
    import xarray as xr
    from scipy.sparse import csc_array

WORD = re.compile(r"[^\W_]+")


@named_arguments()
def bm25(
    corpus: Corpus | str,
    k: int = 10,
    k1: float = 1.2,
    b: float = 0.75,
    *,
    tokens: Callable[[str], Iterable[str]] | None = None,
    leave_out: Mapping[Any, Collection[Any]] | None = None,
) -> xr.Dataset:
    """Find the k passages with the highest BM25 score for each query, a baseline without any model.

    Parameters
    ----------
    corpus
        A corpus with queries, or anything that `load_corpus` turns into one.
    k, leave_out
        As in `search`.
    k1
        How slowly repetitions of a word saturate, from 0 (a word counts once).
    b
        How much long passages are discounted, from 0 (not at all) to 1 (in proportion to their length).
    tokens
        Text -> its tokens. None takes `words`: runs of letters and digits in lower case.

    Returns
    -------
    xarray.Dataset
        `id` and `score` (float32) as `search` returns them. Equal scores are ordered by the place of the passage in the
        corpus. Attributes: metric "bm25", n_passages, k1, b, n_unmatched (queries that share no token with any
        passage), and the provenance.

    Raises
    ------
    InputError
        If the corpus has no queries, k exceeds its passages, k1 or b is out of range, or no passage has a token.

    Notes
    -----
    The score of a passage of length L (tokens) is the sum over the tokens t of the query, repetitions included, of
    `idf(t) f (k1 + 1) / (f + k1 (1 - b + b L / mean L))`, where t occurs f times in it [1]_. With n of N passages
    holding t, `idf(t) = ln(1 + (N - n + 0.5) / (n + 0.5))`: the weight of Robertson and Spärck Jones with 1 added under
    the logarithm, as in Lucene, so that words in more than half of the passages do not count against a passage.

    How it misleads: there is no stemming and there are no stop words, so its numbers differ from those published with
    Lucene's English analyser. A list of k always has k passages: those that share no token with the query have score 0
    and stand in the order of the corpus.

    References
    ----------
    .. [1] Robertson and Zaragoza (2009). The probabilistic relevance framework: BM25 and beyond. Foundations and
       Trends in Information Retrieval 3(4):333.
    """
    read: Any = with_queries(corpus)
    check_k(k, len(read))
    for name, value, most in (("k1", k1, np.inf), ("b", b, 1.0)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise InputError(f"{name}={value!r}; expected a number from 0{'' if most == np.inf else ' to 1'}.")
    split = words if tokens is None else tokens
    queries = unique_ids(read.query_ids, len(read.queries), "query_ids")
    passages = unique_ids(read.documents, len(read), "documents")
    removed = places_left_out(leave_out, queries, passages, k)
    weights, column = _weights([list(split(text)) for text in read.texts], k1, b)
    place, score = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k), dtype=np.float32)
    unmatched = 0
    for i, text in enumerate(read.queries):
        counts = Counter(column[token] for token in split(text) if token in column)
        unmatched += not counts
        found = (weights[:, list(counts)] @ np.array(list(counts.values()), dtype=np.float64)).astype(np.float32)
        order = np.argsort(-found, kind="stable")
        best = order[~np.isin(order, removed[i])][:k] if i in removed else order[:k]
        place[i], score[i] = best, found[best]
    about = {"corpus": read.provenance, "k": int(k), "k1": k1, "b": b, "tokens": getattr(split, "__qualname__", "?")}
    return ranked(
        queries,
        passages[place],
        score,
        metric="bm25",
        n_passages=len(read),
        k1=float(k1),
        b=float(b),
        n_unmatched=unmatched,
        provenance=json.dumps(about | {"versions": versions()}, sort_keys=True),
    )


def words(text: str) -> list[str]:
    """Runs of letters and digits, in lower case; everything else separates, also underscores.

    Examples
    --------
    >>> words("def read_file(path): # It's UTF-8")
    ['def', 'read', 'file', 'path', 'it', 's', 'utf', '8']
    """
    return WORD.findall(text.lower())


def _weights(passages: Sequence[list[str]], k1: float, b: float) -> tuple[csc_array, dict[str, int]]:
    """Weight of every token in every passage, (passages, tokens), and the column of each token."""
    from scipy.sparse import csc_array

    column: dict[str, int] = {}
    rows, columns, counts = [], [], []
    for row, tokens in enumerate(passages):
        for token, count in Counter(tokens).items():
            rows.append(row)
            columns.append(column.setdefault(token, len(column)))
            counts.append(count)
    if not column:
        raise InputError("No passage has a token, so there is nothing to match.")
    length = np.array([len(tokens) for tokens in passages], dtype=np.float64)
    n, f = len(passages), np.array(counts, dtype=np.float64)
    having = np.bincount(columns, minlength=len(column))
    idf = np.log1p((n - having + 0.5) / (having + 0.5))
    damped = f + k1 * (1 - b + b * length / length.mean())[rows]
    return csc_array((idf[columns] * f * (k1 + 1) / damped, (rows, columns)), shape=(n, len(column))), column
