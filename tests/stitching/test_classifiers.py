"""Stitching of sequence classifiers: labels are read right, and what is reported is what the models do."""

import copy
import json
from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from transformers import BertConfig, BertForSequenceClassification

import repsim_nb as rs
from repsim_nb.corpora import nli_heuristics
from repsim_nb.errors import InputError
from repsim_nb.stitching import kept_cells, shipped_table
from repsim_nb.system.shipped import data_dir
from repsim_nb.zoo.bert import accuracies
from repsim_nb.zoo.vocabulary import word_tokenizer

TOKENIZER = word_tokenizer(nli_heuristics.VOCABULARY, 40)
WIDTH, DEPTH = 16, 3
MNLI = ["contradiction", "entailment", "neutral"]


def classifier(seed, labels=nli_heuristics.LABELS, name=None):
    config = BertConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(labels)),
    )
    torch.manual_seed(seed)
    module = BertForSequenceClassification(config)
    with torch.no_grad():  # transformers starts so small that every pair would look alike
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return loaded(module, name or f"random-{seed}")


def loaded(module, name):
    model = rs.load_model(module, tokenizer=TOKENIZER)
    model.name = name
    return model


@pytest.fixture(scope="module")
def one():
    return classifier(0)


@pytest.fixture(scope="module")
def other():
    return classifier(1)


@pytest.fixture(scope="module")
def three():
    return classifier(2, MNLI)


@pytest.fixture(scope="module")
def ood():
    return rs.load_corpus("nli-heuristics", "ood").take(range(0, 6000, 50))


@pytest.fixture(scope="module")
def across(one, other):
    return rs.stitch(one, other, 2, steps=40, n_report=300)


@torch.no_grad()
def own_logits(model, corpus):
    first, second = zip(*corpus.inputs, strict=True)
    tokens = TOKENIZER(list(first), list(second), padding=True, return_tensors="pt")
    return model.module(**tokens).logits


@pytest.mark.parametrize("layer", range(DEPTH + 1))
def test_a_model_into_itself_or_its_copy_by_the_identity_changes_nothing(one, ood, layer):
    twin = loaded(copy.deepcopy(one.module), "twin")
    for receiver in (one, twin):
        stitched = rs.stitch(one, receiver, layer, ood, map="identity")
        assert stitched.penalty == 0
        assert stitched.accuracy == stitched.receiver_accuracy
        batch = one.batch(ood.inputs[:7])
        assert (stitched.logits(batch) - own_logits(one, ood.take(range(7)))).abs().max() < 1e-5


def test_losses_and_accuracies_are_those_of_the_labels(one, other, ood):
    stitched = rs.stitch(one, other, 1, ood, map="identity")
    assert len(stitched.documents) == len(ood)  # nothing is fitted: all of them are to report on
    right = torch.tensor([nli_heuristics.LABELS.index(label) for label in ood.labels])
    batch = other.batch(ood.inputs)
    for logits, loss, accuracy in (
        (own_logits(other, ood), stitched.receiver_loss, stitched.receiver_accuracy),
        (stitched.logits(batch), stitched.loss, stitched.accuracy),
    ):
        assert loss == pytest.approx(F.cross_entropy(logits, right).item(), abs=1e-5)
        assert accuracy == pytest.approx((logits.argmax(-1) == right).float().mean().item())
    assert stitched.penalty == pytest.approx(stitched.loss - stitched.receiver_loss, abs=1e-6)
    assert abs(stitched.penalty) > 0
    assert rs.stitch(one, other, 1, ood, map="identity", n_report=30).documents.shape[0] == 30


def test_the_gradient_is_not_worse_than_the_least_squares_it_starts_from(one, other, across):
    start = rs.stitch(one, other, 2, fit="least_squares", n_report=300)
    assert across.history.stop_loss.min() <= across.history.stop_loss.iloc[0]
    assert across.penalty < start.penalty + 0.01
    about = json.loads(across.provenance)
    assert [about["corpora"][part]["split"] for part in ("fit", "report")] == ["validation", "test"]
    assert about["fit_sequences"] + about["stop_sequences"] == 1000
    assert about["stop_sequences"] == pytest.approx(150, abs=2)
    assert about["sender"]["labels"] == list(nli_heuristics.LABELS)


