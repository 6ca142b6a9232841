"""The class `Corpus`, and `load_corpus`, which builds one from a name, a path or texts."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from io import IOBase
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from repsim_nb.corpora import nli_heuristics, python_docs
from repsim_nb.corpora.corpus_card import corpus_card
from repsim_nb.corpora.datasets import HUB_ID, read_hub
from repsim_nb.corpora.reading import DocumentsRead, Wanted
from repsim_nb.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")
TEXT_SUFFIXES = (".txt", ".md", ".rst")
ENCODING = "utf-8-sig"  # drops the byte order mark that editors on Windows add
TABLE_SUFFIXES = (".jsonl", ".ndjson")


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
    """

    name: str
    texts: tuple[str, ...]
    documents: tuple[str, ...]
    split: str
    labels: tuple[str, ...] | None = None
    source: tuple[tuple[str, str], ...] = ()
    second_texts: tuple[str, ...] | None = None
    cases: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for column in (self.texts, self.second_texts or ()):
            wrong = next((i for i, text in enumerate(column) if not text.isascii() and _is_broken(text)), None)
            if wrong is not None:
                raise InputError(
                    f"The text of {self.documents[wrong]} contains half a surrogate pair, which is not a valid "
                    "character. Leave the document out, or repair it: text.encode('utf-8', 'replace').decode()."
                )

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}, split={self.split!r}, {len(self)} documents, sha256={self.sha256[:12]})"

    def _repr_html_(self) -> str:
        return corpus_card(self)

    @property
    def sha256(self) -> str:
        """Hash of document names, texts and labels in order, and of second texts and cases if there are any."""
        parts = [self.documents, self.texts, self.labels]
        if self.second_texts is not None or self.cases is not None:
            parts += [self.second_texts, self.cases]
        content = hashlib.sha256()
        for piece in _as_json(parts):
            content.update(piece.encode("utf-8", "surrogatepass"))
        return content.hexdigest()

    @property
    def text_bytes(self) -> int:
        """Size of all texts in UTF-8 bytes."""
        columns = (self.texts, self.second_texts or ())
        return sum(len(text) if text.isascii() else len(text.encode("utf-8")) for column in columns for text in column)

    @property
    def provenance(self) -> dict[str, Any]:
        """Name, split, size, hash and source of the texts."""
        return {
            "corpus": self.name,
            "split": self.split,
            "documents": len(self),
            "sha256": self.sha256,
            "source": dict(self.source),
        }

    @property
    def inputs(self) -> tuple[str, ...] | tuple[tuple[str, str], ...]:
        """Model input, one entry per document: its text, or its pair of texts."""
        if self.second_texts is None:
            return self.texts
        return tuple(zip(self.texts, self.second_texts, strict=True))

    def take(self, index: Iterable[int]) -> Corpus:
        """Only the documents at `index`, in that order."""
        index = list(index)
        columns = ("texts", "documents", "labels", "second_texts", "cases")
        given = {name: getattr(self, name) for name in columns if getattr(self, name) is not None}
        kept: dict[str, Any] = {name: tuple(column[i] for i in index) for name, column in given.items()}
        return replace(self, **kept)


