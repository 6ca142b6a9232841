"""Corpora: named, seeded and hashed collections of documents."""

from repsim_nb.corpora.corpus import Corpus, list_corpora, load_corpus

__all__ = ["Corpus", "list_corpora", "load_corpus"]
