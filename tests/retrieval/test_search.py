"""Exact search: against brute force, with ties defined and memory bounded."""

import tracemalloc

import numpy as np
import pytest
import torch

import repsim_nb as rs
from repsim_nb.retrieval.search import BLOCK, _batch, search


def brute_force(queries, passages, k, metric="cosine"):
    """Every product on its own in float64; equal scores of float32 by place."""
    found = []
    for q in np.asarray(queries, dtype=np.float64):
        scores = []
        for p in np.asarray(passages, dtype=np.float64):
            length = np.linalg.norm(q) * np.linalg.norm(p) if metric == "cosine" else 1.0
            scores.append(np.float32(np.dot(q, p) / length))
        found.append(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k])
    return found


def normal(n, d, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_search_finds_what_brute_force_finds(metric, dtype):
    q, p = normal(7, 9, 1, dtype), normal(60, 9, 2, dtype)
    found = search(q, p, 12, metric)
    assert found["id"].values.tolist() == brute_force(q, p, 12, metric)
    scores = np.sort(q.astype(float) @ p.astype(float).T, axis=1)[:, ::-1][:, :12]
    if metric == "dot":
        np.testing.assert_allclose(found["score"], scores, rtol=1e-6, atol=1e-6)


def test_search_finds_what_brute_force_finds_in_a_narrow_cone():
    # all cosines above 0.999999, closer to each other than float32 can tell in a product
    p = 1 + 1e-4 * normal(300, 16, 3, np.float64)
    q = 1 + 1e-4 * normal(5, 16, 4, np.float64)
    assert search(q, p, 10)["id"].values.tolist() == brute_force(q, p, 10)


def test_search_orders_equal_scores_by_the_place_of_the_passage():
    distinct = normal(40, 33, 5)
    place = np.random.default_rng(6).permutation(np.repeat(np.arange(40), 60))  # 60 copies of each, scattered
    found = search(distinct[:4], distinct[place], 100)
    for row, ids in enumerate(found["id"].values):
        copies = np.flatnonzero(place == row)
        assert ids[:60].tolist() == copies.tolist()
        assert len(np.unique(found["score"].values[row, :60])) == 1
        assert np.all(np.diff(ids[60:]) > 0)  # the second passage's first 40 copies


def test_search_orders_passages_of_one_direction_by_place_whatever_their_length():
    direction = normal(1, 20, 7, np.float64)
    lengths = np.random.default_rng(8).uniform(0.1, 10, size=(50, 1))
    assert search(direction, direction * lengths, 50)["id"].values[0].tolist() == list(range(50))


@pytest.mark.parametrize(("limit", "batch"), [(320_000, 1), (460_000, 10)])
def test_search_does_not_depend_on_the_size_of_batches(limit, batch):
    q, p = normal(40, 8, 9), np.round(normal(BLOCK + 300, 8, 10))  # many ties
    assert _batch(len(q), len(p), 8, 20, limit) == batch
    assert search(q, p, 20, memory_limit=limit).identical(search(q, p, 20))


@pytest.mark.parametrize("equal", [False, True])  # with equal passages, all are candidates
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_search_keeps_to_its_limit(dtype, equal):
    q, p = normal(300, 32, 11, dtype), normal(6000, 32, 12, dtype)
    p[1:] = p[0] if equal else p[1:]
    search(q[:2], p, 5)  # imports
    limit = 4_000_000
    tracemalloc.start()
    search(q, p, 5, memory_limit=limit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < limit


def test_search_says_what_it_needs_when_the_limit_is_too_low():
    with pytest.raises(rs.InputError, match=r"5000 passages of width 8 needs .* for one query.*limit is 10 kB"):
        search(normal(3, 8), normal(5000, 8), 5, memory_limit=10_000)


def test_search_takes_tensors_and_names_rows_by_their_ids():
    q, p = normal(2, 4), normal(3, 4, 1)
    found = search(torch.tensor(q), torch.tensor(p), 3, query_ids=["q0", "q1"], passage_ids=["x", "y", "z"])
    names = np.array(["x", "y", "z"])
    assert found["id"].values.tolist() == names[brute_force(q, p, 3)].tolist()
    assert found["query"].values.tolist() == ["q0", "q1"]
    assert found["rank"].values.tolist() == [1, 2, 3]


def test_search_by_dot_takes_a_passage_of_zeros():
    found = search([[1.0, 0.0]], [[-1.0, 0.0], [0.0, 0.0], [0.5, 0.0]], 3, "dot")
    assert found["id"].values.tolist() == [[2, 1, 0]]
    assert search([[1.0, 0.0]], np.zeros((2, 2)), 2, "dot")["id"].values.tolist() == [[0, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["queries", "passages"])
def test_search_refuses_rows_that_are_not_finite(side, bad):
    arrays = {"queries": normal(3, 4), "passages": normal(5, 4)}
    arrays[side][2, 1] = bad
    with pytest.raises(rs.InputError, match=f"Row 2 of {side} is not finite"):
        search(**arrays, k=2)


@pytest.mark.parametrize("side", ["queries", "passages"])
def test_search_by_cosine_refuses_rows_of_zeros(side):
    arrays = {"queries": normal(3, 4), "passages": normal(5, 4)}
    arrays[side][1] = 0
    with pytest.raises(rs.InputError, match=f"Row 1 of {side} is zero"):
        search(**arrays, k=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": 6}, "k=6; expected a whole number from 1 to the number of passages, 5"),
        ({"k": 0}, "k=0"),
        ({"k": 1.5}, "k=1.5"),
        ({"metric": "cosin"}, "Did you mean 'cosine'"),
        ({"passages": normal(5, 3)}, r"\(3, 4\) and passages \(5, 3\); expected the same width"),
        ({"passages": normal(5, 4)[0]}, r"passages is an array \(4,\)"),
        ({"queries": [["a", "b"]]}, "expected numbers"),
        ({"queries": [[1.0], [2.0, 3.0]]}, "queries cannot be read"),
        ({"queries": torch.ones(2, 4, dtype=torch.bfloat16)}, "queries cannot be read"),
        ({"query_ids": ["a", "b", "a"]}, "query_ids has 'a' twice"),
        ({"query_ids": ["a", None, "b"]}, "query_ids has a missing value"),
        ({"passage_ids": [1, 2]}, "passage_ids has 2 entries for 5 rows"),
        ({"memory_limit": -1}, "memory_limit=-1"),
        ({"metric": "dot", "queries": np.full((3, 4), 1e30)}, "exceed float32"),
        ({"top": 3}, "no argument 'top'"),
    ],
)
def test_search_says_what_is_wrong(given, message):
    if given.get("metric") == "dot":
        given = given | {"passages": np.full((5, 4), 1e30)}
    with pytest.raises(rs.InputError, match=message):
        search(**{"queries": normal(3, 4), "passages": normal(5, 4), "k": 2} | given)
