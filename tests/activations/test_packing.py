"""Documents packed into windows of one length, and what stands in front of a window."""

import copy
import json
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import ByteLevel

import repsim_nb as rs
from repsim_nb.activations import extract_aligned
from repsim_nb.errors import InputError
from repsim_nb.models import Packing
from repsim_nb.models.batch import Windows

NAME = "tiny-neox-w32-d2"
TEXTS = [f"Document number {i} says that {'it goes on and ' * (i % 5)}it ends here." for i in range(30)]


@pytest.fixture(scope="module")
def model():
    return rs.load_model(NAME)


@cache
def windows_of_the_small_one():
    return Windows(rs.load_model(NAME).tokenizer, 128)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from(["a", "One two. ", "🦊é", "x = 1\n"]).flatmap(lambda t: st.just(t * 3)), min_size=1),
    st.integers(3, 9),
    st.sampled_from([None, True, False]),
)
def test_packed_windows_are_the_documents_with_the_end_of_text_between(texts, length, bos):
    cut = windows_of_the_small_one()
    before, after = cut.frame(bos)
    assert after == []
    joined, documents = [], []
    for number, text in enumerate(texts):
        ids = cut.tokenizer(text, add_special_tokens=False)["input_ids"]
        joined += [*ids, cut.tokenizer.eos_token_id]
        documents += [number] * (len(ids) + 1)
    inner = length - len(before)
    if len(joined) - 1 < inner:
        with pytest.raises(InputError, match="fewer than"):
            cut(texts, packing=Packing("packed", length, bos))
        return
    windows = cut(texts, packing=Packing("packed", length, bos))
    assert len(windows) == (len(joined) - 1) // inner
    for i, window in enumerate(windows):
        part = slice(i * inner, (i + 1) * inner)
        assert window.ids.tolist() == before + joined[part]
        assert window.texts[len(before) :].tolist() == documents[part]
        apart = window.ids[len(before) :] == cut.tokenizer.eos_token_id
        assert ((window.offsets[len(before) :, 0] < 0) == apart).all()


def test_rows_of_packed_windows_keep_their_document_and_character_and_see_what_is_before(model):
    packing = Packing("packed", 40)
    acts = rs.extract(model, TEXTS, n_rows=120, packing=packing)
    windows = model.windows(TEXTS, packing=packing)
    assert {len(window) for window in windows} == {40}
    corpus = rs.load_corpus(TEXTS)
    for i in (0, 50, 119):
        row = acts.rows.iloc[i]
        window = windows[row.sequence]
        document = corpus.documents.index(row.document)
        assert window.texts[row.position] == document
        assert window.offsets[row.position, 1] == row.char_end
        assert TEXTS[document].startswith(
            model.tokenizer.decode(window.ids[row.position]), window.offsets[row.position, 0]
        )
        with torch.no_grad():
            batch = model.collate([window])
            hidden = model.run(model.embed(batch), 0, 2, batch)[0, row.position]
        assert (hidden - acts[2][i]).abs().max() < 1e-5
    apart = rs.extract(model, TEXTS, n_rows=120)
    assert acts.provenance["packing"] == {"kind": "packed", "length": 40, "bos": None}
    assert apart.provenance["packing"]["kind"] == "documents"
    assert len(set(acts.rows.sequence)) < len(set(apart.rows.sequence))


def test_packing_reaches_every_way_to_compare(model):
    how = {"n_rows": 100, "packing": Packing("packed", 32)}
    compared = rs.compare(model, NAME + "@step0", TEXTS, **how)
    np.testing.assert_allclose(rs.stream(model, NAME + "@step0", TEXTS, **how), compared, rtol=1e-5)
    assert json.loads(compared.attrs["provenance"])["a"]["packing"]["length"] == 32
    assert not np.allclose(compared, rs.compare(model, NAME + "@step0", TEXTS, n_rows=100))
    assert rs.compare(model, corpus=TEXTS, packing="packed", n_rows=100).attrs["n_rows"] == 100


def test_what_stands_in_front_is_said(model):
    ids = {bos: model.windows(TEXTS[:1], packing=Packing(bos=bos))[0].ids for bos in (None, True, False)}
    first = model.tokenizer.bos_token_id
    assert ids[None][0] == ids[True][0] == first
    assert ids[False].tolist() == ids[True][1:].tolist()
    short = model.windows(TEXTS[:1], packing=Packing(length=9, bos=False))
    assert [len(w) for w in short[:-1]] == [9] * (len(short) - 1)
    assert np.concatenate([w.ids for w in short]).tolist() == ids[False].tolist()
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.backend_tokenizer.post_processor = ByteLevel()  # as that of GPT-2
    own = Windows(tokenizer, 128)
    assert own(TEXTS[:1])[0].ids.tolist() == ids[False].tolist()
    assert own(TEXTS[:1], packing=Packing(bos=True))[0].ids.tolist() == ids[True].tolist()


def test_a_row_differs_by_what_stands_in_front(model):
    with_first, without = (rs.extract(model, TEXTS, n_rows=50, packing=Packing(bos=bos)) for bos in (True, False))
    assert with_first.rows.char_end.equals(without.rows.char_end)
    assert (with_first.rows.position == without.rows.position + 1).all()
    assert (with_first[2] - without[2]).abs().max() > 0.01


class Bare:
    """A tokenizer without special tokens."""

    is_fast, bos_token_id, eos_token_id = True, None, None

    def __init__(self, own):
        self.backend_tokenizer = copy.deepcopy(own.backend_tokenizer)
        self.backend_tokenizer.post_processor = ByteLevel()


@pytest.mark.parametrize(
    ("packing", "message"),
    [
        (Packing("packed"), "joins documents by an end-of-text token, which Bare does not have"),
        (Packing(bos=True), "bos=True needs a beginning-of-text token, and the tokenizer Bare has none"),
    ],
)
def test_special_tokens_that_a_tokenizer_lacks_are_not_made_up(model, packing, message):
    bare = Windows(Bare(model.tokenizer), 64)
    assert len(bare(TEXTS, packing=Packing(bos=False))) == len(bare(TEXTS)) > 0
    with pytest.raises(InputError, match=message):
        bare(TEXTS, packing=packing)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"packing": "pakced"}, "Did you mean 'packed'"),
        ({"packing": {"length": 257}}, "length=257 is longer than the context of tiny-neox-w32-d2, 256"),
        ({"packing": {"length": 1}}, "no room for text"),
        ({"packing": {"length": 0}}, "length=0; expected a positive"),
        ({"packing": {"length": True}}, "length=True; expected a positive"),
        ({"packing": "packed", "rows": "mean"}, "needs one document per window"),
        ({"packing": "packed", "corpus": ["Few."]}, "fewer than the 255 of one packed window"),
        ({"packing": "packed", "corpus": "nli-heuristics"}, "Pairs of texts are windows of their own"),
    ],
)
def test_bad_packing_says_what_is_wrong(model, how, message):
    with pytest.raises(InputError, match=message):
        extract_aligned([model], **{"corpus": TEXTS, **how, "packing": made(how["packing"])})


def made(given):
    return Packing(**given) if isinstance(given, dict) else given


@pytest.mark.parametrize("length", [8.5, "64"])
def test_lengths_that_are_no_numbers_of_tokens_say_so(length):
    packing = Packing()
    object.__setattr__(packing, "length", length)  # tests check types, users need not
    with pytest.raises(InputError, match=f"length={length!r}; expected a positive whole number"):
        packing.__post_init__()
