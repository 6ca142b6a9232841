"""What a population shows as a whole, each with its null: families, outliers, agreement of measures and texts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from repsim_nb.errors import InputError
from repsim_nb.groups import agreement, family_test, outliers
from repsim_nb.system.p_value import LEVEL, at_most

if TYPE_CHECKING:
    import pandas as pd

MOST_LINES = 12  # of the table of agreement


def findings(
    table: pd.DataFrame, others: Mapping[str, pd.DataFrame], groups: Mapping[str, str], column: str | None
) -> str:
    """All of them as HTML; a question that these models cannot answer says why.

    Parameters
    ----------
    table
        The model x model table that is shown.
    others
        Name -> table, of all measures and texts, for their agreement.
    groups, column
        Model -> group, and what the groups are.
    """
    parts = [_section("Do groups cluster?", lambda: _families(table, groups, column))]
    parts.append(_section("Is a model an outlier?", lambda: _outliers(table)))
    parts.append(_section("Do measures and texts agree?", lambda: _agreement(others)))
    return "".join(parts)


def _section(title: str, answer: object) -> str:
    try:
        body = answer()  # type: ignore[operator]
    except InputError as error:
        body = f'<p class="repsim-note">{escape(str(error))}</p>'
    return f'<h4 class="repsim-h3">{escape(title)}</h4>{body}'


def _families(table: pd.DataFrame, groups: Mapping[str, str], column: str | None) -> str:
    if not groups:
        raise InputError("Colour the models by a column with a few kinds, such as the family.")
    found = family_test(table, groups)
    says = "more alike" if found.p_value <= LEVEL else "not shown to be more alike"
    return (
        f"<p>Models of one {escape(str(column))} are {says} than those of two: effect {found.effect:.2f} "
        f"[{found.low:.2f}, {found.high:.2f}], {at_most(found.p_value, found.least_p)}.</p>"
        '<p class="repsim-note">Effect: 1 if every pair within is more alike than any pair between, 0 if groups say '
        f"nothing. Interval over {found.n_models} models; null: groups exchanged among models.</p>"
    )


def _outliers(table: pd.DataFrame) -> str:
    found = outliers(table)
    far = found[found.p_adjusted <= LEVEL]
    if far.empty:
        name, row = found.index[0], found.iloc[0]
        said = f"None. The farthest is {escape(str(name))}, p {row.p_adjusted:.2g}."
    else:
        said = "; ".join(f"{escape(str(n))}, p {row.p_adjusted:.2g}" for n, row in far.iterrows())
    return (
        f'<p>{said}</p><p class="repsim-note">p-values family-wise over {len(found)} models; null: one Gaussian cloud '
        "of models.</p>"
    )


def _agreement(tables: Mapping[str, pd.DataFrame]) -> str:
    if len(tables) < 2:
        raise InputError("Choose two measures or two texts to see whether they agree.")
    found = agreement(tables)
    lines = [
        f"<tr><td>{escape(row.table_a)}</td><td>{escape(row.table_b)}</td><td class='repsim-number'>{row.spearman:.2f} "
        f"[{row.low:.2f}, {row.high:.2f}]</td><td class='repsim-number'>{row.p_adjusted:.2g}</td></tr>"
        for _, row in found.iloc[:MOST_LINES].reset_index().iterrows()
    ]
    more = f"; {len(found) - MOST_LINES} more" if len(found) > MOST_LINES else ""
    return (
        f"<p>Mean rank correlation over pairs of models {found.spearman.mean():.2f}.</p>"
        '<table class="repsim-table"><thead><tr><th>table</th><th>and</th><th>Spearman</th><th>p</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
        f'<p class="repsim-note">Intervals over models; p family-wise, null: models exchanged (Mantel){more}.</p>'
    )
