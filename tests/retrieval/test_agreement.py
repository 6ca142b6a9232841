"""Agreement of lists: hand-computed cases, slow references from the definitions, identities, and the null."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import repsim_nb as rs
from repsim_nb.retrieval import exchange_test, most_different, overlap
from repsim_nb.retrieval.agreement import MEASURES


def slow_overlap(s, t, k):
    s, t = s[:k], t[:k]
    return len(set(s) & set(t)) / max(len(s), len(t))


def slow_jaccard(s, t, k):
    s, t = set(s[:k]), set(t[:k])
    return len(s & t) / len(s | t)


def slow_rank_similarity(s, t, k):
    """The sum of Caspari et al. over common items, in exact fractions."""
    s, t = s[:k], t[:k]
    common = [one for one in s if one in t]
    if not common:
        return 0.0
    total = Fraction(0)
    for one in common:
        r, q = s.index(one) + 1, t.index(one) + 1
        total += Fraction(2, (1 + abs(r - q)) * (r + q))
    return float(total / sum(Fraction(1, i) for i in range(1, len(common) + 1)))


def slow_rank_biased_overlap(s, t, k, p=0.9):
    """(1 - p) sum over all depths of p^(d - 1) times the agreement there, extrapolated below the ends of the lists.

    Webber et al. 2010, sections 4.3 and 4.4: below its end the shorter list goes on with the agreement that it had
    there, and below the end of the longer one the agreement stays as it is.
    """
    short, long = sorted((s[:k], t[:k]), key=len)
    at_end = len(set(short) & set(long[: len(short)])) / len(short)
    total = 0.0
    for d in range(1, 2000):
        reached = min(d, len(long))
        seen = len(set(short[:reached]) & set(long[:reached]))
        assumed = at_end * max(0, reached - len(short))
        total += (1 - p) * p ** (d - 1) * (seen + assumed) / reached
    return total


SLOW = {
    "overlap": slow_overlap,
    "jaccard": slow_jaccard,
    "rank_similarity": slow_rank_similarity,
    "rank_biased_overlap": slow_rank_biased_overlap,
}
RANKED = st.permutations(range(9)).flatmap(lambda ids: st.integers(1, 9).map(lambda n: ids[:n]))


def of(result, measure, query, k):
    return result[measure].sel(query=query, k=k).item()


def test_overlap_gives_hand_computed_values():
    a, b = {"q": ["x", "y", "z"]}, {"q": ["z", "y", "w"]}
    result = overlap(a, b, k=(1, 2, 3), p=0.9)
    assert result["overlap"].values.tolist() == [[0, 1 / 2, 2 / 3]]
    assert result["jaccard"].values.tolist() == [[0, 1 / 3, 2 / 4]]
    # y: 2 / (1 * 4); z: 2 / (3 * 4); H_1 = 1 and H_2 = 3/2
    assert result["rank_similarity"].values.tolist() == [
        [0, pytest.approx(1 / 2), pytest.approx((1 / 2 + 1 / 6) / 1.5)]
    ]
    # agreement 0, 1/2, 2/3, and 2/3 below: .1 (0 + .9 / 2 + .81 * 2/3) + .729 * 2/3
    assert of(result, "rank_biased_overlap", "q", 3) == pytest.approx(0.045 + 0.054 + 0.486)


def test_overlap_gives_the_rank_biased_overlap_of_a_reversed_list():
    # .1 (0 + .9 / 2 + .81) + .729
    assert overlap({1: [1, 2, 3]}, {1: [3, 2, 1]}, 3)["rank_biased_overlap"].item() == pytest.approx(0.855)


@given(RANKED, RANKED, st.sampled_from([0.5, 0.9, 0.98]))
@settings(max_examples=40, deadline=None)
def test_overlap_equals_the_definitions(s, t, p):
    depths = range(1, max(len(s), len(t)) + 1)
    result = overlap({0: s}, {0: t}, depths, p=p)
    for k in depths:
        for name, slow in SLOW.items():
            expected = slow(s, t, k, p) if name == "rank_biased_overlap" else slow(s, t, k)
            assert of(result, name, 0, k) == pytest.approx(expected, abs=1e-9), (name, k)


@given(st.lists(st.tuples(RANKED, RANKED), min_size=1, max_size=4), st.permutations(range(9)))
@settings(max_examples=30, deadline=None)
def test_overlap_is_symmetric_bounded_and_blind_to_names(pairs, names):
    a, b = ({i: pair[side] for i, pair in enumerate(pairs)} for side in (0, 1))
    depths = range(1, max(len(ids) for pair in pairs for ids in pair) + 1)
    result, swapped = overlap(a, b, depths), overlap(b, a, depths)
    renamed = overlap(*({i: [f"d{names[one]}" for one in ids] for i, ids in each.items()} for each in (a, b)), depths)
    for name in MEASURES:
        values = result[name].values
        assert values.min() >= 0
        assert values.max() <= 1 + 1e-12
        np.testing.assert_allclose(values, swapped[name], atol=1e-12)
        np.testing.assert_allclose(values, renamed[name], atol=1e-12)


@given(st.lists(RANKED, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_overlap_of_a_list_with_itself_is_1_and_of_disjoint_lists_0(lists):
    a = dict(enumerate(lists))
    other = {i: [one + 100 for one in ids] for i, ids in a.items()}
    depths = range(1, max(map(len, lists)) + 1)
    same, disjoint = overlap(a, a, depths), overlap(a, other, depths)
    for name in MEASURES:
        np.testing.assert_allclose(same[name], 1, atol=1e-12)
        assert not disjoint[name].values.any()


def test_overlap_counts_a_short_list_with_the_items_that_it_has():
    result = overlap({1: [1, 2], 2: [1, 2]}, {1: [1, 2], 2: [1, 2, 3, 4]}, 4)
    assert result["overlap"].values.ravel().tolist() == [1, 0.5]
    assert result["length_a"].values.tolist() == [2, 2]
    assert result["length_b"].values.tolist() == [2, 4]


def test_overlap_labels_queries_depths_and_what_was_left_out():
    result = overlap({"x": [1, 2], "y": [3, 4]}, {"z": [1, 2], "y": [4, 3]}, (2, 1), "jaccard", queries="common")
    assert dict(result.sizes) == {"query": 1, "k": 2}
    assert result["k"].values.tolist() == [2, 1]
    assert result["jaccard"].values.tolist() == [[1, 0]]
    assert result.attrs == {"p": 0.9, "left_out": 2}


def test_overlap_takes_tables_mappings_and_searches_in_one_call():
    rng = np.random.default_rng(0)
    q, p = rng.normal(size=(6, 5)), rng.normal(size=(30, 5))
    found = rs.retrieval.search(q, p, 10)
    mapping = dict(enumerate(found["id"].values.tolist()))
    table = found["id"].to_dataframe().reset_index()
    for other in (mapping, table):
        assert (overlap(found, other, 10).to_dataframe()[list(MEASURES)] > 1 - 1e-12).all(axis=None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": 4}, "k=4, but no list has more than 3 ids"),
        ({"k": ()}, "expected whole numbers from 1"),
        ({"k": (1, 1)}, "has a value twice"),
        ({"k": 0}, "expected whole numbers from 1"),
        ({"k": 2.0}, "expected whole numbers from 1"),
        ({"measures": "jacard"}, "Did you mean 'jaccard'"),
        ({"measures": ()}, "expected at least one"),
        ({"p": 1.0}, "p=1.0; expected a number between 0 and 1"),
        ({"persistence": 0.5}, "no argument 'persistence'"),
    ],
)
def test_overlap_says_what_is_wrong(given, message):
    with pytest.raises(rs.InputError, match=message):
        overlap(**{"a": {1: [1, 2, 3]}, "b": {1: [1, 2, 3]}, "k": 1} | given)


def test_exchange_test_has_the_mean_over_exchanged_queries_as_its_null():
    rng = np.random.default_rng(1)
    a, b = ({q: rng.permutation(12)[:6].tolist() for q in range(5)} for _ in range(2))
    table = exchange_test(a, b, (2, 6), n_permutations=4000)
    for (name, k), line in table.iterrows():
        every = np.array([[SLOW[name](s, t, k) for t in b.values()] for s in a.values()])
        assert line["mean"] == pytest.approx(np.trace(every) / 5)
        assert line["null_mean"] == pytest.approx(every[~np.eye(5, dtype=bool)].mean(), abs=0.01)


def test_exchange_test_keeps_its_level_for_unrelated_lists():
    rng = np.random.default_rng(2)
    p_values = []
    for seed in range(300):
        a, b = ({q: rng.permutation(40)[:10].tolist() for q in range(8)} for _ in range(2))
        p_values.append(exchange_test(a, b, 10, "overlap", n_permutations=19, seed=seed)["p_value"].item())
    rejected = np.mean(np.array(p_values) <= 0.1)
    assert rejected < 0.1 + 3 * math.sqrt(0.1 * 0.9 / 300)


def test_exchange_test_finds_agreement_by_query_and_none_in_popular_items():
    popular = {q: [1, 2, 3] for q in range(10)}
    line = exchange_test(popular, popular, 3, "jaccard", n_permutations=99).iloc[0]
    assert line.to_dict() == {"mean": 1, "null_mean": 1, "null_high": 1, "p_value": 1}
    own = {q: [3 * q, 3 * q + 1, 3 * q + 2] for q in range(10)}
    line = exchange_test(own, own, 3, "jaccard", n_permutations=99).iloc[0]
    assert (line["mean"], line["null_mean"], line["p_value"]) == (1, 0, 0.01)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": {1: [1]}, "b": {1: [1]}}, "There is one query"),
        ({"n_permutations": 0}, "n_permutations=0"),
        ({"n_permutations": True}, "n_permutations=True"),
        ({"k": 2}, "no list has more than 1"),
    ],
)
def test_exchange_test_says_what_is_wrong(given, message):
    with pytest.raises(rs.InputError, match=message):
        exchange_test(**{"a": {1: [1], 2: [2]}, "b": {1: [1], 2: [2]}, "k": 1} | given)


def test_exchange_test_needs_a_permutation_that_exchanges_something():
    a = {1: [1], 2: [2]}
    seed = next(s for s in range(99) if np.random.default_rng(s).permutation(2).tolist() == [0, 1])
    with pytest.raises(rs.InputError, match="No permutation exchanged a query"):
        exchange_test(a, a, 1, n_permutations=1, seed=seed)


def test_most_different_puts_the_lists_of_the_least_agreement_side_by_side():
    a = {"same": [1, 2, 3], "none": [1, 2, 3], "half": [1, 2, 3], "none too": [4, 5, 6]}
    b = {"same": [1, 2, 3], "none": [7, 8, 9, 1], "half": [3, 5], "none too": [1, 2, 3]}
    table = most_different(overlap(a, b, (1, 3)), a, b, 3)
    assert table.index.unique("query").tolist() == ["none", "none too", "half"]
    half = table.loc["half"]
    assert half.index.tolist() == [1, 2, 3]
    assert half["a"].tolist() == [1, 2, 3]
    assert half["b"].fillna(0).tolist() == [3, 5, 0]
    assert half["rank_in_b"].fillna(0).tolist() == [0, 0, 1]
    assert half["rank_in_a"].fillna(0).tolist() == [3, 0, 0]
    assert half["agreement"].tolist() == [pytest.approx(1 / 3)] * 3
    assert table.loc["none", "rank_in_b"].fillna(0).tolist() == [4, 0, 0]  # below the cut


def test_most_different_goes_by_the_measure_and_the_depth_asked_for():
    a, b = {1: [1, 2, 3], 2: [1, 2, 3]}, {1: [1, 8, 9], 2: [2, 1, 3]}
    scores = overlap(a, b, (1, 3))
    assert most_different(scores, a, b, 1, measure="jaccard", k=1).index.unique("query").tolist() == [2]
    assert most_different(scores, a, b, 1, measure="jaccard", k=3).index.unique("query").tolist() == [1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 3}, "n=3; expected a whole number from 1 to the number of queries, 2"),
        ({"k": 2}, "k=2 is not in these scores; expected one of 1"),
        ({"measure": "jaccart"}, "Did you mean 'jaccard'"),
        ({"b": {1: [1]}}, "b lacks 1 queries of the scores, such as 2"),
    ],
)
def test_most_different_says_what_is_wrong(given, message):
    a = {1: [1], 2: [2]}
    with pytest.raises(rs.InputError, match=message):
        most_different(**{"scores": overlap(a, a, 1), "a": a, "b": a, "n": 1} | given)


def test_most_different_returns_a_table_that_pandas_can_join():
    a, b = {"q": ["x", "y"]}, {"q": ["y", "x"]}
    table = most_different(overlap(a, b, 2), a, b, 1)
    texts = pd.Series({"x": "first", "y": "second"})
    assert table["a"].map(texts).tolist() == ["first", "second"]
