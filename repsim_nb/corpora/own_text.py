"""Read the user's own text: files, folders, JSON lines and sequences of strings."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from io import IOBase
from pathlib import Path
from typing import Any, TextIO

from repsim_nb.corpora.corpus import Corpus
from repsim_nb.corpora.named import NAMED
from repsim_nb.corpora.reading import DocumentsRead, Wanted
from repsim_nb.errors import InputError, unknown

TEXT_SUFFIXES = (".txt", ".md", ".rst")
ENCODING = "utf-8-sig"  # drops the byte order mark that editors on Windows add
TABLE_SUFFIXES = (".jsonl", ".ndjson")


def is_table(path: Path) -> bool:
    """Whether the path is that of a JSON lines file, by its suffix."""
    return path.suffix.lower() in TABLE_SUFFIXES and not (exists(path) and path.is_dir())


def exists(path: Path) -> bool:
    """Whether the path exists; False for strings that cannot be paths, such as long texts."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def read_json_lines(path: Path, column: str | None, limit: int | None) -> Corpus:
    """Every line of a JSON lines file is a document, a labelled pair, or a query with a passage."""
    if not exists(path):
        raise FileNotFoundError(f"No file at '{path}'. Use an existing path or a corpus name.")
    read = DocumentsRead.none()
    name = readable(path.name)
    try:
        with opened(path) as lines:
            wanted = Wanted.of_rows(json_objects(lines), column)
        with opened(path) as lines:
            wanted.read(json_objects(lines), read, limit, name)
    except UnicodeDecodeError:
        raise not_text(path) from None
    except InputError as error:
        raise InputError(f"'{path}': {error}") from None
    if not read.texts:
        raise InputError(f"'{path}' contains no text: all {read.seen:,} lines are empty.")
    source = {"path": readable(path), "column": wanted.column or wanted.kind}
    return of_rows(readable(path), read, "all", source)


def opened(path: Path) -> TextIO:
    """Open a text file; raise InputError if it cannot be read."""
    try:
        if path.is_char_device():  # reading it may never end
            raise InputError(f"'{path}' is a device, not a file.")
        return path.open(encoding=ENCODING)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"Cannot read '{path}': {reason}. Use a readable file.") from None


def readable(path: Path | str) -> str:
    """A path as valid Unicode, with undecodable bytes replaced."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def json_objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines; empty lines are skipped."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
                raise InputError(f"line {number} is not a JSON object; expected one per line.")
            yield found


def of_rows(name: str, read: DocumentsRead, split: str, source: dict[str, str]) -> Corpus:
    """The corpus made of the rows of a table."""
    return Corpus(
        name,
        tuple(read.texts),
        tuple(read.names),
        split,
        labels=tuple(read.labels) or None,
        source=(*source.items(), ("rows_read", str(read.seen))),
        second_texts=tuple(read.second_texts) or None,
        cases=tuple(read.cases) or None,
        **_queries(read),
    )


def _queries(read: DocumentsRead) -> dict[str, Any]:
    """The columns of the queries, each answered by the passages that it stood beside."""
    if not read.answers:
        return {}
    ids = tuple(f"query:{i}" for i in range(len(read.answers)))
    answers = zip(ids, read.answers.values(), strict=True)
    relevant = tuple((query, read.names[place], 1.0) for query, places in answers for place in places)
    return {"queries": tuple(read.answers), "query_ids": ids, "relevant": relevant}


def read_texts(given: Any, limit: int | None) -> Corpus:
    """A corpus of strings."""
    if isinstance(given, bytes | bytearray | Mapping | Set | IOBase) or getattr(given, "ndim", 1) != 1:
        raise InputError(
            f"Expected a corpus name, a path or a sequence of strings, got {type(given).__name__}. Pass a list of "
            "texts, the path of a file, or one column of a table."
        )
    try:
        found = iter(given)
    except TypeError:
        raise InputError(
            f"Expected a corpus name, a path or a sequence of strings, got {type(given).__name__}."
        ) from None
    texts = tuple(itertools.islice(found, limit))
    wrong = next((i for i, t in enumerate(texts) if not isinstance(t, str)), None)
    if wrong is not None:
        raise InputError(f"Expected a sequence of strings; element {wrong} has type {type(texts[wrong]).__name__}.")
    empty = next((i for i, t in enumerate(texts) if not t.strip()), None)
    if empty is not None:
        raise InputError(f"Text number {empty} of the corpus is empty. Leave empty texts out.")
    if not texts:
        raise InputError("The corpus has no texts. Pass at least one non-empty string.")
    texts = tuple(t if type(t) is str else str.__str__(t) for t in texts)  # numpy and others subclass str
    return Corpus("texts", texts, tuple(f"texts:{i}" for i in range(len(texts))), "all")


def read_path(given: str | os.PathLike[str]) -> Corpus:
    """The documents of a text file, or of all text files in a folder."""
    path = Path(given)
    if not str(given).strip():
        raise InputError("The corpus name is empty. Pass a name, a path, or a list of texts.")
    if not exists(path):
        if isinstance(given, str) and _reads_like_a_text(given):
            raise InputError(
                f"No corpus, file or folder is named {given if len(given) < 60 else given[:60] + '…'!r}. "
                "If that is a text, pass it in a list: [text]."
            )
        looks_like_a_name = isinstance(given, str) and not path.suffix and os.sep not in given
        if looks_like_a_name:
            raise unknown("corpus", given, NAMED, "Or pass the path of a text file or folder.")
        raise FileNotFoundError(f"No text file or folder at '{path}'. Use an existing path or a corpus name.")
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if _is_text(p, path))
        if not files:
            raise InputError(f"The folder '{path}' contains no text files ({', '.join(TEXT_SUFFIXES)}).")
    else:
        files = [path]
    documents, texts = [], []
    for file in files:
        label = readable(file.relative_to(path).as_posix() if path.is_dir() else file.name)
        for i, text in enumerate(_paragraphs(file)):
            documents.append(f"{label}:{i}")
            texts.append(text)
    if not texts:
        raise InputError(f"'{path}' contains no text: it is empty or only whitespace.")
    name = readable(path)
    return Corpus(name, tuple(texts), tuple(documents), "all", source=(("path", name),))


def _reads_like_a_text(given: str) -> bool:
    """Whether a string looks like a text: too long for a path, with many words or with several lines."""
    return len(given) > 200 or given.count(" ") > 4 or any(not character.isprintable() for character in given)


def _is_text(file: Path, top: Path) -> bool:
    """Whether it is a text file outside hidden folders, where Jupyter and git keep copies."""
    hidden = any(part.startswith(".") for part in file.relative_to(top).parts)
    return not hidden and file.suffix.lower() in TEXT_SUFFIXES and file.is_file()


def _paragraphs(file: Path) -> list[str]:
    try:
        with opened(file) as lines:
            content = lines.read()
    except UnicodeDecodeError:
        raise not_text(file) from None
    if "\0" in content:  # UTF-16 without a byte order mark, or a binary file
        raise not_text(file)
    return paragraphs(content)


def paragraphs(text: str) -> list[str]:
    """Split a text into documents at blank lines."""
    return [p.strip("\n") for p in re.split(r"\n[^\S\n]*\n", text) if p.strip()]


def not_text(file: Path) -> InputError:
    """The error for a file that is not UTF-8 text."""
    return InputError(f"'{file}' is not UTF-8 text. Unpack it, convert it to UTF-8, or use another file.")
