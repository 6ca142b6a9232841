"""Stitching across tokenizers: what the receiver is fed, where its loss is taken, and what costs nothing."""

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models.batch import Windows
from repsim_nb.stitching.ground import Ground, logits_from
from repsim_nb.stitching.shared import SUBTOKENS, collated, paired_tokens, states_at_receiver, stretches
from tests.support.real_tokenizers import model, needs_realdata, tokenizer
from tests.support.realdata import realdata

SMALL = "tiny-neox-w32-d2"
FEW = {"n_fit": 96, "n_report": 48}
TEXTS = [
    f"Number {i}: the naïve cat sat on {i * 7919} mats — “quoted” 🦊, and it read:\n\n  x = {i}  # שלום 日本 e\u0301\n"
    for i in range(12)
]


@pytest.fixture(scope="module")
def small():
    return rs.load_model(SMALL)


@pytest.fixture(scope="module")
def respelt(small):
    """The same model with the same tokenizer, written another way."""
    twin = copy.copy(small)
    twin.__dict__.pop("windows", None)
    twin.tokenizer = copy.deepcopy(small.tokenizer)
    twin.tokenizer.add_tokens(["<never seen>"])
    assert twin.windows.text_key != small.windows.text_key
    return twin


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_another_spelling_of_the_tokenizer_costs_nothing(small, respelt, layer):
    stitched = rs.stitch(small, respelt, layer, map="identity", **FEW)
    assert stitched.penalty == 0
    assert stitched.ground.coverage == 1


def test_another_spelling_predicts_the_same_tokens(small, respelt):
    """In windows that are cut alike: the losses are those with one tokenizer."""
    texts = [text.encode("ascii", "ignore").decode()[:60] for text in TEXTS]
    one = rs.stitch(small, small, 1, texts, map="identity")
    two = rs.stitch(small, respelt, 1, texts, map="identity")
    assert two.receiver_loss == pytest.approx(one.receiver_loss, abs=1e-6)
    assert len(two.losses.nats) == len(one.losses.nats)
    assert two.bits_per_byte == pytest.approx(one.bits_per_byte, rel=1e-6)


def test_batches_are_those_of_a_model_that_pads_and_tells_texts_apart_as_this_one_does(small):
    """Tokenizers that cut alike may pad with another token, or say which text of a pair a token is of."""
    padding, telling = (copy.copy(small) for _ in range(2))
    for twin in (padding, telling):
        twin.tokenizer = copy.deepcopy(small.tokenizer)
    padding.tokenizer.pad_token = padding.tokenizer.convert_ids_to_tokens(7)
    telling.tokenizer.model_input_names = [*small.tokenizer.model_input_names, "token_type_ids"]
    models = [small, padding, telling]
    assert len({m.windows.text_key for m in models}) == 1
    assert padding.pad == 7 != small.pad
    ground = Ground(TEXTS, models, n_fit=8, n_report=8, seed=0)
    of_pairs = {
        part: [replace(w, types=np.arange(len(w)) % 2) for w in found] for part, found in ground.windows.items()
    }
    ground.windows = of_pairs
    for part in ("fit", "report"):
        batches = [ground.batches_of(m)[part] for m in models]
        for one, padded, told in zip(*batches, strict=True):
            assert torch.equal(padded.ids, torch.where(one.mask, one.ids, 7))
            assert one.types is None is padded.types
            assert told.types is not None
    assert any(not batch.mask.all() for batch in ground.batches_of(small)["fit"])


@cache
def windows_of(kind):
    return Windows(tokenizer(kind), 10**4)


def windows(kinds, texts, lengths=(64, 64)):
    cuts = tuple(map(windows_of, kinds))
    return stretches(cuts, lengths, tuple(texts))[0], cuts


ODD = ["e\u0301", "가", "🦊", "👩‍👩‍👧", "\r\n", "\u200b", "שלום", "日本", "  ", " the", "cat", "’", "9"]


