import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from repsim_nb.errors import InputError
from repsim_nb.zoo import Recipe, build, list_recipes
from repsim_nb.zoo.neox import NeoX
from repsim_nb.zoo.training import learning_rate, sequences, train

RECIPE = Recipe("toy", "toy", width=16, depth=1, init_seed=1, data_seed=2, head_width=8, rotary=2, context=32, batch=4,
                steps=60, warmup=5, checkpoints=(0, 30))  # fmt: skip
STREAM = np.random.default_rng(0).integers(1, 50, 5000).astype(np.int32)

PROGRAM = """
import sys
import repsim_nb.zoo.training as training
training.SAVE_EVERY = 7
sys.path.insert(0, sys.argv[2])
from test_zoo import RECIPE, STREAM, toy
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
    command = [sys.executable, "-c", PROGRAM, str(state), str(Path(__file__).parent)]
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
    assert recipes.init_seed.is_unique
    assert recipes.data_seed.is_unique
    assert not set(recipes.init_seed) & set(recipes.data_seed)


def test_later_tokens_change_nothing_before_them():
    model = toy().eval()
    ids = sequences(STREAM, RECIPE, 0, 0)
    changed = ids.clone()
    changed[:, 20:] = 1
    with torch.no_grad():
        assert torch.allclose(model(ids)[:, :20], model(changed)[:, :20], atol=1e-6)
        assert not torch.allclose(model(ids)[:, 20:], model(changed)[:, 20:], atol=1e-2)


def test_an_unknown_recipe_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'tiny-neox-w64-d4'"):
        build("tiny-neox-w64-d5", tmp_path)
