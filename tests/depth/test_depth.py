import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.comparison import compare_all
from repsim_nb.depth import correspondence, decay, equal_depth, model_distances, over_training
from repsim_nb.errors import InputError


def maps(grid, other=None):
    found = {("a", "a"): xr.DataArray(grid, dims=("layer_a", "layer_b"))}
    if other is not None:
        found["b", "a"] = xr.DataArray(other, dims=("layer_a", "layer_b"))
    return found


def test_decay_is_minus_one_when_similarity_falls_with_distance_and_plus_one_when_it_rises():
    distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    assert decay(maps(1.0 - distance / 10)) == pytest.approx(-1)
    assert decay(maps(distance / 10.0)) == pytest.approx(1)


def test_decay_agrees_with_scipy_and_passes_over_maps_between_models():
    from scipy.stats import spearmanr

    grid = np.random.default_rng(0).random((6, 6))
    points = [(j - i, grid[i, j]) for i in range(6) for j in range(i + 1, 6)]
    expected = spearmanr(*zip(*points, strict=True)).statistic
    assert decay(maps(grid, np.ones((3, 6)))) == pytest.approx(expected)


def test_decay_is_within_models_however_far_apart_their_levels_are():
    distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    two = {(n, n): maps(level - distance / 10)["a", "a"] for n, level in (("a", 1.0), ("b", 9.0))}
    assert decay(two) == pytest.approx(-1)


def test_correspondence_is_zero_where_nothing_corresponds_whatever_the_levels():
    flat = {("a", "b"): maps(np.full((3, 3), 0.9))["a", "a"], ("a", "c"): maps(np.full((9, 9), 0.5))["a", "a"]}
    assert correspondence(flat) == pytest.approx(0)


def test_correspondence_compares_equal_relative_depth_with_the_rest():
    other = np.zeros((3, 5))
    other[0, 0] = other[1, 2] = other[2, 4] = 1  # 0, 1/2 and 1 of the depth
    assert correspondence(maps(np.eye(5), other)) == pytest.approx(1)
    assert correspondence(maps(np.eye(5), 1 - other)) == pytest.approx(-1)


def test_too_little_says_so():
    with pytest.raises(InputError, match="three or more layers"):
        decay(maps(np.eye(2)))
    with pytest.raises(InputError, match="undefined: all values of the map of a"):
        decay(maps(np.ones((4, 4))))
    with pytest.raises(InputError, match="two different models"):
        correspondence(maps(np.eye(4)))


def similar(grid):
    return xr.DataArray(
        grid, dims=("layer_a", "layer_b"), name="cka", attrs={"direction": "similarity", "upper_bound": 1.0}
    )


def test_equal_depth_of_models_that_share_some_depths():
    grid = np.random.default_rng(0).random((5, 7))  # depth 4 and 6: 0, 1/2 and 1
    assert equal_depth(similar(grid)).to_dict() == {0.0: grid[0, 0], 0.5: grid[2, 3], 1.0: grid[4, 6]}


def test_model_distances_are_the_papers_and_obey_the_triangle():
    values = np.array([0.997, 0.92, 0.866, 0.825])  # one pair of models, by layer
    two = {("b", "a"): similar(np.diag(values))}
    assert model_distances(two).loc["a", "b"] == pytest.approx(np.sqrt((np.arccos(values) ** 2).sum()))
    rng = np.random.default_rng(0)
    acts = {name: {layer: rng.normal(size=(40, 3)) for layer in range(2)} for name in "abcd"}
    d = model_distances(compare_all(acts, rs.get_measure("cka", debiased=False)))
    assert (np.diag(d) == 0).all()
    assert all(d.loc[i, j] <= d.loc[i, k] + d.loc[k, j] + 1e-12 for i in d for j in d for k in d)


