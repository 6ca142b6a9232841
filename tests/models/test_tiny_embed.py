"""The embedded sentence encoders, as they are shipped."""

import json

import numpy as np
import pytest
import torch

import repsim_nb as rs
from repsim_nb.models.checkpoint import read_metadata
from repsim_nb.retrieval import relevance, search, summary
from repsim_nb.system.shipped import data_dir
from repsim_nb.zoo.recipes import OBJECTIVES, RECIPES, TRUNKS, as_json

FAMILY = "tiny-embed"
NAMES = [name for name, recipe in RECIPES.items() if recipe.family == FAMILY]
TRUNK_NAMES = [f"{FAMILY}-{shape}" for shape in TRUNKS]


@pytest.fixture(scope="module")
def catalogue():
    return rs.list_models().query("family == @FAMILY")


@pytest.fixture(scope="module")
def corpus():
    return rs.load_corpus("docstrings")


def about(name):
    return read_metadata(data_dir() / name / "model.safetensors")


def recall(name, corpus):
    """Recall at 10 of every query."""
    model = rs.load_model(name)
    queries, passages = (model.sentences(list(texts)).numpy() for texts in (corpus.queries, corpus.texts))
    found = search(queries, passages, 10, query_ids=corpus.query_ids, passage_ids=corpus.documents)
    return relevance(found, corpus.judgements, 10, "recall")


def test_tiny_embed_has_two_trunks_and_two_seeds_of_every_objective_on_each(catalogue):
    assert set(catalogue.index) == set(NAMES)
    assert len(NAMES) == 2 + 2 * 2 * len(OBJECTIVES)
    assert (catalogue.kind == "encoder").all()
    assert not catalogue.needs_download.any()
    assert catalogue.loc[TRUNK_NAMES, "n_layers"].nunique() == catalogue.loc[TRUNK_NAMES, "d_model"].nunique() == 2


def test_tiny_embed_takes_at_most_6_mb():
    sizes = [path.stat().st_size for name in NAMES for path in (data_dir() / name).rglob("*") if path.is_file()]
    assert sum(sizes) < 6e6


@pytest.mark.parametrize("name", NAMES)
def test_tiny_embed_records_where_it_comes_from(name):
    card, recipe = about(name), RECIPES[name]
    assert card["recipe"] == as_json(recipe)
    assert json.loads(card["loss_curve"])[-1][0] == recipe.steps
    assert card["corpus_split"] == "train"
    assert card["corpus"] == ("python-docs" if name in TRUNK_NAMES else "docstrings")
    assert len(card["corpus_sha256"]) == 64
    assert json.loads(card["corpus_source"])["python"]
    assert "MIT" in card["licence"]
    if name not in TRUNK_NAMES:
        assert card["trunk"] == as_json(RECIPES[recipe.trunk])
        assert card["trunk_curve"] == about(recipe.trunk)["loss_curve"]


def test_tiny_embed_contrastive_recalls_ten_times_chance_and_more_than_its_trunk(catalogue):
    for name in NAMES:
        if "contrastive" in name:
            scores = json.loads(about(name)["retrieval"])
            assert scores["split"] == "test"
            assert scores["recall_at_10"] == catalogue.recall[name] > 10 * scores["chance_recall_at_10"]
            assert scores["recall_at_10"] > catalogue.recall[RECIPES[name].trunk]


@pytest.mark.parametrize("trunk", TRUNK_NAMES)
def test_tiny_embed_contrastive_is_above_its_trunk_by_an_interval_over_queries(corpus, catalogue, trunk):
    name = f"{trunk}-contrastive-s1"
    better, bare = recall(name, corpus), recall(trunk, corpus)
    assert summary(better - bare, bounds=(-1, 1)).loc["recall", 10].low > 0.1
    assert summary(better).loc["recall", 10].low > 10 * 10 / len(corpus)
    assert better["recall"].mean() == pytest.approx(catalogue.recall[name], abs=0.05)  # other versions, other texts
    assert bare["recall"].mean() == pytest.approx(catalogue.recall[trunk], abs=0.05)


@pytest.mark.parametrize("name", [TRUNK_NAMES[0], *(f"{TRUNK_NAMES[1]}-{objective}-s0" for objective in OBJECTIVES)])
def test_tiny_embed_gives_the_vectors_of_sentence_transformers(corpus, name):
    from sentence_transformers import SentenceTransformer

    texts = [*corpus.texts[:10], *corpus.queries[:10]]
    published = SentenceTransformer(str(data_dir() / name), device="cpu", model_kwargs={"dtype": torch.float32})
    vectors = rs.load_model(name).sentences(texts).numpy()
    assert np.abs(published.encode(texts) - vectors).max() < 1e-5
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1) == ("contrastive" in name)
    assert max(map(len, published.tokenizer(texts)["input_ids"])) > 128 == published.max_seq_length


def test_tiny_embed_members_of_a_cell_differ_by_seed():
    texts = [
        "Compute the eigenvalues of a matrix.",
        "Open a file and read its lines.",
        "Draw a line between two points.",
    ]
    vectors = {name: rs.load_model(name).sentences(texts).numpy() for name in NAMES if name.endswith(("s0", "s1"))}
    for name in vectors:
        if name.endswith("s0"):
            assert np.abs(vectors[name] - vectors[f"{name[:-1]}1"]).max() > 1e-2


def test_tiny_embed_is_compared_by_its_passages_like_any_model(corpus):
    found = rs.compare(TRUNK_NAMES[0], TRUNK_NAMES[1], corpus.take(range(40)), rows="mean", n_rows=40)
    assert found.shape == (4, 5)
    assert "docstrings" in found.attrs["provenance"]
