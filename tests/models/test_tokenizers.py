"""Rows of models with different tokenizers stand at the same place of the text, whatever the text."""

import itertools
import json
import unicodedata
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import repsim_nb as rs
from repsim_nb.activations import extract_aligned
from repsim_nb.activations.selection import FewerRowsWarning, _places, ends_a_place, select
from repsim_nb.errors import InputError
from repsim_nb.models.batch import Windows
from tests.support.real_tokenizers import FILES, model, needs_realdata, tokenizer

KINDS = sorted(FILES)
LENGTH = 12
ODD = [
    "e\u0301",
    "a\u0323\u0301",
    "가",
    "각",
    "🦊",
    "👩‍👩‍👧",
    "🇫🇷",
    "\r\n",
    "\u200b",
    "\u200d",
    "שלום",
    "مَرحَبا",
    "कि",
    "কো",
]
ODD += ["ﬁ", "\u00a0", "  ", "\t", "日本", "₀", "Å", "\ufeff", "ß", "\n\n", "a", "the ", " cat", "."]
TEXT = st.lists(st.sampled_from(ODD) | st.text(max_size=6), min_size=1, max_size=25).map("".join).filter(str.strip)


@cache
def windows_of(kind):
    return Windows(tokenizer(kind), LENGTH)


def normal(kind, text):
    return unicodedata.normalize("NFC", text) if kind == "neox" else text


def read(kind, windows, table, row):
    """What the tokens of the document up to a row say, decoded."""
    ids = []
    for number, window in enumerate(windows):
        stop = table.position[row] + 1 if number == table.window[row] else len(window)
        ids += [int(i) for i, (start, _) in zip(window.ids[:stop], window.offsets[:stop], strict=True) if start >= 0]
        if number == table.window[row]:
            return tokenizer(kind).decode(ids, clean_up_tokenization_spaces=False)
    return None


@needs_realdata
@settings(deadline=None, max_examples=150)
@given(text=TEXT)
@example("e\u0301 a\u0323\u0301 각 ᄀ")
@example("שלום 🦊日本 ‘’“”\r\n\r\n x")
def test_every_place_has_read_the_same_text_in_every_tokenizer(text):
    tables = {}
    for kind in KINDS:
        windows = windows_of(kind)([text])
        table = tables[kind] = _places(windows)
        assert (np.diff(table.key) > 0).all()
        assert len(table.key) == 0 or 0 < table.key[0] <= table.key[-1] <= len(text)
        where = list(zip(table.window, table.position, strict=True))
        assert where == sorted(where)  # further in the text is further in the tokens
        for row, end in enumerate(table.key):
            said = read(kind, windows, table, row)
            assert said is not None
            if kind == "llama":  # its sign for a space may also stand in the text
                assert said.lstrip(" ") == text[:end].replace("▁", " ").lstrip(" ")
            else:
                assert said == normal(kind, text[:end])
    for a, b in itertools.combinations(tables.values(), 2):
        shared = np.intersect1d(a.key, b.key)
        assert len(text) in shared or tables["neox"].key[-1] < len(text) or not len(shared)
        for table in (a, b):
            assert (table.at(shared).char_end == shared).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4)), min_size=1, max_size=30))
def test_a_place_parts_the_tokens_as_it_parts_the_text(spans):
    """Against the definition, token by token, for spans in any order."""
    starts = np.array([start for start, _ in spans])
    ends = starts + [length for _, length in spans]
    for i, whole in enumerate(ends_a_place(starts, ends)):
        assert whole == ((ends[: i + 1] <= ends[i]).all() and (starts[i + 1 :] >= ends[i]).all())


def test_pieces_of_two_characters_in_one_token_end_no_place():
    """Tokens: all but the last byte of the first character; that byte and the first of the second; the rest."""
    assert ends_a_place(np.array([0, 0, 1]), np.array([1, 2, 2])).tolist() == [False, False, True]


@needs_realdata
def test_white_space_alone_is_text():
    """Byte-level tokenizers trim it from what they say a token covers."""
    window = Windows(tokenizer("neox"), 64)(["a\n\n    b "])[0]
    assert [tuple(map(int, o)) for o in window.offsets] == [(0, 1), (1, 3), (3, 7), (7, 8), (8, 9)]


TEXTS = [
    "The cat sat on the mat; naïve cafés — “quoted” 🦊 text, " * 3,
    "def f(x):\n    return x ** 2  # squared\n\n" * 3,
    "Number 3: שלום and 日本 and e\u0301 once more. " * 3,
]


@needs_realdata
@pytest.mark.parametrize("pair", list(itertools.combinations(KINDS, 2)), ids="-".join)
def test_activations_of_different_tokenizers_have_the_same_rows(pair):
    models = [model(kind) for kind in pair]
    acts = extract_aligned(models, TEXTS, n_rows=60)
    where = ["document", "char_end"]
    assert acts[0].rows[where].equals(acts[1].rows[where])
    assert not acts[0].rows.position.equals(acts[1].rows.position)
    shared = np.intersect1d(*[_places(m.windows(TEXTS, 64)).key for m in models])
    fewest = min(len(_places(m.windows(TEXTS, 64)).key) for m in models)
    result = rs.compare(*models, TEXTS, n_rows=60)
    assert result.attrs["coverage"] == acts[0].provenance["coverage"] == len(shared) / fewest
    # In that of 512 entries each letter of an odd word is a token: it ends one wherever others do.
    assert result.attrs["coverage"] == 1 if "llama" in pair else 0.1 < result.attrs["coverage"] < 1
    assert json.loads(result.attrs["provenance"])["b"]["coverage"] == result.attrs["coverage"]
    np.testing.assert_allclose(rs.streaming.stream(*models, TEXTS, n_rows=60), result, rtol=1e-4)


@needs_realdata
def test_rows_hold_what_the_model_computes_there():
    kinds = ("neox", "llama")
    with pytest.warns(FewerRowsWarning):
        acts = extract_aligned([model(kind) for kind in kinds], TEXTS[:1], n_rows=1000)
    for kind, rows in zip(kinds, acts, strict=True):
        of, whole = model(kind), []
        for window in of.windows(TEXTS[:1], 64):
            batch = of.collate([window])
            with torch.no_grad():
                hidden = of.run(of.embed(batch), 0, 2, batch)[0]
            for end in rows.rows.char_end:
                at = np.flatnonzero(window.offsets[:, 1] == end)
                if len(at):
                    whole.append((end, hidden[at[-1]]))
        assert [end for end, _ in whole] == rows.rows.char_end.tolist()
        torch.testing.assert_close(torch.stack([row for _, row in whole]), rows[2], atol=1e-5, rtol=1e-4)


@needs_realdata
def test_too_little_coverage_is_an_error_that_says_how_much():
    text = " ".join("abcdefghijklm") + "."
    with pytest.raises(InputError, match=r"in only 1 of 13 places \(7.7%\); a comparison needs 10%"):
        select([model("gpt2"), shifted()], rs.Sampling(rs.load_corpus([text]), n_rows=5))


def shifted():
    """A model whose tokens are a letter with the space behind it, where others have the space in front."""
    import tokenizers
    import transformers

    own = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=own, model_max_length=64, unk_token="[UNK]")
    sizes = {"vocab_size": 4, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return rs.load_model(
        transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**sizes, intermediate_size=16)), tokenizer=fast
    )
