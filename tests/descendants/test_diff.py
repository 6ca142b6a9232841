import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr

import repsim_nb as rs
from repsim_nb.descendants import carriers, noisy, quantised, verdict
from repsim_nb.descendants.directions import directions
from repsim_nb.descendants.kinship import loaded, parameters_by_part
from repsim_nb.descendants.weight_change import weight_change
from repsim_nb.errors import InputError
from repsim_nb.uncertainty.documents import Documents

BASE = "tiny-neox-w32-d8"


@cache
def few():
    """Beginnings of documents of both kinds, and few rows."""
    corpus = rs.load_corpus("python-docs")
    kinds = [[i for i, name in enumerate(corpus.documents) if name.startswith(kind)] for kind in ("code:", "prose:")]
    some = corpus.take(sorted(i for kind in kinds for i in kind[:: len(kind) // 16][:16]))
    texts = tuple(text[:500] for text in some.texts)
    return {"corpus": dataclasses.replace(some, texts=texts), "n_rows": 320, "n_report": 4}


@pytest.fixture(scope="module")
def base():
    return rs.load_model(BASE)


@pytest.fixture(scope="module")
def found(base):
    """What diff says of every descendant, and of the base itself."""
    tuned = {
        "itself": base,
        "int8": quantised(base),
        "noise": noisy(base, 0.05),
        "code": f"{BASE}-code",
        "planted": f"{BASE}-code-b3-b6",
        "reseeded": f"{BASE}-reseeded",
    }
    how = {"planted": {"null": 19, "interval": True}}
    return {name: rs.diff(base, model, **few(), **how.get(name, {})) for name, model in tuned.items()}


def test_the_descendants_are_told_apart(found):
    kinds = {name: verdict(each).kind for name, each in found.items()}
    assert kinds == {
        "itself": "same",
        "int8": "noise",
        "noise": "noise",
        "code": "fine-tuned",
        "planted": "fine-tuned",
        "reseeded": "re-seeded",
    }


def test_the_planted_blocks_are_found(found):
    planted = found["planted"]
    assert set(verdict(planted).parts) == {"block 3", "block 6"}
    assert planted.part.values[planted.weight_change.values > 0].tolist() == ["block 3", "block 6"]
    assert planted.attrs["verdict"].endswith("fine-tuned: the change is in blocks 3 and 6.")
    others = planted.sel(part=[part for part in planted.part.values if part not in ("block 3", "block 6")])
    for way in ("into", "back"):
        assert not others[f"divergence_{way}"].values.any()
        assert not others[f"loss_{way}"].values.any()
        assert (planted[f"divergence_{way}"].sel(part=["block 3", "block 6"]).values > 1e-3).all()


def test_layers_before_the_first_change_do_not_move_and_those_after_it_do(found):
    planted = found["planted"]
    assert not planted.moved.sel(layer=[0, 1, 2]).values.any()
    assert (planted.moved_low.sel(layer=range(3, 9)).values > 0).all()
    assert np.allclose(planted.similarity.sel(layer=[0, 1, 2]), 1, atol=1e-6)
    assert (planted.calibrated_low <= planted.calibrated).all()
    assert (planted.calibrated <= planted.calibrated_high).all()
    assert found["reseeded"].moved.sel(layer=8).item() == pytest.approx(1, abs=0.2)


def test_one_block_swapped_is_the_model_with_its_parameters_swapped(base, found):
    """Running a block inside the other model is what exchanging its parameters gives."""
    tuned = rs.load_model(f"{BASE}-code")
    mixed = noisy(base, 1e-9)
    ours, theirs, own = (parameters_by_part(model) for model in (base, tuned, mixed))
    with torch.no_grad():
        for part, parameters in own.items():
            for name, value in parameters.items():
                value.copy_((theirs if part == "block 4" else ours)[part][name])
    mixed.name = "mixed"
    whole = rs.diff(base, mixed, **few())
    assert whole.loss_change.item() == pytest.approx(found["code"].loss_into.sel(part="block 4").item(), abs=1e-5)
    assert whole.divergence.item() == pytest.approx(found["code"].divergence_into.sel(part="block 4").item(), abs=1e-5)


def test_both_losses_are_those_of_stitching(base, found):
    own = rs.stitch(base, base, 2, few()["corpus"], map="identity", n_report=4)
    assert found["code"].base_loss.item() == pytest.approx(own.receiver_loss, abs=1e-5)
    change = found["code"]
    total = (change.document_tuned_loss - change.document_base_loss).sum() / change.document_predictions.sum()
    assert change.loss_change.item() == pytest.approx(total.item())
    assert change.loss_change_low <= change.loss_change <= change.loss_change_high


def test_noise_has_no_structure_and_a_step_along_one_direction_has(base):
    step = noisy(base, 1e-9)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in step.module.named_parameters():
            if "layers.2" in name and value.ndim == 2:
                value += 0.02 * torch.outer(
                    torch.randn(value.shape[0], generator=generator), torch.randn(value.shape[1], generator=generator)
                )
    planted, noise = (weight_change(loaded(base, other)) for other in (step, noisy(base, 0.05, seed=3)))
    assert planted.p_value[3] == pytest.approx(1 / 40)
    assert planted.structure[3] > 5
    assert np.nanmax(np.delete(planted.structure, 3)) < 1.05
    assert noise.structure.max() < 1.05
    assert noise.p_value.min() > 0.05
    assert noise.relative[1:9] == pytest.approx(0.05, rel=0.3)


def test_an_embedding_alone_or_vectors_alone_cannot_be_told(base):
    shifted = noisy(base, 1e-9)
    originals = dict(base.module.named_parameters())
    with torch.no_grad():
        for name, value in shifted.module.named_parameters():
            value.copy_(originals[name])
            if name.endswith("layernorm.bias"):
                value += 0.1
    assert verdict(rs.diff(base, shifted, **few())).kind == "unclear"


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"weight_structure": 1.02, "weight_structure_p": 0.025}, "unclear", "noise or rounding hides it"),
        ({"weight_structure": 1.02, "weight_structure_p": 0.2}, "noise", "no direction"),
        ({"weight_structure": 1.2, "weight_structure_p": 0.2}, "noise", "no direction"),
        ({"weight_structure": 1.2, "weight_structure_p": 0.025}, "fine-tuned", "spread over"),
        ({"weight_correlation": 0.1}, "unclear", "activations in the same places"),
        ({"weight_correlation": 0.1, "moved": 0.9}, "re-seeded", "another seed"),
        ({"weight_structure": np.nan, "weight_structure_p": np.nan}, "unclear", "only other parameters"),
    ],
)
def test_the_rules_of_the_verdict(found, change, kind, says):
    """A difference with even divergence and one thing changed."""
    even = found["int8"].copy(deep=True)
    even["divergence_into"][:] = 1.0
    for name, value in change.items():
        even[name][:] = value
    told = verdict(even)
    assert told.kind == kind
    assert says in told.text
    assert told.text in str(told)


