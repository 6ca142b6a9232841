"""Vectors of whole texts, against sentence-transformers and against means over tokens taken one by one."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st

import repsim_nb as rs
from repsim_nb.corpora import Corpus
from repsim_nb.models import load_model
from repsim_nb.retrieval import embed, memory_of_retrieval, queries_of, relevance, retrieve
from tests.models.test_classifiers import word_tokenizer
from tests.models.test_encoders import random_module

PASSAGES = {
    "d1": "the baker admired the clerk",
    "d2": "yawned",
    "d3": "the poet who visited the miner yawned",
    "d4": "the clerk danced if the pilot yawned",
    "d5": "the miner danced",
    "long": "the poet visited the baker " * 12,
}
QUERIES = {"q1": "the clerk danced", "q2": "if the baker yawned", "q3": "who visited the miner"}
PROMPTS = {"query": "the pilot ", "document": "if the "}
TEXTS = list(PASSAGES.values())


@pytest.fixture(scope="module")
def corpus():
    return Corpus(
        "small",
        tuple(PASSAGES.values()),
        tuple(PASSAGES),
        "all",
        queries=tuple(QUERIES.values()),
        query_ids=tuple(QUERIES),
        relevant=(("q1", "d4", 1.0), ("q2", "d1", 1.0), ("q2", "d4", 1.0), ("q3", "d3", 2.0)),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random BERT of 40 positions as sentence-transformers saves it, with prompts."""
    encoder, folder = tmp_path_factory.mktemp("encoder"), tmp_path_factory.mktemp("sentences")
    random_module("bert").save_pretrained(encoder)
    word_tokenizer("bert").save_pretrained(encoder)
    modules = [st.Transformer(str(encoder)), st.Pooling(16), st.Normalize()]
    SentenceTransformer(modules=modules, device="cpu", prompts=PROMPTS).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def theirs(folder):
    return SentenceTransformer(str(folder), device="cpu")


def test_embed_is_what_sentence_transformers_encodes_with_the_models_own_prompts(folder, theirs, corpus):
    model = load_model(folder)
    np.testing.assert_allclose(embed(model, corpus), theirs.encode_document(TEXTS), atol=2e-6)
    queries = list(QUERIES.values())
    np.testing.assert_allclose(embed(model, queries, "query"), theirs.encode_query(queries), atol=2e-6)
    for prefix in ("", "who "):
        np.testing.assert_allclose(embed(model, corpus, prefix=prefix), theirs.encode(TEXTS, prompt=prefix), atol=2e-6)
    assert np.abs(embed(model, corpus).values - embed(model, corpus, prefix="").values).max() > 0.01


def test_embed_takes_the_default_prompt_where_the_model_has_none_for_the_role(folder, tmp_path):
    theirs = SentenceTransformer(str(folder), device="cpu", prompts={"passage": "if ", "mine": "who "})
    theirs.default_prompt_name = "mine"
    theirs.prompts.pop("document", None)
    theirs.prompts.pop("query", None)
    theirs.save_pretrained(str(tmp_path))
    model = load_model(tmp_path)
    model.pooling.prompts.pop("query", None)  # older files have no empty one
    model.pooling.prompts.pop("document", None)
    np.testing.assert_allclose(embed(model, TEXTS), theirs.encode(TEXTS, prompt="if "), atol=2e-6)
    np.testing.assert_allclose(embed(model, TEXTS, "query"), theirs.encode(TEXTS, prompt="who "), atol=2e-6)


def test_retrieve_is_encode_and_the_top_k_by_cosine(folder, theirs, corpus):
    found = retrieve(str(folder), corpus, k=4)
    cosine = theirs.encode_query(list(QUERIES.values())) @ theirs.encode_document(TEXTS).T
    best = np.argsort(-cosine, axis=1)[:, :4]
    assert found["id"].values.tolist() == np.array(list(PASSAGES))[best].tolist()
    np.testing.assert_allclose(found["score"], np.take_along_axis(cosine, best, 1), atol=2e-6)
    assert found["query"].values.tolist() == list(QUERIES)
    about = json.loads(found.attrs["provenance"])
    assert about["corpus"]["sha256"] == corpus.sha256
    assert about["model"]["weights_sha256"] == load_model(folder).weights_sha256
    assert (about["query_prefix"], about["passage_prefix"], about["rows"]) == ("the pilot ", "if the ", "sentence")
    assert (about["k"], about["metric"]) == (4, "cosine")


def test_retrieve_leaves_out_what_it_is_told_to(folder, corpus):
    whole = retrieve(str(folder), corpus, k=6)["id"].sel(query="q1").values.tolist()
    less = retrieve(str(folder), corpus, k=4, leave_out={"q1": whole[:2]})
    assert less["id"].sel(query="q1").values.tolist() == whole[2:]
    with pytest.raises(rs.InputError, match="leaves a query only 4 of 6"):
        retrieve(str(folder), corpus, k=5, leave_out={"q1": whole[:2]})


def test_retrieve_takes_a_model_without_a_pooling_and_judgements_of_the_corpus(corpus):
    found = retrieve("tiny-neox-w32-d2", corpus, k=6)
    assert json.loads(found.attrs["provenance"])["rows"] == "mean"
    scores = relevance(found, corpus.judgements, 6)
    assert scores["recall"].values.ravel().tolist() == [1, 1, 1]
    place = found["id"].sel(query="q1").values.tolist().index("d4")
    assert scores["ndcg"].sel(query="q1", k=6).item() == pytest.approx(1 / np.log2(2 + place))


