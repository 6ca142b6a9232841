"""Users as means of what they read, and recommendations without it."""

import numpy as np
import pandas as pd
import pytest

import repsim_nb as rs
from repsim_nb.retrieval import embed, overlap, read_lists, search, users

ITEMS = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
READ = {"ann": [0, 2, 5], "bob": [3], "eve": [7, 7, 1]}


def test_users_are_means_of_what_they_read():
    found = users(ITEMS, READ)
    expected = [ITEMS[[0, 2, 5]].mean(0), ITEMS[3], (2 * ITEMS[7] + ITEMS[1]) / 3]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found["text"].values.tolist() == list(READ)


def test_users_read_the_names_of_embedded_texts():
    vectors = embed("tiny-neox-w32-d2", ["one text", "another text", "a third"])
    found = users(vectors, {"u": ["texts:2", "texts:0"]})
    np.testing.assert_allclose(found[0], vectors.values[[0, 2]].mean(0), rtol=1e-5)
    named = users(vectors.values, {"u": ["c", "a"]}, item_ids=["a", "b", "c"])
    np.testing.assert_array_equal(found, named)


def recommended(items, histories, read=READ, k=5):
    user = users(items, histories)
    return search(user, items, k, query_ids=user["text"].values, leave_out=read)


def test_search_leaves_out_what_a_user_has_read():
    found, whole = recommended(ITEMS, READ), search(users(ITEMS, READ), ITEMS, 30, query_ids=list(READ))
    for user, read in READ.items():
        expected = [i for i in whole["id"].sel(query=user).values.tolist() if i not in read][:5]
        assert found["id"].sel(query=user).values.tolist() == expected
    scores = whole["score"].sel(query="ann").values[~np.isin(whole["id"].sel(query="ann"), READ["ann"])][:5]
    np.testing.assert_array_equal(found["score"].sel(query="ann"), scores)


def test_search_leaves_out_the_same_whatever_the_size_of_batches():
    rng = np.random.default_rng(1)
    q, p = np.round(rng.normal(size=(40, 4))), 1 + np.round(rng.normal(size=(500, 4)) ** 2)
    q[:, 0] = 3
    gone = {i: rng.choice(500, i, replace=False).tolist() for i in range(0, 40, 3)}
    found = search(q, p, 20, leave_out=gone)
    assert search(q, p, 20, leave_out=gone, memory_limit=150_000).identical(found)
    for i in range(40):
        kept = np.setdiff1d(np.arange(500), gone.get(i, []))
        assert found["id"].values[i].tolist() == kept[search(q[[i]], p[kept], 20)["id"].values[0]].tolist()


def test_users_tell_a_swap_of_the_items_from_a_swap_of_the_user():
    turned = ITEMS @ np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0].astype(np.float32)
    other = np.random.default_rng(2).normal(size=ITEMS.shape)
    last = {user: read[-1:] for user, read in READ.items()}
    before = recommended(ITEMS, READ)

    def agreement(after):
        return overlap(before, after, 5, "overlap")["overlap"].values.ravel()

    assert agreement(recommended(turned, READ)).tolist() == [1, 1, 1]  # a rotation changes nothing
    assert agreement(recommended(other, READ)).mean() < 0.5
    by_user = agreement(recommended(ITEMS, last))
    assert by_user[1] == 1  # bob has read one item only
    assert by_user[[0, 2]].max() < 1


def test_recommendations_from_elsewhere_are_read_as_a_table():
    found = recommended(ITEMS, READ)
    table = found["id"].to_dataframe().reset_index().rename(columns={"query": "user"})
    lists = read_lists(table.rename(columns={"user": "query"}))
    assert lists.queries == list(READ)
    assert overlap(table.rename(columns={"user": "query"}), found, 5)["jaccard"].values.tolist() == [[1], [1], [1]]
    with pytest.raises(rs.InputError, match="query missing"):
        read_lists(table)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"histories": {"ann": []}}, "history of user 'ann' is empty"),
        ({"histories": {"ann": [0, 30]}}, "history of user 'ann' has 30, which is not among the items"),
        ({"histories": {"ann": "0"}}, "history of user 'ann' is '0'; expected a list"),
        ({"histories": {}}, "with at least one"),
        ({"histories": pd.Series([[1]])}, "expected a mapping user"),
        ({"embeddings": ITEMS[0]}, "expected numbers, .n_items, d"),
        ({"item_ids": [1, 2]}, "item_ids has 2 entries for 30 rows"),
        ({"history": {}}, "Did you mean 'histories'"),
    ],
)
def test_users_say_what_is_wrong(given, message):
    with pytest.raises(rs.InputError, match=message):
        users(**{"embeddings": ITEMS, "histories": READ} | given)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ({"q": [1]}, "leave_out names the query 'q', which is not among the queries"),
        ({0: [99]}, "leave_out has 99 for query 0, which is not among the passages"),
        ({0: "12"}, "leave_out has '12' for query 0; expected a list"),
        ({0: list(range(28))}, "k=3, but leave_out leaves a query only 2 of 30 passages"),
    ],
)
def test_search_refuses_to_leave_out_what_does_not_exist(gone, message):
    with pytest.raises(rs.InputError, match=message):
        search(ITEMS[:2], ITEMS, 3, leave_out=gone)
