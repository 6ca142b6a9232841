"""Gradients, against plain torch losses on bare transformers modules and finite differences."""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.system.shipped import data_dir
from repsim_nb.weights import spectra, spectrum_of
from repsim_nb.weights.gradients import Batches, gradients
from repsim_nb.weights.matrices import parameters_of, plans
from tests.weights.test_matrices import TOKENS, bare, blocks_of, loaded

TEXTS = ["the first text of three", "a second one, which is somewhat longer than it", "third"]
NEOX = data_dir() / "tiny-neox-w32-d2"


def plain_gradients(module, tokenizer, texts):
    """Gradients of the mean cross-entropy of all tokens but the first of each text, by plain torch."""
    module = module.requires_grad_(True)
    nats = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        nats.append(F.cross_entropy(module(ids).logits[0, :-1], ids[0, 1:], reduction="none"))
    torch.cat(nats).mean().backward()
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


def of_three_texts(model, **more):
    return spectra(model, of="gradients", corpus=TEXTS, batch_size=3, **more).set_index(["layer", "part", "head"])


def check(found, matrix, dimension=None):
    expected = spectrum_of(matrix, dimension)
    for name in ("effective_rank", "stable_rank", "frobenius_norm", "spectral_norm", "gini"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4), name


def test_spectra_of_gradients_equal_autograd_on_a_bare_neox():
    module = AutoModelForCausalLM.from_pretrained(NEOX, dtype=torch.float32).eval()
    wanted = plain_gradients(module, AutoTokenizer.from_pretrained(NEOX), TEXTS)
    heads, width = 2, 16
    found = of_three_texts(rs.load_model("tiny-neox-w32-d2"))
    for layer, block in enumerate(module.gpt_neox.layers, 1):
        at = f"gpt_neox.layers.{layer - 1}."
        packed = wanted[at + "attention.query_key_value.weight"].view(heads, 3, width, -1)
        d_output = wanted[at + "attention.dense.weight"]
        check(found.loc[layer, "output", "whole"], d_output)
        check(found.loc[layer, "mlp_in", "whole"], wanted[at + "mlp.dense_h_to_4h.weight"])
        check(found.loc[layer, "mlp_out", "whole"], wanted[at + "mlp.dense_4h_to_h.weight"])
        for index, part in enumerate(("query", "key", "value")):
            check(found.loc[layer, part, "whole"], packed[:, index].reshape(32, -1))
            check(found.loc[layer, part, 1], packed[1, index])
        value = block.attention.query_key_value.weight.detach().view(heads, 3, width, -1)[:, 2]
        output = block.attention.dense.weight.detach()
        rule = d_output @ value.reshape(32, -1) + output @ packed[:, 2].reshape(32, -1)
        check(found.loc[layer, "ov", "whole"], rule)
        first = d_output[:, :width] @ value[0] + output[:, :width] @ packed[0, 2]
        check(found.loc[layer, "ov", 0], first)
        assert found.loc[layer, "ov", 0]["dimension"] == 32  # two products through 16 dimensions each


@pytest.mark.parametrize("name", ["gpt2", "llama, shared keys", "gpt_neo", "gptj"])
def test_gradients_equal_autograd_on_bare_models(name):
    texts = ["w1 w2 w3 w4", "w7 w5", "w9 w8 w7 w6 w5 w4"]
    module = bare(name, torch.float32)
    model = rs.load_model(module, tokenizer=TOKENS)
    blocks = plans(model, [1, 2])
    for ids in [TOKENS(text)["input_ids"] for text in texts]:
        module.requires_grad_(True)
        given = torch.tensor([ids])
        nats = F.cross_entropy(module(given).logits[0, :-2], given[0, 1:-1], reduction="sum")  # [SEP] is no text
        nats.backward()
    total = sum(len(text.split()) for text in texts)
    wanted = {id(p): q.grad / total for p, q in zip(model.module.parameters(), module.parameters(), strict=True)}
    batches = Batches.of(model, texts, 1, 3, None, 0)
    (found,) = gradients(model, parameters_of(blocks), batches)
    assert len(found) == {"gpt2": 8, "llama, shared keys": 14}.get(name, 12)
    for parameter, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[id(parameter)], rtol=1e-3, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