def states(model, text, layer, length=None):
    """Means over tokens and numbers of tokens of every window of a text, one window at a time."""
    found = []
    for window in model.windows([text], length):
        batch = model.collate([window])
        hidden = model.run(model.embed(batch), 0, layer, batch)[0]
        counted = model.pooled(batch)[0]
        found.append((hidden[counted].mean(0), int(counted.sum()), hidden))
    return found


@pytest.mark.parametrize("layer", [1, None])
@pytest.mark.parametrize("kind", ["bert", "neox"])
def test_embed_averages_over_the_tokens_of_all_windows_of_a_long_text(folder, kind, layer):
    model = load_model(folder if kind == "bert" else "tiny-neox-w32-d2")
    long = "the baker admired the clerk " * (20 if kind == "bert" else 120)
    parts = states(model, long, model.n_layers if layer is None else layer)
    assert len(parts) > 1
    assert parts[0][1] != parts[-1][1]
    expected = sum(mean * n for mean, n, _ in parts) / sum(n for _, n, _ in parts)
    found = embed(model, ["yawned", long, "danced"], rows="mean", prefix="", layer=layer)
    np.testing.assert_allclose(found[1], expected.detach(), atol=1e-5)
    alone = embed(model, ["danced"], rows="mean", prefix="", layer=layer)
    np.testing.assert_allclose(found[2], alone[0], atol=1e-6)


def test_embed_reads_the_last_token_of_the_last_window_and_the_first_of_the_first(folder):
    model = load_model("tiny-neox-w32-d2")
    long = "the baker admired the clerk " * 120
    last = states(model, long, 2)[-1][2][-1]
    np.testing.assert_allclose(embed(model, [long], rows="last")[0], last.detach(), atol=1e-5)
    encoder = load_model(folder)
    first = states(encoder, TEXTS[-1], 3)[0][2][0]
    np.testing.assert_allclose(embed(encoder, TEXTS, rows="cls", prefix="", layer=3)[-1], first.detach(), atol=1e-5)
    with pytest.raises(rs.InputError, match='rows="cls" does not work for the causal model'):
        embed(model, [long], rows="cls")


def test_embed_prepends_a_prefix_to_the_text_of_a_model_without_prompts():
    with_prefix = embed("tiny-neox-w32-d2", ["a file is read"], "query", prefix="query: ")
    np.testing.assert_array_equal(with_prefix, embed("tiny-neox-w32-d2", ["query: a file is read"]))
    assert json.loads(with_prefix.attrs["provenance"])["prefix"] == "query: "


@pytest.mark.parametrize("rows", ["sentence", "mean"])
def test_embed_takes_from_a_store_what_it_has_put_there(folder, tmp_path, rows, monkeypatch, corpus):
    model, store = load_model(folder), rs.Store(tmp_path)
    made = embed(model, corpus, rows=rows, store=store)
    assert len(store.entries()) == 1
    other = embed(model, corpus, rows=rows, store=store, prefix="who ")
    assert len(store.entries()) == 2
    assert not np.array_equal(made, other)
    for name in ("sentences", "read"):
        monkeypatch.setattr(type(model), name, None)  # nothing runs
    again = embed(model, corpus, rows=rows, store=store)
    assert again.identical(made)
    with pytest.raises(TypeError):
        embed(model, corpus, rows=rows, store=store, prefix="other ")


def test_embed_does_not_take_old_vectors_of_changed_weights(folder, tmp_path, corpus):
    model, store = load_model(folder), rs.Store(tmp_path)
    made = embed(model, corpus, store=store)
    with torch.no_grad():
        model.module.get_input_embeddings().weight.neg_()
    assert np.abs(embed(model, corpus, store=store).values - made.values).max() > 0.01


def test_embed_does_not_depend_on_the_size_of_batches(folder, corpus):
    np.testing.assert_allclose(embed(str(folder), corpus, batch_tokens=1), embed(str(folder), corpus), atol=2e-6)


def test_memory_of_retrieval_counts_weights_and_vectors(corpus):
    about = memory_of_retrieval("tiny-neox-w32-d2", corpus, k=3, memory_limit=10**9)
    model = load_model("tiny-neox-w32-d2")
    assert about.weights == sum(4 * p.numel() for p in model.module.parameters())
    assert about.vectors == 2 * 4 * 9 * 32
    assert about.peak == about.weights + about.vectors + max(about.batch, about.search)
    assert "limit    1 GB" in str(about)


def test_queries_of_a_corpus_are_a_corpus(corpus):
    queries = queries_of(corpus)
    assert (queries.texts, queries.documents) == (tuple(QUERIES.values()), tuple(QUERIES))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"role": "document"}, "Unknown role 'document'"),
        ({"rows": "men"}, "Did you mean 'mean'"),
        ({"rows": "sentence"}, "has no sentence vectors of its own"),
        ({"layer": 3}, "layer"),
        ({"site": "mlp"}, "Unknown site 'mlp'"),
        ({"prefix": 3}, "prefix=3; expected a text"),
        ({"memory_limit": 100}, "vectors of 2 texts, 32 wide, need .*limit is 100 bytes"),
        ({"texts": "nli-heuristics"}, "holds pairs of texts"),
        ({"rowz": "mean"}, "Did you mean 'rows'"),
    ],
)
def test_embed_says_what_is_wrong(given, message):
    with pytest.raises(rs.InputError, match=message):
        embed(**{"model": "tiny-neox-w32-d2", "texts": ["one text", "another one"]} | given)


def test_embed_refuses_a_layer_that_would_have_no_effect(folder):
    with pytest.raises(rs.InputError, match="layer and site would have no effect"):
        embed(str(folder), TEXTS, layer=1)


def test_retrieve_refuses_a_corpus_without_queries():
    with pytest.raises(rs.InputError, match="has no queries; expected a corpus of queries and passages"):
        retrieve("tiny-neox-w32-d2", "python-docs")
