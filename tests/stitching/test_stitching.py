"""Stitching: known maps are found, nothing leaks, nothing changes, and what is reported is what the models do."""

import json

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
import xarray as xr

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.stitching import fitting, table
from repsim_nb.stitching import ground as ground_module
from repsim_nb.stitching.ground import Ground
from repsim_nb.stitching.maps import Affine, CrossProducts, LowRank, Orthogonal
from tests.support.twins import rotated, rotation_for

SMALL, DEEP, WIDE = "tiny-neox-w32-d2", "tiny-neox-w32-d4", "tiny-neox-w64-d2"
FEW = {"n_fit": 96, "n_report": 48}


@pytest.fixture(scope="module")
def small():
    return rs.load_model(SMALL)


@pytest.fixture(scope="module")
def across(small):
    """A gradient stitch between two independent models."""
    return rs.stitch(DEEP, small, 2, into=1, steps=60, **FEW)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_model_into_itself_by_the_identity_costs_nothing(small, layer):
    assert abs(rs.stitch(small, small, layer, map="identity", **FEW).penalty) < 1e-6


@pytest.mark.parametrize(("map_name", "layer"), [("affine", 0), ("affine", 2), ("orthogonal", 1)])
def test_a_trained_stitch_of_a_model_into_itself_costs_next_to_nothing(small, map_name, layer):
    assert abs(rs.stitch(small, small, layer, map=map_name, steps=40, **FEW).penalty) < 0.01


def test_a_known_rotation_is_found():
    model = rs.load_model("tiny-gelu-3l-s0")
    rotation = rotation_for(model)
    twin = rotated(model, rotation)
    batch = model.batch(["A rotation of the residual stream changes no output."])
    assert (model.logits(batch) - twin.logits(batch)).abs().max() < 1e-4
    for layer in (1, 2):
        stitched = rs.stitch(model, twin, layer, map="orthogonal", fit="least_squares", **FEW)
        assert abs(stitched.penalty) < 1e-4
        assert (stitched.map.weight - rotation).abs().max() < 1e-3
    assert rs.stitch(model, twin, 1, map="identity", **FEW).penalty > 1


def test_the_gradient_is_not_worse_than_the_least_squares_it_starts_from(small, across):
    start = rs.stitch(DEEP, small, 2, into=1, fit="least_squares", **FEW)
    assert across.history.step.tolist()[:2] == [0, fitting.EVERY]
    assert across.history.stop_loss.min() < across.history.stop_loss.iloc[0] - 0.05
    assert across.penalty < start.penalty - 0.05
    assert across.recovered > start.recovered


def test_models_stay_as_they_are(small):
    sender = rs.load_model(DEEP)
    before = [{k: v.clone() for k, v in m.module.state_dict().items()} for m in (sender, small)]
    rs.stitch(sender, small, 1, steps=5, **FEW)
    for model, state in zip((sender, small), before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in model.module.state_dict().items())
        assert not any(p.requires_grad or p.grad is not None for p in model.module.parameters())


def test_what_is_reported_is_what_the_models_do(small, across):
    ground = across.ground
    totals = {"own": 0.0, "stitched": 0.0, "count": 0, "bytes": 0}
    for batch in ground.batches_of(small)["report"]:
        own = small.module(input_ids=batch.ids, attention_mask=batch.mask.long()).logits
        for name, logits in (("own", own), ("stitched", across.logits(batch))):
            for row in range(len(batch)):
                length = int(batch.mask[row].sum())
                nats = F.cross_entropy(logits[row, : length - 1], batch.ids[row, 1:length], reduction="sum")
                totals[name] += nats.item()
        totals["count"] += int(batch.mask[:, 1:].sum())
    for window in ground.windows["report"]:
        text = ground.corpora["report"].texts[window.text]
        totals["bytes"] += len(text[window.offsets[1][0] : window.offsets[-1][1]].encode())
    assert across.receiver_loss == pytest.approx(totals["own"] / totals["count"], rel=1e-5)
    assert across.loss == pytest.approx(totals["stitched"] / totals["count"], rel=1e-5)
    assert across.penalty == pytest.approx(across.loss - across.receiver_loss, abs=1e-6)
    assert across.bits_per_byte == pytest.approx(totals["stitched"] / np.log(2) / totals["bytes"], rel=1e-5)
    documents = across.documents
    assert documents.tokens.sum() == totals["count"]
    assert (documents.loss * documents.tokens).sum() / documents.tokens.sum() == pytest.approx(across.loss, rel=1e-6)
    low, high = across.interval()
    assert low < across.penalty < high
    assert json.loads(across.provenance)["corpora"]["report"]["split"] == "test"


