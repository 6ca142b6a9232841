import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import repsim_nb as rs
from repsim_nb.corpora import nli_heuristics
from repsim_nb.errors import InputError
from repsim_nb.models import accuracies
from repsim_nb.zoo import Recipe, build, list_recipes
from repsim_nb.zoo.bert import batch_at, masked
from repsim_nb.zoo.neox import NeoX
from repsim_nb.zoo.recipes import RECIPES
from repsim_nb.zoo.training import learning_rate, sequences, train

RECIPE = Recipe("toy", "toy", width=16, depth=1, init_seed=1, data_seed=2, head_width=8, rotary=2, context=32, batch=4,
                steps=60, warmup=5, checkpoints=(0, 30))  # fmt: skip
STREAM = np.random.default_rng(0).integers(1, 50, 5000).astype(np.int32)

PROGRAM = """
import sys
import repsim_nb.zoo.training as training
training.SAVE_EVERY = 7
sys.path.insert(0, sys.argv[2])
from tests.zoo.test_zoo import RECIPE, STREAM, toy
from pathlib import Path
slow = lambda step: None
original = training.sequences
def sequences(*a):
    import time; time.sleep(0.02)
    return original(*a)
training.sequences = sequences
print(training.train(toy(), RECIPE, STREAM, 0, Path(sys.argv[1]), slow)[-1])
"""


def toy():
    return NeoX(50, RECIPE.width, RECIPE.depth, 2, RECIPE.rotary, RECIPE.context, RECIPE.init_seed)


@pytest.fixture
def whole_run(tmp_path, monkeypatch):
    monkeypatch.setattr("repsim_nb.zoo.training.SAVE_EVERY", 7)
    seen = []
    curve = train(toy(), RECIPE, STREAM, 0, tmp_path / "state.safetensors", seen.append)
    assert seen == [0, 30]
    return curve


def test_training_lowers_the_loss_and_is_deterministic(whole_run, tmp_path, monkeypatch):
    again = train(toy(), RECIPE, STREAM, 0, tmp_path / "again.safetensors", lambda step: None)
    assert again == whole_run
    assert whole_run[-1][1] < whole_run[0][1]
    other = dataclasses.replace(RECIPE, data_seed=3)
    assert train(toy(), other, STREAM, 0, tmp_path / "other.safetensors", lambda step: None) != whole_run


def test_a_killed_training_goes_on_and_ends_where_an_unbroken_one_does(whole_run, tmp_path):
    state = tmp_path / "killed.safetensors"
    command = [sys.executable, "-c", PROGRAM, str(state), str(Path(__file__).parents[2])]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env)
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.exists()
    resumed = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert "step 7/60" not in resumed.stdout  # it did not begin again
    final = eval(resumed.stdout.strip().splitlines()[-1])
    assert final[0] == 60
    assert abs(final[1] - whole_run[-1][1]) < 1e-3


def test_a_batch_depends_on_seed_and_step_alone():
    assert torch.equal(sequences(STREAM, RECIPE, 5, 0), sequences(STREAM, RECIPE, 5, 0))
    assert not torch.equal(sequences(STREAM, RECIPE, 5, 0), sequences(STREAM, RECIPE, 6, 0))
    assert (sequences(STREAM, RECIPE, 5, 0)[:, 0] == 0).all()


def test_learning_rate_warms_up_then_falls_to_a_tenth():
    rates = [learning_rate(RECIPE, step) for step in range(RECIPE.steps)]
    assert np.argmax(rates) in (4, 5)
    assert rates[-1] == pytest.approx(0.1 * RECIPE.learning_rate, rel=0.02)


def test_no_two_members_share_a_seed():
    recipes = list_recipes()
    assert recipes.init_seed.dropna().is_unique  # nothing is initialised where a model is trained further
    assert recipes.data_seed.is_unique
    assert not set(recipes.init_seed.dropna()) & set(recipes.data_seed)


def test_later_tokens_change_nothing_before_them():
    model = toy().eval()
    ids = sequences(STREAM, RECIPE, 0, 0)
    changed = ids.clone()
    changed[:, 20:] = 1
    with torch.no_grad():
        assert torch.allclose(model(ids)[:, :20], model(changed)[:, :20], atol=1e-6)
        assert not torch.allclose(model(ids)[:, 20:], model(changed)[:, 20:], atol=1e-2)


