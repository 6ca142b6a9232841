"""Corpora: named, seeded and hashed collections of documents."""

from repsim_nb.corpora.corpus import Corpus
from repsim_nb.corpora.named import list_corpora
from repsim_nb.corpora.opening import load_corpus

__all__ = ["Corpus", "list_corpora", "load_corpus"]
