"""A corpus as notebooks show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repsim_nb.system.card import card

if TYPE_CHECKING:
    from repsim_nb.corpora.corpus import Corpus

MOST_LABELS = 8
START = 100  # characters of a text


def corpus_card(corpus: Corpus) -> str:
    """How many documents, how long, with which labels, and how the first one begins."""
    pairs = corpus.second_texts is not None
    kind = "pairs of texts" if pairs else "documents"
    sentences = [f"{len(corpus):,} {kind}, {corpus.text_bytes:,} bytes (split {corpus.split})."]
    if corpus.labels is not None:
        labels = sorted(map(str, set(corpus.labels)))
        more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
        sentences.append(f"Labels: {', '.join(labels[:MOST_LABELS])}{more}.")
    if len(corpus):
        first = [corpus.inputs[0]] if isinstance(corpus.inputs[0], str) else [*corpus.inputs[0]]
        sentences.append(f"The first begins: {' / '.join(_start(text) for text in first)}")
    return card(corpus.name, sentences, corpus.provenance)


def _start(text: str) -> str:
    return text if len(text) <= START else f"{text[:START]}…"
