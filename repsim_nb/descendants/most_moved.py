"""The tokens and the documents whose activations moved most, with their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from repsim_nb.comparison.closeup import tokens_at

if TYPE_CHECKING:
    from repsim_nb.activations import Activations
    from repsim_nb.corpora import Corpus
    from repsim_nb.models import Model

LISTED = 20
ROWS = 4  # fewest rows of a document that is listed, if any has as many


def moved_tokens(model: Model, acts: Activations, corpus: Corpus, moved: np.ndarray, n: int = LISTED) -> pd.DataFrame:
    """The rows that moved most: DataFrame(document, before, token, after, moved)."""
    order = np.argsort(-moved, kind="stable")[:n]
    return tokens_at(model, acts.rows.iloc[order], corpus).assign(moved=moved[order])


def moved_documents(acts: Activations, moved: np.ndarray, n: int = LISTED) -> pd.DataFrame:
    """The documents whose rows moved most on average: DataFrame(document, rows, moved)."""
    rows = pd.DataFrame({"document": acts.rows.document.to_numpy(), "moved": moved})
    table = rows.groupby("document").moved.agg(["size", "mean"]).set_axis(["rows", "moved"], axis=1)
    table = table[table.rows >= min(ROWS, table.rows.max())]
    return table.sort_values("moved", ascending=False, kind="stable").head(n).reset_index()
