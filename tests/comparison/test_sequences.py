import json
import tracemalloc

import numpy as np
import pytest
import torch

import repsim_nb as rs
from repsim_nb.comparison.sequences import SPARE_TOKENS, _text_parts, compare_family
from repsim_nb.errors import InputError
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
    return rs.compare_all(acts, rs.get_measure("cka", batch=length))


def test_sums_over_sequences_are_what_all_rows_at_once_give(models):
    texts = rs.load_corpus("python-docs").take(range(40))
    found = compare_family(models, texts, n_sequences=12, length=64, at_once=1000)
    expected = in_memory(models, texts, 12, 64)
    assert list(found) == list(expected)
    for pair, result in found.items():
        assert np.allclose(result, expected[pair], atol=1e-5)
        assert result.attrs["n_rows"] == 12 * 64
        assert result.dims == ("layer_a", "layer_b")


def test_an_embedded_family_of_every_size_agrees_with_memory_to_1e_5():
    models = rs.list_models()
    family = [name for name in models.index[models.family == "tiny-neox"] if "-s" not in name]  # one seed of each
    loaded = [rs.load_model(name) for name in family]
    texts = rs.load_corpus("python-docs").take(range(60))
    found = compare_family(loaded, texts, n_sequences=6, length=128, at_once=1000)
    expected = in_memory(loaded, texts, 6, 128)
    assert max(np.abs(found[pair] - expected[pair]).max().item() for pair in expected) < 1e-5


@pytest.mark.filterwarnings("ignore::repsim_nb.activations.selection.FewerRowsWarning")
@pytest.mark.parametrize("at_once", [3, 8])
def test_chunks_add_up_to_what_all_their_rows_at_once_give(models, at_once):
    length, wanted = 64, 12
    texts = rs.load_corpus("python-docs").take(range(40))
    found = compare_family(models, texts, n_sequences=wanted, length=length, at_once=at_once)
    packing = Packing("packed", length)
    parts = {m.name: [] for m in models}
    for part in _text_parts(models[0].windows, texts, packing, at_once, seed=0):
        if not wanted:
            break
        there = len(rs.extract(models[0], part, rows="padded", n_rows=10**6, packing=packing).rows) // length
        used = min(at_once, wanted, there)
        wanted -= used
        for m in models if used else ():
            parts[m.name].append(rs.extract(m, part, rows="padded", n_rows=used * length, packing=packing))
    assert len(parts[NAMES[0]]) > 1  # several chunks
    acts = {name: {layer: torch.cat([p[layer] for p in held]) for layer in held[0]} for name, held in parts.items()}
    expected = rs.compare_all(acts, rs.get_measure("cka", batch=length))
    for pair, result in found.items():
        assert np.allclose(result, expected[pair], atol=1e-5)


def test_models_by_name_are_loaded_anew_to_the_same_values(models):
    texts = rs.load_corpus("python-docs").take(range(40))
    loaded, named = (compare_family(given, texts, n_sequences=12, length=64, at_once=5) for given in (models, NAMES))
    for pair in loaded:
        assert np.array_equal(loaded[pair], named[pair])


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
    with pytest.raises(InputError, match="length=1000 is longer than the context"):
        compare_family(models, length=1000)
    with pytest.raises(InputError, match="n_sequences=0"):
        compare_family(models, n_sequences=0)
    with pytest.raises(InputError, match="expected a list of models"):
        compare_family("tiny-neox-w32-d2")


@pytest.mark.parametrize("at_once", [4, 1000])
@pytest.mark.parametrize("joined", [False, True])
def test_all_that_the_text_fills_is_used_when_it_is_less(models, at_once, joined):
    texts = rs.load_corpus("python-docs").take(range(30))
    texts = rs.load_corpus(["\n".join(texts.texts)]) if joined else texts
    found = compare_family(models[:1], texts, n_sequences=10_000, length=32, at_once=at_once)
    tokens = sum(len(ids) + 1 for ids, _ in models[0].windows.tokens(texts.texts)) - 1
    used = next(iter(found.values())).attrs["n_rows"] // 32
    lost = SPARE_TOKENS * (used // at_once + 1)  # tokens at most, where the text is cut, and the end of it
    assert (tokens - lost) // 31 - 1 <= used <= tokens // 31
