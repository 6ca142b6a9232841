"""What stands around a text, and what decides it, is read off the tokenizer: against what transformers gives."""

import copy
import re
import string
import unicodedata

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing

import repsim_nb as rs
from repsim_nb.activations import extract_aligned, selection
from repsim_nb.activations.selection import _places
from repsim_nb.errors import InputError
from repsim_nb.models import Packing, load_model, tokenizing
from repsim_nb.models.batch import Windows
from repsim_nb.models.tokenizing import check_text, template, text_bytes, whole

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<x>"]
PROTEIN = ["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "GSHMASMTGGQQMGRDLYDDDDKDPSS", "MEEPQSDPSVEPPLSQETFSDLWKLLPEN"]


def letters(alphabet, processor=None, unknown=None, **more):
    """A token for each character of an alphabet; what is not in it is left out, or unknown."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    own = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown or "<unk>"))
    if unknown is None:  # a tokenizer of proteins drops what is no residue
        own.normalizer = normalizers.Replace(Regex(f"[^{alphabet}]"), "")
    own.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    own.post_processor = processor
    ends = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=own, model_max_length=64, **{**ends, **more})


def around(single, pair="$A $B"):
    return TemplateProcessing(single=single, pair=pair, special_tokens=[(t, SPECIAL.index(t)) for t in SPECIAL[1:]])


AMINO = string.ascii_uppercase
BOTH = around("<s> $A </s>", "<s> $A </s> $B:1 </s>:1")
TOKENIZERS = {
    "protein": (letters(AMINO, BOTH), PROTEIN),
    "DNA, an end alone": (letters("ACGT", around("$A </s>")), ["ACGTTGCA", "GGTA"]),
    "digits, a beginning alone": (letters(string.digits, around("<s> $A")), ["31415926", "27182"]),
    "two tokens in front": (letters(AMINO, around("<x> <s> $A </s>")), PROTEIN),
    "three tokens behind": (letters(AMINO, around("$A </s> <x> <x>")), PROTEIN),
    "none": (letters(AMINO), PROTEIN),
    "pieces of BERT": (letters(AMINO, BertProcessing(("</s>", 2), ("<s>", 1))), PROTEIN),
    "pieces of RoBERTa": (letters(AMINO, RobertaProcessing(("</s>", 2), ("<s>", 1))), PROTEIN),
    "a sequence of processors": (letters(AMINO, Sequence([ByteLevel(trim_offsets=True), around("<s> $A")])), PROTEIN),
    "an a that is unknown": (letters(AMINO, BOTH, unknown="<unk>"), PROTEIN),
    "a word for each word": (letters(["TWO"], BOTH), ["TWO", "TWO"]),
    "add_bos_token and add_eos_token": (letters(AMINO, add_bos_token=True, add_eos_token=True), PROTEIN),
    "what looks special in the text": (letters(AMINO, BOTH, unknown="<unk>", split_special_tokens=True), ["A<s>B</s>"]),
}


def network(tokenizer, rows=None, family="Llama", kind="ForCausalLM", seed=0):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = getattr(transformers, f"{family}Config")(
        **sizes, vocab_size=rows or len(tokenizer), max_position_embeddings=64, initializer_range=0.3, pad_token_id=0
    )
    return getattr(transformers, f"{family}{kind}")(config).eval()


@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_windows_are_what_transformers_gives_a_model_to_read(name):
    tokenizer, texts = TOKENIZERS[name]
    windows = Windows(tokenizer, 64)(texts)
    assert [window.ids.tolist() for window in windows] == tokenizer(texts)["input_ids"]
    before, after = Windows(tokenizer, 64).frame()
    masks = tokenizer(texts, return_special_tokens_mask=True)["special_tokens_mask"]
    for window, special in zip(windows, masks, strict=True):
        framed = np.ones(len(window), dtype=bool)
        framed[len(before) : len(window) - len(after)] = False
        assert (window.offsets[:, 0] < 0).tolist() == framed.tolist()
        assert (np.array(special, dtype=bool) >= framed).all()


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name != "what looks special in the text"])
def test_extract_gives_the_states_of_transformers_whatever_the_tokenizer(name):
    tokenizer, texts = TOKENIZERS[name]
    plain = network(tokenizer)
    model = load_model(copy.deepcopy(plain), tokenizer=tokenizer, device="cpu")
    acts = rs.extract(model, texts, rows="last", n_rows=len(texts))
    for text, row in zip(texts, acts[2], strict=True):
        encoded = tokenizer(text, return_tensors="pt", return_special_tokens_mask=True)
        last = int(np.flatnonzero(encoded.pop("special_tokens_mask")[0] == 0)[-1])
        taken = []
        hook = plain.model.layers[1].register_forward_hook(lambda _, __, out, taken=taken: taken.append(out))
        with torch.no_grad():
            plain(input_ids=encoded["input_ids"])
        hook.remove()
        torch.testing.assert_close(row, taken[0][0, last], atol=1e-5, rtol=1e-4)


def test_template_needs_no_token_of_the_tokenizer():
    nothing = Tokenizer(models.BPE({}, []))
    assert template(nothing) == ([], [])
    nothing.post_processor = around("<s> <x> $A </s>")
    assert template(nothing) == ([1, 4], [2])


@pytest.mark.parametrize("rows", ["tokens", "last", "mean", "padded"])
@pytest.mark.parametrize("packing", ["documents", "packed"])
def test_text_without_any_token_is_one_clear_refusal(rows, packing):
    tokenizer, _ = TOKENIZERS["protein"]
    model = load_model(network(tokenizer), tokenizer=tokenizer)
    texts = ["no residue at all", "nor here, 1234"] * 40
    with pytest.raises(InputError, match=r"gives no rows for|needs one document per window"):
        rs.extract(model, texts, rows=rows, packing=packing, n_rows=64)
    with pytest.raises(InputError, match="Nothing to tokenize"):
        model.batch(texts)


def test_encoders_and_classifiers_over_residues_load_and_give_the_right_rows():
    tokenizer, texts = TOKENIZERS["protein"]
    plain = network(tokenizer, family="Bert", kind="Model")
    model = load_model(copy.deepcopy(plain), tokenizer=tokenizer, device="cpu")
    acts = rs.extract(model, texts, rows="cls", n_rows=len(texts))
    for text, row in zip(texts, acts[2], strict=True):
        with torch.no_grad():
            whole_ = plain(**tokenizer(text, return_tensors="pt")).last_hidden_state
        torch.testing.assert_close(row, whole_[0, 0], atol=1e-5, rtol=1e-4)


# What decides the windows of a text.

GPT = load_model("tiny-neox-w32-d2").tokenizer
WORDS = [f"Document {i} says <|endoftext|> and that{' it goes on' * (i % 4)}." for i in range(30)]


def edited(**settings):
    own = copy.deepcopy(GPT)
    for name, value in settings.items():
        setattr(own, name, value)
    return own


def backend(change):
    own = copy.deepcopy(GPT)
    change(own.backend_tokenizer)
    return own


def _processor(own):
    own.post_processor = ByteLevel()


def _normalizer(own):
    own.normalizer = normalizers.Lowercase()


def _pre_tokenizer(own):
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def _added(own):
    own.add_tokens([AddedToken("says", normalized=False)])


WORD = GPT.convert_ids_to_tokens(77)
DECIDING = {
    "end-of-text token": lambda: edited(eos_token=WORD),
    "beginning-of-text token": lambda: edited(bos_token=WORD),
    "split_special_tokens": lambda: edited(split_special_tokens=True),
    "add_eos_token": lambda: edited(add_eos_token=True),
    "template": lambda: backend(_processor),
    "normalizer": lambda: backend(_normalizer),
    "pre-tokenizer": lambda: backend(_pre_tokenizer),
    "added token": lambda: backend(_added),
}


@pytest.mark.parametrize("what", list(DECIDING))
def test_windows_key_changes_with_whatever_decides_a_window(what):
    plain, other = Windows(GPT, 32), Windows(DECIDING[what](), 32)
    assert plain.key != other.key
    assert plain != other
    differs = {
        (kind, bos): not same_windows(plain, other, Packing(kind, 32, bos))
        for kind in ("documents", "packed")
        for bos in (None, True, False)
    }
    assert any(differs.values()), "it does decide windows"
    for (kind, bos), differ in differs.items():
        packing = Packing(kind, 32, bos)
        assert not differ or plain.key_for(packing) != other.key_for(packing)


@pytest.mark.parametrize("what", list(DECIDING))
def test_windows_follow_a_tokenizer_that_is_edited(what):
    tokenizer = copy.deepcopy(GPT)
    cut = Windows(tokenizer, 32)
    before = cut.key, hash(cut)
    changed = DECIDING[what]()
    cut.tokenizer = changed
    assert (cut.key, hash(cut)) != before
    for kind in ("documents", "packed"):
        assert same_windows(cut, Windows(changed, 32), Packing(kind, 32))


def same_windows(a, b, packing):
    return [w.ids.tolist() for w in a(WORDS, packing=packing)] == [w.ids.tolist() for w in b(WORDS, packing=packing)]


def test_windows_key_is_that_of_a_copy_and_says_nothing_of_padding_truncation_or_earlier_calls():
    own = copy.deepcopy(GPT)
    before = Windows(own, 32).key
    own(["a", "a much longer text"], padding=True, truncation=True, max_length=4, split_special_tokens=True)
    assert Windows(own, 32).key == Windows(GPT, 32).key == before
    padded = edited(pad_token=WORD, padding_side="left", model_max_length=7)
    assert Windows(padded, 32).key == before
    text = ["x <|endoftext|> y"]
    assert Windows(own, 32)(text)[0].ids.tolist() == GPT(text)["input_ids"][0]


def test_base_and_chat_models_have_one_tokenizer_until_their_ends_of_text_are_asked_for():
    base, chat = (Windows(tokenizer, 32) for tokenizer in (GPT, edited(eos_token=WORD)))
    assert base.text_key == chat.text_key == base.key_for(Packing())
    assert base.key_for(Packing("packed")) != chat.key_for(Packing("packed"))


def test_windows_refuse_a_tokenizer_that_cuts_a_text_differently_each_time():
    own = copy.deepcopy(GPT)
    own.backend_tokenizer.model.dropout = 0.2
    with pytest.raises(InputError, match=r"drops merges at random \(dropout=0.2"):
        Windows(own, 32)(WORDS)


PAIRS = {
    "end of text": (GPT, edited(eos_token=WORD), Packing("packed", 32)),
    "beginning of text": (GPT, edited(bos_token=WORD), Packing(bos=True)),
    "split_special_tokens": (GPT, edited(split_special_tokens=True), Packing()),
    "all of them": (GPT, edited(split_special_tokens=True, bos_token=WORD), Packing("packed", 32, bos=True)),
}


@pytest.mark.parametrize("what", list(PAIRS))
def test_compare_of_models_with_other_special_tokens_is_the_same_from_both_sides(what):
    one, other, packing = PAIRS[what]
    a, b = (load_model(network(GPT, 2048, seed=i), tokenizer=t) for i, t in enumerate((one, other)))
    how = {"corpus": WORDS, "n_rows": 150, "packing": packing}
    there, back = rs.compare(a, b, **how), rs.compare(b, a, **how)
    np.testing.assert_allclose(there.values, back.values.T, atol=1e-5)
    for model, acts in zip((a, b), extract_aligned([a, b], **{"layers": None, **how}), strict=True):
        for i in (0, 75, len(acts.rows) - 1):
            window = model.windows(WORDS, packing=packing)[acts.rows.sequence[i]]
            with torch.no_grad():
                states = model.module.model(input_ids=torch.from_numpy(window.ids[None].astype(np.int64)))
            taken = model.module.model.norm(acts[2][i])
            torch.testing.assert_close(taken, states.last_hidden_state[0, acts.rows.position[i]], atol=1e-4, rtol=1e-3)


# Ids that have no embedding.


@pytest.mark.parametrize(("family", "kind"), [("Llama", "ForCausalLM"), ("Bert", "Model"), ("Roberta", "Model")])
def test_a_padding_token_without_an_embedding_does_not_matter(family, kind):
    tokenizer = letters(AMINO, BOTH)
    plain = network(tokenizer, None, family, kind)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == len(tokenizer) - 1 >= plain.get_input_embeddings().num_embeddings
    model = load_model(copy.deepcopy(plain), tokenizer=tokenizer, device="cpu")
    acts = rs.extract(model, PROTEIN, rows="last", n_rows=3)
    alone = [rs.extract(model, [text], rows="last", n_rows=1)[2][0] for text in PROTEIN]
    torch.testing.assert_close(acts[2], torch.stack(alone), atol=1e-5, rtol=1e-4)


def with_words(words):
    """Residues, and words that were added after the embedding was made."""
    tokenizer = letters(AMINO, BOTH)
    plain = network(tokenizer)
    tokenizer.add_tokens(words)
    return load_model(plain, tokenizer=tokenizer)


def test_a_word_without_an_embedding_is_named_before_anything_is_run(monkeypatch):
    model = with_words(["KTA"])
    sound = load_model(network(model.tokenizer), tokenizer=model.tokenizer)
    monkeypatch.setattr(type(model), "_blocks", None)
    message = r"The token 'KTA' has the id 31, but the model's embedding has 31 rows"
    for run in (
        lambda: rs.extract(model, PROTEIN),
        lambda: extract_aligned([sound, model], PROTEIN),
        lambda: rs.extract(model, PROTEIN, packing="packed", rows="padded", n_rows=64),
        lambda: model.batch(PROTEIN),
        lambda: model.collate(Windows(model.tokenizer, 64)(PROTEIN)),
    ):
        with pytest.raises(InputError, match=message):
            run()


def test_words_without_an_embedding_that_no_text_has_do_not_matter():
    assert len(rs.extract(with_words(["XXX"]), PROTEIN, n_rows=30).rows) == 30


def test_a_special_token_without_an_embedding_is_named():
    model = with_words([])
    model.tokenizer.add_special_tokens({"bos_token": "[NEW]"})
    assert len(rs.extract(model, PROTEIN, n_rows=30).rows) == 30
    with pytest.raises(InputError, match=r"The token '\[NEW\]' has the id 31, but the model's embedding has 31 rows"):
        rs.extract(model, PROTEIN, packing=Packing(bos=True))


# Offsets.


def whole_by_character(text, offsets):
    """The definition, character by character."""
    offsets = offsets.copy()
    following = len(text)
    for i in range(len(offsets) - 1, -1, -1):
        start, end = offsets[i]
        if start == end:
            continue
        while end < len(text) and (unicodedata.combining(text[end]) or (end < following and not text[end].isspace())):
            end += 1
        offsets[i, 1], following = end, min(following, start)
    return offsets


CHARACTERS = st.sampled_from("ab \u0301\u0323é日\u2003\n🦊\ud800")


@settings(deadline=None, max_examples=300)
@given(st.text(CHARACTERS, max_size=12), st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=8))
@example("e\u0301\u0301 \u0301", [(0, 1), (0, 0), (3, 1)])
def test_whole_is_what_its_definition_says(text, spans):
    offsets = np.array([(min(s, len(text)), min(s + n, len(text))) for s, n in spans], dtype=np.int32).reshape(-1, 2)
    expected = offsets if text.isascii() else whole_by_character(text, offsets)
    assert whole(text, offsets).tolist() == expected.tolist()


# Memory.


def test_offsets_of_a_run_of_accents_end_behind_all_of_them():
    """Each accent used to look through all that follow, 16,000 of them in 40 seconds; twice as many take no time."""
    text = "e" + "\u0301" * 32_000 + " f"
    (window,) = Windows(GPT, 10**6)([text])
    assert set(window.offsets[window.offsets[:, 0] >= 0][:-2, 1].tolist()) == {32_001}


def test_windows_of_a_table_are_those_of_a_list_whatever_is_tokenized_at_once(monkeypatch):
    texts = [*WORDS, "", "é" * 50, *WORDS[:3]]
    before = [(w.text, w.ids.tolist(), w.offsets.tolist()) for w in Windows(GPT, 16)(texts)]
    places = _places(Windows(GPT, 16)(texts))
    packed = _places(Windows(GPT, 16)(texts, packing=Packing("packed")))
    for characters in (1, 100):
        monkeypatch.setattr(tokenizing, "AT_ONCE", characters)
        monkeypatch.setattr(selection, "TOKENS_AT_ONCE", characters)
        table = Windows(GPT, 16)(texts)
        assert [(w.text, w.ids.tolist(), w.offsets.tolist()) for w in table] == before
        alike(_places(table), places)
        alike(_places(Windows(GPT, 16)(texts, packing=Packing("packed"))), packed)
    assert [w.ids.tolist() for w in table[3:6]] == [table[i].ids.tolist() for i in (3, 4, 5)]
    assert table[-1].ids.tolist() == before[-1][1]
    with pytest.raises(IndexError):
        table[len(table)]


def alike(a, b):
    for column in ("key", "window", "position"):
        assert np.array_equal(getattr(a, column), getattr(b, column))


@pytest.mark.parametrize("texts", [["word " * 200_000], [("word " * 200_000, "b")]], ids=["text", "pair"])
def test_text_that_takes_more_than_the_limit_is_refused_with_the_largest_size_that_fits(texts):
    pattern = (
        r"text 0 alone has 1 MB, and a text is tokenized as a whole; the limit is 150 MB\. Split it into texts of at"
    )
    with pytest.raises(InputError, match=pattern) as refused:
        Windows(GPT, 32)(texts, memory_limit=150_000_000)
    fits = float(re.search(r"at most ([\d.]+) kB", str(refused.value))[1]) * 1000
    words = int(fits // 5 - 1)
    check_text(["word " * words, "word " * (200_000 - words)], 150_000_000)
    with pytest.raises(InputError):
        check_text(["word " * (words + 10_000), "word " * (190_000 - words)], 150_000_000)


def test_many_texts_that_take_more_than_the_limit_are_refused_with_how_much_fits(monkeypatch):
    monkeypatch.setattr(tokenizing, "ALWAYS_ALLOWED", 0)
    texts = ["a word"] * 100_000
    with pytest.raises(InputError, match=r"since there are 600 kB of text; the limit is 55 MB. Use at most") as refused:
        check_text(texts, 55_000_000)
    fits = float(re.search(r"at most ([\d.]+) kB", str(refused.value))[1]) * 1e3
    check_text(texts[: int(fits // 6) - 1000], 55_000_000)


def test_compare_and_extract_refuse_text_before_they_run(monkeypatch):
    model = load_model("tiny-neox-w32-d2")
    monkeypatch.setattr(type(model), "_blocks", None)
    for run in (rs.compare, rs.stream):
        with pytest.raises(InputError, match="Tokenizing needs about"):
            run(model, corpus=["word " * 200_000], memory_limit=150_000_000)
    assert rs.estimate(model, corpus=["word " * 200_000], trial=False).text == text_bytes(["word " * 200_000])
    monkeypatch.setenv("REPSIM_NB_MEMORY", "1.5e8")
    with pytest.raises(InputError, match="Tokenizing needs about"):
        model.batch(["word " * 200_000])


def test_tokens_of_the_same_texts_are_remembered_for_every_tokenizer_that_gives_the_same():
    tokenizing._tokens.cache_clear()
    texts = ["one text", "and another"]
    first, again, other = (
        load_model(name).windows for name in ("tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-bert-nli-00")
    )
    expected = first(texts)
    assert (tokenizing._tokens.cache_info().misses, tokenizing._tokens.cache_info().hits) == (1, 0)
    assert np.array_equal(again(texts).ids, expected.ids)
    assert tokenizing._tokens.cache_info().hits == 1
    assert not np.array_equal(other(texts).ids, expected.ids)
    assert not np.array_equal(first(texts[::-1]).ids, expected.ids)
    with pytest.raises(ValueError, match="read-only"):
        expected.ids[0] = 0  # what is shared is not changed by one of its users
