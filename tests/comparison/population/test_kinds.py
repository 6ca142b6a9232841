"""Models of any depth, width, kind and tokenizer, activations and arrays, in one or several texts."""

import json

import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.comparison import estimate_models
from repsim_nb.comparison.population.chosen_layers import LayerChoice
from repsim_nb.errors import InputError
from repsim_nb.measures import get_measure
from tests.models.test_classifiers import random_classifier, word_tokenizer

SHALLOW, DEEP, GELU = "tiny-neox-w32-d2", "tiny-neox-w64-d4", "tiny-gelu-3l-s0"
TEXTS = [f"Sentence number {i} has its own words, such as {'a' * (i % 7)} or {i * i}." for i in range(60)]
OTHERS = [f"def f{i}(x):\n    return x * {i} + {i * i}\n" for i in range(50)]
MEASURES = ("cka", "procrustes", "cknna")


@pytest.fixture(scope="module")
def encoder():
    model = rs.load_model(random_classifier("bert"), tokenizer=word_tokenizer("bert"))
    model.name = "bert"
    return model


@pytest.fixture(scope="module")
def last():
    return rs.compare_models([SHALLOW, DEEP, GELU], MEASURES, [*TEXTS], layers="last", rows="mean", n_rows=40)


def test_compare_models_of_any_depth_gives_what_a_measure_gives_for_rows_aligned_apart(last):
    assert last.cka.dims == ("model_a", "model_b")
    assert last.layer_a.values.tolist() == [2, 4, 3]
    names, depths = [SHALLOW, DEEP, GELU], [2, 4, 3]
    acts = rs.extract_aligned(names, TEXTS, depths, rows="mean", n_rows=40)
    for name in MEASURES:
        for i, j in ((0, 1), (1, 0), (2, 1)):
            alone = get_measure(name).dissimilarity(acts[i][depths[i]], acts[j][depths[j]])
            assert last[name].values[i, j] == pytest.approx(alone, abs=1e-6), name


def test_compare_models_takes_other_kinds_and_tokenizers_at_the_places_they_share(encoder):
    found = rs.compare_models([SHALLOW, encoder], "cka", TEXTS, layers="last", n_rows=80)
    a, b = rs.extract_aligned([SHALLOW, encoder], TEXTS, [2, encoder.n_layers], n_rows=80)
    expected = get_measure("cka").dissimilarity(a[2], b[encoder.n_layers])
    assert found.cka.values[0, 1] == pytest.approx(expected, abs=1e-6)
    about = json.loads(found.attrs["provenance"])
    assert about["coverage"] == a.provenance["coverage"]
    assert about["models"]["bert"]["kind"] == "classifier"


@pytest.mark.parametrize("layers", ["last", [1]])
def test_compare_models_matches_the_rows_of_an_array_with_the_documents_of_a_corpus(layers):
    whole = rs.extract(DEEP, TEXTS, rows="last", n_rows=len(TEXTS))
    array = {1: whole[4].numpy()} if layers == [1] else whole[4].numpy().astype(np.float64)
    how = {"measures": MEASURES, "corpora": TEXTS, "layers": layers, "rows": "last", "n_rows": 37}
    found = rs.compare_models({"one": SHALLOW, "service": array}, **how)
    ours = rs.extract_aligned([SHALLOW, DEEP], TEXTS, rows="last", n_rows=37)
    expected = get_measure("procrustes").dissimilarity(ours[0][2 if layers == "last" else 1], ours[1][4])
    assert np.squeeze(found.procrustes.values)[0, 1] == pytest.approx(expected, abs=1e-6)


def test_compare_models_takes_activations_beside_models_if_their_rows_are_the_same():
    acts = rs.extract(DEEP, TEXTS, rows="mean", n_rows=40)
    found = rs.compare_models([SHALLOW, acts], "cka", TEXTS, layers="last", rows="mean", n_rows=40)
    models = rs.compare_models([SHALLOW, DEEP], "cka", TEXTS, layers="last", rows="mean", n_rows=40)
    xr.testing.assert_allclose(found.cka, models.cka, atol=1e-6)
    with pytest.raises(InputError, match="Row i must be the same place"):
        rs.compare_models([SHALLOW, acts], "cka", TEXTS, layers="last", rows="mean", n_rows=39)


def test_compare_models_adds_a_dimension_for_several_corpora_only(last):
    how = {"measures": MEASURES, "layers": "last", "rows": "mean", "n_rows": 40}
    both = rs.compare_models([SHALLOW, DEEP, GELU], corpora={"prose": TEXTS, "code": OTHERS}, **how)
    assert both.cka.dims == ("corpus", "model_a", "model_b")
    alone = rs.compare_models([SHALLOW, DEEP, GELU], corpora={"one": OTHERS}, **how)
    for name in MEASURES:
        assert both[name].sel(corpus="prose").values == pytest.approx(last[name].values, abs=1e-12)
        assert both[name].sel(corpus="code").values == pytest.approx(alone[name].values, abs=1e-12)
    assert list(json.loads(both.attrs["provenance"])["corpora"]) == ["code", "prose"]
    service = {name: np.random.default_rng(0).normal(size=(n, 5)) for name, n in (("prose", 60), ("code", 50))}
    models = {"one": SHALLOW, "service": service}
    more = rs.compare_models(models, "cka", {"prose": TEXTS, "code": OTHERS}, layers="last", rows="mean")
    assert more.cka.sizes["corpus"] == 2
    with pytest.raises(InputError, match="service has rows of one text, and there are 2: prose, code"):
        rs.compare_models(models | {"service": np.eye(60)}, "cka", {"prose": TEXTS, "code": OTHERS}, layers="last")


