"""The table of architectures that were held against transformers, and a word about those that were not."""

from __future__ import annotations

import csv
import warnings
from functools import cache
from typing import TYPE_CHECKING

from repsim_nb.system.shipped import data_dir

if TYPE_CHECKING:
    import pandas as pd

TABLE = "architectures.csv"
COLUMNS = ("auto_class", "model_type", "architecture", "transformers", "verdict", "reason", "deviation")


class UnsurveyedWarning(UserWarning):
    """A model is of an architecture that `architectures()` does not list as right."""


def architectures() -> pd.DataFrame:
    """What loads: each architecture that transformers offers for text, and how this package reads it.

    Each was built small at random weights, loaded with `load_model`, and compared with what transformers itself gives
    for one text alone: every position, alone and beside other texts, run between any two positions.

    Returns
    -------
    pandas.DataFrame
        Index: architecture, the class of transformers; one that stands for several model types has several rows.
        Columns: auto_class and model_type, which name it; transformers, the version that it was compared with; verdict
        ("right", "refused" or "cannot be built here"); reason, NA where there is nothing to add; deviation, the
        largest from what transformers gives, in standard deviations of a layer.

    Notes
    -----
    A verdict is of the architecture at its default settings. A config that changes them, such as other rotary factors,
    is checked when it is loaded.

    Examples
    --------
    >>> from repsim_nb.models import survey_table as architectures
    >>> architectures().loc["GPTNeoXForCausalLM", "verdict"]
    'right'
    """
    import pandas as pd

    return pd.read_csv(data_dir() / TABLE, index_col="architecture")


@cache
def _rows() -> dict[str, list[dict[str, str]]]:
    """The rows of each architecture."""
    rows: dict[str, list[dict[str, str]]] = {}
    with (data_dir() / TABLE).open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            rows.setdefault(row["architecture"], []).append(row)
    return rows


def warn_unless_surveyed(architecture: str, model_type: str) -> None:
    """Say so when a model that loads is of an architecture that is not "right" in the table.

    Warns
    -----
    UnsurveyedWarning
        Python shows it once for each architecture.
    """
    rows = _rows().get(architecture, [])
    row = next((row for row in rows if row["model_type"] == model_type), rows[0] if rows else None)
    if row is None:
        found = "is not in the table of surveyed architectures"
    elif row["verdict"] != "right":
        found = f"is {row['verdict']!r} in the table of surveyed architectures ({row['reason']})"
    else:
        return
    warnings.warn(
        f"{architecture} {found}. It passed the checks on loading, but was never compared in full with transformers. "
        "See repsim_nb.models.survey_table().",
        UnsurveyedWarning,
        stacklevel=2,
    )
