"""The corpora that load by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from repsim_nb.corpora import docstrings, nli_heuristics, python_docs
from repsim_nb.corpora.corpus import Corpus
from repsim_nb.errors import unknown

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")


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
        (
            docstrings.NAME,
            "queries",
            SPLITS,
            "Summary lines of docstrings as queries, and the docstrings without them as passages",
        ),
    ]
    frame = pd.DataFrame(rows, columns=["name", "kind", "splits", "description"]).set_index("name")
    frame["splits"] = frame["splits"].map(", ".join)
    frame.insert(2, "needs_download", False)
    return frame


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


def _docstrings(split: str) -> Corpus:
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    pairs = [pair for pair in docstrings.build() if pair.split == split]
    names = tuple(pair.name for pair in pairs)
    return Corpus(
        docstrings.NAME,
        tuple(pair.body for pair in pairs),
        names,
        split,
        source=tuple(docstrings.versions().items()),
        queries=tuple(pair.summary for pair in pairs),
        query_ids=names,
        relevant=tuple((name, name, 1.0) for name in names),
    )


NAMED: dict[str, Callable[[str], Corpus]] = {
    python_docs.NAME: _python_docs,
    nli_heuristics.NAME: nli_pairs,
    docstrings.NAME: _docstrings,
}
