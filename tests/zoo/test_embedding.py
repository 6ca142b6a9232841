import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import repsim_nb as rs
from repsim_nb.models.checkpoint import read_metadata
from repsim_nb.zoo import build, embedding
from repsim_nb.zoo.bert import batch_at
from repsim_nb.zoo.recipes import OBJECTIVES, RECIPES, EmbeddingRecipe
from repsim_nb.zoo.vocabulary import SPECIAL, piece_tokenizer

TRUNK = "tiny-embed-w48-d3"
MEMBERS = {objective: f"{TRUNK}-{objective}-s0" for objective in OBJECTIVES}
FEW = {"train": 60, "test": 25}


@pytest.fixture(scope="module")
def small():
    """Small recipes, and corpora of a few documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "load_corpus", few)
        patch.setattr("repsim_nb.zoo.training.SAVE_EVERY", 2)
        patch.setattr("repsim_nb.zoo.vocabulary.VOCABULARY", 300)
        trunk = dataclasses.replace(RECIPES[TRUNK], width=16, depth=2, head_width=8, batch=4, steps=4, warmup=1)
        patch.setitem(RECIPES, TRUNK, trunk)
        for name, recipe in RECIPES.items():
            if isinstance(recipe, EmbeddingRecipe):
                patch.setitem(RECIPES, name, dataclasses.replace(recipe, batch=8, steps=6, warmup=2))
        yield


def few(name, split):
    corpus = rs.load_corpus(name, split)
    return corpus.take(range(len(corpus) - FEW[split], len(corpus)))  # prose is last in python-docs


@pytest.fixture(scope="module")
def zoo(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("zoo")
    for name in MEMBERS.values():
        build(name, out)
    return out


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("objective", [None, *OBJECTIVES])
def test_build_writes_sentence_encoders_that_both_libraries_read_alike(zoo, objective):
    from sentence_transformers import SentenceTransformer

    folder = zoo / MEMBERS.get(objective, TRUNK)
    texts = list(few("docstrings", "test").texts)
    published = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    assert [type(module).__name__ for module in published] == [
        *("Transformer", "Pooling"),
        *(["Normalize"] if objective == "contrastive" else []),
    ]
    model = rs.load_model(folder)
    assert (model.kind, model.n_layers, model.d_model) == ("encoder", 2, 16)
    assert np.abs(published.encode(texts) - model.sentences(texts).numpy()).max() < 1e-5
    assert {tensor.dtype for tensor in weights(folder).values()} == {torch.float16}


@pytest.mark.parametrize("objective", [None, *OBJECTIVES])
def test_build_publishes_recall_that_follows_from_the_written_model(zoo, objective, monkeypatch):
    name = MEMBERS.get(objective, TRUNK)
    corpus, model = few("docstrings", "test"), rs.load_model(zoo / name)
    queries, passages = (model.sentences(texts).numpy() for texts in (corpus.queries, corpus.texts))
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        passages / np.linalg.norm(passages, axis=1, keepdims=True)
    ).T
    recall = np.mean([(row > row[i]).sum() < 10 for i, row in enumerate(cosines)])
    about = read_metadata(zoo / name / "model.safetensors")
    scores = json.loads(about["retrieval"])
    assert scores["recall_at_10"] == pytest.approx(recall, abs=1e-9)
    assert (scores["corpus_sha256"], scores["chance_recall_at_10"]) == (corpus.sha256, 10 / 25)
    monkeypatch.setattr("repsim_nb.models.catalogue.data_dir", lambda: zoo)
    row = rs.list_models().loc[name]
    assert (row.kind, row.family, row.recall) == ("encoder", "tiny-embed", scores["recall_at_10"])


def test_build_records_recipe_curve_corpus_and_trunk(zoo):
    for objective, name in MEMBERS.items():
        about = read_metadata(zoo / name / "model.safetensors")
        recipe = json.loads(about["recipe"])
        assert (recipe["name"], recipe["objective"], recipe["trunk"]) == (name, objective, TRUNK)
        assert json.loads(about["loss_curve"])[-1][0] == 6
        assert about["corpus_sha256"] == few("docstrings", "train").sha256
        assert json.loads(about["trunk"])["name"] == TRUNK
        assert json.loads(about["trunk_curve"]) == json.loads(
            read_metadata(zoo / TRUNK / "model.safetensors")["loss_curve"]
        )
        assert "MIT" in about["licence"]


def test_build_writes_one_tokenizer_that_neither_cuts_nor_pads(zoo):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        contents = {(zoo / name / file).read_text(encoding="utf-8") for name in (TRUNK, *MEMBERS.values())}
        assert len(contents) == 1
    backend = json.loads((zoo / TRUNK / "tokenizer.json").read_text(encoding="utf-8"))
    assert (backend["truncation"], backend["padding"]) == (None, None)


def test_build_changes_the_trunk_by_each_objective(zoo):
    start = weights(zoo / TRUNK)
    for name in MEMBERS.values():
        found = weights(zoo / name)
        assert found.keys() == start.keys()  # heads are thrown away
        assert any(not torch.equal(found[key], start[key]) for key in start)


def test_build_resumes_a_sentence_encoder_and_ends_where_an_unbroken_one_does(zoo, tmp_path, monkeypatch):
    name = MEMBERS["pairs"]
    (tmp_path / TRUNK).symlink_to(zoo / TRUNK)

    def until(step, *given):
        if step == 5:
            raise KeyboardInterrupt
        return batch_at(step, *given)

    monkeypatch.setattr(embedding, "batch_at", until)
    with pytest.raises(KeyboardInterrupt):
        build(name, tmp_path)
    monkeypatch.setattr(embedding, "batch_at", batch_at)
    resumed, whole = weights(build(name, tmp_path)), weights(zoo / name)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_build_mlm_starts_from_the_trunk_with_another_head_for_each_seed(zoo):
    from transformers import AutoTokenizer

    corpus, tokenizer = few("docstrings", "train"), AutoTokenizer.from_pretrained(zoo / TRUNK)
    recipe = RECIPES[MEMBERS["mlm"]]
    start = {key: value.float() for key, value in weights(zoo / TRUNK).items()}
    heads = []
    for seed in (1, 2):
        other = dataclasses.replace(recipe, init_seed=seed)
        model, encoder, loss_at = embedding._language_model(other, zoo / TRUNK, corpus, tokenizer)
        assert all(torch.equal(value, start[key]) for key, value in encoder.state_dict().items())
        heads.append(model.cls.predictions.transform.dense.weight)
        assert loss_at(0).isfinite()
    assert not torch.equal(*heads)


def test_contrastive_loss_is_the_cross_entropy_of_cosines_both_ways(zoo, monkeypatch):
    from transformers import AutoTokenizer

    monkeypatch.setattr(embedding, "QUERY_LENGTH", 128)
    corpus, tokenizer = few("docstrings", "train"), AutoTokenizer.from_pretrained(zoo / TRUNK)
    recipe = dataclasses.replace(RECIPES[MEMBERS["contrastive"]], batch=4, length=128)
    *_, loss_at = embedding._contrastive(recipe, zoo / TRUNK, corpus, tokenizer)
    index = batch_at(3, len(corpus), 4, recipe.data_seed)
    model = rs.load_model(zoo / TRUNK)
    u, v = (F.normalize(model.sentences([texts[i] for i in index]), dim=-1) for texts in (corpus.queries, corpus.texts))
    p = torch.exp(u @ v.T / 0.05)
    expected = -(torch.log(p.diag() / p.sum(0)) + torch.log(p.diag() / p.sum(1))).mean() / 2
    assert loss_at(3).item() == pytest.approx(expected.item(), abs=1e-4)


def test_pooled_does_not_depend_on_padding(zoo):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(zoo / TRUNK)
    encoder = embedding._encoder(zoo / TRUNK)
    texts = ["Short.", "A text that is longer than the other one by some words."]
    together = embedding.embed(encoder, tokenizer, texts)
    alone = np.concatenate([embedding.embed(encoder, tokenizer, [text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5


def test_embedding_recipes_are_each_objective_on_each_trunk_with_two_seeds():
    recipes = [recipe for recipe in RECIPES.values() if isinstance(recipe, EmbeddingRecipe)]
    cells = {(recipe.trunk, recipe.objective) for recipe in recipes}
    assert len(cells) == 2 * len(OBJECTIVES)
    for cell in cells:
        pair = [recipe for recipe in recipes if (recipe.trunk, recipe.objective) == cell]
        same = [dataclasses.replace(recipe, name="", init_seed=0, data_seed=0) for recipe in pair]
        assert len(pair) == 2
        assert same[0] == same[1]


def test_piece_tokenizer_is_the_same_every_time_and_splits_as_bert_does():
    texts = [f"Compute value number {i} of the matrix_{i % 7}." for i in range(200)]
    one, other = (piece_tokenizer(texts, 32) for _ in range(2))
    assert one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()
    assert [one.convert_tokens_to_ids(token) for token in SPECIAL] == list(range(len(SPECIAL)))
    assert set(one.all_special_tokens) == set(SPECIAL)
    assert one.tokenize("COMPUTE ##a")[0] == "compute"
    assert one.decode(one("compute the matrix_1")["input_ids"], skip_special_tokens=True) == "compute the matrix _ 1"
    assert one("é" * 3)["input_ids"] == one("e" * 3)["input_ids"]
    assert one.tokenize("数") == ["[UNK]"]
