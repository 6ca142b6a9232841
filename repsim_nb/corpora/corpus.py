"""The class `Corpus`: named documents, with labels, second texts or queries where there are some."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from repsim_nb.corpora.corpus_card import corpus_card
from repsim_nb.errors import InputError


@dataclass(frozen=True)
class Corpus:
    """Named documents, with one label each for labelled corpora.

    Attributes
    ----------
    name
        The registered name; for your own text its path, or `"texts"`.
    texts
        One string per document.
    documents
        One unique name per document.
    split
        A split of the corpus, such as `"test"`, or `"all"` for your own text, which is used whole.
    labels
        One label per document, or None.
    second_texts
        For documents that are pairs, the second text of each (the hypothesis), else None.
    cases
        The sub-case of each document, for labelled corpora that have them, else None.
    source
        Where the texts come from (package versions, path), for the provenance.
    queries
        For a corpus of queries, whose documents are the passages to search: one string per query, else None.
    query_ids
        One unique id per query, else None.
    relevant
        What is known to answer the queries, as (query id, name of the passage, grade), else None. A grade of 0 is a
        passage judged not relevant.
    """

    name: str
    texts: tuple[str, ...]
    documents: tuple[str, ...]
    split: str
    labels: tuple[str, ...] | None = None
    source: tuple[tuple[str, str], ...] = ()
    second_texts: tuple[str, ...] | None = None
    cases: tuple[str, ...] | None = None
    queries: tuple[str, ...] | None = None
    query_ids: tuple[str, ...] | None = None
    relevant: tuple[tuple[str, str, float], ...] | None = None

    def __post_init__(self) -> None:
        named = [(self.documents, self.texts), (self.documents, self.second_texts), (self.query_ids, self.queries)]
        for names, column in named:
            wrong = next((i for i, text in enumerate(column or ()) if not text.isascii() and _is_broken(text)), None)
            if wrong is not None and names is not None:
                raise InputError(
                    f"The text of {names[wrong]} contains half a surrogate pair, which is not a valid "
                    "character. Leave the document out, or repair it: text.encode('utf-8', 'replace').decode()."
                )

        if self.queries is not None or self.query_ids is not None or self.relevant is not None:
            self._check_queries()

    def _check_queries(self) -> None:
        if self.queries is None or self.query_ids is None or self.relevant is None:
            raise InputError("queries, query_ids and relevant belong together; expected all three, or none of them.")
        if len(self.queries) != len(self.query_ids):
            raise InputError(f"Got {len(self.queries)} queries and {len(self.query_ids)} query_ids.")
        known = ({*self.query_ids}, {*self.documents})
        for kind, ids, unique in zip(("query", "passage"), (self.query_ids, self.documents), known, strict=True):
            if len(unique) < len(ids):
                twice = Counter(ids).most_common(1)[0][0]
                raise InputError(f"The {kind} id {twice!r} occurs more than once. Give every {kind} an id of its own.")
        for place, kind in enumerate(("query", "passage")):
            absent = [each[place] for each in self.relevant if each[place] not in known[place]]
            if absent:
                raise InputError(
                    f"{len(absent):,} of {len(self.relevant):,} judgements are of an unknown {kind}, such as "
                    f"{absent[0]!r}. Check that they belong to these queries and passages."
                )
        most = Counter((query, passage) for query, passage, _ in self.relevant).most_common(1)
        if most and most[0][1] > 1:
            (query, passage), times = most[0]
            raise InputError(f"The passage {passage!r} is judged {times} times for the query {query!r}; keep one.")
        answered = {query for query, _, grade in self.relevant if grade > 0}
        if len(answered) < len(self.query_ids):
            lost = next(query for query in self.query_ids if query not in answered)
            raise InputError(f"The query {lost!r} has no passage with a grade above 0. Leave it out.")

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        queries = "" if self.queries is None else f"{len(self.queries)} queries, "
        return f"Corpus({self.name!r}, split={self.split!r}, {len(self)} documents, {queries}sha256={self.sha256[:12]})"

    def _repr_html_(self) -> str:
        return corpus_card(self)

    @property
    def sha256(self) -> str:
        """Hash of document names, texts and labels in order, and of all other columns that there are."""
        parts: list[Sequence[Any] | None] = [self.documents, self.texts, self.labels]
        if self.second_texts is not None or self.cases is not None:
            parts += [self.second_texts, self.cases]
        if self.queries is not None:
            parts += [self.queries, self.query_ids, self.relevant]
        content = hashlib.sha256()
        for piece in _as_json(parts):
            content.update(piece.encode("utf-8", "surrogatepass"))
        return content.hexdigest()

    @property
    def text_bytes(self) -> int:
        """Size of all texts, without queries, in UTF-8 bytes."""
        columns = (self.texts, self.second_texts or ())
        return sum(len(text) if text.isascii() else len(text.encode("utf-8")) for column in columns for text in column)

    @property
    def provenance(self) -> dict[str, Any]:
        """Name, split, size, hash and source of the texts."""
        return {
            "corpus": self.name,
            "split": self.split,
            "documents": len(self),
            **({} if self.queries is None else {"queries": len(self.queries)}),
            "sha256": self.sha256,
            "source": dict(self.source),
        }

    @property
    def inputs(self) -> tuple[str, ...] | tuple[tuple[str, str], ...]:
        """Model input, one entry per document: its text, or its pair of texts."""
        if self.second_texts is None:
            return self.texts
        return tuple(zip(self.texts, self.second_texts, strict=True))

    @property
    def judgements(self) -> dict[str, dict[str, float]]:
        """Grades of the passages that were judged, {query id: {name of the passage: grade}}, as `relevance` takes them.

        Raises
        ------
        InputError
            If it is not a corpus of queries.
        """
        if self.relevant is None:
            raise InputError(
                f"{self!r} has no queries. Corpora of queries are 'docstrings', JSON lines with the columns 'query' "
                "and 'passage', folders in the layout of BEIR, and BEIR's own on the hub."
            )
        found: dict[str, dict[str, float]] = {query: {} for query in self.query_ids or ()}
        for query, passage, grade in self.relevant:
            found[query][passage] = grade
        return found

    def take(self, index: Iterable[int]) -> Corpus:
        """Only the documents at `index`, in that order; of queries, those that one of these documents answers."""
        index = list(index)
        columns = ("texts", "documents", "labels", "second_texts", "cases")
        given = {name: getattr(self, name) for name in columns if getattr(self, name) is not None}
        kept: dict[str, Any] = {name: tuple(column[i] for i in index) for name, column in given.items()}
        return replace(self, **kept, **self._queries_of({*kept["documents"]}))

    def _queries_of(self, passages: Set[str]) -> dict[str, Any]:
        """The columns of the queries that one of the passages answers."""
        if self.queries is None or self.query_ids is None or self.relevant is None:
            return {}
        judged = [each for each in self.relevant if each[1] in passages]
        answered = {query for query, _, grade in judged if grade > 0}
        both = [each for each in zip(self.query_ids, self.queries, strict=True) if each[0] in answered]
        return {
            "query_ids": tuple(query for query, _ in both),
            "queries": tuple(text for _, text in both),
            "relevant": tuple(each for each in judged if each[0] in answered),
        }


def _is_broken(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _as_json(columns: Sequence[Sequence[Any] | None], at_once: int = 1000) -> Iterator[str]:
    """`json.dumps(columns)` in pieces, since the whole string would need as much memory as all texts."""
    for number, column in enumerate(columns):
        yield ", " if number else "["
        if column is None:
            yield "null"
            continue
        for start in range(0, len(column), at_once):
            yield (", " if start else "[") + json.dumps(column[start : start + at_once], ensure_ascii=False)[1:-1]
        yield "]" if column else "[]"
    yield "]"