def test_compare_models_at_relative_depths_compares_the_nearest_layers():
    found = rs.compare_models([SHALLOW, DEEP], "cka", TEXTS, layers="relative", n_rows=120)
    assert found.cka.dims == ("depth", "model_a", "model_b")
    assert found.depth.values.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.layer_a.values.T.tolist() == [[0, 1, 1, 2, 2], [0, 1, 2, 3, 4]]
    every = rs.compare(SHALLOW, DEEP, TEXTS, n_rows=120)
    for place, (a, b) in enumerate(zip(*found.layer_a.values.T, strict=True)):
        assert 1 - found.cka.values[place, 0, 1] == pytest.approx(every.sel(layer_a=a, layer_b=b).item(), abs=1e-6)


@pytest.mark.parametrize("depth", range(1, 40))
def test_layer_choice_takes_the_nearest_layer_and_the_deeper_of_two(depth):
    chosen = LayerChoice("relative").of(range(depth + 1))
    assert chosen == [int(share * depth + 0.5) for share in (0, 0.25, 0.5, 0.75, 1)]


def test_compare_models_leaves_rows_out_of_all_models_alike():
    how = {"n_rows": 120, "leave_out_first": 2, "leave_out_norms": 3.0, "standardize": True}
    found = rs.compare_models([SHALLOW, DEEP], ["cka", "rsa"], TEXTS, layers=[1, 2], **how)
    for name in ("cka", "rsa"):
        both = rs.compare(SHALLOW, DEEP, TEXTS, measure=name, layers_a=[1, 2], layers_b=[1, 2], **how)
        assert 1 - found[name].sel(layer=2).values[0, 1] == pytest.approx(both.values[1, 1], abs=1e-6)
    assert json.loads(found.attrs["provenance"])["n_rows"] < 120


X = np.random.default_rng(0).normal(size=(60, 4))


@pytest.mark.parametrize(
    ("models", "how", "message"),
    [
        ([SHALLOW, DEEP], {}, 'has 0, 1, 2 and tiny-neox-w64-d4 has 0, 1, 2, 3, 4.*use layers="last"'),
        ([SHALLOW, DEEP], {"layers": "lst"}, "expected 'all', 'last', 'relative', 'best', a layer"),
        ([SHALLOW, X], {"layers": "last"}, 'whose rows are tokens.*use rows="mean"'),
        ([SHALLOW, X[:7]], {"layers": "last", "rows": "mean"}, "has 7 rows at layer 0, and texts has 60 documents"),
        ([SHALLOW, X], {"layers": "relative", "rows": "mean"}, "has only layer 0, which has no relative depth"),
        ([SHALLOW, DEEP], {"layers": "last", "corpora": {}}, "corpora is empty"),
        ([SHALLOW, DEEP], {"layers": "last", "corpora": ["python-docs", "python-docs"]}, "Several corpora have one"),
        ([SHALLOW, DEEP], {"layers": "last", "null": "moments"}, "not available for many models"),
        ([SHALLOW, DEEP], {"layers": "last", "memory_limit": 10**4}, "one layer of all models.*the limit is 10 kB"),
        ([SHALLOW, DEEP], {"layers": "best", "memory_limit": 10**4}, "a pair of models.*the limit is 10 kB"),
    ],
)
def test_compare_models_says_why_a_population_cannot_be_compared(models, how, message):
    with pytest.raises(InputError, match=message):
        rs.compare_models(models, **({"measures": "cka", "corpora": TEXTS, "n_rows": 50} | how))


def test_compare_models_refuses_a_store_that_would_evict_what_it_needs(tmp_path):
    with pytest.raises(InputError, match="may not grow so large"):
        rs.compare_models([SHALLOW, DEEP], "cka", TEXTS, layers="last", store=rs.Store(tmp_path, limit=1000))


def test_estimate_models_counts_one_model_and_one_layer_of_all_at_a_time():
    corpora = {"prose": TEXTS, "code": OTHERS}
    about = estimate_models([SHALLOW, DEEP], ["cka", "rsa"], corpora, layers="last", rows="mean")
    assert about.rows == (60, 50)
    assert about.stored == 4 * (60 + 50) * (32 + 64)
    assert about.work == 4 * 60 * (32 + 64) + get_measure("rsa").memory(60, [32, 64])
    assert max(model.weights for model in about.models) < about.extracting < about.peak + about.text
    assert "at a time" in str(about)
    best = estimate_models([SHALLOW, DEEP], "rsa", corpora, layers="best", rows="mean", null=19)
    assert best.work == 2 * (4 * 60 * (3 * 32 + 5 * 64) + get_measure("rsa").memory(60, [32] * 3, [64] * 5))
