"""BM25 against numbers computed by hand and a loop over the formula."""

import json
from collections import Counter
from math import log

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.corpora import Corpus
from repsim_nb.retrieval import bm25, overlap, relevance
from repsim_nb.retrieval.bm25 import words


def corpus_of(passages, queries):
    ids = tuple(f"q{i}" for i in range(len(queries)))
    names = tuple(f"d{i}" for i in range(len(passages)))
    judged = tuple((query, names[0], 1.0) for query in ids)
    return Corpus("small", passages, names, "all", queries=queries, query_ids=ids, relevant=judged)


SMALL = corpus_of(("a b a", "b c", "a b c c d e e"), ("a c", "a a", "z"))  # lengths 3, 2, 7; mean 4


def test_bm25_gives_hand_computed_scores():
    found = bm25(SMALL, 3)
    idf = log(1 + 1.5 / 2.5)  # a and c are both in 2 of 3 passages
    damping = [1.2 * (0.25 + 0.75 * length / 4) for length in (3, 2, 7)]
    a = [idf * 2.2 * f / (f + d) if f else 0 for f, d in zip((2, 0, 1), damping, strict=True)]
    c = [idf * 2.2 * f / (f + d) if f else 0 for f, d in zip((0, 1, 2), damping, strict=True)]
    expected = np.array([np.add(a, c), np.add(a, a), np.zeros(3)])
    order = np.argsort(-expected, axis=1, kind="stable")
    assert found["id"].values.tolist() == np.array(["d0", "d1", "d2"])[order].tolist()
    np.testing.assert_allclose(found["score"], np.take_along_axis(expected, order, 1), rtol=1e-6)
    assert found.attrs["n_unmatched"] == 1
    assert json.loads(found.attrs["provenance"])["corpus"]["sha256"] == SMALL.sha256


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (2, 0), (0, 1)])
def test_bm25_is_the_sum_over_the_tokens_of_the_query(k1, b):
    rng = np.random.default_rng(0)
    passages = tuple(" ".join(rng.choice(list("abcdefgh"), rng.integers(1, 30))) for _ in range(40))
    queries = tuple(" ".join(rng.choice(list("abcdefghz"), rng.integers(1, 6))) for _ in range(20))
    found = bm25(corpus_of(passages, queries), 40, k1, b)
    split = [p.split() for p in passages]
    mean = np.mean([len(p) for p in split])
    having = Counter(t for p in split for t in set(p))
    for i, query in enumerate(queries):
        scores = np.zeros(40)
        for t in query.split():
            for j, p in enumerate(split):
                f = p.count(t)
                idf = log(1 + (40 - having[t] + 0.5) / (having[t] + 0.5))
                scores[j] += f and idf * f * (k1 + 1) / (f + k1 * (1 - b + b * len(p) / mean))
        by_passage = dict(zip(found["id"].values[i].tolist(), found["score"].values[i].tolist(), strict=True))
        np.testing.assert_allclose([by_passage[f"d{j}"] for j in range(40)], scores, rtol=1e-6, atol=1e-7)
        assert np.all(np.diff(found["score"].values[i]) <= 0)


def test_bm25_orders_equal_scores_by_the_place_of_the_passage():
    same = corpus_of(("x y", "p q", "y x", "x y", "r s"), ("y x", "none"))
    found = bm25(same, 5)
    assert found["id"].values.tolist() == [["d0", "d2", "d3", "d1", "d4"], ["d0", "d1", "d2", "d3", "d4"]]


def test_bm25_leaves_out_what_it_is_told_to():
    assert bm25(SMALL, 2, leave_out={"q1": ["d0"]})["id"].sel(query="q1").values.tolist() == ["d2", "d1"]
    with pytest.raises(rs.InputError, match="leaves a query only 2 of 3"):
        bm25(SMALL, 3, leave_out={"q1": ["d0"]})


def test_bm25_gives_lists_that_overlap_and_relevance_take():
    found = bm25(SMALL, 3)
    assert overlap(found, found, 3, "overlap")["overlap"].values.ravel().tolist() == [1, 1, 1]
    assert relevance(found, SMALL.judgements, 3, "recall")["recall"].values.ravel().tolist() == [1, 1, 1]


def test_bm25_takes_other_tokens():
    whole = corpus_of(("Read_file", "read file"), ("read_file", "Read_file"))
    assert bm25(whole, 2)["score"].values.std() == 0
    assert bm25(whole, 2, tokens=str.split)["id"].values[1].tolist() == ["d0", "d1"]
    assert bm25(whole, 2, tokens=str.split).attrs["n_unmatched"] == 1


def test_words_are_runs_of_letters_and_digits_of_any_script():
    assert words("Ünï_code2 \u65e5\u672c, a-b!") == ["ünï", "code2", "\u65e5\u672c", "a", "b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": 4}, "from 1 to the number of passages, 3"),
        ({"k1": -1}, "k1=-1; expected a number from 0"),
        ({"b": 1.5}, "b=1.5; expected a number from 0 to 1"),
        ({"corpus": "python-docs"}, "has no queries"),
        ({"tokens": lambda text: []}, "No passage has a token"),
        ({"k2": 3}, "Did you mean 'k'"),
    ],
)
def test_bm25_says_what_is_wrong(given, message):
    with pytest.raises(rs.InputError, match=message):
        bm25(**{"corpus": SMALL, "k": 2} | given)
