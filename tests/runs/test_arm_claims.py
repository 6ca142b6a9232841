"""Claims about arms hold only where every middle layer says so, and only of a place, not of a spread."""

from __future__ import annotations

import pandas as pd
import pytest

from repsim_nb.runs.arm_claims import arms_claim, groups_claim

AT_ENDS = {"effect": 9.0, "low": 8.0, "high": 10.0, "p_adjusted": 0.01}


def table(*middle: tuple[float, float, float]) -> pd.DataFrame:
    lines = [{"effect": (low + high) / 2, "low": low, "high": high, "p_adjusted": p} for low, high, p in middle]
    return pd.DataFrame([AT_ENDS, *lines, AT_ENDS])


def spread(*p: float) -> pd.DataFrame:
    return pd.DataFrame({"p_adjusted": [0.001, *p, 0.001]})


@pytest.mark.parametrize(
    ("middle", "spreads", "verdict"),
    [
        ([(0.1, 0.3, 0.02), (0.2, 0.4, 0.05)], (0.5, 0.06), "holds"),
        ([(0.1, 0.3, 0.02), (-0.1, 0.4, 0.02)], (0.5, 0.5), "cannot be told"),  # one interval over 0
        ([(0.1, 0.3, 0.02), (0.2, 0.4, 0.06)], (0.5, 0.5), "cannot be told"),  # one p above the level
        ([(0.1, 0.3, 0.02), (0.2, 0.4, 0.02)], (0.5, 0.05), "cannot be told"),  # spread explains it too
        ([(-0.3, -0.1, 1.0), (-0.4, -0.2, 1.0)], (0.5, 0.5), "does not hold"),
        ([], (), "cannot be told"),
    ],
)
def test_groups_claim_holds_only_at_every_middle_layer_without_a_difference_in_spread(
    middle: list[tuple[float, float, float]], spreads: tuple[float, ...], verdict: str
) -> None:
    assert groups_claim("a claim", table(*middle), spread(*spreads), 0.02).verdict == verdict


def test_groups_claim_shows_all_middle_layers_and_no_other() -> None:
    words = groups_claim("a claim", table((0.1, 0.3, 0.02), (-0.1, 0.4, 0.3)), spread(0.5, 0.25), 0.02).estimate
    assert words == (
        "layer 1 +0.200 [+0.100, +0.300], p at most 0.02 (spread: p 0.5); "
        "layer 2 +0.150 [-0.100, +0.400], p 0.3 (spread: p 0.25)"
    )


@pytest.mark.parametrize(
    ("middle", "verdict"),
    [
        ([(-0.1, 0.3), (0.2, 0.4)], "holds"),
        ([(-0.1, 0.3), (-0.2, 0.4)], "cannot be told"),
        ([(-0.3, -0.1), (-0.2, 0.4)], "cannot be told"),
        ([(-0.3, -0.1), (-0.4, -0.2)], "does not hold"),
        ([], "cannot be told"),
    ],
)
def test_arms_claim_judges_by_the_intervals_of_middle_layers(middle: list[tuple[float, float]], verdict: str) -> None:
    lines = [(low, high, (low + high) / 2) for low, high in [(5.0, 6.0), *middle, (5.0, 6.0)]]
    assert arms_claim("a claim", pd.DataFrame(lines, columns=["low", "high", "difference"]), 0.98).verdict == verdict