def permuted(model, order):
    """The same function with the dimensions of its residual stream in another order."""
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            part = name.rsplit(".", 1)[0]
            if "embeddings" in part or "LayerNorm" in part:
                parameter.copy_(parameter[..., order])
            elif part.endswith("output.dense"):
                parameter.copy_(parameter[order])
            elif part.endswith(("query", "key", "value", "intermediate.dense", "pooler.dense")) and parameter.ndim == 2:
                parameter.copy_(parameter[:, order])
    return loaded(module, "permuted")


@pytest.mark.parametrize("map_name", ["affine", "orthogonal"])
def test_another_order_of_the_dimensions_is_found(one, ood, map_name):
    order = torch.randperm(WIDTH, generator=torch.Generator().manual_seed(0))
    twin = permuted(one, order)
    assert (own_logits(twin, ood) - own_logits(one, ood)).abs().max() < 1e-4
    for layer in (1, DEPTH):
        stitched = rs.stitch(one, twin, layer, map=map_name, fit="least_squares", n_report=200)
        assert abs(stitched.penalty) < 1e-4
        assert rs.stitch(one, twin, layer, map="identity", n_report=200).penalty > 0.01


def test_three_labels_count_as_two(three, ood):
    stitched = rs.stitch(three, three, 1, ood, map="identity")
    logits = own_logits(three, ood)
    entailed = logits.softmax(-1)[:, MNLI.index("entailment")]
    says = logits.argmax(-1) == MNLI.index("entailment")
    follows = torch.tensor([label == "entailment" for label in ood.labels])
    expected = -torch.where(follows, entailed, 1 - entailed).log().mean()
    assert stitched.loss == pytest.approx(expected.item(), abs=1e-5)
    assert stitched.accuracy == pytest.approx((says == follows).float().mean().item())
    seen = stitched.predictions(ood.inputs[0])
    assert seen.loc["entailment", "receiver"] == pytest.approx(entailed[0].item(), abs=1e-5)
    assert seen.sum().to_numpy() == pytest.approx(1)
    negative = [i for i, label in enumerate(ood.labels) if label == "non-entailment"]
    alone = rs.stitch(three, three, 1, ood.take(negative), map="identity")  # a sub-case may have one label only
    assert alone.loss == pytest.approx(-(1 - entailed[negative]).log().mean().item(), abs=1e-5)


def test_the_likeliest_class_decides_and_not_the_larger_sum(three, ood):
    torn = copy.deepcopy(three.module)
    with torch.no_grad():  # 0.4 entailment against 0.3 and 0.3 of the others, whatever is read
        torn.classifier.weight.zero_()
        torn.classifier.bias.copy_(torch.tensor([0.3, 0.4, 0.3]).log())
    torn = loaded(torn, "torn")
    stitched = rs.stitch(torn, torn, 1, ood, map="identity")
    assert stitched.accuracy == np.mean([label == "entailment" for label in ood.labels])
    assert stitched.loss == pytest.approx(
        -np.mean(np.log([0.4 if label == "entailment" else 0.6 for label in ood.labels]))
    )


def test_the_order_of_labels_is_each_models_own(one, ood):
    turned = copy.deepcopy(one.module)
    with torch.no_grad():
        for parameter in (turned.classifier.weight, turned.classifier.bias):
            parameter.copy_(parameter.flip(0))
    turned = loaded(turned, "turned")
    turned.labels = one.labels[::-1]
    stitched = rs.stitch(one, turned, 1, ood, map="identity")
    assert stitched.penalty == pytest.approx(0, abs=1e-7)
    seen = stitched.predictions(ood.inputs[3])
    assert seen.sender.to_numpy() == pytest.approx(seen.receiver)
    mistaken = loaded(copy.deepcopy(one.module), "mistaken")
    mistaken.labels = one.labels[::-1]
    swapped = rs.stitch(one, mistaken, 1, ood, map="identity")
    assert swapped.accuracy == pytest.approx(1 - stitched.accuracy)


