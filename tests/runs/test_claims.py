"""Verdicts follow from the interval and the null alone."""

from __future__ import annotations

from math import inf, nan

import pytest

from repsim_nb.errors import InputError
from repsim_nb.runs.claims import Claim, at_most, claims_table, judged


@pytest.mark.parametrize(
    ("estimate", "null", "expected", "verdict"),
    [
        ((0.3, 0.1, 0.5), 0.0, "above", "holds"),
        ((0.3, -0.1, 0.7), 0.0, "above", "cannot be told"),
        ((-0.3, -0.5, -0.1), 0.0, "above", "does not hold"),
        ((-0.3, -0.5, -0.1), 0.0, "below", "holds"),
        ((0.3, 0.1, 0.5), 0.0, "below", "does not hold"),
        ((0.3, 0.1, 0.5), 0.2, "above", "cannot be told"),
        ((0.3, 0.1, 0.5), 0.1, "above", "cannot be told"),  # touching the null is not beyond it
        ((0.3, -inf, inf), 0.0, "above", "cannot be told"),
    ],
)
def test_judged_holds_only_where_the_whole_interval_is_beyond_the_null(
    estimate: tuple[float, float, float], null: float, expected: str, verdict: str
) -> None:
    assert judged("a claim", estimate, "models", null, expected).verdict == verdict


def test_judged_says_that_there_is_no_interval() -> None:
    assert judged("a claim", (0.3, -inf, inf), "models", units="nats").estimate == "+0.300 nats (no interval)"


@pytest.mark.parametrize("estimate", [(nan, 0.0, 1.0), (0.5, nan, 1.0), (0.5, 1.0, 0.0)])
def test_judged_refuses_what_is_no_interval(estimate: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="expected numbers"):
        judged("a claim", estimate, "models")


def test_judged_refuses_another_side() -> None:
    with pytest.raises(InputError, match="above"):
        judged("a claim", (0.5, 0.0, 1.0), "models", expected="abov")


@pytest.mark.parametrize(("p_value", "verdict"), [(0.05, "holds"), (0.051, "cannot be told")])
def test_judged_holds_only_where_the_test_agrees_with_the_interval(p_value: float, verdict: str) -> None:
    found = judged("a claim", (0.3, 0.1, 0.5), "models", p_value=p_value, least=0.05)
    assert found.verdict == verdict
    assert found.estimate.endswith("p at most 0.05" if p_value == 0.05 else "p 0.051")


def test_judged_refuses_a_missing_p_value() -> None:
    with pytest.raises(InputError, match="expected numbers"):
        judged("a claim", (0.3, 0.1, 0.5), "models", p_value=nan)


def test_at_most_marks_the_resolution_limit() -> None:
    assert at_most(1 / 300, 1 / 300) == "p at most 0.0033"
    assert at_most(2 / 300, 1 / 300) == "p 0.0067"


def test_claims_table_has_a_row_for_each_claim_in_order() -> None:
    claims = [
        judged("one", (1.0, 0.5, 1.5), "models"),
        Claim("two", "p 0.5", "labels", "exchanged labels", "cannot be told"),
    ]
    table = claims_table(claims)
    assert table.index.tolist() == ["one", "two"]
    assert table.loc["one", "verdict"] == "holds"
    assert table.loc["two", "null"] == "exchanged labels"
