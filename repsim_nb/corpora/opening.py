"""`load_corpus`: build a corpus from a name, a path, a dataset on the hub, or texts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

from repsim_nb.corpora.beir import is_beir, read_beir
from repsim_nb.corpora.corpus import Corpus
from repsim_nb.corpora.datasets import HUB_ID, open_hub, read_hub, read_hub_queries
from repsim_nb.corpora.named import NAMED
from repsim_nb.corpora.own_text import exists, is_table, of_rows, read_json_lines, read_path, read_texts
from repsim_nb.errors import InputError


def load_corpus(
    name_or_path_or_texts: str | os.PathLike[str] | Sequence[str] | Corpus,
    split: str | None = None,
    *,
    column: str | None = None,
    config: str | None = None,
    limit: int | None = None,
) -> Corpus:
    """Load documents by corpus name, from a text file or folder, from a hub dataset, or from a list of strings.

    Parameters
    ----------
    name_or_path_or_texts
        A name from `list_corpora()`, a path, the id of a dataset on the hub ("owner/name" or "owner/name@revision";
        the only form that uses the network), a list of strings, or a Corpus, which is returned unchanged.
    split
        For a named corpus "train", "validation" or "test" (default); nli-heuristics also has "pretrain" and "ood". For
        a hub dataset one of its splits; by default all of them, one after another. In BEIR's layout the split of the
        judgements; by default "test", or the only one.
    column
        The column that holds the texts, for hub datasets and JSON lines. None takes "text" or, if there is none,
        labelled pairs in "premise", "hypothesis" and "label", or queries and passages in "query" and "passage".
    config
        The configuration of a hub dataset that has several. With BEIR's sets it reads that table as text.
    limit
        Maximum number of documents, counted from the start. None means all, or the first 10,000 of a hub dataset that
        is not in BEIR's layout. Queries that none of these passages answers are left out.

    Returns
    -------
    Corpus
        The documents with their names, hash and provenance.

    Raises
    ------
    InputError
        If the name, dataset, split, column or configuration is unknown (the message lists valid ones), the hub cannot
        be reached, a text is empty, or the argument has the wrong type.
    FileNotFoundError
        If the path does not exist.

    Notes
    -----
    In text files blank lines separate documents. A folder contributes all its .txt, .md and .rst files that are not
    hidden, ordered by path. In a JSON lines file (.jsonl) every line is a document, a labelled pair, or a query with a
    passage that answers it. Your own text has no splits and is always used whole (`split` "all").

    A corpus of queries has `queries`, `query_ids` and `judgements`; its documents are the passages, so that all else
    takes it as text. In JSON lines, equal queries are one query with several relevant passages, and equal passages are
    one document. Folders in BEIR's layout hold corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and
    qrels/SPLIT.tsv with a header; on the hub ("BeIR/scifact") the judgements are in "BeIR/scifact-qrels" (its default
    branch), or in the configuration "default". A passage is its title, a space and its text, as BEIR and
    sentence-transformers join them. Queries without a relevant passage in the split are left out, and so are empty
    passages; grades below 0 become 0.

    A hub dataset is streamed, and only as much is read as needed. Its documents are named by row
    ("owner/name:split:row"), rows without text are skipped, and its provenance holds the commit. The first rows of a
    dataset need not be a random sample of it.

    Examples
    --------
    >>> load_corpus(["One document.", "Another one."]).documents
    ('texts:0', 'texts:1')
    >>> len(load_corpus("python-docs", limit=5))
    5
    """
    given = name_or_path_or_texts
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, Integral) or limit < 1):
        raise InputError(f"limit={limit!r}; expected a positive whole number of documents, or None.")
    if hub := hub_id(given):
        return _from_hub(hub, split, column, config, limit)
    if config is not None:
        raise InputError(f"config={config!r} is only for datasets on the hub; leave it out.")
    if isinstance(given, str | os.PathLike) and given not in NAMED and is_beir(Path(given)) and column is None:
        return read_beir(Path(given), split, limit)
    if isinstance(given, str | os.PathLike) and is_table(Path(given)):
        _no_split(split)
        return read_json_lines(Path(given), column, limit)
    if column is not None:
        raise InputError(
            f"column={column!r} is only for datasets on the hub and JSON lines files (.jsonl); leave it out."
        )
    return _first(_plain(given, split, limit), limit)


def _plain(given: Any, split: str | None, limit: int | None) -> Corpus:
    """Load a corpus from anything except hub datasets and JSON lines."""
    if isinstance(given, Corpus):
        if split not in (None, given.split):
            raise InputError(
                f"split={split!r} differs from the split of the loaded corpus {given!r}. Load that split by name."
            )
        return given
    if isinstance(given, str) and given in NAMED:
        return NAMED[given](split or "test")
    _no_split(split)
    if isinstance(given, str | os.PathLike):
        return read_path(given)
    return read_texts(given, limit)


def _first(corpus: Corpus, limit: int | None) -> Corpus:
    return corpus if limit is None or limit >= len(corpus) else corpus.take(range(limit))


def hub_id(given: Any) -> str | None:
    """Return `given` if it is a dataset id, else None. Local paths and corpus names take precedence."""
    if not isinstance(given, str) or given in NAMED or not HUB_ID.fullmatch(given):
        return None
    like_a_file = Path(given).suffix[1:2].isalpha()
    return None if like_a_file or exists(Path(given)) else given


def _no_split(split: str | None) -> None:
    if split not in (None, "test", "all"):
        raise InputError(
            f"split={split!r}: your own text has no splits and is used whole. Leave split out; to keep parts separate, "
            "load them as separate corpora."
        )


def _from_hub(given: str, split: str | None, column: str | None, config: str | None, limit: int | None) -> Corpus:
    name, _, revision = given.partition("@")
    dataset = open_hub(name, revision or None)
    if dataset.has_queries and column is None and config is None:
        return replace(read_hub_queries(dataset, split, limit), name=given)
    split = split or "all"
    read = read_hub(dataset, split, column, config, limit)
    source = {"hub": name, "commit": dataset.commit, "config": read.config, "column": read.column}
    return of_rows(given, read.documents, split, source)
