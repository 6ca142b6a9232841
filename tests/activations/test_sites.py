"""Every entry point reads causal models inside their blocks."""

import numpy as np
import pytest
import torch

import repsim_nb as rs
from repsim_nb.comparison.sequences import compare_family
from repsim_nb.depth import over_training
from repsim_nb.errors import InputError

A, B, NATIVE = "tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-gelu-3l-s0"
INSIDE = ("attn_out", "mlp_out", "mlp_act", "head_out", "head_out.1", "ov", "ov.0")
TEXTS = [" ".join(["Python reads a file of", "numbers, one per line;"] * n) + " It ends." for n in (1, 9, 2, 4, 1, 6)]
HOW = {"corpus": TEXTS, "n_rows": 60}


@pytest.fixture(scope="module")
def model():
    return rs.load_model(A)


@pytest.mark.parametrize(("name", "site"), [*((A, site) for site in INSIDE), (NATIVE, "ov.0"), (NATIVE, "mlp_act")])
@torch.no_grad()
def test_extract_reads_each_place_as_its_text_alone_has_it(name, site):
    model = rs.load_model(name)
    acts = rs.extract(model, site=site, **HOW)
    together = rs.extract(model, site=site, batch_tokens=1, **HOW)
    assert list(acts) == list(range(1, model.n_layers + 1))
    assert acts.provenance["site"] == site
    alone = []
    for text in TEXTS:
        found = {}
        model.read(model.batch([text]), list(acts), found.__setitem__, site)
        alone.append(found)
    for layer, values in acts.items():
        assert values.shape == (60, model.width(site))
        assert (values - together[layer]).abs().max() <= 1e-5
        for row, (document, position) in enumerate(zip(acts.rows.document, acts.rows.position, strict=True)):
            expected = alone[int(document.removeprefix("texts:"))][layer][0, position]
            assert (values[row] - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("rows", ["last", "mean", "padded"])
def test_extract_gives_heads_that_sum_to_the_whole_for_any_kind_of_row(model, rows):
    how = {"corpus": TEXTS, "rows": rows, "n_rows": 6 if rows != "padded" else 256}
    for site in ("head_out", "ov"):
        whole = rs.extract(model, site=site, **how)
        heads = [rs.extract(model, site=f"{site}.{head}", **how) for head in range(model.n_heads)]
        for layer in (1, 2):
            assert (sum(head[layer] for head in heads) - whole[layer]).abs().max() <= 1e-5


def test_extract_keeps_every_site_apart_in_the_store(model, tmp_path):
    made = {site: rs.extract(model, site=site, store=tmp_path, **HOW) for site in ("resid_post", *INSIDE)}
    keys = {site: acts.stored_as for site, acts in made.items()}
    assert [key["site"] for key in keys.values()] == list(made)
    assert len(rs.Store(tmp_path).entries()) == len(made)
    again = rs.extract(model, site="ov.0", store=tmp_path, **HOW)
    assert again.stored_as == keys["ov.0"]
    assert all((again[layer] == made["ov.0"][layer]).all() for layer in (1, 2))


@pytest.mark.parametrize("site", ["mlp_act", "head_out.0"])
def test_compare_of_a_site_is_compare_of_what_extract_gives(site):
    found = rs.compare(A, B, site=site, **HOW)
    first, second = rs.activations.extract_aligned([A, B], site=site, **HOW)
    expected = [[rs.get_measure("cka")(first[i], second[j]) for j in (1, 2)] for i in (1, 2)]
    assert found.layer_a.values.tolist() == found.layer_b.values.tolist() == [1, 2]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(rs.stream(A, B, site=site, **HOW), expected, atol=1e-5)


def test_estimate_counts_the_activations_of_a_site_with_its_width():
    for given in (A, rs.load_model(A)):
        sizes = {
            site: rs.estimate(given, site=site, n_rows=100, trial=False).activations for site in ("ov.1", "mlp_act")
        }
        assert sizes == {"ov.1": 4 * 100 * 2 * 32, "mlp_act": 4 * 100 * 2 * 128}


def test_compare_models_takes_sites():
    population = rs.compare_models([A, B], ["cka"], TEXTS, site="mlp_act", n_rows=60)
    expected = rs.compare(A, B, site="mlp_act", **HOW).values.diagonal()
    np.testing.assert_allclose(1 - population.cka.sel(model_a=A, model_b=B), expected, atol=1e-6)


def test_over_training_takes_sites():
    course = over_training("tiny-neox-w64-d4", ["step50"], site="ov.1", **HOW)
    assert course.layer.values.tolist() == [1, 2, 3, 4]
    expected = rs.compare("tiny-neox-w64-d4@step50", "tiny-neox-w64-d4", site="ov.1", **HOW).values.diagonal()
    np.testing.assert_allclose(course.similarity.sel(step=50), expected, atol=1e-6)


def test_compare_family_takes_sites():
    family = compare_family([A, B], n_sequences=4, length=32, site="mlp_act")
    assert family[B, A].layer_a.values.tolist() == [1, 2]
    assert np.isfinite(family[B, A]).all()


def test_explorer_and_its_code_take_a_site_of_one_head():
    explorer = rs.Explorer(A, B, site="head_out.1", n_rows=60)
    assert "site='head_out.1'" in explorer.code


@pytest.mark.parametrize("call", [rs.extract, rs.compare, rs.stream])
def test_every_call_names_the_nearest_site_and_the_heads_there_are(call):
    with pytest.raises(InputError, match=r"Unknown site 'head-out'\. Did you mean 'head_out'"):
        call(A, site="head-out", **HOW)
    with pytest.raises(InputError, match=r"tiny-neox-w32-d2 has no site 'ov\.2': its heads are ov\.0 to ov\.1"):
        call(A, site="ov.2", **HOW)
