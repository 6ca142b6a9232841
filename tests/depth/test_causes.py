"""What blocks come from: the truth is known, since massive values or stages were planted."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

import repsim_nb as rs
from repsim_nb.comparison.controls import Controls
from repsim_nb.depth import (
    block_score,
    blocks_in_models,
    blocks_without,
    claims_about_blocks,
    find_blocks,
    massive_makes_blocks,
    shared_boundaries,
)
from repsim_nb.errors import InputError
from tests.support.layers import massive, planted, smooth

FEW = {"n_null": 99, "n_halves": 12}
NORMS, COMPONENT = Controls(leave_out_norms=4.0), Controls(remove_components=1)
TAKEN = {"large norms": NORMS, "first component": COMPONENT}
DOCUMENTS = np.repeat(np.arange(30), 10)


def searched(acts, taken, **options):
    every = {"nothing": Controls()} | taken
    return {name: find_blocks(controls.applied(acts)[0][0], **options, **FEW) for name, controls in every.items()}


@pytest.mark.parametrize("layers", [None, [1, 2, 3, 4, 5, 6, 7]])
def test_blocks_without_gives_the_scores_of_find_blocks_and_their_jackknife(layers):
    acts, rows = massive(0, [3, 4, 5, 6])
    left = blocks_without(acts, TAKEN, layers=layers, groups=DOCUMENTS, n_random=1)
    assert left.rows_out.tolist() == [0, len(rows), 0]
    found = searched(acts, TAKEN, layers=layers)
    assert left.score.tolist() == pytest.approx([f.score for f in found.values()], abs=1e-9)
    assert left["drop"].tolist() == pytest.approx(left.score["nothing"] - left.score, abs=1e-12)

    kept = NORMS.applied(acts)[1]

    def drop(keep):
        scores = []
        for mask in (keep, keep & kept):
            asked = {k: acts[k][mask] for k in (layers or acts)}
            scores.append(block_score(rs.compare(asked).values))
        return scores[0] - scores[1]

    own = rs.uncertainty.jackknife(drop, DOCUMENTS, blocks=10)
    assert left.loc["large norms", ["drop", "drop_low", "drop_high"]].tolist() == pytest.approx(own, abs=1e-6)


def test_blocks_without_tells_massive_rows_from_random_ones_over_3_seeds():
    for seed in range(3):
        acts, rows = massive(seed, [3, 4, 5, 6])
        left = blocks_without(acts, {"large norms": NORMS}, groups=DOCUMENTS, seed=seed, n_random=19)
        line = left.loc["large norms"]
        assert line.rows_out == len(rows)
        assert line["drop"] > 0.8 * left.score["nothing"] > 5 * line.random_drop
        assert line.p_value == 1 / 20
        assert left.loc["nothing", ["random_drop", "p_value"]].tolist() == [0, 1]


def test_blocks_without_leaves_planted_stages_alone():
    acts = planted(0, (3, 4))
    left = blocks_without(acts, {"some rows": Controls(leave_out_norms=1.25)}, groups=DOCUMENTS, n_random=1)
    line = left.loc["some rows"]
    assert 3 < line.rows_out < 60
    assert abs(line["drop"]) < 0.1 * left.score["nothing"]
    claims = claims_about_blocks(searched(acts, {"some rows": Controls(leave_out_norms=1.25)}), left)
    assert claims.verdict.tolist() == ["holds", "does not hold"]


def test_claims_about_blocks_finds_what_was_planted():
    acts, _ = massive(1, list(range(3, 9)))
    left = blocks_without(acts, TAKEN, groups=DOCUMENTS, n_random=19)
    claims = claims_about_blocks(searched(acts, TAKEN), left)
    assert claims.index.tolist() == [
        "layers come in blocks",
        "without large norms, most of the blocks are gone",
        "without first component, most of the blocks are gone",
    ]
    assert claims.verdict.tolist() == ["holds"] * 3
    assert claims.null.iloc[0] == "smooth decay, p at most 0.01 at allowances 0.1 to 0.6"
    assert claims.null.iloc[1].startswith("6 random rows out: at most 0.0")
    assert claims.estimate.tolist() == [left.score["nothing"], *left["drop"].iloc[1:]]
    assert (claims.low < claims.estimate).all()
    assert (claims.estimate < claims.high).all()


def test_claims_about_blocks_explains_nothing_where_there_are_none():
    acts = smooth(0, 7)
    claims = claims_about_blocks(searched(acts, TAKEN), blocks_without(acts, TAKEN, groups=DOCUMENTS, n_random=1))
    assert claims.verdict.tolist() == ["does not hold", "nothing to explain", "nothing to explain"]
    alone = claims_about_blocks(searched(acts, {}), blocks_without(acts, {}, groups=DOCUMENTS))
    pd.testing.assert_frame_equal(alone, claims.iloc[:1])
    assert "less similarity across a boundary would be found with probability" in claims.null.iloc[0]


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (0.6, 0.9, 0.05, "holds"),
        (0.6, 0.9, 0.5, "cannot be decided"),
        (0.1, 0.4, 0.05, "in part"),
        (0.1, 0.4, 0.5, "does not hold"),
        (-0.2, 0.4, 0.05, "does not hold"),
        (0.2, 0.9, 0.05, "cannot be decided"),
    ],
)
def test_claims_about_blocks_judges_by_the_interval_and_by_random_rows(low, high, p, verdict):
    acts, _ = massive(1, list(range(3, 9)))
    found = searched(acts, {"rows": NORMS})
    left = blocks_without(acts, {"rows": NORMS}, groups=DOCUMENTS, n_random=1)
    left.loc["nothing", "score"] = 1.0
    left.loc["rows", ["drop_low", "drop_high", "p_value"]] = low, high, p
    assert claims_about_blocks(found, left).verdict.iloc[1] == verdict


@pytest.fixture(scope="module")
def blocked():
    return find_blocks(planted(0, (3, 4)), **FEW)


@pytest.fixture(scope="module")
def unblocked():
    return find_blocks(smooth(0, 7), **FEW)


def powers(*values):
    table = pd.DataFrame({"power": values}, index=[0.3, 0.5][: len(values)])
    return table.rename_axis("strength")


def test_blocks_in_models_holds_only_where_all_have_blocks_at_every_allowance(blocked, unblocked):
    both = blocks_in_models({"a": blocked, "b": blocked}, {"a": powers(1.0), "b": powers(1.0)})
    assert both["verdict"] == "holds"
    assert both["estimate"] == "in 2 of 2 models at every allowance, in 2 at some; smallest p at most 0.01"
    mixed = blocks_in_models({"a": blocked, "b": unblocked}, {"a": powers(1.0), "b": powers(0.5, 0.9)})
    assert mixed["verdict"] == "cannot be told"
    assert "50% less similarity across a boundary would be found with probability 0.90" in mixed["estimate"]
    strict = blocks_in_models({"a": blocked}, {"a": powers(0.0)}, level=0.001)  # below the smallest p-value
    assert strict["verdict"] == "cannot be told"


def test_blocks_in_models_says_that_there_are_none_only_where_they_would_be_found(unblocked):
    assert blocks_in_models({"a": unblocked}, {"a": powers(0.8)})["verdict"] == "does not hold"
    weak = blocks_in_models({"a": unblocked, "b": unblocked}, {"a": powers(0.2, 1.0), "b": powers(0.1, 0.7)})
    assert weak["verdict"] == "cannot be told"
    assert weak["estimate"].endswith(
        "blocks with 50% less similarity across a boundary would be found with probability 0.70 "
        "in the model where that is least likely"
    )
    assert blocks_in_models({}, {})["verdict"] == "cannot be told"
    with pytest.raises(InputError, match="expected the same, in order"):
        blocks_in_models({"a": unblocked}, {})


@pytest.mark.parametrize(
    ("p", "massive", "verdict"),
    [
        ([[0.01, 0.4, 0.01], [0.01, 0.01, 0.4]], [True, False], "holds"),
        ([[0.01, 0.4, 0.01], [0.01, 0.01, 0.01]], [True, False], "cannot be told"),
        ([[0.01, 0.01, 0.01], [0.01, 0.01, 0.01]], [True, True], "does not hold"),
        ([[0.01, 0.4, 0.4], [0.01, 0.4, 0.4]], [False, False], "does not hold"),
        ([[0.06, 0.4, 0.4], [0.9, 0.4, 0.4]], [True, True], "cannot be told"),  # no blocks to explain
    ],
)
def test_massive_makes_blocks_judges_models_with_blocks_alone(p, massive, verdict):
    table = pd.DataFrame(p, columns=["as it is", "large norms out", "first component out"])
    assert massive_makes_blocks(table, massive)["verdict"] == verdict


def test_shared_boundaries_counts_all_placements():
    one, other = (find_blocks(planted(0, sizes), **FEW) for sizes in ((2, 3, 3), (2, 4, 2)))
    places = list(one.boundaries.index), list(other.boundaries.index)
    assert places == ([2, 5], [2, 6])
    random = [len(set(places[0]) & set(chosen)) for chosen in combinations(range(1, 8), 2)]
    expected = {"shared": 1, "a": 2, "b": 2, "p_value": np.mean([shared >= 1 for shared in random])}
    assert shared_boundaries(one, other) == pytest.approx(expected)
    with pytest.raises(InputError, match="expected the same layers"):
        shared_boundaries(one, find_blocks(planted(0, (3, 4)), **FEW))


def test_blocks_without_and_claims_say_what_they_expect():
    acts = smooth(0, 5)
    with pytest.raises(InputError, match="expected no name 'nothing'"):
        blocks_without(acts, {"nothing": NORMS})
    with pytest.raises(InputError, match="n_random=0"):
        blocks_without(acts, {}, n_random=0)
    with pytest.raises(InputError, match=r"shape \(3, 3\) has no blocks"):
        blocks_without(acts, {}, layers=[1, 2, 3])
    with pytest.raises(InputError, match="expected the same, in order"):
        claims_about_blocks(searched(acts, {}), blocks_without(acts, {"large norms": NORMS}, n_random=1))
