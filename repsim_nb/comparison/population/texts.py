"""The texts of a population: one corpus, or several by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from repsim_nb.corpora import Corpus, list_corpora, load_corpus
from repsim_nb.errors import InputError


def as_texts(corpora: Any, made_for: Any) -> dict[str, Corpus]:
    """Corpora by name.

    Parameters
    ----------
    corpora
        What `load_corpus` takes, a mapping of names to such, or a list of corpora, paths or names from `list_corpora`.
        Any other list of strings is one corpus, as in `load_corpus`.
    made_for
        A function that names the default corpus, for None.

    Raises
    ------
    InputError
        If there are none, two have one name, or `load_corpus` refuses one.
    """
    if isinstance(corpora, Mapping):
        named = {str(name): load_corpus(given) for name, given in corpora.items()}
        if not named:
            raise InputError("corpora is empty; expected at least one corpus, as {name: corpus}.")
        return named
    several = list(corpora) if _several(corpora) else [made_for() if corpora is None else corpora]
    loaded = [load_corpus(given) for given in several]
    named = {corpus.name: corpus for corpus in loaded}
    if len(named) < len(loaded):
        names = ", ".join(corpus.name for corpus in loaded)
        raise InputError(f"Several corpora have one name: {names}. Name them, as {{name: corpus}}.")
    return named


def _several(corpora: Any) -> bool:
    """Whether this is a list of corpora and not the texts of one."""
    if not isinstance(corpora, list | tuple) or not corpora:
        return False
    known = set(list_corpora().index)
    return any(isinstance(each, Corpus | os.PathLike) for each in corpora) or all(
        isinstance(each, str) and each in known for each in corpora
    )
