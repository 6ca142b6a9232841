"""The corpus `docstrings`: summary lines as queries, and the docstrings without them as passages.

Made of the docstrings of `python-docs`, in the same splits. The summary is the first paragraph, or the first sentence
of a longer one; signatures and titles in front of it are dropped. The passage is the rest, without what repeats the
summary. Queries that occur more than once are left out, as are near-duplicates among the passages of all splits.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from repsim_nb.corpora import python_docs

NAME = "docstrings"
RECIPE = 1  # increase when a change here changes the pairs
SUMMARY_CHARACTERS = (20, 250)
MIN_WORDS = 4  # of a summary
MIN_CHARACTERS = 200  # of a passage
MOST_REPEATED = 0.8  # of the runs of three words in a summary
MARKUP = tuple("-+*.:|=~#>_")  # in front of lists, tables, directives and examples
SIGNATURE = re.compile(r"[\w.]+\([^\n]*\)(\s*->\s*[^\n]+)?")
UNDERLINE = re.compile(r"([=~*#-])\1{2,}")
SENTENCE = re.compile(r".+?[.!?](?=\s+[A-Z`\"'(\[*])", re.DOTALL)


class Docstring(NamedTuple):
    """The docstring of one name ("numpy.linalg.svd"), its split, summary and body."""

    name: str
    split: str
    summary: str
    body: str


def versions() -> dict[str, str]:
    """Versions of everything that the pairs come from."""
    return python_docs.versions() | {"docstrings": str(RECIPE)}


@lru_cache(maxsize=1)
def build() -> tuple[Docstring, ...]:
    """All pairs of all splits, ordered by name. Built once per set of versions, then cached on disk."""
    records = python_docs.build()
    return python_docs.cached(NAME, versions(), Docstring, lambda: _pairs(records))


def _pairs(records: tuple[python_docs.Record, ...]) -> tuple[Docstring, ...]:
    found = []
    for record in records:
        kind, name = record.name.split(":", 1)
        if kind == "prose" and not name.startswith("pydoc_data.") and (parts := divided(record.text)):
            found.append(Docstring(name, record.split, *parts))
    times = Counter(_words(pair.summary) for pair in found)
    bodies = python_docs.without_near_duplicates({pair.name: pair.body for pair in found})
    return tuple(pair for pair in found if times[_words(pair.summary)] == 1 and pair.name in bodies)


def divided(text: str) -> tuple[str, str] | None:
    """Divide a docstring into summary and body.

    None if the summary is no sentence, one of them is too short, the summary is too long, or the body says it again in
    nearly the same words.
    """
    first, rest = "", text
    while rest and (not first or _is_heading(first)):
        first, rest = _first_paragraph(rest)
    whole = SENTENCE.match(first)
    if len(first) > SUMMARY_CHARACTERS[1] and whole:
        first, rest = whole[0], f"{first[whole.end() :].strip()}\n\n{rest}"
    summary = " ".join(first.split())
    shortest, longest = SUMMARY_CHARACTERS
    is_sentence = summary[:1] not in MARKUP and len(re.findall(r"[A-Za-z]{2,}", summary)) >= MIN_WORDS
    body = _without(summary, rest)
    if not is_sentence or not shortest <= len(summary) <= longest or len(body) < MIN_CHARACTERS:
        return None
    return None if _repeated(summary, body) > MOST_REPEATED else (summary, body)


def _first_paragraph(text: str) -> tuple[str, str]:
    first, _, rest = re.sub(r"\n[^\S\n]+\n", "\n\n", text.strip()).partition("\n\n")
    return first, rest


def _is_heading(paragraph: str) -> bool:
    """Whether it is a signature, or a title with an underline."""
    return bool(SIGNATURE.fullmatch(paragraph)) or any(
        UNDERLINE.fullmatch(line.strip()) for line in paragraph.split("\n")
    )


def _without(summary: str, text: str) -> str:
    """The text without what repeats the summary, whatever its case, line breaks and last full stop."""
    words = map(re.escape, summary.rstrip(".").split())
    left = re.sub(r"\s+".join(words) + r"\.?", "", text, flags=re.IGNORECASE)
    return re.sub(r"\n(\s*\n)+", "\n\n", left).strip()


def _repeated(summary: str, body: str, n: int = 3) -> float:
    """Share of the summary's runs of n words that occur in the body."""
    first, second = ({*zip(*(words[i:] for i in range(n)), strict=False)} for words in map(_words, (summary, body)))
    return len(first & second) / max(1, len(first))


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.lower()))
