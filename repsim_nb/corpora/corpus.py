"""A `Corpus` and the one function that makes it from a name, a path or texts."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.corpora import python_docs
from repsim_nb.corpora.hub import HUB_ID, read_hub
from repsim_nb.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")
TEXT_SUFFIXES = (".txt", ".md", ".rst")


@dataclass(frozen=True)
class Corpus:
    """Documents with their names, and for labelled corpora one label each.

    Attributes:
        name: the registered name, or the path or `"texts"` for the user's own.
        texts: one string per document.
        documents: one unique name per document.
        split: `"train"`, `"validation"`, `"test"`, or `"all"` for the user's own text, which is used whole.
        labels: one label per document, or None.
        source: what the texts were read from (package versions, path), for the provenance.
    """

    name: str
    texts: tuple[str, ...]
    documents: tuple[str, ...]
    split: str
    labels: tuple[str, ...] | None = None
    source: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}, split={self.split!r}, {len(self)} documents, sha256={self.sha256[:12]})"

    @property
    def sha256(self) -> str:
        """Hash of document names, texts and labels, in order."""
        content = json.dumps([self.documents, self.texts, self.labels], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def provenance(self) -> dict[str, Any]:
        """What identifies these texts: name, split, size, hash and source."""
        return {
            "corpus": self.name,
            "split": self.split,
            "documents": len(self),
            "sha256": self.sha256,
            "source": dict(self.source),
        }


def list_corpora() -> pd.DataFrame:
    """The corpora that can be loaded by name, one row each (index: name)."""
    import pandas as pd

    row = {
        "name": "python-docs",
        "kind": "text",
        "splits": ", ".join(SPLITS),
        "needs_download": False,
        "description": "English prose and Python code that every installation of this package carries",
    }
    return pd.DataFrame([row]).set_index("name")


def load_corpus(name_or_path_or_texts: str | os.PathLike[str] | Sequence[str] | Corpus, split: str = "test") -> Corpus:
    """Load documents by corpus name, from a text file or folder, from a hub dataset, or from a list of strings.

    In text files blank lines separate documents. A folder contributes every .txt, .md and .rst file below it, in
    the order of their paths. The user's own text has no splits and is always used whole (`split` "all").

    Args:
        name_or_path_or_texts: a name from `list_corpora()`, a path, the id of a dataset on the hub ("owner/name", the
            only form that uses the network: its first 10,000 texts), strings, or a Corpus (returned as is).
        split: of a named corpus: "train", "validation" or "test".

    Raises:
        InputError: unknown name or split, empty text, wrong type.
        FileNotFoundError: a path that does not exist.

    >>> load_corpus(["One document.", "Another one."]).documents
    ('texts:0', 'texts:1')
    """
    given = name_or_path_or_texts
    if isinstance(given, Corpus):
        return given
    if isinstance(given, str) and given == python_docs.NAME:
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
    if split not in ("test", "all"):
        raise InputError(
            f"split={split!r} was asked of your own text, which has no splits and is used whole. "
            "Leave split out, and load the parts you want to keep apart as separate corpora."
        )
    if isinstance(given, str) and HUB_ID.fullmatch(given) and not Path(given).exists() and not Path(given).suffix:
        texts, commit = read_hub(given)
        names = tuple(f"{given}:{i}" for i in range(len(texts)))
        return Corpus(given, tuple(texts), names, "all", source=(("hub", given), ("commit", commit)))
    if isinstance(given, str | os.PathLike):
        return _from_path(given)
    return _from_texts(given)


def _from_texts(texts: Sequence[str]) -> Corpus:
    try:
        texts = tuple(texts)
    except TypeError:
        raise InputError(
            f"A corpus is a name, a path or a sequence of strings; received {type(texts).__name__}."
        ) from None
    wrong = next((t for t in texts if not isinstance(t, str)), None)
    if wrong is not None:
        raise InputError(f"A corpus is a sequence of strings; one element is of type {type(wrong).__name__}.")
    empty = next((i for i, t in enumerate(texts) if not t.strip()), None)
    if empty is not None:
        raise InputError(f"Text number {empty} of the corpus is empty. Leave empty texts out.")
    if not texts:
        raise InputError("The corpus has no texts. Give at least one non-empty string.")
    return Corpus("texts", texts, tuple(f"texts:{i}" for i in range(len(texts))), "all")


def _from_path(given: str | os.PathLike[str]) -> Corpus:
    path = Path(given)
    if not path.exists():
        looks_like_a_name = isinstance(given, str) and not path.suffix and os.sep not in given
        if looks_like_a_name:
            raise unknown("corpus", given, list_corpora().index, "Or give the path of a text file or folder.")
        raise FileNotFoundError(f"No text file or folder at '{path}'. Give a path that exists, or a corpus name.")
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in TEXT_SUFFIXES and p.is_file())
        if not files:
            raise InputError(f"The folder '{path}' holds no text file ({', '.join(TEXT_SUFFIXES)}).")
    else:
        files = [path]
    documents, texts = [], []
    for file in files:
        label = file.relative_to(path).as_posix() if path.is_dir() else file.name
        for i, text in enumerate(_paragraphs(file)):
            documents.append(f"{label}:{i}")
            texts.append(text)
    if not texts:
        raise InputError(f"'{path}' holds no text: it is empty or only white space.")
    return Corpus(str(given), tuple(texts), tuple(documents), "all", source=(("path", str(given)),))


def _paragraphs(file: Path) -> list[str]:
    try:
        content = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{file}' is not UTF-8 text (byte {error.start}). Convert it to UTF-8, or give another file."
        ) from None
    return [p.strip("\n") for p in re.split(r"\n[^\S\n]*\n", content) if p.strip()]