def test_look_inside(across, ood):
    seen = across.predictions(("the baker admired the clerk", "the clerk admired the baker"))
    assert seen.columns.tolist() == ["sender", "receiver", "stitched"]
    assert sorted(seen.index) == sorted(nli_heuristics.LABELS)
    assert across.predictions("the baker admired the clerk").shape == (2, 3)
    costliest = across.costliest(5)
    assert costliest.cost.is_monotonic_decreasing
    report = across.ground.corpora["report"]
    line = costliest.iloc[0]
    i = report.documents.index(line.document)
    assert (line.premise, line.hypothesis) == report.inputs[i]
    assert (line.label, line.case) == (report.labels[i], report.cases[i])
    documents = across.documents
    assert (documents.examples == 1).all()
    assert documents.loss.mean() == pytest.approx(across.loss, abs=1e-6)
    assert documents.accuracy.mean() == pytest.approx(across.accuracy)
    low, high = across.interval()
    assert low < across.penalty < high
    assert across.recovered < 1
    assert "nats per example" in repr(across)
    with pytest.raises(InputError, match="predicts no text"):
        _ = across.bits_per_byte
    with pytest.raises(InputError, match="expected a non-empty text"):
        across.predictions(("a premise", " "))


def test_a_table_keeps_what_is_right_of_every_pair(one, other, three, tmp_path, monkeypatch):
    sizes = nli_heuristics.SIZES | {"ood": 8}
    monkeypatch.setattr("repsim_nb.corpora.nli_heuristics.SIZES", sizes)
    nli_heuristics.build.cache_clear()
    few = rs.load_corpus("nli-heuristics", "ood")
    made = rs.stitching_table([one, other, three], [one, other], "all", few, "identity", out=tmp_path / "table.nc")
    by_case = {m.name: accuracies(m.module, TOKENIZER) for m in (one, other)}
    nli_heuristics.build.cache_clear()
    assert made.sizes == {"sender": 3, "receiver": 2, "layer": DEPTH + 1, "document": len(few)}
    assert made.document_right.dtype == np.int8
    assert made.penalty.attrs["units"] == made.receiver_loss.attrs["units"] == "nats per example"
    assert "bits_per_byte" not in made
    for model in (one, other):
        itself = made.sel(sender=model.name, receiver=model.name)
        assert (itself.penalty == 0).all()
        assert (itself.accuracy == float(itself.receiver_accuracy)).all()
        found = itself.document_right.sel(layer=0).groupby("case").mean()
        expected = [by_case[model.name][case] for case in found.case.values]
        assert found.values == pytest.approx(expected)
    cell = made.sel(sender="random-0", receiver="random-1", layer=2)
    single = rs.stitch(one, other, 2, few, "identity")
    assert float(cell.penalty) == pytest.approx(single.penalty, abs=1e-6)
    assert float(cell.recovered) == pytest.approx(single.recovered, abs=1e-4)
    assert float(cell.accuracy) == pytest.approx(single.accuracy) == float(cell.document_right.mean())
    excess = (cell.document_loss - cell.document_receiver_loss).mean()
    assert float(excess) == pytest.approx(single.penalty, abs=1e-5)
    square = made.sel(sender=["random-0", "random-1"])
    frame = rs.stitching.penalties_by_kind(square, {"random-0": "a", "random-1": "a"})
    assert len(frame) == DEPTH + 1


