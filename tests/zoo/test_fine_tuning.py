import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

import repsim_nb as rs
from repsim_nb.models.checkpoint import read_metadata
from repsim_nb.system.shipped import data_dir
from repsim_nb.zoo import build
from repsim_nb.zoo.fine_tuning import freeze_all_but, read_back
from repsim_nb.zoo.recipes import RECIPES, DescendantRecipe, as_json

FAMILY = "tiny-neox-descendants"
NAMES = [name for name, recipe in RECIPES.items() if recipe.family == FAMILY]
BASE = "tiny-neox-w32-d8"


def weights(name):
    return load_file(data_dir() / name / "model.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_it_ships_as_its_recipe_says(name):
    card = read_metadata(data_dir() / name / "model.safetensors")
    assert card["recipe"] == as_json(RECIPES[name])
    assert card["family"] == FAMILY
    assert card["corpus_source"] == read_metadata(data_dir() / BASE / "model.safetensors")["corpus_source"]
    assert name in rs.list_models(family=FAMILY).index
    assert json.loads(card["loss_curve"])[-1][0] == RECIPES[name].steps
    assert (data_dir() / name / "tokenizer.json").read_bytes() == (data_dir() / BASE / "tokenizer.json").read_bytes()


def test_all_of_them_are_small_and_only_the_planted_blocks_differ():
    folders = [data_dir() / name for name in NAMES]
    assert sum(file.stat().st_size for folder in folders for file in folder.iterdir()) < 3e6
    base, planted = weights(BASE), weights(f"{BASE}-code-b3-b6")
    changed = {name.split(".")[2] for name in base if not torch.equal(base[name], planted[name])}
    assert changed == {"2", "5"}  # blocks are numbered from 1, modules from 0
    whole = weights(f"{BASE}-code")
    assert not any(torch.equal(base[name], whole[name]) for name in base if base[name].ndim == 2)


def test_freezing_leaves_the_blocks_that_are_named():
    model = read_back(RECIPES["tiny-neox-w32-d2"], data_dir() / "tiny-neox-w32-d2", 2048)
    freeze_all_but(model, (2,))
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert {name.split(".")[2] for name in trained} == {"1"}
    freeze_all_but(model, None)
    assert all(value.requires_grad for value in model.parameters())


def test_a_descendant_is_built_from_the_embedded_base(tmp_path, monkeypatch):
    corpus = rs.load_corpus("python-docs")
    few = corpus.take(range(0, len(corpus), 12))
    monkeypatch.setattr("repsim_nb.zoo.fine_tuning.load_corpus", lambda name, split: few)
    recipe = DescendantRecipe(
        "toy", "toys", 1, "tiny-neox-w32-d2", "code", (1,), context=64, batch=2, steps=3, warmup=1
    )
    monkeypatch.setitem(RECIPES, "toy", recipe)
    folder = build("toy", tmp_path)
    before, after = weights("tiny-neox-w32-d2"), load_file(folder / "model.safetensors")
    changed = {name.split(".")[2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"0"}
    card = read_metadata(folder / "model.safetensors")
    assert int(card["tokens_seen"]) == RECIPES["tiny-neox-w32-d2"].tokens + 3 * 2 * 64
    code = sum(name.startswith("code:") for name in few.documents)
    assert 0 < code < len(few)
    assert json.loads(card["recipe"])["documents"] == "code"
    monkeypatch.setitem(RECIPES, "prose", dataclasses.replace(recipe, name="prose", documents="prose"))
    other = read_metadata(build("prose", tmp_path) / "model.safetensors")
    assert other["corpus_sha256"] != card["corpus_sha256"]
    assert rs.load_model(folder).n_layers == 2
