"""The table of architectures that were compared with transformers, and a warning for all others."""

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
    """List all text architectures of transformers, and how this package reads them.

    Each was built as a small random model, loaded with `load_model`, and compared with plain calls of transformers on
    single texts: every layer, alone and batched with other texts, run between any two layers.

    Returns
    -------
    pandas.DataFrame
        Indexed by architecture, the class in transformers, with one row per model type. Columns: auto_class and
        model_type; transformers, the version it was compared with; verdict ("right", "refused" or "cannot be built
        here"); reason, which may be NA; and deviation, the largest deviation from transformers in standard deviations
        of a layer.

    Notes
    -----
    A verdict holds for an architecture at its default settings. A config that changes them, such as other rotary
    factors, is checked on loading.

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
    """Warn if a loaded model has an architecture that is not "right" in the table.

    Warns
    -----
    UnsurveyedWarning
        Python shows it once per architecture.
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
        f"{architecture} {found}. It passed the checks on loading, but was never fully compared with transformers. "
        "See repsim_nb.models.survey_table().",
        UnsurveyedWarning,
        stacklevel=2,
    )