def test_documents_to_fit_on_stop_by_and_report_on_are_different_ones(small):
    texts = [f"Document number {i} says: " + "word " * (i % 7 + 2) for i in range(40)]
    for corpus in (None, texts):
        for seed in (0, 1):
            ground = Ground(corpus, [small], 64, 32, seed)
            seen = {}
            for part, windows in ground.windows.items():
                seen[part] = {ground.corpora[part].documents[w.text] for w in windows}
                assert seen[part]
            assert not seen["fit"] & seen["stop"]
            assert not (seen["fit"] | seen["stop"]) & seen["report"]
    with pytest.raises(InputError, match="too few documents"):
        Ground(texts[:1], [small], 64, 32, 0)


def test_what_does_not_fit_in_memory_is_computed_again_and_gives_the_same(small, monkeypatch):
    kept = rs.stitch(DEEP, small, 1, steps=5, **FEW)
    monkeypatch.setattr(ground_module, "CACHE_BYTES", 0)
    again = rs.stitch(DEEP, small, 1, steps=5, **FEW)
    assert not again.ground._cache
    assert again.penalty == kept.penalty


def test_senders_that_say_nothing_give_nothing_back(small, across):
    shuffled = rs.stitch(DEEP, small, 2, into=1, fit="least_squares", shuffle=True, **FEW)
    untrained = rs.stitch(f"{DEEP}@step0", small, 2, into=1, steps=60, **FEW)
    assert abs(shuffled.recovered) < 0.1
    assert untrained.recovered < across.recovered - 0.05


def rows(n=400, d_x=5, d_y=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d_x)) * [3.0, 1.0, 0.3, 2.0, 1.0][:d_x] + 5
    y = x @ rng.standard_normal((d_x, d_y)) + 0.5 * rng.standard_normal((n, d_y)) - 2
    return torch.from_numpy(x), torch.from_numpy(y)


def solved(map_, x, y):
    map_ = map_.double()
    map_.solve(CrossProducts.of([(x[:150], y[:150]), (x[150:], y[150:])]))
    return map_


def test_affine_is_least_squares():
    x, y = rows()
    whole = np.hstack([x.numpy(), np.ones((len(x), 1))])
    expected = np.linalg.lstsq(whole, y.numpy(), rcond=None)[0]
    map_ = solved(Affine(5, 4), x, y)
    assert map_.weight.detach().numpy() == pytest.approx(expected[:-1], abs=1e-4)
    assert map_(x).detach().numpy() == pytest.approx(whole @ expected, abs=1e-4)


def test_orthogonal_is_procrustes():
    x, y = rows(d_y=5)
    centred = [v.numpy() - v.numpy().mean(0) for v in (x, y)]
    rotation, total = scipy.linalg.orthogonal_procrustes(*centred)
    scale = total / (centred[0] ** 2).sum()
    map_ = solved(Orthogonal(5, 5), x, y)
    assert map_.weight.detach().numpy() == pytest.approx(scale * rotation, abs=1e-8)
    assert map_(x).detach().numpy() == pytest.approx(scale * centred[0] @ rotation + y.numpy().mean(0), abs=1e-8)
    with torch.no_grad():  # wherever gradient steps take it, it stays a rotation with one scale
        map_.turn.normal_()
    product = map_.weight @ map_.weight.T
    assert product.detach().numpy() == pytest.approx(scale**2 * np.eye(5), abs=1e-8)


