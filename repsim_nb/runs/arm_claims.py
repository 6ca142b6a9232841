"""Claims about groups of models in the arms of an experiment, over all middle layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repsim_nb.runs.claims import FAILS, HOLDS, OPEN, Claim
from repsim_nb.system.p_value import LEVEL, at_most

if TYPE_CHECKING:
    import pandas as pd


def groups_claim(claim: str, test: pd.DataFrame, spread: pd.DataFrame, least: float) -> Claim:
    """Judge a claim that two groups of models differ in the middle layers, all but the first and the last.

    Parameters
    ----------
    claim
        As in `Claim`.
    test
        Result of `groups.group_test`.
    spread
        Result of `groups.dispersion_test` for the same groups: a difference in spread raises the effect too.
    least
        The smallest p-value of the group test.

    Returns
    -------
    Claim
        "holds" if at every middle layer the interval lies above 0, p <= 0.05 over layers, and the groups do not differ
        in spread (p > 0.05); "does not hold" if every interval lies below 0; otherwise "cannot be told".
    """
    middle, beside = test.iloc[1:-1], spread.iloc[1:-1]
    words = [
        f"layer {layer} {line.effect:+.3f} [{line.low:+.3f}, {line.high:+.3f}], {at_most(line.p_adjusted, least)} "
        f"(spread: p {apart:.2g})"
        for (layer, line), apart in zip(middle.iterrows(), beside.p_adjusted, strict=True)
    ]
    alike = (beside.p_adjusted > LEVEL).all()
    found = ((middle.p_adjusted <= LEVEL) & (middle.low > 0)).all() and alike and len(middle)
    verdict = HOLDS if found else FAILS if len(middle) and (middle.high < 0).all() else OPEN
    over = "models (interval of each layer; p over all layers, from exchanged models)"
    return Claim(claim, "; ".join(words) or "no middle layer", over, "0", verdict)


def arms_claim(claim: str, difference: pd.DataFrame, level: float) -> Claim:
    """Judge a claim that two groups differ more in the first arm than in the second, at a middle layer.

    Parameters
    ----------
    claim
        As in `Claim`.
    difference
        Result of `groups.arm_difference`, with intervals that cover all middle layers together.
    level
        Coverage of each interval, as given to `groups.arm_difference`.

    Returns
    -------
    Claim
        "holds" if the interval of a middle layer lies above 0, "does not hold" if all lie below 0, otherwise "cannot be
        told".
    """
    middle = difference.iloc[1:-1]
    words = [f"layer {i} {line.difference:+.3f} [{line.low:+.3f}, {line.high:+.3f}]" for i, line in middle.iterrows()]
    verdict = HOLDS if (middle.low > 0).any() else FAILS if len(middle) and (middle.high < 0).all() else OPEN
    return Claim(claim, "; ".join(words) or "no middle layer", f"models ({level:.1%} at each layer)", "0", verdict)
