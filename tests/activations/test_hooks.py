"""An ActivationCache, or a mapping of hook names, is compared as the activations that it holds."""

import numpy as np
import pytest
import torch

import repsim_nb as rs
from repsim_nb.activations import Activations, from_cache
from repsim_nb.errors import InputError

IDS = torch.from_numpy(np.random.default_rng(0).integers(1, 2000, size=(12, 15)))


def cache_of(name):
    with torch.no_grad():
        return rs.load_model(name).bridge.run_with_cache(IDS)[1]


@pytest.fixture(scope="module")
def caches():
    return cache_of("tiny-gelu-3l-s0"), cache_of("tiny-neox-w32-d2")


def flat(cache, name):
    return cache[name].flatten(0, 1).numpy()


def arrays(cache, n_layers):
    """Layer -> rows, by TransformerLens' names and nothing else."""
    return {0: flat(cache, "blocks.0.hook_resid_pre")} | {
        layer + 1: flat(cache, f"blocks.{layer}.hook_resid_post") for layer in range(n_layers)
    }


def test_compare_takes_two_caches_and_gives_what_their_arrays_give(caches):
    gelu, neox = caches
    found = rs.compare(gelu, neox)
    expected = rs.compare(arrays(gelu, 3), arrays(neox, 2))
    assert found.layer_a.values.tolist() == [0, 1, 2, 3]
    assert found.layer_b.values.tolist() == [0, 1, 2]
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-6)
    assert found.attrs["n_rows"] == IDS.numel()
    assert found.attrs["model_b"] == "tiny-neox-w32-d2"


def test_compare_of_a_cache_with_itself_has_ones_on_the_diagonal(caches):
    np.testing.assert_allclose(rs.compare(caches[0], caches[0]).values.diagonal(), 1, atol=1e-6)
    np.testing.assert_allclose(rs.compare(caches[1]).values.diagonal(), 1, atol=1e-6)


def test_compare_exchanges_the_sequences_of_a_cache_as_documents(caches):
    found = rs.compare(*caches, null=19, interval=True)
    sequences = np.repeat(np.arange(12), 15)
    expected = rs.compare(arrays(caches[0], 3), arrays(caches[1], 2), null=19, interval=True, groups=sequences)
    for name in ("null_mean", "p_value", "low", "high"):
        np.testing.assert_allclose(found[name].values, expected[name].values, rtol=0, atol=1e-6)


def test_compare_all_and_compare_models_take_caches(caches):
    gelu, neox = caches
    maps = rs.compare_all({"gelu": gelu, "neox": neox})
    np.testing.assert_allclose(maps["neox", "gelu"].values, rs.compare(neox, gelu).values, atol=1e-6)
    same = rs.compare_models({"a": neox, "b": arrays(neox, 2)}, "cka")
    np.testing.assert_allclose(same.cka.values, 0, atol=1e-5)  # distances


def test_from_cache_keeps_the_rows_of_a_mask_and_says_where_they_were(caches):
    mask = torch.ones(IDS.shape, dtype=torch.bool)
    mask[3, 9:] = mask[7, 1:] = False
    acts = from_cache(caches[1], mask)
    assert isinstance(acts, Activations)
    for layer, rows in arrays(caches[1], 2).items():
        assert np.array_equal(acts[layer].numpy(), rows[mask.flatten().numpy()])
    assert acts.rows["document"].value_counts().loc[[3, 7, 0]].tolist() == [9, 1, 15]
    assert acts.rows["position"].tolist()[15 * 3 : 15 * 3 + 9] == list(range(9))
    assert rs.compare(acts, from_cache(caches[0], mask.numpy())).shape == (3, 4)
    with pytest.raises(InputError, match="Row i must be the same place"):
        rs.compare(acts, caches[0])
    for wrong in (mask[:, :5], torch.zeros_like(mask)):
        with pytest.raises(InputError, match=r"mask has shape .* expected shape \(12, 15\)"):
            from_cache(caches[1], wrong)


def test_compare_leaves_out_the_first_tokens_of_a_cache(caches):
    kept = np.tile(np.arange(15), 12) >= 1
    expected = rs.compare({layer: rows[kept] for layer, rows in arrays(caches[1], 2).items()})
    np.testing.assert_allclose(rs.compare(caches[1], leave_out_first=1).values, expected.values, atol=1e-6)


NORMAL = np.random.default_rng(1).normal(size=(8, 4, 5, 6))


@pytest.mark.parametrize(
    ("hook", "first"), [("hook_resid_post", 1), ("hook_resid_pre", 0), ("hook_attn_out", 1), ("hook_mlp_out", 1)]
)
def test_from_cache_takes_one_kind_of_hook_by_its_layer(hook, first):
    given = {f"blocks.{block}.{hook}": NORMAL[block] for block in (0, 2, 1)}
    given |= {"blocks.1.attn.hook_pattern": NORMAL[4], "hook_embed": NORMAL[5], "ln_final.hook_scale": NORMAL[6]}
    acts = from_cache(given)
    assert list(acts) == [first, first + 1, first + 2]
    for block in range(3):
        assert np.array_equal(acts[block + first].numpy(), NORMAL[block].reshape(20, 6))
    assert acts.provenance["site"] == hook.removeprefix("hook_")


def test_from_cache_takes_rows_without_a_batch_as_they_are():
    given = {f"blocks.{block}.hook_resid_post": torch.from_numpy(NORMAL[block].reshape(20, 6)) for block in range(2)}
    acts = from_cache(given)
    assert not isinstance(acts, Activations), "whose documents nobody knows"
    assert {layer: tuple(rows.shape) for layer, rows in acts.items()} == {1: (20, 6), 2: (20, 6)}
    masked = from_cache(given, mask=np.arange(20) > 4)
    assert np.array_equal(masked[2].numpy(), NORMAL[1].reshape(20, 6)[5:])


POST = {"blocks.0.hook_resid_post": NORMAL[0]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"blocks.0.hook_residpost": NORMAL[0]}, r"Did you mean 'blocks\.0\.hook_resid_post'\?"),
        ({"blocks.11.resid_post": NORMAL[0]}, r"Did you mean 'blocks\.11\.hook_resid_post'\?"),
        (POST | {"blocks.3.hook_mlp_outt": NORMAL[1]}, r"Did you mean 'blocks\.3\.hook_mlp_out'\?"),
        ({"layer_3": NORMAL[0]}, r"'layer_3' is not a hook name .*blocks\.3\.hook_resid_post"),
        (POST | {1: NORMAL[0]}, r"1 is not a hook name .*not both"),
        ({"hook_embed": NORMAL[0]}, r"None of the 1 hooks given holds a layer, hook_embed among them"),
        (
            {"blocks.0.hook_attn_out": NORMAL[0], "blocks.0.hook_mlp_out": NORMAL[1]},
            r"several kinds of hook: hook_attn_out, hook_mlp_out\. Pass one kind only",
        ),
        (POST | {"blocks.1.hook_resid_post": NORMAL[1][:3]}, r"come from different batches"),
        ({"blocks.0.hook_resid_post": NORMAL}, r"expected \(batch, position, d_model\) or \(rows, d_model\)"),
        ({"blocks.0.hook_resid_post": NORMAL[0] * np.nan}, r"blocks\.0\.hook_resid_post has 120 values that are NaN"),
    ],
)
def test_compare_refuses_hooks_that_are_no_layers_of_one_batch(given, message):
    with pytest.raises(InputError, match=message):
        rs.compare(given)
