"""Read queries, passages and judgements in the layout of BEIR: from a folder, or from the hub.

A folder holds corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and qrels/SPLIT.tsv with a header (query-id,
corpus-id, score). On the hub "corpus" and "queries" are configurations, and the judgements are in a dataset of their
own, "owner/name-qrels", or in the configuration "default", as in MTEB.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from repsim_nb.corpora.corpus import Corpus
from repsim_nb.corpora.own_text import exists, json_objects, not_text, opened, readable
from repsim_nb.errors import InputError, unknown

CORPUS, QUERIES, JUDGEMENTS = "corpus", "queries", "qrels"
COLUMNS = ("query-id", "corpus-id", "score")
DEFAULT = "default"  # configuration of the judgements where they are in the same dataset


def is_beir(folder: Path) -> bool:
    """Whether a folder has BEIR's layout."""
    return exists(folder / f"{CORPUS}.jsonl")


def read_beir(folder: Path, split: str | None, limit: int | None) -> Corpus:
    """Read a folder; `split` names the file of judgements.

    Raises
    ------
    InputError
        A file is missing or not as described above, the split is unknown, or a judgement is of an unknown id.
    """
    judged = {path.stem: path for path in sorted((folder / JUDGEMENTS).glob("*.tsv"))}
    if not judged or not (folder / f"{QUERIES}.jsonl").is_file():
        raise InputError(
            f"'{folder}' has {CORPUS}.jsonl, but lacks {JUDGEMENTS if not judged else QUERIES}"
            f"{'/SPLIT.tsv' if not judged else '.jsonl'}. Expected BEIR's layout: {CORPUS}.jsonl, {QUERIES}.jsonl and "
            f"{JUDGEMENTS}/SPLIT.tsv."
        )
    chosen = choose_split(str(folder), split, judged)
    try:
        return of_tables(
            readable(folder),
            chosen,
            _lines(folder / f"{CORPUS}.jsonl"),
            _lines(folder / f"{QUERIES}.jsonl"),
            _judgements(judged[chosen]),
            limit,
            {"path": readable(folder)},
        )
    except InputError as error:
        raise InputError(f"'{folder}': {error}") from None


def choose_split(name: str, split: str | None, there: Iterable[str]) -> str:
    """The split asked for; by default "test", or the only one."""
    names = list(there)
    if split is None:
        split = "test" if "test" in names or len(names) > 1 else names[0]
    if split not in names:
        raise unknown("split", split, names, f"'{name}' has judgements for: {', '.join(names)}.")
    return split


def of_tables(
    name: str,
    split: str,
    passages: Iterable[Mapping[str, Any]],
    queries: Iterable[Mapping[str, Any]],
    judgements: Iterable[Mapping[str, Any]],
    limit: int | None,
    source: dict[str, str],
) -> Corpus:
    """The corpus of the first `limit` passages (None: all) and the queries that they answer.

    A passage is its title, a space and its text, without space at the ends, as BEIR and sentence-transformers join
    them. Empty passages and queries are left out with their judgements, and so are queries without a grade above 0.
    Grades below 0 become 0.
    """
    ids, texts, empty = _texts(islice(passages, limit), CORPUS)
    query_ids, query_texts, empty_queries = _texts(queries, QUERIES)
    relevant = [_grade(row) for row in judgements]
    relevant = [each for each in relevant if each[0] not in empty_queries and each[1] not in empty]
    if limit is not None:
        kept = {*ids}
        relevant = [each for each in relevant if each[1] in kept]
    known = {*query_ids}
    answered = {query for query, _, grade in relevant if grade > 0}
    if not answered:
        first = "" if limit is None else f"first {limit:,} "
        raise InputError(
            f"The {first}passages answer no query of the split {split!r}. "
            + ("Check its judgements." if limit is None else "Raise limit, or leave it out.")
        )
    # queries that are judged and unknown stay among the judgements, for the check of all ids
    relevant = [each for each in relevant if each[0] in answered or each[0] not in known]
    asked = [i for i, query in enumerate(query_ids) if query in answered]
    return Corpus(
        name,
        tuple(texts),
        tuple(ids),
        split,
        source=(*source.items(), ("empty_passages", str(len(empty)))),
        queries=tuple(query_texts[i] for i in asked),
        query_ids=tuple(query_ids[i] for i in asked),
        relevant=tuple(relevant),
    )


def _texts(rows: Iterable[Mapping[str, Any]], table: str) -> tuple[list[str], list[str], set[str]]:
    """Ids and texts of the rows, and the ids of those that are empty."""
    ids, texts, empty = [], [], set()
    for number, row in enumerate(rows):
        where = f"row {number} of {table}"
        if "_id" not in row or "text" not in row:
            raise InputError(f"{where} has the columns {', '.join(row)}; expected _id, text and, if any, title.")
        parts = [row.get("title") or "", row["text"] or ""]
        if not all(isinstance(part, str) for part in parts):
            raise InputError(f"{where} has a title or text that is not a string.")
        text = " ".join(parts).strip()
        if text:
            ids.append(str(row["_id"]))
            texts.append(text)
        else:
            empty.add(str(row["_id"]))
    if not texts:
        raise InputError(f"{table} contains no text.")
    return ids, texts, empty


def _grade(row: Mapping[str, Any]) -> tuple[str, str, float]:
    query, passage, score = (row.get(column) for column in COLUMNS)
    try:
        return str(query), str(passage), max(0.0, float(score))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(
            f"The judgement {dict(row)} has no number as its score. Expected the columns {', '.join(COLUMNS)}."
        ) from None


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with opened(file) as lines:
            yield from json_objects(lines)
    except UnicodeDecodeError:
        raise not_text(file) from None
    except InputError as error:
        raise InputError(f"{file.name}: {error}") from None


def _judgements(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with opened(file) as lines:
            rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            if [*(rows.fieldnames or ())] != [*COLUMNS]:
                raise InputError(
                    f"{JUDGEMENTS}/{file.name} begins with {rows.fieldnames}; expected a header with the columns "
                    f"{', '.join(COLUMNS)}, separated by tabs."
                )
            yield from rows
    except UnicodeDecodeError:
        raise not_text(file) from None