def test_what_the_labels_count_as_is_part_of_what_is_kept(one, other, ood, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(kept_cells.shutil, "rmtree", lambda folder, **_: kept.append(folder))
    out, how = tmp_path / "table.nc", {"map": "identity", "corpus": ood}
    before = rs.stitching_table([one], [other], [1], out=out, **how)
    turned = loaded(copy.deepcopy(other.module), other.name)
    turned.labels = other.labels[::-1]
    after = rs.stitching_table([one], [turned], [1], out=out, **how)
    assert after.accuracy.item() == pytest.approx(1 - before.accuracy.item())
    assert after.penalty.item() != before.penalty.item()
    assert kept[0] == kept[1]  # finished stitches of both calls lie side by side
    with pytest.raises(InputError, match="Two different models are named"):
        rs.stitching_table([one, other], [turned], [1], **how)


def test_bad_input_says_what_to_do(one, other, three, ood):
    with pytest.raises(InputError, match="Stitch models of the same kind"):
        rs.stitch("tiny-neox-w32-d2", one, 1)
    with pytest.raises(InputError, match="no labels"):
        rs.stitch(one, other, 1, ["A text.", "Another."])
    unnamed = classifier(5, ["LABEL_0", "LABEL_1", "LABEL_2"])
    with pytest.raises(InputError, match=r"entailment, non-entailment; random-5 has LABEL_0, .*model\.labels"):
        rs.stitch(one, unnamed, 1)
    with pytest.raises(InputError, match="2 classes, so expected a list of 2"):
        one.labels = MNLI
    with pytest.raises(InputError, match="distinct names"):
        one.labels = ["entailment", "entailment"]
    unnamed.labels = MNLI
    assert unnamed.labels == MNLI
    rs.stitch(one, unnamed, 1, ood, map="identity")
    with pytest.raises(InputError, match="too few documents"):
        rs.stitch(one, other, 1, ood.take([0]))
    single = rs.load_corpus(["the baker " * 30, "the clerk"])
    labelled = type(single)("own", single.texts, single.documents, "all", labels=("entailment", "entailment"))
    with pytest.raises(InputError, match="longer than the 40 tokens"):
        rs.stitch(one, other, 1, labelled, map="identity")


@lru_cache
def shipped_hash(name):
    return rs.load_model(name).weights_sha256


@pytest.mark.parametrize(("stem", "models"), [("inside", 40), ("outside", 20), ("fitted", 20)])
def test_the_shipped_tables_are_of_the_shipped_models_and_pairs(stem, models):
    table = xr.load_dataset(data_dir() / "tables" / f"generalization-{stem}.nc", engine="h5netcdf")
    about = json.loads(table.attrs["provenance"])
    assert table.sizes["sender"] == table.sizes["receiver"] == len(about["models"]) == models
    for name, one in about["models"].items():
        assert one["weights_sha256"] == shipped_hash(name)
    assert about["map"] == ("affine" if stem == "fitted" else "identity")
    if stem == "fitted":
        assert about["corpora"]["report"]["sha256"] == rs.load_corpus("nli-heuristics").sha256
    else:  # a model into itself
        assert abs(table.penalty.values[range(models), range(models)]).max() == 0


def test_a_shipped_table_is_given_for_what_it_holds_alone():
    test = rs.load_corpus("nli-heuristics")
    rng = np.random.default_rng(0)
    reported = test.take(sorted(rng.permutation(len(test))[:500]))
    models = [rs.load_model("tiny-bert-nli-03"), rs.load_model("tiny-bert-nli-21")]
    asked = {"map": "identity", "seed": 0, "n_report": 500}
    table = shipped_table("generalization-inside", models, reported, **asked)
    assert table is not None
    assert float(table.penalty.sel(sender="tiny-bert-nli-03", receiver="tiny-bert-nli-21", layer=4)) == pytest.approx(
        rs.stitch(*models, 4, reported, map="identity", n_report=500).penalty, abs=1e-4
    )
    for other in ({"map": "affine"}, {"seed": 1}, {"n_report": 499}):
        assert shipped_table("generalization-inside", models, reported, **asked | other) is None
    assert shipped_table("generalization-inside", models, test, **asked) is None
    assert shipped_table("generalization-inside", [*models, classifier(0)], reported, **asked) is None
    fitted = asked | {"map": "affine", "n_report": 250}
    assert shipped_table("generalization-fitted", [], "nli-heuristics", n_fit=384, **fitted) is not None
    assert shipped_table("generalization-fitted", [], "nli-heuristics", n_fit=383, **fitted) is None
    with pytest.raises(FileNotFoundError):
        shipped_table("generalization-none", models, reported, **asked)
