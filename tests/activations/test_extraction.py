import numpy as np
import pytest
import torch

import repsim_nb as rs
from repsim_nb.activations import extract_aligned
from repsim_nb.activations.selection import FewerRowsWarning
from repsim_nb.errors import InputError

NAME = "tiny-neox-w32-d2"


@pytest.fixture(scope="module")
def model():
    return rs.load_model(NAME)


@pytest.fixture(scope="module")
def acts(model):
    return rs.extract(model, n_rows=600, seed=3)


@torch.no_grad()
def test_rows_are_what_the_model_holds_at_their_place(model, acts):
    corpus = rs.load_corpus("python-docs")
    texts = dict(zip(corpus.documents, corpus.texts, strict=True))
    for i in (0, 17, 599):
        row = acts.rows.iloc[i]
        windows = model.windows([texts[row.document]])
        window = next(w for w in windows if (w.offsets[:, 1] == row.char_end).any())
        batch = model.collate([window])
        place = int(np.flatnonzero(window.offsets[:, 1] == row.char_end)[-1])
        hidden = model.embed(batch)
        for layer in acts:
            there = model.run(hidden, 0, layer, batch)[0, place]
            assert (acts[layer][i] - there).abs().max() < 1e-5


def test_shapes_dtype_and_order(model, acts):
    assert list(acts) == [0, 1, 2]
    assert all(acts[layer].shape == (600, model.d_model) and acts[layer].dtype == torch.float32 for layer in acts)
    assert not acts.rows.duplicated(["document", "char_end"]).any()
    assert (acts.rows.position > 0).all()  # position 0 holds the special token


def test_one_row_per_document_spreads_over_as_many_documents_as_there_are(model):
    per_document = rs.extract(model, n_rows=1000, rows_per_document=1).rows.groupby("document").size()
    assert len(per_document) == len(rs.load_corpus("python-docs"))
    assert per_document.max() - per_document.min() <= 1


def test_few_rows_take_one_of_each_of_as_many_documents(model):
    rows = rs.extract(model, n_rows=50).rows
    assert rows.document.nunique() == 50


def test_the_seed_decides_the_rows(model, acts):
    same = rs.extract(model, n_rows=600, seed=3)
    other = rs.extract(model, n_rows=600, seed=4)
    assert same.rows.equals(acts.rows)
    assert all(torch.equal(same[layer], acts[layer]) for layer in acts)
    assert not other.rows.equals(acts.rows)


def test_layers_can_be_chosen_and_agree_with_all(model, acts):
    some = rs.extract(model, layers=[2, 0], n_rows=600, seed=3)
    assert list(some) == [2, 0]
    assert torch.allclose(some[2], acts[2], atol=1e-6)
    with pytest.raises(InputError, match="was not extracted"):
        some[1]


def test_batching_changes_nothing_beyond_rounding(model, acts, monkeypatch):
    monkeypatch.setattr("repsim_nb.activations.extraction.MAX_BATCH_TOKENS", 300)
    small = rs.extract(model, n_rows=600, seed=3)
    assert all((small[layer] - acts[layer]).abs().max() < 1e-5 for layer in acts)


def test_rows_are_the_same_places_in_every_model(acts):
    both = extract_aligned([NAME, "tiny-neox-w64-d4"], None, n_rows=600, seed=3)
    assert both[0].rows.equals(acts.rows)
    assert both[1].rows[["document", "char_end"]].equals(acts.rows[["document", "char_end"]])


def test_last_and_mean_give_one_row_per_document(model):
    texts = ["A first short text.", "The second text is a little longer than that.", "Third."]
    last = rs.extract(model, texts, rows="last", n_rows=3)
    mean = rs.extract(model, texts, rows="mean", n_rows=3)
    batch = model.batch(texts)
    with torch.no_grad():
        hidden = model.run(model.embed(batch), 0, 2, batch)
    for i in range(3):
        real = hidden[i][batch.carries_text[i]]
        assert (last[2][i] - real[-1]).abs().max() < 1e-5
        assert (mean[2][i] - real.mean(0)).abs().max() < 1e-5


def test_a_small_corpus_gives_all_it_has_and_says_so(model):
    with pytest.warns(FewerRowsWarning, match="Requested 4,096 rows"):
        acts = rs.extract(model, ["Just one short text."])
    batch = model.batch(["Just one short text."])
    assert len(acts.rows) == int(batch.carries_text.sum())


def test_characters_of_several_tokens_are_rows_once_at_their_last_token(model):
    with pytest.warns(FewerRowsWarning):
        acts = rs.extract(model, ["🦊日本"])
    assert acts.rows.char_end.tolist() == [1, 2, 3]
    assert (np.diff(acts.rows.position) > 1).all()


@pytest.mark.parametrize(("dtype", "digits"), [("bfloat16", 2), ("float16", 4)])
def test_half_precision_comes_out_and_is_measured_as_float32(acts, dtype, digits):
    half = rs.extract(rs.load_model(NAME, dtype=dtype), n_rows=600, seed=3)
    assert half[2].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(half[2], acts[2]).min() > 1 - 10**-digits
    assert (half[2] != acts[2]).any()  # it was half precision inside
    in_half, whole = rs.compare(half), rs.compare(acts)
    assert in_half.dtype == whole.dtype == np.float64
    assert abs(in_half - whole).max() < 10**-digits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"site": "resid_pots"}, "Did you mean 'resid_post'"),
        ({"rows": "token"}, "Did you mean 'tokens'"),
        ({"n_rows": 0}, "positive whole number"),
        ({"n_rows": 2.5}, "positive whole number"),
        ({"layers": 9}, "does not exist"),
    ],
)
def test_bad_arguments_say_what_is_wrong(model, arguments, message):
    with pytest.raises(InputError, match=message):
        rs.extract(model, **arguments)


@pytest.mark.parametrize("layers", ["all", [2, 3], [[1, 2]]])
def test_extract_aligned_wants_an_entry_for_each_model(layers):
    with pytest.raises(InputError, match=r"for 3 models; expected one entry for each model, such as \['all', 'all'"):
        extract_aligned([NAME, NAME, "tiny-neox-w64-d4"], layers=layers, n_rows=50)
