"""Ranked lists: the forms they come in, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.retrieval.lists import read_lists, read_pair

LISTS = {"q2": ["d1", "d3"], "q1": ["d2", "d1", "d9"]}


def table_of(lists):
    return pd.DataFrame(
        [(query, rank, one) for query, ids in lists.items() for rank, one in enumerate(ids, 1)],
        columns=["query", "rank", "id"],
    )


def plain(lists):
    return {query: ids.tolist() for query, ids in zip(lists.queries, lists.ids, strict=True)}


def test_read_lists_reads_a_mapping_and_a_table_alike():
    assert plain(read_lists(LISTS)) == LISTS
    assert list(plain(read_lists(table_of(LISTS)))) == ["q2", "q1"]
    shuffled = table_of(LISTS).sample(frac=1, random_state=3)
    assert plain(read_lists(shuffled)) == LISTS


def test_read_lists_reads_what_search_returned():
    found = rs.retrieval.search(np.eye(2), np.eye(2), 2, query_ids=["a", "b"], passage_ids=["x", "y"])
    assert plain(read_lists(found)) == {"a": ["x", "y"], "b": ["y", "x"]}


def test_read_lists_ignores_other_columns_of_a_table():
    assert plain(read_lists(table_of(LISTS).assign(score=0.5))) == LISTS


def test_read_lists_reads_columns_of_categories_and_strings():
    table = table_of(LISTS)
    categories = table.astype({"query": pd.CategoricalDtype(["q1", "q2", "never asked"]), "id": "category"})
    assert plain(read_lists(categories)) == LISTS
    assert plain(read_lists(table.astype({"query": "string", "id": "string", "rank": "Int64"}))) == LISTS


def test_read_pair_aligns_queries_by_id():
    a, b = read_pair({1: [5], 2: [6]}, {2: [8], 1: [7]})
    assert plain(a) == {1: [5], 2: [6]}
    assert plain(b) == {1: [7], 2: [8]}
    assert b.queries == [1, 2]


def test_read_pair_can_keep_the_queries_of_both():
    a, b = read_pair({1: [5], 2: [6]}, {3: [8], 2: [7]}, "common")
    assert (plain(a), plain(b)) == ({2: [6]}, {2: [7]})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"q": ["d", "e", "d"]}, "query 'q' has 'd' twice"),
        (table_of({"q": ["d", "d"]}), "query 'q' has 'd' twice"),
        ({"q": []}, "list of query 'q' is empty"),
        ({}, "has no queries"),
        ({"q": "text"}, "expected a list of ids"),
        ({"q": 3}, "expected a list of ids"),
        ({"q": ["d", None]}, "missing id"),
        ({"q": ["d", 1]}, "some ids are text and some are not"),
        (table_of(LISTS).drop(columns="rank"), "rank missing"),
        (table_of(LISTS).assign(rank=1), "expected 1, 2, 3"),
        (table_of(LISTS).assign(rank=lambda t: t["rank"] - 1), "expected 1, 2, 3"),
        (table_of(LISTS).query("rank != 2"), "expected 1, 2, 3"),
        (table_of(LISTS).assign(query=[None, "q", "q", "q", "q"]), "a query or a rank is missing"),
        (["d", "e"], "lists is a list; expected"),
        (xr.Dataset({"id": ("query", [1, 2])}), "lists is a Dataset; expected"),
        (
            xr.Dataset({"id": (("query", "rank"), [[1], [2]])}, coords={"query": ["q", "q"]}),
            "a query occurs twice",
        ),
    ],
)
def test_read_lists_says_what_is_wrong(source, message):
    with pytest.raises(rs.InputError, match=message):
        read_lists(source)


@pytest.mark.parametrize(
    ("a", "b", "queries", "message"),
    [
        ({1: [5], 2: [6]}, {1: [5]}, "same", "2 is in a but not in b"),
        ({1: [5]}, {1: [5], 3: [6]}, "same", "3 is in b but not in a"),
        ({1: [5]}, {2: [5]}, "common", "no query in common"),
        ({1: [5]}, {1: ["5"]}, "same", "ids in a are like 5 and in b like '5'"),
        ({1: [5]}, {1: [5]}, "both", 'expected "same" or "common"'),
    ],
)
def test_read_pair_says_what_is_wrong(a, b, queries, message):
    with pytest.raises(rs.InputError, match=message):
        read_pair(a, b, queries)