@needs_realdata
@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.sampled_from(ODD), min_size=1, max_size=12).map("".join), min_size=1, max_size=3),
    st.sampled_from([("gpt2", "neox"), ("neox", "llama"), ("llama", "gpt2")]),
    st.integers(6, 20),
)
def test_stretches_hold_the_same_text_in_every_window_of_every_tokenizer(texts, kinds, length):
    found, cuts = windows(kinds, texts, (length, length + 3))
    for stretch in found:
        spans, seats = [], []
        for cut, longest in zip(cuts, (length, length + 3), strict=True):
            own = stretch.each[cut.text_key]
            real = own.offsets[:, 1] > own.offsets[:, 0]
            assert len(own) <= longest
            assert (np.diff(own.read) >= 0).all()
            spans.append((own.text, own.read[own.read < 2**60][-1]))
            seats.append(own.read[own.shared].tolist())
            assert (own.offsets[real, 1] * SUBTOKENS <= spans[-1][1]).all()
        assert len(set(spans)) == 1
        assert seats[0] == seats[1] == sorted(set(seats[0]))


def naive_sources(sender, receiver):
    """For every token of the receiver's window, the sender's last that has read no more; at first its first."""
    return [max([i for i, read in enumerate(sender.read) if read <= own], default=0) for own in receiver.read]


@needs_realdata
@pytest.mark.parametrize("kinds", [("gpt2", "neox"), ("neox", "llama"), ("llama", "gpt2")], ids="-".join)
def test_the_receiver_is_fed_what_the_sender_holds_at_its_last_token_that_ends_no_later(kinds):
    found, cuts = windows(kinds, TEXTS)
    sent, received = (collated(model(kind), found) for kind in kinds)
    hidden = torch.randn(*sent.ids.shape, 8)
    into = states_at_receiver(hidden, sent, received)
    assert into.shape == (*received.ids.shape, 8)
    for row, stretch in enumerate(found):
        own = [stretch.each[cut.text_key] for cut in cuts]
        real = own[1].read < 2**60
        sources = np.array(naive_sources(*own))[real]
        assert torch.equal(into[row, : len(own[1])][torch.from_numpy(real)], hidden[row, sources])
        # Where the loss is taken both have read the same, and so has everything that is fed there or before.
        for place in np.flatnonzero(own[1].shared):
            assert (own[0].read[sources[: place + 1]] <= own[1].read[place]).all()
            assert own[0].read[sources[place]] == own[1].read[place]


@needs_realdata
def test_what_is_fed_knows_nothing_of_the_text_behind():
    """Another continuation changes no logit where the loss is taken."""
    stitched = rs.stitch(model("llama"), model("neox"), 1, TEXTS, fit="least_squares")
    whole, other = ("The cat sat on the mat and then it" + end for end in (" read 100 books", ", however, slept"))
    logits, changed = stitched.logits([whole]), stitched.logits([other])
    offsets = windows_of("neox")([whole])[0].offsets
    known = int((offsets[:, 1] <= len("The cat sat on the mat and then it")).sum())
    assert known > 8
    torch.testing.assert_close(logits[0, :known], changed[0, :known], atol=1e-5, rtol=1e-4)
    assert (logits[0, known] - changed[0, known]).abs().max() > 1e-4


@pytest.fixture(scope="module")
def across():
    return rs.stitch(model("llama"), model("neox"), 1, TEXTS, steps=30)


@needs_realdata
def test_nothing_of_the_receivers_own_is_left(across):
    """A map that says the receiver's mean whatever comes in is the receiver fed its mean everywhere."""
    deaf = copy.deepcopy(across.map)
    ground, seam = across.ground, across.seam
    with torch.no_grad():
        deaf.whitened.zero_()
        deaf.offset.copy_(ground._mean(seam.receiver, 1) / deaf.unit)
        fed = [deaf(h) for h in seam.sent(ground, "report")]
        batches = ground.batches_of(seam.receiver)["report"]
        losses = ground.losses(
            seam.receiver, (logits_from(seam.receiver, h, 1, b) for h, b in zip(fed, batches, strict=True))
        )
    assert losses.nats == pytest.approx(across.mean_losses.nats, abs=1e-4)


