"""Claims judged by joint tests over measures and layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from repsim_nb.errors import InputError
from repsim_nb.runs.claims import HOLDS, OPEN, Claim
from repsim_nb.system.p_value import LEVEL, at_most

if TYPE_CHECKING:
    import pandas as pd


def jointly(
    claim: str,
    tests: Mapping[str, pd.DataFrame],
    over: str = "labels of these models",
    null: str = "permuted labels",
    by_draw: list[pd.DataFrame] | None = None,
) -> Claim:
    """Judge a claim by one or more joint tests, all of which have to show it.

    Parameters
    ----------
    claim, over, null
        As in `Claim`.
    tests
        What is tested -> result of `groups.joint_test`.
    by_draw
        The same test on single draws of rows, whose p-values are quoted and not judged.

    Returns
    -------
    Claim
        "holds" if the maximum and the mean have p <= 0.05 in every test, else "cannot be told": a large p-value is no
        evidence that there is no difference. The estimate quotes the larger p-value of the two for each test, and for
        a single test both values and where the maximum is.

    Raises
    ------
    InputError
        If there is no test.

    Notes
    -----
    The larger of several valid p-values is valid for the claim that all hold, whatever their correlations
    (intersection-union), so nothing is corrected.

    Examples
    --------
    >>> import pandas as pd
    >>> columns, statistics = ["value", "p_value", "least_p"], ["maximum", "mean"]
    >>> table = pd.DataFrame([[3.1, 0.04, 0.0001], [2.0, 0.02, 0.0001]], statistics, columns)
    >>> jointly("Groups differ", {"ten each": table}).estimate
    'largest effect 3.1 SD, p 0.04; mean effect 2 SD, p 0.02'
    >>> jointly("Groups differ", {"ten each": table, "eight each": table.assign(p_value=0.2)}).verdict
    'cannot be told'

    References
    ----------
    Berger 1982, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24:295.
    """
    if not tests:
        raise InputError(f"{claim!r} has no test.")
    if len(tests) == 1:
        table = next(iter(tests.values()))
        quoted = [_quoted(table, statistic) for statistic in ("maximum", "mean")]
        where = table.attrs.get("where")
        place = f" ({where[0]}, layer {where[1]})" if where else ""
        words = f"largest effect {quoted[0]}{place}; mean effect {quoted[1]}"
    else:
        words = ", ".join(f"{name}: {at_most(*_larger(table))}" for name, table in tests.items())
    if by_draw:
        p = [_larger(table)[0] for table in by_draw]
        words += f" (single draws of rows: p {min(p):.2g} to {max(p):.2g})"
    shown = all(_larger(table)[0] <= LEVEL for table in tests.values())
    return Claim(claim, words, over, null, HOLDS if shown else OPEN)


def _quoted(table: pd.DataFrame, statistic: str) -> str:
    value, p_value, least = (float(table[name][statistic]) for name in ("value", "p_value", "least_p"))
    return f"{value:.2g} SD, {at_most(p_value, least)}"


def _larger(table: pd.DataFrame) -> tuple[float, float]:
    """The larger p-value of both statistics, and the smallest that its permutations can give."""
    place = int(table.p_value.to_numpy().argmax())
    return float(table.p_value.iloc[place]), float(table.least_p.iloc[place])
