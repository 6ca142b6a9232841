"""Queries, passages and judgements in BEIR's layout, from a folder and from a hub on this machine."""

import gzip
import json

import pytest

import repsim_nb as rs
from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError
from tests.support.hub import Hub, commit, run

PASSAGES = [
    {"_id": "d1", "title": "Cells", "text": "divide."},
    {"_id": "d2", "title": "", "text": "Untitled. "},
    {"_id": "d3", "title": None, "text": ""},
    {"_id": "d4", "text": "No title at all.", "metadata": {"url": "x"}},
    {"_id": "5", "title": "Five", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "How?"}, {"_id": "q2", "text": "Why?"}, {"_id": "7", "text": "What?"}]
HEADER = "query-id\tcorpus-id\tscore\n"
TEST = HEADER + "q1\td1\t2\nq1\td2\t0\nq1\td4\t-1\n7\t5\t1\n7\td3\t1\n"
TRAIN = HEADER + "q2\td4\t1\nq1\td2\t0\n"


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def written(folder, **changed):
    files = {"corpus.jsonl": lines(PASSAGES), "queries.jsonl": lines(QUERIES)}
    files |= {"qrels/test.tsv": TEST, "qrels/train.tsv": TRAIN} | changed
    for name, content in files.items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")
    return folder


TEXTS = {"d1": "Cells divide.", "d2": "Untitled.", "d4": "No title at all.", "5": "Five"}


def test_load_corpus_reads_a_folder_in_the_layout_of_beir(tmp_path):
    corpus = rs.load_corpus(written(tmp_path))
    assert dict(zip(corpus.documents, corpus.texts, strict=True)) == TEXTS
    assert dict(zip(corpus.query_ids, corpus.queries, strict=True)) == {"q1": "How?", "7": "What?"}
    assert corpus.judgements == {"q1": {"d1": 2.0, "d2": 0.0, "d4": 0.0}, "7": {"5": 1.0}}
    assert (corpus.split, corpus.provenance["queries"]) == ("test", 2)
    assert corpus.provenance["source"] == {"path": str(tmp_path), "empty_passages": "1"}
    train = rs.load_corpus(str(tmp_path), "train")
    assert train.judgements == {"q2": {"d4": 1.0}}
    assert train.texts == corpus.texts
    assert train.sha256 != corpus.sha256


def test_load_corpus_limits_passages_and_drops_queries_that_they_do_not_answer(tmp_path):
    written(tmp_path)
    corpus = rs.load_corpus(tmp_path, limit=2)
    assert corpus.documents == ("d1", "d2")
    assert corpus.judgements == {"q1": {"d1": 2.0, "d2": 0.0}}
    with pytest.raises(InputError, match=r"first 2 passages answer no query of the split 'train'\. Raise limit"):
        rs.load_corpus(tmp_path, "train", limit=2)


def test_load_corpus_takes_the_only_split_of_a_folder(tmp_path):
    assert rs.load_corpus(written(tmp_path, **{"qrels/test.tsv": None})).split == "train"


