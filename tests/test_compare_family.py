import json
import tracemalloc

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.families import compare_family
from repsim_nb.models import Packing

NAMES = ["tiny-neox-w32-d2", "tiny-neox-w64-d4"]


@pytest.fixture(scope="module")
def models():
    return [rs.load_model(name) for name in NAMES]


def in_memory(models, texts, n_sequences, length):
    """The same rows, held: all pairs by `compare`."""
    texts = texts.take(np.random.default_rng(0).permutation(len(texts)))
    packing = Packing("packed", length)
    acts = {m.name: rs.extract(m, texts, rows="padded", n_rows=n_sequences * length, packing=packing) for m in models}
    return rs.compare_all(acts, "cka", batch=length)


def test_sums_over_sequences_are_what_all_rows_at_once_give(models):
    texts = rs.load_corpus("python-docs").take(range(40))
    found = compare_family(models, texts, n_sequences=12, length=64, at_once=1000)
    expected = in_memory(models, texts, 12, 64)
    assert list(found) == list(expected)
    for pair, result in found.items():
        assert np.allclose(result, expected[pair], atol=1e-5)
        assert result.attrs["n_rows"] == 12 * 64
        assert result.dims == ("layer_a", "layer_b")


def test_the_whole_embedded_family_agrees_with_memory_to_1e_5():
    family = [name for name, row in rs.list_models().iterrows() if row.family == "tiny-neox"]
    loaded = [rs.load_model(name) for name in family]
    texts = rs.load_corpus("python-docs").take(range(60))
    found = compare_family(loaded, texts, n_sequences=6, length=128, at_once=1000)
    expected = in_memory(loaded, texts, 6, 128)
    assert max(np.abs(found[pair] - expected[pair]).max().item() for pair in expected) < 1e-5


def test_chunks_and_loading_anew_change_nothing_but_which_text_is_cut_off(models):
    """Every document fills whole windows exactly, so that chunks cut nothing off."""
    tokenizer = models[0].tokenizer
    ids = tokenizer(" ".join(rs.load_corpus("python-docs").texts[:30]), add_special_tokens=False).input_ids
    texts = [tokenizer.decode(ids[i : i + 31]) for i in range(0, 31 * 40, 31)]
    kept = [t for t in texts if len(tokenizer(t, add_special_tokens=False).input_ids) == 31][:24]
    assert len(kept) == 24
    runs = [compare_family(m, kept, n_sequences=24, length=32, at_once=k) for m, k in ((models, 1000), (NAMES, 1000))]
    for pair in runs[0]:
        assert np.array_equal(*(run[pair] for run in runs))


def test_hsic_of_sequences_adds_up(models):
    """Two halves of the sequences and the whole: the numerator is a sum, so the whole lies between the halves."""
    texts = rs.load_corpus("python-docs")
    few = compare_family(models[:1], texts, n_sequences=20, length=64, at_once=7)
    assert few[NAMES[0], NAMES[0]].attrs["n_rows"] == 20 * 64
    assert np.allclose(np.diag(few[NAMES[0], NAMES[0]]), 1)
    about = json.loads(few[NAMES[0], NAMES[0]].attrs["provenance"])
    assert about["estimator"] == "20 sequences of 64"
    assert about["a"]["corpus"]["documents"] == len(texts)


def test_tables_of_rows_and_windows_do_not_grow_with_the_number_of_sequences(models):
    texts = rs.load_corpus("python-docs", split="train")  # tensors: see benchmarks/bench_families.py
    peaks = []
    for n_sequences in (8, 40):
        tracemalloc.start()
        compare_family(models[:1], texts, n_sequences=n_sequences, length=64, at_once=8)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_what_cannot_be_compared_is_said(models):
    with pytest.raises(InputError, match="each model once"):
        compare_family([models[0], models[0]])
    with pytest.raises(InputError, match="fewer tokens than one sequence of 64"):
        compare_family(models, ["short"], length=64)
    with pytest.raises(InputError, match="length=1000 is more than the 256 tokens"):
        compare_family(models, length=1000)
    with pytest.raises(InputError, match="n_sequences=0"):
        compare_family(models, n_sequences=0)
    with pytest.raises(InputError, match="expected a list of models"):
        compare_family("tiny-neox-w32-d2")


def test_all_that_the_text_fills_is_used_when_it_is_less(models):
    texts = rs.load_corpus("python-docs").take(range(3))
    found = compare_family(models, texts, n_sequences=10_000, length=32)
    tokens = sum(len(ids) + 1 for ids, _ in models[0].windows.tokens(texts.texts)) - 1
    assert next(iter(found.values())).attrs["n_rows"] == tokens // 31 * 32
