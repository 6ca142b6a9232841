"""The whole path from models and text to a labelled result, on models that ship and on one that others trained."""

import json
import math

import numpy as np
import pytest
import torch

import repsim_nb as rs
from tests.support.realdata import realdata

STORIES = realdata("stories260k")


@pytest.fixture(scope="module")
def acts():
    return rs.extract("tiny-neox-w64-d4", n_rows=2048)


def test_a_model_compared_with_itself_has_cka_one_on_the_diagonal_and_is_symmetric(acts):
    result = rs.compare(acts)
    assert np.abs(np.diag(result) - 1).max() < 1e-5
    assert np.allclose(result, result.T, atol=1e-12)
    assert (result < 1 + 1e-9).all()


@pytest.mark.parametrize("measure", ["procrustes", "angular_shape"])
def test_distances_of_a_model_to_itself_are_zero_on_the_diagonal(acts, measure):
    assert np.abs(np.diag(rs.compare(acts, measure=measure))).max() < 1e-3  # a root halves float32's digits


def test_shuffled_rows_share_nothing_and_an_untrained_twin_little(acts):
    order = np.random.default_rng(0).permutation(len(acts.rows))
    shuffled = rs.compare(acts, {layer: acts[layer][order] for layer in acts})
    assert np.abs(shuffled).max() < 0.05
    twin = rs.extract("tiny-neox-w64-d4@step0", n_rows=2048)
    untrained = rs.compare(acts, twin)
    assert np.abs(np.diag(untrained))[1:].max() < 0.9
    biased = rs.compare(
        acts, {layer: acts[layer][order] for layer in acts}, measure=rs.get_measure("cka", debiased=False)
    )
    assert (biased > shuffled).all()


def test_the_provenance_says_what_made_the_result():
    result = rs.compare("tiny-neox-w32-d2", "tiny-neox-w32-d2@step0", n_rows=64, layers_b=[0, 2], seed=5)
    assert result.dims == ("layer_a", "layer_b")
    assert result.layer_b.values.tolist() == [0, 2]
    about = json.loads(result.attrs["provenance"])
    assert about["measure"] == "cka"
    assert about["measure_params"]["debiased"] is True
    assert about["b"]["model"]["revision"] == "step0"
    assert about["a"]["corpus"]["sha256"] == rs.load_corpus("python-docs").sha256
    assert about["a"]["seed"] == 5
    assert len(about["a"]["model"]["weights_sha256"]) == 64
    assert about["versions"]["repsim-nb"] == rs.__version__


def test_a_result_survives_netcdf(acts, tmp_path):
    import xarray as xr

    result = rs.compare(acts)
    result.to_netcdf(tmp_path / "r.nc", engine="h5netcdf")
    with xr.open_dataarray(tmp_path / "r.nc", engine="h5netcdf") as back:
        assert np.array_equal(back.values, result.values)
        assert back.attrs["provenance"] == result.attrs["provenance"]


needs_stories = pytest.mark.skipif(
    not STORIES.exists(), reason="the weights of stories260K are not beside the checkout"
)
TALES = [
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her friends. "
    "One day, she saw a big red ball. She wanted to play with it, but it was too high in the tree.",
    "Tom and his dog went for a walk. The sun was hot and the dog was happy. They saw a cat on the wall. "
    "The dog ran to the cat, but the cat was fast. Tom laughed and they went home to eat.",
    "There was a small boat on the lake. A boy named Ben had a toy fish. He put the fish in the water. "
    "The fish did not swim. Ben was sad. His mom gave him a hug and said, let us play together.",
]


@needs_stories
@torch.no_grad()
def test_a_model_trained_by_others_reads_stories_well():
    model = rs.load_model(STORIES)
    batch = model.batch(TALES)
    loss = -model.logits(batch)[:, :-1].log_softmax(-1).gather(-1, batch.ids[:, 1:, None])[..., 0]
    real = batch.carries_text[:, 1:]
    assert loss[real].mean() < 0.4 * math.log(model.logits(batch).shape[-1])


@needs_stories
def test_models_with_other_tokenizers_meet_in_one_call():
    result = rs.compare(STORIES, "tiny-neox-w64-d4", corpus=TALES * 4, n_rows=300)
    assert result.shape == (6, 5)
    assert result.n_rows == 300
    assert 0.05 < float(result.max()) < 1