@pytest.mark.parametrize(
    ("changed", "how", "message"),
    [
        ({"queries.jsonl": None}, {}, "has corpus.jsonl, but lacks queries.jsonl. Expected BEIR's layout"),
        ({"qrels/test.tsv": None, "qrels/train.tsv": None}, {}, "but lacks qrels/SPLIT.tsv. Expected BEIR's layout"),
        ({}, {"split": "tset"}, "Unknown split 'tset'. Did you mean 'test'"),
        ({"qrels/test.tsv": None, "qrels/dev.tsv": TEST}, {}, "Unknown split 'test'.* has judgements for: dev, train"),
        ({}, {"column": "text"}, "column='text' is only for"),
        ({}, {"config": "corpus"}, "config='corpus' is only for datasets on the hub"),
        (
            {"qrels/test.tsv": HEADER + "q1\td1\t1\nq1\td9\t1\n"},
            {},
            "1 of 2 judgements .* an unknown passage.*'d9'",
        ),
        ({"qrels/test.tsv": HEADER + "q1\td1\t1\nq9\td1\t1\n"}, {}, "1 of 2 judgements are of an unknown query.*'q9'"),
        ({"qrels/test.tsv": HEADER + "q1\td1\t1\nq1\td1\t2\n"}, {}, "'d1' is judged 2 times for the query 'q1'"),
        ({"qrels/test.tsv": HEADER + "q1\td1\t0\n"}, {}, "passages answer no query of the split 'test'. Check"),
        ({"qrels/test.tsv": HEADER + "q1\td1\tyes\n"}, {}, "has no number as its score"),
        ({"qrels/test.tsv": HEADER + "q1\td1\n"}, {}, "has no number as its score"),
        ({"qrels/test.tsv": "q1\t0\td1\t1\n"}, {}, "expected a header with the columns query-id, corpus-id, score"),
        ({"qrels/test.tsv": ""}, {}, "expected a header with the columns"),
        ({"corpus.jsonl": lines([*PASSAGES, PASSAGES[0]])}, {}, "passage id 'd1' occurs more than once"),
        ({"queries.jsonl": lines([*QUERIES, QUERIES[0]])}, {}, "query id 'q1' occurs more than once"),
        (
            {"corpus.jsonl": lines([{"id": "d1", "text": "a"}])},
            {},
            "row 0 of corpus has the columns id, text;",
        ),
        ({"corpus.jsonl": lines([{"_id": "d1", "text": 3}])}, {}, "row 0 of corpus has a title or text that is not"),
        ({"corpus.jsonl": lines([{"_id": "d1", "text": ""}])}, {}, "corpus contains no text"),
        ({"corpus.jsonl": "[1]\n"}, {}, "corpus.jsonl: line 1 is not a JSON object"),
    ],
)
def test_load_corpus_says_what_is_wrong_with_a_folder_of_queries(tmp_path, changed, how, message):
    with pytest.raises(InputError, match=message) as caught:
        rs.load_corpus(written(tmp_path, **changed), **how)
    assert "\n" not in str(caught.value)


def test_load_corpus_says_that_judgements_are_no_text(tmp_path):
    (written(tmp_path) / "qrels" / "test.tsv").write_bytes(TEST.encode("utf-16"))
    with pytest.raises(InputError, match="is not UTF-8 text"):
        rs.load_corpus(tmp_path)


def test_corpus_refuses_queries_that_do_not_fit():
    given = {"queries": ("a",), "query_ids": ("q",), "relevant": (("q", "d", 1.0),)}
    Corpus("mine", ("text",), ("d",), "all", **given)
    for changed, message in (
        ({"relevant": None}, "belong together"),
        ({"queries": ("a", "b")}, "Got 2 queries and 1 query_ids"),
        ({"relevant": (("q", "e", 1.0),)}, "unknown passage, such as 'e'"),
        ({"relevant": (("q", "d", 0.0),)}, "'q' has no passage with a grade above 0"),
    ):
        with pytest.raises(InputError, match=message):
            Corpus("mine", ("text",), ("d",), "all", **given | changed)


