import dataclasses
import json
from functools import cache

import numpy as np
import pytest
import scipy.linalg
import torch

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.stitching import transfer_direction, transfer_probe
from repsim_nb.stitching.linear_probe import LinearProbe
from tests.stitching.test_stitching import rotated

CLASSIFIED = ["its own, in the source", "carried", "found in the target", "random"]


def kind(document):
    return document.split(":")[0]


@cache
def few():
    """Beginnings of documents of both kinds, to fit and to report on."""
    corpus = rs.load_corpus("python-docs")
    kinds = [[i for i, name in enumerate(corpus.documents) if name.startswith(each)] for each in ("code:", "prose:")]
    some = corpus.take(sorted(i for each in kinds for i in each[:36]))
    texts = tuple(text[:300] for text in some.texts)
    return {"corpus": dataclasses.replace(some, texts=texts), "n_fit": 60, "n_report": 24}


@pytest.fixture(scope="module")
def pair():
    """A model, and the same function in a residual stream that is turned."""
    model = rs.load_model("tiny-gelu-3l-s0")
    rng = np.random.default_rng(0)
    ones = np.ones((model.d_model, 1)) / model.d_model**0.5
    basis = scipy.linalg.qr(np.hstack([ones, rng.standard_normal((model.d_model, model.d_model - 1))]))[0]
    inner = scipy.linalg.qr(rng.standard_normal((model.d_model - 1,) * 2))[0]
    turn = torch.tensor(basis @ scipy.linalg.block_diag(1, inner) @ basis.T)
    return model, rotated(model, turn)


def test_a_probe_is_carried_through_a_known_rotation_exactly(pair):
    found = transfer_probe(*pair, 2, kind, map="orthogonal", **few())
    assert found.index.tolist() == CLASSIFIED
    assert found.value["carried"] == pytest.approx(found.value["its own, in the source"], abs=2e-3)
    assert found.value["found in the target"] == pytest.approx(found.value["its own, in the source"], abs=2e-3)
    assert abs(found.less_own_low["carried"]) < 5e-3
    assert found.low["carried"] > found.attrs["chance"] == 0.5
    assert found.high["random"] < found.value["carried"]
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()


def test_a_direction_is_carried_through_a_known_rotation_exactly(pair):
    found = transfer_direction(*pair, 2, kind, map="orthogonal", **few())
    own = found.value["its own, in the source"]
    assert own > 0
    assert found.value["carried"] == pytest.approx(own, rel=1e-3)
    assert found.cosine["carried"] == pytest.approx(1, abs=1e-4)
    assert abs(found.value["random"]) < own / 2
    backwards = transfer_direction(*pair, 2, kind, map="orthogonal", strength=-1, **few())
    assert backwards.value["carried"] == pytest.approx(-found.value["carried"], rel=1e-5)


def test_other_sizes_and_tokenizers_take_part():
    found = transfer_probe("tiny-neox-w32-d2", "tiny-gelu-3l-s0", 1, kind, into=2, **few())
    assert found.value["carried"] > found.value["random"]
    about = json.loads(found.attrs["provenance"])
    assert (about["sender"]["model"], about["layer"], about["into"]) == ("tiny-gelu-3l-s0", 2, 1)
    assert about["fit"] == "least_squares"


def test_a_direction_that_is_given_is_used(pair):
    own = transfer_direction(*pair, 1, kind, **few())
    vector = np.random.default_rng(1).normal(size=64)
    given = transfer_direction(*pair, 1, kind, direction=vector, **few())
    assert given.value["its own, in the source"] != pytest.approx(own.value["its own, in the source"])
    assert abs(given.cosine["carried"]) < own.cosine["carried"]


def test_a_probe_weighs_classes_equally_and_reads_a_planted_feature():
    rng = np.random.default_rng(0)
    classes = np.array([0] * 900 + [1] * 60 + [2] * 40)
    rows = rng.normal(size=(1000, 5))
    rows[:, 2] += 4 * (classes == 1)
    rows[:, 4] -= 4 * (classes == 2)
    probe = LinearProbe.fitted(torch.tensor(rows), classes)
    found = probe(torch.tensor(rows))
    assert min(np.mean(found[classes == each] == each) for each in range(3)) > 0.9
    weights = probe.weights.abs().numpy()
    assert weights[[0, 1, 3]].max() < 0.2 * weights[2, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda document: "one", "All documents have the class 'one'"),
        ({"code:x": 1}, "labels has no class for the document"),
        (None, "has no labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(pair, labels, message):
    with pytest.raises(InputError, match=message):
        transfer_probe(*pair, 1, labels, **few())


def test_what_cannot_be_carried_is_refused(pair):
    with pytest.raises(InputError, match="carries nothing"):
        transfer_probe(*pair, 1, kind, map="identity", **few())
    with pytest.raises(InputError, match="Steering needs two classes of documents, got 3"):
        transfer_direction(*pair, 1, third, **few())
    with pytest.raises(InputError, match="64 finite numbers"):
        transfer_direction(*pair, 1, kind, direction=np.ones(3), **few())
    with pytest.raises(InputError, match="only causal models are steered"):
        transfer_direction("tiny-bert-nli-00", "tiny-bert-nli-01", 1)


def third(document):
    """Three classes."""
    return kind(document) + str(len(document) % 2) * (kind(document) == "prose")
