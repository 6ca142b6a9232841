"""Agreement of random lists, against random lists."""

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.retrieval import chance, overlap


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_chance_is_the_mean_of_random_lists(p):
    rng = np.random.default_rng(0)
    a, b = ({q: rng.permutation(12)[:6].tolist() for q in range(4000)} for _ in range(2))
    scores = overlap(a, b, (1, 3, 6), p=p)
    expected = chance(12, (1, 3, 6), p=p)
    for name, values in scores.data_vars.items():
        error = 4 * values.std("query") / np.sqrt(4000)
        assert (abs(values.mean("query") - expected[name].to_numpy()) < error + 1e-12).all()


def test_chance_gives_closed_forms():
    assert chance(50, (5, 50), "overlap").tolist() == [0.1, 1]
    assert chance(50, 50, ["jaccard", "rank_biased_overlap"]).index.tolist() == [
        ("jaccard", 50),
        ("rank_biased_overlap", 50),
    ]
    assert chance(50, 50, "jaccard").item() == pytest.approx(1)
    assert chance(4, 1).to_numpy() == pytest.approx([0.25] * 4)  # the first of 4 is the same


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": 11}, "no list has more than 10"),
        ({"measures": "jacard"}, "Did you mean 'jaccard'"),
        ({"p": 1}, "p=1; expected a number between 0 and 1"),
        ({"n": 3}, "no argument 'n'"),
    ],
)
def test_chance_says_what_is_wrong(given, message):
    with pytest.raises(rs.InputError, match=message):
        chance(**{"n_passages": 10} | given)
