import json

import numpy as np
import pytest
import torch

import repsim_nb as rs
from repsim_nb.comparison.population import CHEAP
from repsim_nb.errors import InputError
from repsim_nb.measures import get_measure
from tests.models.test_classifiers import random_classifier, word_tokenizer

NAMES = ["tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-neox-w32-d2@step0"]
TEXTS = [f"Sentence number {i} has its own words, such as {'a' * (i % 7)} or {i * i}." for i in range(60)]


@pytest.fixture(scope="module")
def table():
    return rs.compare_models(NAMES, corpora=TEXTS, n_rows=300)


def test_every_pair_is_what_the_measure_gives_for_it_alone(table):
    assert list(table) == list(CHEAP)
    assert dict(table.sizes) == {"layer": 3, "model_a": 3, "model_b": 3}
    kept = {name: rs.extract(name, TEXTS, n_rows=300) for name in NAMES}
    for name in CHEAP:
        measure = get_measure(name)
        for layer in (0, 2):
            value = table[name].sel(layer=layer, model_a=NAMES[0], model_b=NAMES[1])
            alone = measure.dissimilarity(kept[NAMES[0]][layer], kept[NAMES[1]][layer])
            assert float(value) == pytest.approx(alone, rel=1e-5, abs=1e-6)


def test_a_model_is_like_itself_and_an_untrained_one_is_not(table):
    for name, values in table.items():
        for layer in (1, 2):
            grid = values.sel(layer=layer).values
            assert np.diag(grid).max() < 2e-3, name
            assert np.diag(grid).max() < 0.1 * grid[~np.eye(3, dtype=bool)].min(), name
    assert table.cka.sel(layer=2).values[0, 2] > table.cka.sel(layer=2).values[0, 1]


def test_measures_without_an_order_give_symmetric_grids(table):
    for name, values in table.items():
        turned = values.transpose("layer", "model_b", "model_a").values
        if get_measure(name).symmetric:
            assert np.abs(values.values - turned).max() < 1e-5, name
    assert np.abs(table.linear_regression.values - table.linear_regression.values.swapaxes(1, 2)).max() > 0.01


def test_what_made_the_numbers_is_written_down(table):
    about = json.loads(table.attrs["provenance"])
    assert list(about["models"]) == sorted(NAMES)
    assert about["measures"]["mutual_knn"]["k"] == 10
    assert (about["n_rows"], about["rows"], about["site"]) == (300, "tokens", "resid_post")
    assert len(about["corpus"]["sha256"]) == 64


def test_layers_and_measures_can_be_chosen():
    model = rs.load_model(random_classifier("bert"), tokenizer=word_tokenizer("bert"))
    other = rs.load_model(random_classifier("bert"), tokenizer=word_tokenizer("bert"))
    other.name = "other"
    with torch.no_grad():
        other.module.bert.encoder.layer[2].output.dense.weight.mul_(-1)
    kwargs = {"site": "mlp_out", "n_rows": 200, "layers": [2, 3]}
    one = rs.compare_models([model, other], get_measure("cka", kernel="rbf"), **kwargs)
    assert list(one) == ["cka"]
    assert one.layer.values.tolist() == [2, 3]
    assert abs(float(one.cka.sel(layer=2)[0, 1])) < 1e-6
    assert abs(float(one.cka.sel(layer=3)[0, 1])) < 1e-5  # a sign is a rotation
    size = rs.compare_models([model, other], ["aligned_cosine", "permutation_procrustes"], **kwargs)
    assert float(size.aligned_cosine.sel(layer=3)[0, 1]) < 1e-3
    assert float(size.permutation_procrustes.sel(layer=3)[0, 1]) > 1


@pytest.mark.parametrize(
    ("models", "arguments", "message"),
    [
        (NAMES[:1], {}, "at least two"),
        (NAMES[0], {}, "expected a list"),
        ([NAMES[0], NAMES[0]], {}, "appears twice"),
        ([NAMES[0], "tiny-neox-w32-d4"], {}, "need the same layers"),
        (NAMES[:2], {"measures": []}, "measures is empty"),
        (NAMES[:2], {"measures": ["cka", "cka"]}, "Measure 'cka' appears twice"),
        (NAMES[:2], {"measures": "ckaa"}, "Did you mean 'cka'"),
        (NAMES[:2], {"memory_limit": 1000}, "the limit is 1 kB"),
        (NAMES[:2], {"layers": 7}, "does not exist"),
    ],
)
def test_bad_input_says_what_is_wrong(models, arguments, message):
    with pytest.raises(InputError, match=message):
        rs.compare_models(models, corpora=TEXTS, n_rows=50, **arguments)