PROGRAM = """
import json
import os
import time
time.sleep = lambda seconds: None  # between attempts
import repsim_nb as rs

def outcome(name, how):
    try:
        corpus = rs.load_corpus(name, **how)
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
    asked = None if corpus.queries is None else [dict(zip(corpus.query_ids, corpus.queries)), corpus.judgements]
    return {"texts": corpus.texts, "names": corpus.documents, "asked": asked, **corpus.provenance}

print(json.dumps([outcome(name, how) for name, how in CALLS]), flush=True)
os._exit(0)  # pyarrow may be reading ahead, which an orderly end would wait for or trip over
"""
CALLS = {
    "test": ("BeIR/small", {}),
    "train": ("BeIR/small", {"split": "train"}),
    "limited": ("BeIR/small", {"limit": 2}),
    "as text": ("BeIR/small", {"config": "corpus"}),
    "in one": ("mteb/small", {}),
    "wrong split": ("BeIR/small", {"split": "dev"}),
    "no judgements": ("BeIR/alone", {}),
    "a column": ("BeIR/small", {"column": "text"}),
}


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    """What comes of the calls, and the folder behind the hub."""
    folder = tmp_path_factory.mktemp("hub")
    sets = folder / "datasets"
    tables = {"corpus": PASSAGES, "queries": QUERIES}
    for name in ("BeIR/small", "BeIR/alone", "mteb/small"):
        home = sets / name
        home.mkdir(parents=True)
        configs = [(table, [(table, f"{table}.jsonl.gz")]) for table in tables]
        for table, rows in tables.items():
            rows = [{"_id": row["_id"], "title": row.get("title") or "", "text": row["text"]} for row in rows]
            with gzip.open(home / f"{table}.jsonl.gz", "wt") as opened:
                opened.write(lines(rows))
        if name.startswith("mteb"):
            rows = [line.split("\t") for line in TEST.splitlines()]
            with gzip.open(home / "test.jsonl.gz", "wt") as opened:
                opened.write(lines(dict(zip(rows[0], row, strict=True)) for row in rows[1:]))
            configs.append(("default", [("test", "test.jsonl.gz")]))
        described(home, configs)
    judged = sets / "BeIR" / "small-qrels"
    judged.mkdir()
    (judged / "test.tsv").write_text(TEST)
    (judged / "train.tsv").write_text(TRAIN)
    described(judged, [("default", [("train", "train.tsv"), ("test", "test.tsv")])])
    with Hub(folder) as served:
        done = run(PROGRAM.replace("CALLS", repr(list(CALLS.values()))), served.endpoint, folder / "home")
    assert done.returncode == 0, done.stderr
    return dict(zip(CALLS, json.loads(done.stdout), strict=True)), sets


def described(home, configs):
    about = "---\nconfigs:\n"
    for config, files in configs:
        about += f"- config_name: {config}\n  data_files:\n"
        about += "".join(f"  - split: {split}\n    path: {file}\n" for split, file in files)
    (home / "README.md").write_text(about + "---\n")


@pytest.mark.slow
def test_load_corpus_reads_a_set_of_beir_from_the_hub(online):
    found, sets = online
    test = found["test"]
    assert dict(zip(test["names"], test["texts"], strict=True)) == TEXTS
    assert test["asked"] == [
        {"q1": "How?", "7": "What?"},
        {"q1": {"d1": 2.0, "d2": 0.0, "d4": 0.0}, "7": {"5": 1.0}},
    ]
    assert test["source"] == {
        "hub": "BeIR/small",
        "commit": commit(sets / "BeIR" / "small"),
        "judgements": "BeIR/small-qrels",
        "judgements_commit": commit(sets / "BeIR" / "small-qrels"),
        "empty_passages": "1",
    }
    assert (test["split"], found["train"]["split"]) == ("test", "train")
    assert found["train"]["asked"][1] == {"q2": {"d4": 1.0}}
    assert found["limited"]["names"] == ["d1", "d2"]
    assert found["limited"]["asked"][1] == {"q1": {"d1": 2.0, "d2": 0.0}}


@pytest.mark.slow
def test_load_corpus_reads_judgements_of_the_default_configuration(online):
    found = online[0]
    assert found["in one"]["asked"] == found["test"]["asked"]
    assert "judgements" not in found["in one"]["source"]


@pytest.mark.slow
def test_load_corpus_reads_a_table_of_a_set_of_beir_as_text(online):
    found = online[0]["as text"]
    assert found["texts"] == ["divide.", "Untitled. ", "No title at all."]
    assert found["asked"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("wrong split", "The dataset 'BeIR/small': Unknown split 'dev'."),
        ("no judgements", "Cannot read the dataset 'BeIR/alone-qrels': the hub has no such dataset"),
        ("a column", "The dataset 'BeIR/small': It has several configurations: corpus, queries. Choose one"),
    ],
)
def test_load_corpus_says_what_is_wrong_with_a_set_of_beir(online, call, message):
    refused = online[0][call]
    assert refused["error"] == "InputError"
    assert message in refused["message"]
