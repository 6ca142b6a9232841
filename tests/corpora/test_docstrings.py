import re
from collections import Counter
from dataclasses import replace

import pytest

import repsim_nb as rs
from repsim_nb.corpora import docstrings
from repsim_nb.errors import InputError
from repsim_nb.retrieval import relevance

SPLITS = ("train", "validation", "test")


def words(text):
    return re.findall(r"\w+", text.lower())


def shingles(text):
    found = re.findall(r"\w+|[^\w\s]", text.lower())
    return {tuple(found[i : i + 5]) for i in range(len(found) - 4)}


@pytest.fixture(scope="module")
def corpora():
    return {split: rs.load_corpus("docstrings", split) for split in SPLITS}


def test_docstrings_have_one_relevant_passage_per_query(corpora):
    for split, corpus in corpora.items():
        assert corpus.query_ids == corpus.documents
        assert corpus.judgements == {name: {name: 1.0} for name in corpus.documents}
        assert len(corpus.queries) == len(corpus) == corpus.provenance["queries"]
        assert len(corpus) > (4000 if split == "train" else 200)


def test_docstrings_come_from_the_same_split_of_python_docs(corpora):
    for split, corpus in corpora.items():
        source = rs.load_corpus("python-docs", split)
        whole = {
            n.removeprefix("prose:"): " ".join(t.split()) for n, t in zip(source.documents, source.texts, strict=True)
        }
        for name, query, body in zip(corpus.documents, corpus.queries, corpus.texts, strict=True):
            assert query in whole[name]
            assert set(words(body)) <= set(words(whole[name]))


def test_docstrings_passages_do_not_repeat_their_query(corpora):
    for corpus in corpora.values():
        for query, body in zip(corpus.queries, corpus.texts, strict=True):
            assert " ".join(query.rstrip(".").lower().split()) not in " ".join(body.lower().split())


def test_docstrings_have_no_query_twice_in_any_split(corpora):
    times = Counter(tuple(words(query)) for corpus in corpora.values() for query in corpus.queries)
    assert set(times.values()) == {1}


def test_docstrings_hold_out_passages_that_share_less_than_half_with_any_in_train(corpora):
    """Checked exactly, on sets of shingles; the builder works on hashes."""
    where = {}
    train = [shingles(text) for text in corpora["train"].texts]
    for i, found in enumerate(train):
        for shingle in found:
            where.setdefault(shingle, []).append(i)
    for split in ("validation", "test"):
        for text in corpora[split].texts:
            own = shingles(text)
            shared = Counter(i for shingle in own for i in where.get(shingle, ()))
            assert all(count < 0.5 * min(len(own), len(train[i])) for i, count in shared.items())


TITLED = "svd(a, full=True)\n\nSingular Value Decomposition\n===\n\nDecompose a matrix into three\nfactors.\n\n"
REST = "The first holds the left vectors, the second the values, the third the right vectors. " * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TITLED + REST, ("Decompose a matrix into three factors.", REST.strip())),
        (
            TITLED + "DECOMPOSE a matrix\ninto three factors\n\n" + REST,
            ("Decompose a matrix into three factors.", REST.strip()),
        ),
        ("A long paragraph that says it first. " + REST, ("A long paragraph that says it first.", REST.strip())),
        ("Too short\n\n" + REST, None),
        ("A fine summary of a short text.\n\nToo short.", None),
        ("- a list\n- of several names and\n- nothing else\n\n" + REST, None),
        ("Find the size of a large clique in a graph.\n\n" + REST + "The size of a large clique in a graph.", None),
        ("", None),
        ("name()", None),
    ],
)
def test_divided_gives_summary_and_body(text, expected):
    assert docstrings.divided(text) == expected


def test_docstrings_are_read_from_the_cache_as_they_were_built(corpora, monkeypatch):
    monkeypatch.setattr(docstrings, "_pairs", lambda records: pytest.fail("built again"))
    docstrings.build.cache_clear()
    assert rs.load_corpus("docstrings") == corpora["test"]


def test_corpus_keeps_only_queries_that_its_passages_answer(corpora):
    corpus = corpora["test"]
    few = corpus.take([5, 2])
    assert few.documents == (corpus.documents[5], corpus.documents[2])
    assert few.queries == (corpus.queries[2], corpus.queries[5])
    assert set(few.judgements) == set(few.documents)
    assert rs.load_corpus("docstrings", limit=3) == corpus.take(range(3))
    assert few.sha256 != corpus.take([2, 5]).sha256


def test_corpus_with_other_queries_has_another_hash(corpora):
    corpus = corpora["test"]
    without = replace(corpus, queries=None, query_ids=None, relevant=None)
    changed = replace(corpus, queries=(*corpus.queries[:-1], "Another query."))
    graded = replace(corpus, relevant=tuple((query, passage, 2.0) for query, passage, _ in corpus.relevant))
    assert len({each.sha256 for each in (corpus, without, changed, graded)}) == 4
    assert f"{len(corpus)} documents, {len(corpus)} queries" in repr(corpus)
    assert "queries" not in repr(without)
    with pytest.raises(InputError, match="has no queries"):
        _ = without.judgements


def test_corpus_judgements_are_what_relevance_takes(corpora):
    corpus = corpora["test"]
    found = {name: [name, corpus.documents[0]] if name != corpus.documents[0] else [name] for name in corpus.documents}
    assert relevance(found, corpus.judgements, k=1)["recall"].mean() == 1
