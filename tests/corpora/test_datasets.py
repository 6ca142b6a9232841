"""Datasets by hub id: the real download code against a hub on this machine, in a process that sees that one only."""

import gzip
import json
import re
import socket

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.hub import TOKEN, Hub, commit, run

pytestmark = pytest.mark.slow  # processes that import everything

ROWS = 1000
GROUP = 100
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
    return {
        "texts": corpus.texts, "names": corpus.documents, "labels": corpus.labels, "inputs": corpus.inputs,
        "cases": corpus.cases, **corpus.provenance, "corpus": corpus.name
    }

print(json.dumps([outcome(name, how) for name, how in CALLS]), flush=True)
os._exit(0)  # pyarrow may be reading ahead, which an orderly end would wait for or trip over
"""
NOISE = np.random.default_rng(0)


def parquet(file, table, row_group=None, **features):
    file.parent.mkdir(parents=True, exist_ok=True)
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()} if features else None
    table = pa.Table.from_pandas(pd.DataFrame(table))
    pq.write_table(table.replace_schema_metadata(about), file, row_group_size=row_group, compression=None)


def story(i):
    """Long enough and so little alike that a file of them is many times what one read asks for."""
    return f"Story {i}. " + NOISE.bytes(12_000).hex()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    some = folder / "datasets" / "some"
    parquet(some / "stories" / "data" / "train-00000-of-00001.parquet", {"text": map(story, range(ROWS))}, GROUP)
    texts = ["One.", "", "Two.", None, "Three."]
    parquet(some / "small" / "data" / "train-00000-of-00001.parquet", {"body": texts, "n": range(5)})
    parquet(some / "small" / "data" / "validation-00000-of-00001.parquet", {"body": ["Four."], "n": [9]})
    parquet(some / "small@v2" / "data" / "train-00000-of-00001.parquet", {"body": ["Another one."], "n": [1]})
    for config in ("english", "french"):
        parquet(some / "several" / config / "train-00000-of-00001.parquet", {"text": [f"In {config}."]})
    (some / "several" / "README.md").write_text(
        "---\nconfigs:\n"
        + "".join(f"- config_name: {c}\n  data_files: {c}/train-*.parquet\n" for c in ("english", "french"))
        + "---\n"
    )
    label = {"names": ["entailment", "neutral"], "_type": "ClassLabel"}
    text = {"dtype": "string", "_type": "Value"}
    pairs = {"premise": ["a", "b", "c"], "hypothesis": ["d", "e", "f"], "label": [1, -1, 0]}
    for split in ("validation_matched", "validation_mismatched"):
        file = some / "pairs" / "data" / f"{split}-00000-of-00001.parquet"
        parquet(file, pairs, premise=text, hypothesis=text, label=label)
    (some / "pairs" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        + "".join(f"  - split: {s}\n    path: data/{s}-*\n" for s in ("validation_matched", "validation_mismatched"))
        + "---\n"
    )
    case = {"premise": ["a"], "hypothesis": ["b"], "label": ["non-entailment"]}
    parquet(some / "cases" / "test.parquet", case | {"heuristic": ["constituent"], "subcase": ["cn_x"]})
    parquet(some / "numbers" / "test.parquet", pairs)
    (some / "lines").mkdir()
    with gzip.open(some / "lines" / "train.jsonl.gz", "wt") as lines:
        lines.writelines(json.dumps({"text": f"Line {i}.", "meta": {"n": i}}) + "\n" for i in range(50))
    (some / "nothing").mkdir()
    (some / "nothing" / "README.md").write_text("No rows.")
    parquet(some / "gated" / "train.parquet", {"text": ["Secret."]})
    with Hub(folder, gated="datasets/some/gated", private="datasets/some/private") as served:
        yield served


CALLS = {
    "stories": ("some/stories", {"limit": 50}),
    "stories again": ("some/stories", {"limit": 50, "split": "train"}),
    "small": ("some/small", {"column": "body"}),
    "limited": ("some/small", {"column": "body", "limit": 2}),
    "one split": ("some/small", {"column": "body", "split": "validation"}),
    "revision": ("some/small@v2", {"column": "body"}),
    "config": ("some/several", {"config": "french"}),
    "pairs": ("some/pairs", {"split": "validation_matched"}),
    "all pairs": ("some/pairs", {}),
    "cases": ("some/cases", {}),
    "lines": ("some/lines", {"limit": 7}),
    "no column": ("some/small", {}),
    "wrong column": ("some/small", {"column": "bodies"}),
    "a column of numbers": ("some/small", {"column": "n"}),
    "wrong split": ("some/pairs", {"split": "validation_match"}),
    "no config": ("some/several", {}),
    "wrong config": ("some/several", {"config": "frensh"}),
    "numbers": ("some/numbers", {}),
    "nothing": ("some/nothing", {}),
    "gone": ("some/gone", {}),
    "misspelt": ("roneneldan/TinyStorys", {}),
    "no revision": ("some/small@v3", {"column": "body"}),
    "gated": ("some/gated", {}),
    "private": ("some/private", {}),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def loaded(endpoint, home, calls):
    done = run(PROGRAM.replace("CALLS", repr(list(calls))), endpoint, home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done


@pytest.fixture(scope="module")
def online(hub, home):
    found, done = loaded(hub.endpoint, home, CALLS.values())
    return dict(zip(CALLS, found, strict=True)), done


def test_the_texts_are_the_rows_of_the_dataset_in_their_order(online):
    small = online[0]["small"]
    assert small["texts"] == ["One.", "Two.", "Three.", "Four."]
    assert small["names"] == [f"some/small:{row}" for row in ("train:0", "train:2", "train:4", "validation:0")]
    assert online[0]["limited"]["texts"] == ["One.", "Two."]
    assert online[0]["one split"]["texts"] == ["Four."]
    assert online[0]["lines"]["texts"] == [f"Line {i}." for i in range(7)]
    assert online[0]["config"]["texts"] == ["In french."]
    assert online[0]["revision"]["texts"] == ["Another one."]


def test_what_was_read_is_recorded(hub, online):
    small = online[0]["small"]
    at = commit(hub.folder / "datasets" / "some" / "small")
    read = {"hub": "some/small", "commit": at, "config": "default", "column": "body", "rows_read": "6"}
    assert small["source"] == read
    assert small["split"] == "all"
    assert online[0]["limited"]["source"]["rows_read"] == "3"
    assert online[0]["config"]["source"]["config"] == "french"
    assert online[0]["revision"]["source"]["commit"] == commit(hub.folder / "datasets" / "some" / "small@v2")
    assert online[0]["stories"]["sha256"] == online[0]["stories again"]["sha256"]
    assert len({online[0][name]["sha256"] for name in ("small", "limited", "one split", "revision")}) == 4


def test_of_a_large_file_the_beginning_alone_is_read(hub, online):
    (path,) = (p for p in hub.sent if "stories" in p and p.endswith(".parquet"))
    size = (hub.folder / "datasets" / "some" / "stories" / "data" / "train-00000-of-00001.parquet").stat().st_size
    assert [text[:9] for text in online[0]["stories"]["texts"][::49]] == ["Story 0. ", "Story 49."]
    assert hub.sent[path] / 2 < size / 2  # two loads


def test_pairs_have_their_labels_and_cases(online):
    pairs = online[0]["pairs"]
    assert pairs["inputs"] == [["a", "d"], ["c", "f"]]
    assert pairs["labels"] == ["neutral", "entailment"]
    assert pairs["cases"] is None
    assert len(online[0]["all pairs"]["texts"]) == 4
    assert online[0]["cases"]["cases"] == ["constituent/non-entailment/cn_x"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("no column", "'some/small': There is no column 'text', nor 'premise' .* there are: body, n. Say which column"),
        ("wrong column", "'some/small': Unknown column 'bodies'. Did you mean 'body'. Available: body, n."),
        ("a column of numbers", "'some/small': The column 'n' holds int, not text. Choose another: column="),
        ("wrong split", "Unknown split 'validation_match'. Did you mean 'validation_matched'. 'some/pairs' has: "),
        ("no config", "'some/several': It has several configurations: english, french. Choose one: config="),
        ("wrong config", "Unknown configuration 'frensh'. Did you mean 'french'. Available: english, french."),
        ("numbers", "'some/numbers': The labels are numbers without names."),
        (
            "nothing",
            "Cannot read the dataset 'some/nothing': it contains no data files .* See ENDPOINT/datasets/some/no",
        ),
        (
            "gone",
            "'some/gone': the hub has no such dataset, or it is private. Check the name; if it is private, log in",
        ),
        ("misspelt", "the hub has no such dataset, or it is private. Did you mean 'roneneldan/TinyStories'."),
        ("no revision", "'some/small': it has no revision 'v3'. See ENDPOINT/datasets/some/small/tree/main for its"),
        ("gated", "'some/gated': it is gated. Ask for access at ENDPOINT/datasets/some/gated, then log in with"),
        ("private", "'some/private': the hub does not accept your token. To replace it, log in with"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_advice(hub, online, call, message):
    refused = online[0][call]
    assert refused["error"] == "InputError"
    assert re.search(message.replace("ENDPOINT", hub.endpoint), refused["message"]), refused["message"]
    assert "\n" not in refused["message"]


def test_a_broken_connection_is_taken_up_again_or_said(hub, home):
    hub.breaks = 1
    call = ("some/stories", {"limit": 5})
    (found,), _ = loaded(hub.endpoint, home, [call])
    assert [text[:8] for text in found["texts"]] == [f"Story {i}." for i in range(5)]
    hub.breaks = 10**6
    try:
        (broken,), _ = loaded(hub.endpoint, home, [CALLS["small"]])
    finally:
        hub.breaks = 0
    assert broken["error"] == "InputError"
    assert "cannot be reached, or the connection broke" in broken["message"]


def test_without_a_network_the_error_says_so(home):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    (found,), _ = loaded(endpoint, home, [CALLS["small"]])
    assert found["error"] == "InputError"
    assert f"Cannot read the dataset 'some/small': {endpoint} cannot be reached" in found["message"]
    assert "\n" not in found["message"]


def test_a_token_is_never_printed(online):
    assert TOKEN not in online[1].stdout + online[1].stderr