def test_low_rank_is_the_best_of_its_rank():
    x, y = rows()
    errors = [(solved(LowRank(5, 4, rank), x, y)(x) - y).square().sum().item() for rank in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == pytest.approx((solved(Affine(5, 4), x, y)(x) - y).square().sum().item(), rel=1e-6)
    map_ = solved(LowRank(5, 4, 2), x, y)
    assert torch.linalg.matrix_rank(map_.weight) == 2
    centred_x, centred_y = x - x.mean(0), y - y.mean(0)
    fitted = centred_x @ torch.linalg.lstsq(centred_x, centred_y).solution
    expected = fitted @ torch.linalg.svd(fitted)[2][:2].T @ torch.linalg.svd(fitted)[2][:2] + y.mean(0)
    assert (map_(x) - expected).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"map": "afine"}, "affine"),
        ({"fit": "gradiant"}, "gradient"),
        ({"layer": 9}, "does not exist"),
        ({"map": "low_rank", "rank": 0}, "rank=0"),
        ({"n_fit": 0}, "n_fit"),
        ({"receiver": WIDE, "map": "identity"}, "widths"),
        ({"sender": DEEP, "layer": 4}, "into"),
        ({"corpus": ["Only one."]}, "too few documents"),
    ],
)
def test_bad_input_says_what_to_do(arguments, message):
    given = {"sender": SMALL, "receiver": SMALL, "layer": 1} | arguments
    with pytest.raises(InputError, match=message):
        rs.stitch(**given)


def test_look_inside(across):
    predictions = across.predictions("def main(arguments):\n    return", top=4)
    assert predictions.shape == (4, 6)
    for name in ("sender", "receiver", "stitched"):
        assert predictions[name, "probability"].is_monotonic_decreasing
    costliest = across.costliest(7)
    assert costliest.cost.is_monotonic_decreasing
    assert (costliest.loss - costliest.receiver_loss).to_numpy() == pytest.approx(costliest.cost, abs=1e-5)
    assert costliest.cost.iloc[0] == pytest.approx((across.losses.nats - across.receiver_losses.nats).max(), abs=1e-6)
    line = costliest.iloc[0]
    text = dict(zip(across.ground.corpora["report"].documents, across.ground.corpora["report"].texts, strict=True))
    assert line.before + line.token in text[line.document]


def test_a_table_holds_the_stitches_and_goes_on_after_a_kill(small, tmp_path, monkeypatch):
    models, layers, how = [SMALL, DEEP], [0, 2], {"fit": "least_squares", **FEW}
    out = tmp_path / "table.nc"
    original, calls = table.stitches_on, []

    def killed(*given):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(given)
        return original(*given)

    monkeypatch.setattr(table, "stitches_on", killed)
    with pytest.raises(KeyboardInterrupt):
        rs.stitching_table(models, models, layers, out=out, **how)
    assert not out.exists()
    monkeypatch.setattr(table, "stitches_on", lambda *given: calls.append(given) or original(*given))
    whole = rs.stitching_table(models, models, layers, out=out, **how)
    assert len(calls) == 8
    assert [p.name for p in tmp_path.iterdir()] == ["table.nc"]
    kept = xr.load_dataset(out)
    xr.testing.assert_allclose(kept, whole)
    assert json.loads(kept.attrs["provenance"])["models"][SMALL]["weights_sha256"]
    one = rs.stitch(DEEP, SMALL, 2, into=2, **how)
    cell = whole.sel(sender=DEEP, receiver=SMALL, layer=2)
    assert float(cell.penalty) == pytest.approx(one.penalty, abs=1e-6)
    excess = (cell.document_loss - cell.document_receiver_loss).sum() / whole.document_tokens.sum()
    assert float(excess) == pytest.approx(one.penalty, abs=1e-5)
    assert (float(cell.penalty_low), float(cell.penalty_high)) == pytest.approx(one.interval(), abs=1e-4)
    assert float(cell.mean_loss) == pytest.approx(one.mean_losses.mean, abs=1e-6)
    with pytest.raises(InputError, match="does not exist"):
        rs.stitching_table(models, models, [4], **how)