def test_structure_outside_the_blocks_alone_cannot_be_told(found):
    odd = found["int8"].copy(deep=True)
    odd["weight_structure"].loc[{"part": "head"}] = 2.0
    odd["weight_structure_p"].loc[{"part": "head"}] = 0.025
    assert verdict(odd).kind == "unclear"
    assert "The change of the head has structure." in verdict(odd).reasons


def test_what_carries_is_not_what_has_structure(found):
    other = found["planted"].copy(deep=True)
    other["divergence_into"][:] = 0.0
    other["divergence_into"].loc[{"part": "block 5"}] = 1.0
    assert verdict(other).kind == "unclear"
    assert carriers(other) == ["block 5"]


def test_a_planted_direction_is_found_with_what_it_promotes(base):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6))
    along = np.array([0.0, 0.6, 0.0, 0.8, 0.0, 0.0])
    y = x + np.outer(2 + 0.1 * rng.normal(size=300), along) + 0.05 * rng.normal(size=x.shape)
    sides = [{0: torch.tensor(side)} for side in (x, y)]
    result = directions(*sides, Documents(np.arange(300) // 5, 300), 0.95, 0)
    assert result.vectors[0, 0] == pytest.approx(along, abs=0.02)
    assert result.share[0, 0] > 0.98
    assert result.low[0, 0] <= result.share[0, 0] <= result.high[0, 0]
    assert result.agreement[0, 0] > 0.99 > result.agreement[0, 2] + 0.05
    assert result.mean_share[0] > 0.98


def test_prose_moves_most_where_a_model_learned_code(found):
    names = found["code"].document_most_document.values
    assert sum(name.startswith("prose:") for name in names[:10]) >= 8  # of 16 of each kind
    assert (np.diff(found["code"].document_most_moved) <= 0).all()
    assert len(found["code"].token_token) == 20
    assert found["code"].promotes.shape == (9, 3, 5)


def test_an_executor_and_a_file_give_the_same(tmp_path, found):
    with ThreadPoolExecutor(1) as pool:
        again = rs.diff(
            BASE, f"{BASE}-code-b3-b6", **few(), null=19, interval=True, executor=pool, out=tmp_path / "d.nc"
        )
    xr.testing.assert_allclose(again.drop_attrs(), found["planted"].drop_attrs(), atol=1e-6)
    read = xr.load_dataset(tmp_path / "d.nc", engine="h5netcdf")
    assert read.attrs == again.attrs
    assert json.loads(read.attrs["provenance"])["b"]["model"]["model"] == f"{BASE}-code-b3-b6"


def test_a_result_says_its_verdict_in_words(found):
    from repsim_nb.comparison.described import in_words

    words = in_words(found["planted"])
    assert words[0].endswith(f" of {BASE} and {BASE}-code-b3-b6")
    assert words[1] == found["planted"].attrs["verdict"]


@pytest.mark.parametrize(
    ("tuned", "message"),
    [
        ("tiny-neox-w32-d4", "8 blocks of width 32 .* 4 blocks of width 32"),
        ("tiny-neox-w64-d8", "a descendant has the shape of its base"),
        ("tiny-gelu-3l-s0", "blocks of width 64"),
    ],
)
def test_models_of_other_shapes_are_refused(tuned, message):
    with pytest.raises(InputError, match=message):
        rs.diff(BASE, tuned)


def test_another_tokenizer_kind_or_memory_limit_is_refused(base):
    other = quantised(base)
    other.windows = type("Windows", (), {"text_key": "another"})()
    with pytest.raises(InputError, match="different tokenizers"):
        rs.diff(base, other)
    with pytest.raises(InputError, match=r"Raise memory_limit, or choose fewer rows"):
        rs.diff(base, f"{BASE}-code", memory_limit=10_000)
    with pytest.raises(InputError, match="two causal models or two classifiers"):
        rs.diff("tiny-embed-w48-d3", "tiny-embed-w48-d3-mlm-s0")
    with pytest.raises(InputError, match=r"no result of rs\.diff"):
        verdict(xr.Dataset())


def test_classifiers_are_compared_too():
    result = rs.diff("tiny-bert-nli-00", "tiny-bert-nli-01", n_rows=100, n_report=32)
    assert verdict(result).kind == "fine-tuned"
    assert result.loss_change.attrs["units"] == "nats per example"
    assert "promotes" not in result
    assert carriers(result, 1.0)[-1] in result.part.values


def test_the_estimate_counts_what_will_run(base):
    about = rs.estimate_diff(base, f"{BASE}-code-b3-b6", **few())
    assert (about.rows, about.layers, about.parts) == (320, 9, 2)
    assert about.activations == 2 * 9 * 320 * 32 * 4
    assert 0 < about.seconds < 60
    assert "2 parts that changed" in str(about)


@pytest.mark.parametrize("wrong", [{"bits": 1}, {"bits": 9}, {"bits": True}])
def test_bits_out_of_range_are_refused(base, wrong):
    with pytest.raises(InputError, match="from 2 to 8"):
        quantised(base, **wrong)


def test_rounding_keeps_levels_and_the_original(base):
    before = base.hashed()
    rounded = quantised(base, 4)
    assert base.hashed() == before != rounded.weights_sha256
    row = next(p for p in rounded.module.parameters() if p.ndim == 2)[5]
    assert len(row.unique()) <= 15
    assert rounded.provenance["altered"] == "int4"
    with pytest.raises(InputError, match="positive number"):
        noisy(base, 0)
