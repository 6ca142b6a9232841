"""Claims of the notebooks, each judged by the interval of its estimate against a stated null."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repsim_nb.errors import InputError, unknown
from repsim_nb.system.p_value import LEVEL, at_most

if TYPE_CHECKING:
    import pandas as pd

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


@dataclass(frozen=True)
class Claim:
    """A claim, its estimate, what its interval is over, its null and the verdict.

    Attributes
    ----------
    claim
        What is claimed, one sentence.
    estimate
        The estimate in words, with units and interval or p-value.
    over
        What the interval or the test lets vary, such as "documents and models".
    null
        The value or situation that would show nothing.
    verdict
        "holds", "does not hold" or "cannot be told".
    """

    claim: str
    estimate: str
    over: str
    null: str
    verdict: str


def judged(
    claim: str,
    estimate: tuple[float, float, float],
    over: str,
    null: float = 0.0,
    expected: str = "above",
    units: str = "",
    p_value: float | None = None,
    least: float = 0.0,
) -> Claim:
    """Judge a claim that a number is above (or below) its null by the number's interval, and by a test if there is one.

    Parameters
    ----------
    claim, over
        As in `Claim`.
    estimate
        Value, low and high end of its interval. Infinite ends say that there is no interval: the verdict is then
        "cannot be told".
    null
        The value that the claim says is exceeded.
    expected
        "above" or "below": the side of the null on which the claim holds.
    units
        Units of the estimate, such as "nats per token".
    p_value, least
        A test of the same null, and the smallest p-value that it can give; None means that the interval alone decides.

    Returns
    -------
    Claim
        "holds" if the whole interval lies on the expected side, "does not hold" if all of it lies on the other,
        "cannot be told" otherwise, or if the p-value is above 0.05.

    Raises
    ------
    InputError
        If a number is missing (NaN), low is above high, or `expected` is neither side.

    Examples
    --------
    >>> judged("Twice is more than once", (2.0, 1.8, 2.2), "repetitions", null=1.0, units="times")
    Claim(claim='Twice is more than once', estimate='+2.000 times [+1.800, +2.200]', over='repetitions', null='1', \
verdict='holds')
    """
    value, low, high = estimate
    if expected not in ("above", "below"):
        raise unknown("side", expected, ("above", "below"))
    if any(map(math.isnan, (value, low, high, null, p_value or 0))) or low > high:
        raise InputError(f"{claim!r} has the estimate {value} [{low}, {high}] and the null {null}; expected numbers.")
    beyond, short = (low > null, high < null) if expected == "above" else (high < null, low > null)
    interval = f"[{low:+.3f}, {high:+.3f}]" if math.isfinite(high - low) else "(no interval)"
    words = " ".join(filter(None, (f"{value:+.3f}", units, interval)))
    verdict = HOLDS if beyond else FAILS if short else OPEN
    if p_value is not None:
        words, verdict = f"{words}, {at_most(p_value, least)}", verdict if p_value <= LEVEL else OPEN
    return Claim(claim, words, over, f"{null:.3g}", verdict)


def claims_table(claims: Iterable[Claim]) -> pd.DataFrame:
    """List claims, one row each: claim (index), estimate, over, null, verdict."""
    import pandas as pd

    columns = ["claim", "estimate", "over", "null", "verdict"]
    return pd.DataFrame([[getattr(c, name) for name in columns] for c in claims], columns=columns).set_index("claim")
