"""Rows that are queries with passages."""

import json

import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError

ROWS = [("q", "one"), ("r", "two"), ("q", "three"), (None, "four"), ("s", " "), ("r", "one"), ("q", "one")]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "asked.jsonl"
    path.write_text("\n".join(json.dumps({"query": q, "passage": p, "n": 1}) for q, p in ROWS), encoding="utf-8")
    return path


def test_load_corpus_joins_equal_queries_and_equal_passages_of_json_lines(file):
    corpus = rs.load_corpus(file)
    assert corpus.texts == ("one", "two", "three")
    assert corpus.documents == ("asked.jsonl:0", "asked.jsonl:1", "asked.jsonl:2")
    assert corpus.queries == ("q", "r")
    found = {
        query: {corpus.texts[corpus.documents.index(passage)]: grade for passage, grade in grades.items()}
        for query, grades in zip(corpus.queries, corpus.judgements.values(), strict=True)
    }
    assert found == {"q": {"one": 1.0, "three": 1.0}, "r": {"two": 1.0, "one": 1.0}}
    assert corpus.provenance["source"] == {"path": str(file), "column": "queries", "rows_read": "7"}
    assert corpus.provenance["queries"] == 2


def test_load_corpus_counts_passages_for_a_limit(file):
    corpus = rs.load_corpus(file, limit=2)
    assert corpus.texts == ("one", "two")
    assert corpus.queries == ("q", "r")
    assert corpus.provenance["source"]["rows_read"] == "2"  # what follows is not read, so its pairs are unknown
    assert rs.load_corpus(file, limit=4).judgements == rs.load_corpus(file).judgements


def test_load_corpus_prefers_a_column_that_is_asked_for_and_text(tmp_path, file):
    assert rs.load_corpus(file, column="query").texts == ("q", "r", "q", "s", "r", "q")
    (tmp_path / "all.jsonl").write_text(json.dumps({"query": "q", "passage": "p", "text": "t"}))
    assert rs.load_corpus(tmp_path / "all.jsonl").queries is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"query": "q"}', "no column 'text', .* nor 'query' and 'passage'. Available: query"),
        ('{"query": "q", "passage": ["p"]}', r"'passage' contains list, not text.*\(Row 0.\)"),
        ('{"query": "q", "passage": ""}', "contains no text: all 1 lines are empty"),
        ('{"query": "half \\ud83d", "passage": "p"}', "text of query:0 contains half a surrogate pair"),
    ],
)
def test_load_corpus_says_what_is_wrong_with_queries(tmp_path, content, message):
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        rs.load_corpus(tmp_path / "bad.jsonl")