def test_gradients_equal_autograd_on_a_bare_classifier():
    name = "tiny-bert-nli-00"
    module = AutoModelForSequenceClassification.from_pretrained(data_dir() / name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(data_dir() / name)
    corpus = rs.load_corpus("nli-heuristics").take(range(0, 40, 8))
    given = tokenizer(list(corpus.texts), list(corpus.second_texts), padding=True, return_tensors="pt")
    module.requires_grad_(True)
    answers = torch.tensor([module.config.label2id[label] for label in corpus.labels])
    F.cross_entropy(module(**given).logits, answers).backward()
    found = spectra(name, of="gradients", corpus=corpus, batch_size=5).set_index(["layer", "part", "head"])
    for layer, block in enumerate(module.bert.encoder.layer, 1):
        check(found.loc[layer, "mlp_out", "whole"], block.output.dense.weight.grad)
        check(found.loc[layer, "query", "whole"], block.attention.self.query.weight.grad)


def test_gradients_equal_finite_differences_of_the_loss():
    """In float64, the largest entry of each matrix, by central differences."""
    model = loaded("gpt_neox")
    texts = ["w1 w2 w3 w4", "w7 w5"]
    module = copy.deepcopy(model.module).double()
    blocks = plans(model, [2])
    (found,) = gradients(model, parameters_of(blocks), Batches.of(model, texts, 1, 2, None, 0))

    def loss():
        nats = []
        for text in texts:
            ids = torch.tensor([TOKENS(text)["input_ids"]])
            nats.append(F.cross_entropy(module(ids).logits[0, :-2], ids[0, 1:-1], reduction="none"))
        return torch.cat(nats).mean().item()

    names = {id(parameter): name for name, parameter in model.module.named_parameters()}
    with torch.no_grad():
        for parameter, gradient in found.items():
            moved = module.get_parameter(names[id(parameter)])
            place = divmod(int(gradient.abs().argmax()), gradient.shape[1])
            losses = []
            for step in (1e-5, -2e-5):
                moved[place] += step
                losses.append(loss())
            moved[place] += 1e-5
            assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(gradient[place].item(), rel=1e-4)


def test_spectra_of_gradients_has_one_row_for_each_batch_and_says_which_text_it_read():
    model = rs.load_model("tiny-gelu-3l-s0")
    given = {"layers": [3, 1], "parts": ["mlp_out", "ov"], "heads": False, "length": 32, "batch_size": 2}
    table = spectra(model, of="gradients", n_batches=3, seed=1, **given)
    assert table[["batch", "layer", "part"]].values.tolist() == [
        [batch, layer, part] for batch in (1, 2, 3) for layer in (3, 1) for part in ("mlp_out", "ov")
    ]
    assert table.groupby("layer")["frobenius_norm"].nunique().tolist() == [6, 6]
    about = json.loads(table.attrs["provenance"])
    assert about["model"]["weights_sha256"] == model.weights_sha256
    assert (about["corpus"]["corpus"], about["corpus"]["split"]) == ("python-docs", "test")
    assert (about["n_batches"], about["batch_size"], about["length"], about["seed"]) == (3, 2, 32, 1)
    assert all(2 < tokens <= 64 for tokens in about["batch_tokens"])
    again = spectra(model, of="gradients", n_batches=3, seed=1, **given)
    np.testing.assert_array_equal(again.select_dtypes("number"), table.select_dtypes("number"))
    other = spectra(model, of="gradients", n_batches=3, seed=2, **given)
    assert not np.allclose(other["frobenius_norm"], table["frobenius_norm"])


def test_batches_are_disjoint_and_none_of_their_sequences_is_longer_than_asked():
    model = rs.load_model("tiny-neox-w32-d2")
    batches = Batches.of(model, [f"number {i} " * (5 + i) for i in range(12)], 4, 5, 20, 0)
    windows = [(window.text, *window.offsets[-1]) for batch in batches.windows for window in batch]
    assert len({*windows}) == 20
    assert {len(batch) for batch in batches.windows} == {5}
    assert max(len(window) for batch in batches.windows for window in batch) == 20


def test_gradients_leave_the_model_as_it_was_also_when_they_are_not_read_to_the_end():
    model = rs.load_model("tiny-neox-w32-d2")
    before = model.hashed()
    blocks = plans(model, [2])
    with torch.no_grad():
        first = next(gradients(model, parameters_of(blocks), Batches.of(model, TEXTS, 3, 1, None, 0)))
    assert all(gradient.any() for gradient in first.values())
    assert model.hashed() == before
    assert not any(p.requires_grad or p.grad is not None for p in model.module.parameters())


def test_spectra_of_gradients_in_half_precision_are_near_those_in_full():
    full, half = (
        of_three_texts(rs.load_model("tiny-neox-w32-d2", dtype=dtype), heads=False) for dtype in ("float32", "bfloat16")
    )
    ratio = half["frobenius_norm"] / full["frobenius_norm"]
    assert ratio.between(0.9, 1.1).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"of": "gradient"}, "Unknown kind of matrices 'gradient'. Did you mean 'gradients'"),
        ({"seed": 1}, 'seed would have no effect: weights depend on no text. Leave it out, or set of="gradients"'),
        ({"corpus": TEXTS}, "corpus would have no effect"),
        ({"part": "ov"}, "has no argument 'part'. Did you mean 'parts'"),
        ({"parts": "mlp_ou"}, "Unknown part 'mlp_ou'. Did you mean 'mlp_out'"),
        ({"parts": []}, "parts is empty"),
        ({"parts": 3}, 'parts=3; expected "all" or some of query'),
        ({"parts": "mlp_gate"}, "tiny-neox-w32-d2 has no mlp_gate"),
        ({"layers": 0}, "Layer 0 is the embedding"),
        ({"layers": 3}, "Layer 3 does not exist"),
        ({"of": "gradients", "n_batches": 0}, "n_batches=0; expected a whole number of at least 1"),
        ({"of": "gradients", "batch_size": 2.0}, "batch_size=2.0; expected"),
        ({"of": "gradients", "length": 1}, "length=1; expected a whole number of at least 2"),
        ({"of": "gradients", "length": 257}, "reads at most 256 tokens"),
        ({"of": "gradients", "corpus": TEXTS}, "has 3 sequences of 2 to 256 tokens; 1 batches of 32 need 32"),
    ],
    ids=lambda given: str(given)[:40],
)
def test_spectra_refuses_arguments_that_are_wrong_or_have_no_effect(given, words):
    with pytest.raises(InputError, match=words):
        spectra("tiny-neox-w32-d2", **given)


def test_spectra_of_gradients_needs_a_loss_and_weights_do_not():
    encoder = loaded("mpnet")
    with pytest.raises(InputError, match="kind 'encoder', for which no loss is defined here"):
        spectra(encoder, of="gradients")
    assert len(spectra(encoder, heads=False)) == 2 * 7
    with pytest.raises(InputError, match="has no labels"):
        spectra("tiny-bert-nli-00", of="gradients", corpus=TEXTS)


def test_spectra_names_gradients_that_are_all_zero():
    model = loaded("llama")
    blocks_of(model.module)[1].mlp.down_proj.weight.zero_()
    given = {"of": "gradients", "corpus": ["w1 w2 w3"], "batch_size": 1, "layers": 2}
    with pytest.raises(InputError, match=r"gradients of .* at batch 1, layer 2, part mlp_in, head whole are all 0"):
        spectra(model, **given)
    assert set(spectra(model, **given, parts="mlp_out")["part"]) == {"mlp_out"}
