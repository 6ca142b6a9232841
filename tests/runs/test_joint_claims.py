"""A claim by joint tests holds only where each statistic of each test shows it."""

import pandas as pd
import pytest

from repsim_nb.errors import InputError
from repsim_nb.runs import jointly


def result(maximum, mean, least=0.001):
    """A result of `joint_test` with these p-values."""
    lines = [[3.0, maximum, least], [2.0, mean, least]]
    return pd.DataFrame(lines, index=["maximum", "mean"], columns=["value", "p_value", "least_p"])


@pytest.mark.parametrize(
    ("p_values", "verdict"),
    [
        ([(0.04, 0.02)], "holds"),
        ([(0.05, 0.05)], "holds"),
        ([(0.04, 0.06)], "cannot be told"),
        ([(0.001, 0.9)], "cannot be told"),
        ([(0.9, 0.001)], "cannot be told"),
        ([(0.04, 0.02), (0.03, 0.01)], "holds"),
        ([(0.04, 0.02), (0.03, 0.06)], "cannot be told"),
    ],
)
def test_jointly_needs_both_statistics_of_every_test(p_values, verdict):
    tests = {str(i): result(*p) for i, p in enumerate(p_values)}
    assert jointly("a claim", tests).verdict == verdict


def test_jointly_quotes_the_larger_p_value_of_each_test():
    several = jointly("a claim", {"five": result(0.3, 0.01), "ten": result(0.001, 0.001)})
    assert several.estimate == "five: p 0.3, ten: p at most 0.001"
    assert several.null == "permuted labels"
    drawn = jointly("a claim", {"ten": result(0.04, 0.02)}, by_draw=[result(0.2, 0.01), result(0.01, 0.03)])
    assert drawn.estimate.endswith("(single draws of rows: p 0.03 to 0.2)")
    table = result(0.04, 0.02)
    table.attrs["where"] = ("cka", 3)
    assert (
        jointly("a claim", {"ten": table}).estimate
        == "largest effect 3 SD, p 0.04 (cka, layer 3); mean effect 2 SD, p 0.02"
    )
    assert drawn.verdict == "holds"  # judged by the averaged rows, as said beforehand


def test_jointly_needs_a_test():
    with pytest.raises(InputError, match="no test"):
        jointly("a claim", {})