def _is_broken(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _as_json(columns: Sequence[Sequence[str] | None], at_once: int = 1000) -> Iterator[str]:
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


def list_corpora() -> pd.DataFrame:
    """List the corpora that can be loaded by name, one row each (index: name)."""
    import pandas as pd

    rows = [
        (
            python_docs.NAME,
            "text",
            SPLITS,
            "English prose and Python code that comes with every installation of this package",
        ),
        (
            nli_heuristics.NAME,
            "labelled pairs",
            nli_heuristics.SPLITS,
            "Generated premises and hypotheses with word overlap as a shortcut, which fails on the split ood",
        ),
    ]
    frame = pd.DataFrame(rows, columns=["name", "kind", "splits", "description"]).set_index("name")
    frame["splits"] = frame["splits"].map(", ".join)
    frame.insert(2, "needs_download", False)
    return frame


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
        a hub dataset one of its splits; by default all of them, one after another.
    column
        The column that holds the texts, for hub datasets and JSON lines. None takes "text" or, if there is none,
        labelled pairs in "premise", "hypothesis" and "label".
    config
        The configuration of a hub dataset that has several.
    limit
        Maximum number of documents, counted from the start. None means all, or the first 10,000 of a hub dataset.

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
    hidden, ordered by path. In a JSON lines file (.jsonl) every line is a document or a labelled pair. Your own text
    has no splits and is always used whole (`split` "all").

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
        return _from_hub(hub, split or "all", column, config, limit)
    if config is not None:
        raise InputError(f"config={config!r} is only for datasets on the hub; leave it out.")
    if isinstance(given, str | os.PathLike) and _is_table(Path(given)):
        _no_split(split)
        return _from_json_lines(Path(given), column, limit)
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
    if isinstance(given, str) and given in _NAMED:
        return _NAMED[given](split or "test")
    _no_split(split)
    if isinstance(given, str | os.PathLike):
        return _from_path(given)
    return _from_texts(given, limit)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLE_SUFFIXES and not (_exists(path) and path.is_dir())


def _exists(path: Path) -> bool:
    """Whether the path exists; False for strings that cannot be paths, such as long texts."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _first(corpus: Corpus, limit: int | None) -> Corpus:
    return corpus if limit is None or limit >= len(corpus) else corpus.take(range(limit))


def hub_id(given: Any) -> str | None:
    """Return `given` if it is a dataset id, else None. Local paths and corpus names take precedence."""
    if not isinstance(given, str) or given in _NAMED or not HUB_ID.fullmatch(given):
        return None
    like_a_file = Path(given).suffix[1:2].isalpha()
    return None if like_a_file or _exists(Path(given)) else given


def _no_split(split: str | None) -> None:
    if split not in (None, "test", "all"):
        raise InputError(
            f"split={split!r}: your own text has no splits and is used whole. Leave split out; to keep parts separate, "
            "load them as separate corpora."
        )


def _python_docs(split: str) -> Corpus:
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    records = [r for r in python_docs.build() if r.split == split]
    return Corpus(
        python_docs.NAME,
        tuple(r.text for r in records),
        tuple(r.name for r in records),
        split,
        source=tuple(python_docs.versions().items()),
    )


def nli_pairs(split: str, disambiguating: float = 0.0) -> Corpus:
    """The corpus nli-heuristics; `disambiguating` is the share of "train" pairs on which the shortcut fails."""
    pairs = nli_heuristics.build(split, disambiguating)
    labelled = split != "pretrain"
    source = nli_heuristics.versions() | ({"disambiguating": str(disambiguating)} if split == "train" else {})
    return Corpus(
        nli_heuristics.NAME,
        tuple(pair.premise for pair in pairs),
        tuple(f"{split}:{i}" for i in range(len(pairs))),
        split,
        labels=tuple(pair.label for pair in pairs) if labelled else None,
        source=tuple(source.items()),
        second_texts=tuple(pair.hypothesis for pair in pairs),
        cases=tuple(pair.case for pair in pairs) if labelled else None,
    )


_NAMED: dict[str, Callable[[str], Corpus]] = {python_docs.NAME: _python_docs, nli_heuristics.NAME: nli_pairs}


def _from_hub(given: str, split: str, column: str | None, config: str | None, limit: int | None) -> Corpus:
    name, _, revision = given.partition("@")
    read = read_hub(name, split, column, config, limit, revision or None)
    source = {"hub": name, "commit": read.commit, "config": read.config, "column": read.column}
    return _of_rows(given, read.documents, split, source)


def _from_json_lines(path: Path, column: str | None, limit: int | None) -> Corpus:
    if not _exists(path):
        raise FileNotFoundError(f"No file at '{path}'. Use an existing path or a corpus name.")
    read = DocumentsRead.none()
    name = _readable(path.name)
    try:
        with _opened(path) as lines:
            wanted = Wanted.of_rows(_objects(lines), column)
        with _opened(path) as lines:
            wanted.read(_objects(lines), read, limit, name)
    except UnicodeDecodeError:
        raise _not_text(path) from None
    except InputError as error:
        raise InputError(f"'{path}': {error}") from None
    if not read.texts:
        raise InputError(f"'{path}' contains no text: all {read.seen:,} lines are empty.")
    source = {"path": _readable(path), "column": wanted.column or "pairs"}
    return _of_rows(_readable(path), read, "all", source)


def _opened(path: Path) -> TextIO:
    """Open a text file; raise InputError if it cannot be read."""
    try:
        if path.is_char_device():  # reading it may never end
            raise InputError(f"'{path}' is a device, not a file.")
        return path.open(encoding=ENCODING)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"Cannot read '{path}': {reason}. Use a readable file.") from None


def _readable(path: Path | str) -> str:
    """A path as valid Unicode, with undecodable bytes replaced."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
                raise InputError(f"line {number} is not a JSON object; expected one per line.")
            yield found


def _of_rows(name: str, read: DocumentsRead, split: str, source: dict[str, str]) -> Corpus:
    return Corpus(
        name,
        tuple(read.texts),
        tuple(read.names),
        split,
        labels=tuple(read.labels) or None,
        source=(*source.items(), ("rows_read", str(read.seen))),
        second_texts=tuple(read.second_texts) or None,
        cases=tuple(read.cases) or None,
    )


def _from_texts(given: Any, limit: int | None) -> Corpus:
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


def _from_path(given: str | os.PathLike[str]) -> Corpus:
    path = Path(given)
    if not str(given).strip():
        raise InputError("The corpus name is empty. Pass a name, a path, or a list of texts.")
    if not _exists(path):
        if isinstance(given, str) and _reads_like_a_text(given):
            raise InputError(
                f"No corpus, file or folder is named {given if len(given) < 60 else given[:60] + '…'!r}. "
                "If that is a text, pass it in a list: [text]."
            )
        looks_like_a_name = isinstance(given, str) and not path.suffix and os.sep not in given
        if looks_like_a_name:
            raise unknown("corpus", given, list_corpora().index, "Or pass the path of a text file or folder.")
        raise FileNotFoundError(f"No text file or folder at '{path}'. Use an existing path or a corpus name.")
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if _is_text(p, path))
        if not files:
            raise InputError(f"The folder '{path}' contains no text files ({', '.join(TEXT_SUFFIXES)}).")
    else:
        files = [path]
    documents, texts = [], []
    for file in files:
        label = _readable(file.relative_to(path).as_posix() if path.is_dir() else file.name)
        for i, text in enumerate(_paragraphs(file)):
            documents.append(f"{label}:{i}")
            texts.append(text)
    if not texts:
        raise InputError(f"'{path}' contains no text: it is empty or only whitespace.")
    name = _readable(path)
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
        with _opened(file) as opened:
            content = opened.read()
    except UnicodeDecodeError:
        raise _not_text(file) from None
    if "\0" in content:  # UTF-16 without a byte order mark, or a binary file
        raise _not_text(file)
    return paragraphs(content)


def paragraphs(text: str) -> list[str]:
    """Split a text into documents at blank lines."""
    return [p.strip("\n") for p in re.split(r"\n[^\S\n]*\n", text) if p.strip()]


def _not_text(file: Path) -> InputError:
    return InputError(f"'{file}' is not UTF-8 text. Unpack it, convert it to UTF-8, or use another file.")
