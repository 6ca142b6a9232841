"""Relevance against hand-computed cases and scikit-learn, and means over queries whose intervals cover."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.metrics import ndcg_score

import repsim_nb as rs
from repsim_nb.retrieval import overlap, relevance, summary


def test_relevance_gives_hand_computed_values():
    lists = {"q": ["c", "a", "x", "b"]}
    scores = relevance(lists, {"q": {"a": 3, "b": 1, "c": 0, "d": 2}}, (1, 2, 4))
    ideal = [3, 3 + 2 / np.log2(3), 3 + 2 / np.log2(3) + 1 / 2]
    np.testing.assert_allclose(
        scores["ndcg"].values[0], np.array([0, 3 / np.log2(3), 3 / np.log2(3) + 1 / np.log2(5)]) / ideal
    )
    np.testing.assert_allclose(scores["recall"].values[0], [0, 1 / 3, 2 / 3])
    np.testing.assert_allclose(scores["judged"].values[0], [1, 1, 3 / 4])
    exponential = relevance(lists, {"q": {"a": 3, "b": 1, "c": 0, "d": 2}}, 2, "ndcg", gain="exponential")
    assert exponential["ndcg"].item() == pytest.approx((7 / np.log2(3)) / (7 + 3 / np.log2(3)))


@pytest.mark.parametrize("k", [1, 3, 10, 20])
def test_relevance_gives_the_ndcg_of_scikit_learn(k):
    rng = np.random.default_rng(k)
    gains = rng.integers(0, 4, size=(30, 20))
    gains[:, 0] = np.maximum(gains[:, 0], 1)
    ranking = rng.random((30, 20))
    lists = {q: np.argsort(-ranking[q]).tolist() for q in range(30)}
    judgements = {q: dict(enumerate(gains[q].tolist())) for q in range(30)}
    ours = relevance(lists, judgements, k)["ndcg"].values[:, 0]
    theirs = [ndcg_score(gains[q : q + 1], ranking[q : q + 1], k=k) for q in range(30)]
    np.testing.assert_allclose(ours, theirs)


def test_relevance_is_1_for_the_best_order_and_0_without_relevant_passages():
    judgements = {1: {5: 2, 6: 1, 7: 1}}
    best, none = (relevance({1: ids}, judgements, 3) for ids in ([5, 7, 6], [1, 2, 3]))
    assert (best["ndcg"].item(), best["recall"].item(), best["judged"].item()) == (pytest.approx(1), 1, 1)
    assert (none["ndcg"].item(), none["recall"].item(), none["judged"].item()) == (0, 0, 0)


def test_relevance_counts_a_short_list_as_one_without_more_hits():
    scores = relevance({1: [5], 2: [8, 9, 7]}, {1: {5: 1, 6: 1}, 2: {7: 1}}, 3)
    assert scores["recall"].values.ravel().tolist() == [0.5, 1]
    assert scores["ndcg"].values[0, 0] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert scores["judged"].values.ravel().tolist() == [1, pytest.approx(1 / 3)]


def test_relevance_takes_judgements_as_a_table():
    table = pd.DataFrame({"query": ["q", "q", "r"], "id": ["a", "b", "a"], "gain": [1, 0, 2]})
    lists = {"r": ["a", "b"], "q": ["b", "a"]}
    expected = relevance(lists, {"q": {"a": 1, "b": 0}, "r": {"a": 2}}, (1, 2))
    assert relevance(lists, table, (1, 2)).identical(expected)
    only = relevance(lists, table[table["query"] == "q"], 2, queries="common")
    assert only["query"].values.tolist() == ["q"]


JUDGED = pd.DataFrame({"query": [1, 1], "id": [5, 6], "gain": [1, 0]})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"judgements": {1: {5: 0}}}, "query 1 has no relevant passage"),
        ({"judgements": {1: {5: -1, 6: 1}}}, "gain of 5 for query 1 is -1"),
        ({"judgements": {1: {5: "high"}}}, "is 'high'"),
        ({"judgements": {1: [5]}}, "judgements is a dict; expected"),
        ({"judgements": {}}, "no queries"),
        ({"judgements": JUDGED.drop(columns="gain")}, "lack the columns gain"),
        ({"judgements": JUDGED.assign(id=5)}, "query 1 has 5 twice|query np.int64.1. has np.int64.5. twice"),
        ({"judgements": JUDGED.assign(gain=[1, np.nan])}, "missing value"),
        ({"judgements": {1: {"5": 1}}}, "ids in lists are like 5 and in judgements like '5'"),
        ({"judgements": {2: {5: 1}}}, "1 is in lists but not in judgements"),
        ({"k": 3}, "no list has more than 2"),
        ({"measures": "ncdg"}, "Did you mean 'ndcg'"),
        ({"measures": ()}, "expected at least one"),
        ({"gain": "log"}, "Unknown gain 'log'"),
    ],
)
def test_relevance_says_what_is_wrong(given, message):
    with pytest.raises(rs.InputError, match=message):
        relevance(**{"lists": {1: [5, 6]}, "judgements": JUDGED, "k": 1} | given)


def scores_of(values):
    """Values (queries, replicates) as scores; each replicate stands at a depth of its own."""
    n, times = values.shape
    return xr.Dataset({"score": (("query", "k"), values)}, coords={"query": np.arange(n), "k": np.arange(1, times + 1)})


def draw(kind, rng, shape):
    if kind == "rare":
        return (rng.random(shape) < 0.05).astype(float), 0.05
    if kind == "often":
        return (rng.random(shape) < 0.6).astype(float), 0.6
    if kind == "overlap at 3":
        return rng.binomial(3, rng.beta(0.5, 2, size=shape)) / 3, 0.2
    return rng.beta(8, 4, size=shape), 8 / 12


@pytest.mark.parametrize("n", [10, 25, 200])
@pytest.mark.parametrize("kind", ["rare", "often", "overlap at 3", "narrow"])
def test_summary_covers_the_mean_over_all_queries(kind, n):
    values, truth = draw(kind, np.random.default_rng(n), (n, 1500))
    table = summary(scores_of(values))
    covered = ((table["low"] <= truth) & (truth <= table["high"])).mean()
    assert covered > 0.925
    if kind == "narrow" and n > 10:
        assert covered < 0.97  # and is no wider than it has to be


def test_summary_of_differences_covers_less_where_few_queries_differ():
    rng = np.random.default_rng(1)
    coverage = {}
    for share in (0.05, 0.2):
        table = summary(scores_of((rng.random((100, 1500)) < share).astype(float)), bounds=(-1, 1))
        coverage[share] = ((table["low"] <= share) & (share <= table["high"])).mean()
    assert 0.86 < coverage[0.05] < 0.92  # as the documentation says
    assert coverage[0.2] > 0.925


def test_summary_of_zeros_and_ones_is_close_to_the_interval_of_wilson():
    from scipy.stats import binomtest

    values = np.repeat([1.0, 0.0], [300, 700])[:, None]
    expected = binomtest(300, 1000).proportion_ci(method="wilson")
    line = summary(scores_of(values)).iloc[0]
    assert (line["low"], line["high"]) == pytest.approx(tuple(expected), abs=2e-4)


def test_summary_of_equal_values_does_not_claim_certainty():
    line = summary(scores_of(np.zeros((25, 1)))).iloc[0]
    assert (line["mean"], line["low"]) == (0, 0)
    assert line["high"] == pytest.approx(1 - 0.025 ** (1 / 25))  # Clopper and Pearson, none of 25
    line = summary(scores_of(np.full((25, 1), 0.5))).iloc[0]
    assert line["low"] < 0.5 < line["high"]


def test_summary_of_differences_turns_round_with_their_sign():
    judged = {q: {q: 1} for q in range(8)}
    a = relevance({q: [q, 9] for q in range(8)}, judged, (1, 2))
    b = relevance({q: [9, q] if q % 3 else [q, 9] for q in range(8)}, judged, (1, 2))
    there, back = summary(a - b, bounds=(-1, 1)), summary(b - a, bounds=(-1, 1))
    np.testing.assert_allclose(there[["mean", "low", "high"]], -back[["mean", "high", "low"]].to_numpy(), atol=1e-12)
    assert there.loc[("ndcg", 1), "low"] > 0
    assert there.loc[("ndcg", 2), "n_queries"] == 8


def test_summary_has_a_line_for_each_measure_and_depth():
    lists = {q: [q, q + 1, q + 2] for q in range(6)}
    table = summary(overlap(lists, lists, (1, 3), ("jaccard", "overlap")))
    assert table.index.tolist() == [("jaccard", 1), ("jaccard", 3), ("overlap", 1), ("overlap", 3)]
    assert (table["mean"] == 1).all()
    assert (table["high"] == 1).all()


@pytest.mark.parametrize(
    ("values", "given", "message"),
    [
        ([[0.5]], {}, "score has 1 queries"),
        ([[0.5], [np.nan]], {}, "missing value"),
        ([[0.5], [-0.5]], {}, r"outside bounds=\(0.0, 1.0\).*bounds=\(-1, 1\)"),
        ([[0.5], [0.2]], {"level": 95}, "level=95"),
        ([[0.5], [0.2]], {"bounds": (1, 0)}, "expected the smaller bound first"),
    ],
)
def test_summary_says_what_is_wrong(values, given, message):
    with pytest.raises(rs.InputError, match=message):
        summary(scores_of(np.array(values)), **given)