def test_model_distances_sum_over_the_depths_that_all_models_share():
    """Depths 2 and 4 share three places, with 6 beside them too: the pair of depth 4 and 4 must leave two out."""
    half = similar(np.full((5, 5), 0.5))
    maps = {("b", "a"): half, ("c", "a"): similar(np.full((3, 5), 0.5)), ("c", "b"): similar(np.full((3, 5), 0.5))}
    d = model_distances(maps)
    assert d.loc["a", "b"] == pytest.approx(d.loc["a", "c"]) == pytest.approx(np.sqrt(3) * np.arccos(0.5))
    with pytest.raises(InputError, match="none for b and c"):
        model_distances({("b", "a"): half, ("c", "a"): half})
    with pytest.raises(InputError, match="a similarity with upper bound 1"):
        model_distances({("b", "a"): half.assign_attrs(direction="dissimilarity")})


def test_training_ends_as_itself():
    found = over_training("tiny-neox-w64-d4", ["step500", "step0", "step50"], n_rows=300)
    assert found.step.values.tolist() == [0, 50, 500]
    assert found.similarity_to_final.dims == ("step", "layer")
    assert (found.similarity_to_final.sel(step=500) > found.similarity_to_final.sel(step=0)).all()
    assert ((found.effective_rank >= 1) & (found.effective_rank <= 64)).all()
    alone = rs.compare("tiny-neox-w64-d4@step50", "tiny-neox-w64-d4", n_rows=300)
    assert np.allclose(found.similarity_to_final.sel(step=50), np.diag(alone))


def test_training_says_what_has_no_steps():
    with pytest.raises(InputError, match="'main' contains no step number"):
        over_training("tiny-neox-w64-d4", ["main"])
    with pytest.raises(InputError, match="has no checkpoints"):
        over_training("tiny-bert-nli-00")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers_a": [1]}, "no argument 'layers_a'. Did you mean 'layers'"),
        ({"groups": [0, 1]}, "no argument 'groups'"),
        ({"debiased": False}, r'a parameter of the measure: pass measure=get_measure\("cka", debiased='),
        ({"rows": "mean", "rows_per_document": 3}, "rows_per_document would have no effect"),
        ({"packing": "pakced"}, "Did you mean 'packed'"),
        ({"null": 3}, "at least 19"),
        ({"leave_out_norms": 0.5}, "above 1"),
        ({"memory_limit": -1}, "expected a positive number of bytes"),
    ],
    ids=lambda given: ",".join(given) if isinstance(given, dict) else "",
)
def test_over_training_names_what_is_wrong_before_a_model_is_loaded(given, message, monkeypatch):
    monkeypatch.setattr("repsim_nb.depth.checkpoints.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=message):
        over_training("tiny-neox-w64-d4", ["step500"], **{"n_rows": 300, **given})


def test_over_training_takes_the_options_of_compare(tmp_path):
    """Each of them gives what compare gives of the checkpoint and the final model."""
    model, how = "tiny-neox-w64-d4", {"rows": "last", "packing": "packed", "seed": 3, "n_rows": 150}
    sure = {"interval": 0.9, "null": 39, "remove_components": 1}
    course = over_training(model, ["step50"], layers=[1, 3], store=tmp_path, **how, **sure)
    expected = rs.compare(f"{model}@step50", model, layers_a=[1, 3], layers_b=[1, 3], **how, **sure)
    assert course.layer.values.tolist() == [1, 3]
    np.testing.assert_allclose(course.similarity_to_final[0], np.diag(expected), atol=1e-12)
    for name in ("low", "high", "null_mean", "p_value"):
        np.testing.assert_allclose(course[name][0], np.diag(expected[name]), atol=1e-12)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_over_training_uses_the_parameters_of_its_measure():
    biased = rs.get_measure("cka", debiased=False)
    plain = over_training("tiny-neox-w64-d4", ["step50"], n_rows=300, measure=biased).similarity_to_final.squeeze()
    alone = rs.compare("tiny-neox-w64-d4@step50", "tiny-neox-w64-d4", n_rows=300, measure=biased)
    assert np.allclose(plain, np.diag(alone))
