"""Stitching models in half precision: maps are fitted and applied in float32."""

import pytest
import torch

import repsim_nb as rs
from repsim_nb.stitching.maps import MAPS
from repsim_nb.stitching.task import NextToken

NAMES = "tiny-neox-w32-d2", "tiny-neox-w32-d4"
MIXED = [("float32", "bfloat16"), ("float16", "float32")]


@pytest.fixture(scope="module")
def few():
    texts = [text[:200] for text in rs.load_corpus("python-docs", limit=40).texts]
    return {"corpus": texts, "n_fit": 24, "n_report": 8}


@pytest.mark.parametrize(
    ("form", "dtypes"), [*((form, ("bfloat16", "bfloat16")) for form in MAPS), *(("affine", both) for both in MIXED)]
)
def test_stitch_gives_the_penalty_of_float32_to_rounding(few, form, dtypes):
    exact = rs.stitch(*NAMES, 1, into=2, map=form, fit="least_squares", **few).penalty
    sender, receiver = (rs.load_model(name, dtype=dtype) for name, dtype in zip(NAMES, dtypes, strict=True))
    stitched = rs.stitch(sender, receiver, 1, into=2, map=form, fit="least_squares", **few)
    assert stitched.penalty == pytest.approx(exact, abs=0.02 if "bfloat16" in dtypes else 0.005)
    assert stitched.logits(["def f(x):"]).dtype == receiver.dtype


def test_stitch_descends_on_models_in_bfloat16(few):
    exact = rs.stitch(NAMES[0], NAMES[0], 1, steps=3, **few)
    model = rs.load_model(NAMES[0], dtype="bfloat16")
    stitched = rs.stitch(model, model, 1, steps=3, **few)
    assert stitched.penalty == pytest.approx(exact.penalty, abs=0.05)
    assert {parameter.dtype for parameter in stitched.map.parameters()} == {torch.float32}


def test_losses_of_tokens_are_cross_entropies_and_of_equal_logits_the_first_is_the_guess():
    model = rs.load_model("tiny-neox-w32-d2")
    task, corpus = NextToken({}), rs.load_corpus(["def f(x):\n    return x", "one two three four"])
    batch = model.batch(list(corpus.texts))
    answers = task.answers(batch, corpus)
    rough = model.logits(batch).detach().double().round().float()  # many are equal
    level = torch.zeros_like(rough)
    for logits in (model.logits(batch).detach(), rough, level):
        nats, right = task.judged(model, logits, batch, answers)
        torch.testing.assert_close(nats, task.nats(model, logits, batch, answers))
        assert torch.equal(right, task.guesses(model, logits, batch) == answers)
    assert not right.any(), "no token is the first of the vocabulary"