@pytest.fixture
def small(monkeypatch):
    """Recipes of a small encoder and two classifiers, and a corpus of a few pairs."""
    sizes = {"pretrain": 300, "train": 200, "validation": 20, "test": 40, "ood": 2}
    monkeypatch.setattr("repsim_nb.corpora.nli_heuristics.SIZES", sizes)
    monkeypatch.setattr("repsim_nb.zoo.training.SAVE_EVERY", 4)
    nli_heuristics.build.cache_clear()
    encoder = dataclasses.replace(RECIPES["tiny-bert-mlm"], width=16, depth=2, head_width=8, batch=16, steps=12)
    heads = [dataclasses.replace(RECIPES[f"tiny-bert-nli-0{i}"], batch=16, steps=12, warmup=2) for i in range(2)]
    for recipe in (encoder, *heads):
        monkeypatch.setitem(RECIPES, recipe.name, recipe)
    yield encoder, *heads
    nli_heuristics.build.cache_clear()


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_classifier_is_built_with_its_encoder_and_loads_with_its_card(small, tmp_path, monkeypatch):
    _, one, _ = small
    folder = build(one.name, tmp_path)
    shutil.rmtree(tmp_path / "tiny-bert-mlm")  # made on the way, and not among the models to load
    model = rs.load_model(folder)
    assert (model.kind, model.n_layers, model.d_model) == ("classifier", 2, 16)
    assert model.labels == list(nli_heuristics.LABELS)
    assert {tensor.dtype for tensor in weights(folder).values()} == {torch.float16}
    monkeypatch.setattr("repsim_nb.models.catalogue.data_dir", lambda: tmp_path)
    row = rs.list_models().loc[one.name]
    assert (row.kind, row.family, row.n_layers) == ("classifier", "tiny-bert-nli", 2)
    assert row.accuracy == accuracies().loc[one.name, "test"]
    for split, published in (("test", row.accuracy), ("ood", accuracies().loc[one.name].iloc[1:].mean())):
        corpus = rs.load_corpus("nli-heuristics", split)
        with torch.no_grad():
            guesses = model.logits(model.batch(corpus.inputs)).argmax(-1)
        right = [model.labels[g] == label for g, label in zip(guesses, corpus.labels, strict=True)]
        assert np.mean(right) == pytest.approx(published, abs=1e-6)
    assert list(accuracies().columns[1:]) == [str(case) for case in nli_heuristics.CASES]


def test_classifiers_differ_in_head_and_data_order_alone(small, tmp_path, monkeypatch):
    _, one, other = small
    for recipe in (one, other):
        monkeypatch.setitem(RECIPES, recipe.name, dataclasses.replace(recipe, steps=0))
    start = weights(build("tiny-bert-mlm", tmp_path))
    first, second = (weights(build(recipe.name, tmp_path)) for recipe in (one, other))
    for name in first:
        shared = name in start
        assert shared == torch.equal(first[name], second[name]) or name.endswith("bias"), name
        assert not shared or torch.equal(first[name], start[name].half())
    assert dataclasses.replace(other, name=one.name, init_seed=one.init_seed, data_seed=one.data_seed) == one
    assert len({tuple(batch_at(0, 200, 16, recipe.data_seed)) for recipe in (one, other)}) == 2


def test_an_interrupted_fine_tuning_ends_where_an_unbroken_one_does(small, tmp_path, monkeypatch):
    _, one, _ = small
    whole = weights(build(one.name, tmp_path / "whole"))
    build("tiny-bert-mlm", tmp_path / "broken")

    def until(step, *given):
        if step == 9:
            raise KeyboardInterrupt
        return batch_at(step, *given)

    monkeypatch.setattr("repsim_nb.zoo.bert.batch_at", until)
    with pytest.raises(KeyboardInterrupt):
        build(one.name, tmp_path / "broken")
    monkeypatch.setattr("repsim_nb.zoo.bert.batch_at", batch_at)
    resumed = weights(build(one.name, tmp_path / "broken"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_an_epoch_has_every_pair_once_and_every_epoch_its_own_order():
    epochs = [np.concatenate([batch_at(10 * e + i, 160, 16, 7) for i in range(10)]) for e in range(2)]
    assert all(sorted(epoch) == list(range(160)) for epoch in epochs)
    assert (epochs[0] != epochs[1]).any()


def test_masking_hides_a_share_of_the_words_and_no_special_token():
    ids = torch.cat([torch.full((200, 1), 2), torch.full((200, 50), 30), torch.zeros(200, 9, dtype=torch.int64)], 1)
    hidden, targets = masked(ids, 0.15, 66, np.random.default_rng(0))
    words = ids == 30
    assert (hidden[~words] == ids[~words]).all()
    assert ((targets == 30) <= words).all()
    chosen = targets == 30
    assert chosen.sum() / words.sum() == pytest.approx(0.15, abs=0.01)
    assert (hidden[chosen] == 4).float().mean() == pytest.approx(0.8, abs=0.04)
    assert (hidden[chosen] == 30).float().mean() == pytest.approx(0.1, abs=0.04)
    assert (hidden[~chosen] == ids[~chosen]).all()


def test_an_unknown_recipe_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'tiny-bert-mlm'"):
        build("tiny-bert-mlmm", tmp_path)