@needs_realdata
def test_both_losses_are_of_the_tokens_before_which_both_have_read_the_same(across):
    receiver, total, count, size = across.receiver, 0.0, 0, 0
    texts = across.ground.corpora["report"].texts
    for batch in across.ground.batches_of(receiver)["report"]:
        logits = receiver.module(input_ids=batch.ids, attention_mask=batch.mask.long()).logits
        for row in range(len(batch)):
            ends = batch.offsets[row, :, 1]
            others = windows_of("llama")([texts[batch.texts[row]]])[0].offsets
            for place in range(int(batch.mask[row].sum()) - 1):
                begins = batch.offsets[row, place + 1, 0]
                parted = any(others[i, 1] == begins == others[i + 1, 0] for i in range(len(others) - 1))
                if ends[place] == begins and parted:
                    total += F.cross_entropy(logits[row, place], batch.ids[row, place + 1]).item()
                    size += len(texts[batch.texts[row]][begins : ends[place + 1]].encode())
                    count += 1
    assert len(across.losses.nats) == len(across.receiver_losses.nats) == count
    assert across.receiver_loss == pytest.approx(total / count, rel=1e-5)
    assert across.bits_per_byte == pytest.approx(across.loss * count / np.log(2) / size, rel=1e-5)
    assert across.history.stop_loss.min() <= across.history.stop_loss.iloc[0]


@needs_realdata
def test_look_inside(across):
    predictions = across.predictions("The cat sat on the mat", top=3)
    assert predictions.shape == (3, 6)
    assert across.costliest(5).cost.is_monotonic_decreasing
    with pytest.raises(InputError, match="Pass the texts"):
        across.logits(across.receiver.batch(["The cat"]))


@needs_realdata
def test_a_table_of_several_tokenizers_takes_every_loss_on_the_same_places():
    models = [model("gpt2"), model("llama"), model("neox")]
    for of, name in zip(models, ("a", "b", "c"), strict=True):
        of.name = name
    table = rs.stitching_table(models[:2], models[1:], [1], TEXTS, map="identity")
    assert table.penalty.sel(sender="b", receiver="b").item() == 0
    assert table.document_tokens.sum() == paired_places(models)
    pair = rs.stitching_table(models[1:2], models[1:], [1], TEXTS, map="identity")
    assert pair.document_tokens.sum() > table.document_tokens.sum()
    one = rs.stitch(models[1], models[2], 1, TEXTS, map="identity")
    assert pair.penalty.sel(sender="b", receiver="c").item() == pytest.approx(one.penalty, abs=1e-6)


def paired_places(models):
    """How many tokens are predicted, counted in the windows of any of the models."""
    found, *_ = stretches(tuple(m.windows for m in models), (64, 64, 64), tuple(TEXTS))
    counts = {int(paired_tokens(collated(of, found)).sum()) - len(found) for of in models}
    assert len(counts) == 1
    return counts.pop()


@needs_realdata
def test_tokenizers_that_share_too_little_are_refused():
    from tests.models.test_tokenizers import shifted

    letters = [" ".join("abcdefghijklm") + "."] * 12
    with pytest.raises(InputError, match="a comparison needs 10%"):
        rs.stitch(model("gpt2"), shifted(), 1, letters, map="identity")


@pytest.fixture(scope="module")
def stories():
    return rs.load_model(realdata("stories260k"))


@needs_realdata
def test_a_model_of_another_tokenizer_that_nobody_here_trained(stories):
    """It stitches into itself at no cost, and a model from here reads it far better than one that says nothing."""
    for layer in (0, 3, 5):
        assert rs.stitch(stories, stories, layer, TEXTS[:4], map="identity").penalty == 0
    lines = realdata("wikitext2_valid.txt").read_text(encoding="utf-8").splitlines()
    lines = [line.strip() for line in lines if len(line) > 400][:60]
    how = {"into": 2, "corpus": lines, "fit": "least_squares", "n_fit": 48, "n_report": 16}
    said, unsaid = (rs.stitch(stories, "tiny-neox-w64-d4", 3, shuffle=s, **how) for s in (False, True))
    assert said.loss < unsaid.loss - 0.2
    assert said.penalty > 0
    assert said.ground.coverage > 0.9
