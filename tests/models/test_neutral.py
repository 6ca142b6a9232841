"""A text's activations are what the model gives that text alone. Small and random models, on word tokens."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
)

import repsim_nb as rs
from repsim_nb.activations.selection import FewerRowsWarning
from repsim_nb.errors import InputError
from repsim_nb.models import probe
from repsim_nb.models.neutral import NEUTRAL, Neutral
from tests.models.test_classifiers import word_tokenizer

TEXT = "the baker admired the clerk and the poet who visited the miner yawned if the pilot danced"
WORDS = TEXT.split()
TEXTS = [" ".join((WORDS * 3)[start : start + n]) for start, n in enumerate([2, 31, 5, 5, 17, 9, 30, 12, 3])]
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 70}
SIZES |= {"intermediate_size": 32, "max_position_embeddings": 40, "pad_token_id": 1}
REACHED = {  # by padding
    "fnet": {},
    "convbert": {"embedding_size": 16, "conv_kernel_size": 5, "head_ratio": 1},
    "yoso": {"max_position_embeddings": 48},
}
ROPE = {"num_key_value_heads": 1, "max_position_embeddings": 40, "bos_token_id": 0, "eos_token_id": 2}
LONGROPE = {"rope_type": "longrope", "long_factor": [9.0] * 4, "short_factor": [1.0] * 4}
LONGROPE |= {"original_max_position_embeddings": 16, "rope_theta": 100.0}
CAUSAL = {
    "phi3": ROPE | {"rope_parameters": LONGROPE, "original_max_position_embeddings": 16},
    "llama": ROPE | {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 100.0}},
}


def random_module(kind, auto=AutoModel, **sizes):
    torch.manual_seed(0)
    module = auto.from_config(AutoConfig.for_model(kind, **(SIZES | sizes))).eval()
    with torch.no_grad():  # transformers starts so small that any mistake would hide below 1e-5
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module


def random_causal(kind, **more):
    return random_module(kind, AutoModelForCausalLM, **(CAUSAL[kind] | more))


def loaded(module):
    return rs.load_model(module, tokenizer=word_tokenizer("roberta"))


def alone(module, text):
    """Hidden states of transformers for one text, from a module that has read nothing before."""
    tokens = word_tokenizer("roberta")(text, return_tensors="pt")
    with torch.no_grad():
        states = copy.deepcopy(module)(**tokens, output_hidden_states=True).hidden_states
    return torch.stack(states)[:, 0]


def worst(module, texts=TEXTS, **how):
    """The largest difference of extracted rows, below the final norm, from what each text gives alone."""
    acts = rs.extract(loaded(module), texts, **how)
    states = [alone(module, text) for text in texts]
    off = []
    for row, (document, position) in enumerate(zip(acts.rows["document"], acts.rows["position"], strict=True)):
        text = int(document.removeprefix("texts:"))
        for layer in list(acts)[:-1]:
            expected = states[text][layer]
            expected = expected.mean(0) if how.get("rows") == "mean" else expected[position]
            off.append((acts[layer][row] - expected).abs().max().item())
    return max(off)


@pytest.mark.parametrize("kind", REACHED)
@pytest.mark.parametrize("rows", ["tokens", "mean", "cls"])
def test_extract_gives_rows_of_texts_alone_where_padding_reaches(kind, rows):
    module = random_module(kind, **REACHED[kind])
    assert not loaded(module).neutral.padding
    with pytest.warns(FewerRowsWarning) if rows == "tokens" else nullcontext():
        assert worst(module, rows=rows, n_rows=1000) < 1e-4


@pytest.mark.parametrize("auto", [AutoModelForMaskedLM, AutoModelForSequenceClassification])
def test_model_batch_refuses_padding_that_reaches_and_runs_each_text_alone(auto):
    module = random_module("fnet", auto)
    model = loaded(module)
    with pytest.raises(InputError, match=r"other values in a batch than alone: .*model\.batch\(\[text\]\)"):
        model.batch(TEXTS[:2])
    with torch.no_grad():
        tokens = model.tokenizer(TEXTS[0], return_tensors="pt")
        assert (model.logits(model.batch(TEXTS[:1])) - module(input_ids=tokens.input_ids).logits).abs().max() < 1e-4
    batch = loaded(random_module("bert")).batch(TEXTS[:2])  # one that was made for another model
    for run in (model.logits, lambda b: model.residuals(b, [1], print)):
        with pytest.raises(InputError, match="other values in a batch than alone"):
            run(batch)


def test_extract_refuses_padded_rows_where_padding_reaches():
    with pytest.raises(InputError, match="padded to 40 tokens"):
        rs.extract(loaded(random_module("fnet")), TEXTS, rows="padded", n_rows=80)


@pytest.mark.parametrize("kind", ["bert", "electra", "modernbert"])
def test_probe_finds_encoders_with_masked_attention_neutral(kind):
    extra = {"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2, "local_attention": 4}
    module = random_module(kind, **(extra if kind == "modernbert" else {}))
    assert loaded(module).neutral == NEUTRAL
    assert len(loaded(module).batch(TEXTS)) == len(TEXTS)


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("n_rows", [1, 9, 60])
def test_extract_gives_rows_of_texts_alone_whatever_rotary_factors_turn_to(kind, n_rows):
    assert worst(random_causal(kind), n_rows=n_rows) < 1e-4


def test_probe_reads_the_threshold_of_longrope_from_the_config():
    model = loaded(random_causal("phi3"))
    assert (model.neutral.padding, model.neutral.truncation, model.neutral.below) == (False, False, 16)
    assert len(model.batch([TEXTS[0], TEXTS[2]])) == 2  # both short
    with pytest.raises(InputError, match=r"rotary factors \(longrope\) depend on the longest sequence from 17 tokens"):
        model.batch(TEXTS[:2])
    assert loaded(random_causal("llama")).neutral == NEUTRAL  # within its context factors stay


def test_a_run_leaves_rotary_factors_as_they_were():
    model = loaded(random_causal("phi3"))
    before = {name: value.clone() for name, value in model.module.named_buffers()}
    model.logits(model.batch(TEXTS[1:2]))
    assert all((value == before[name]).all() for name, value in model.module.named_buffers())


class Crowd(torch.nn.Module):
    """An MLP that takes from each place what the batch has there on average."""

    def __init__(self, mlp):
        super().__init__()
        self.mlp = mlp

    def forward(self, x):
        added = self.mlp(x)
        return added - added.mean(0)


class Noise(Crowd):
    """One that is never the same."""

    def forward(self, x):
        return self.mlp(x) + torch.randn_like(x)


def crowded(kind=Crowd):
    module = random_causal("llama")
    module.model.layers[1].mlp = kind(module.model.layers[1].mlp)
    return module


class Routed(Crowd):
    """An expert with room for half of the batch's tokens, the first ones; others pass by."""

    def forward(self, x):
        kept = torch.arange(x.numel() // x.shape[-1]) < 20
        return self.mlp(x) * kept.view(*x.shape[:-1], 1)


def test_extract_runs_texts_one_at_a_time_where_company_reaches():
    short = ["the baker yawned", "the poet yawned", "the miner danced", "the pilot danced"] * 3
    for kind in (Crowd, Routed):
        model = loaded(crowded(kind))
        assert not model.neutral.company
        with pytest.raises(InputError, match="one of its length beside it moves a text"):
            model.batch(short[:2])
    module = random_module("bert")
    module.encoder.layer[1].output.dense = Crowd(module.encoder.layer[1].output.dense)
    assert not loaded(module).neutral.company
    assert worst(module, short, n_rows=12, rows="cls") < 1e-4


def test_load_model_refuses_a_model_that_is_never_the_same():
    with pytest.raises(InputError, match="differ"):
        loaded(crowded(Noise))


def test_stitching_reads_every_text_as_the_model_reads_it_alone():
    module = random_causal("phi3")
    model = loaded(module)
    stitched = rs.stitch(model, model, 1, TEXTS, map="identity")
    nats = {}
    for number, text in enumerate(TEXTS):
        ids = model.tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            logits = copy.deepcopy(module)(input_ids=ids).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        nats[number] = losses[: len(text.split())].sum().item()  # </s> is no text
    table = stitched.receiver_losses.by_document().nats
    assert np.allclose(table.to_numpy(), [nats[i] for i in table.index], rtol=1e-4)
    assert abs(stitched.penalty) < 1e-5


def test_probe_tries_lengths_about_the_windows_that_a_config_names():
    module = random_module("bert")
    module.config.attention_window = [24, 24, 24]
    model = loaded(module)
    assert {23, 26, 40} <= set(probe._lengths(model, list(model.module.encoder.layer), 0))


def test_probe_is_run_once_for_a_config_and_weights(monkeypatch, tmp_path):
    probed = []
    run = probe._probe
    monkeypatch.setattr(probe, "_probe", lambda *given: probed.append(1) or run(*given))
    monkeypatch.setattr(probe, "_verdicts", {})
    monkeypatch.setattr(probe, "WORTH_KEEPING", 0)
    monkeypatch.setattr(probe, "_file", lambda key: tmp_path / f"{key}.json")
    module = random_module("fnet")
    found = [loaded(module).neutral for _ in range(2)]
    probe._verdicts.clear()
    found.append(loaded(module).neutral)  # from disk, as in another process
    assert (len(probed), len(set(found)), found[0].padding) == (1, 1, False)
    probe._verdicts.clear()
    for file in tmp_path.iterdir():
        file.write_text("{")
    assert (loaded(module).neutral, len(probed)) == (found[0], 2)
    with torch.no_grad():
        module.encoder.layer[0].output.dense.weight += 0.1  # trained on
    trained = loaded(module).neutral
    assert len(probed) == 3
    (tmp_path / "a-file").touch()
    monkeypatch.setattr(probe, "_file", lambda key: tmp_path / "a-file" / key)
    probe._verdicts.clear()
    assert (loaded(module).neutral, len(probed)) == (trained, 4)


def test_neutral_says_which_lengths_may_be_together():
    some = Neutral(padding=False, truncation=False, below=16)
    assert [some.together(*pair) for pair in ((5, 16), (20, 20), (16, 17))] == [True, True, False]
    assert [some.cut(length) for length in (16, 17)] == [True, False]
    assert not Neutral(company=False).together(5, 5)
    NEUTRAL.check("any", [1, 7], 9)
    with pytest.raises(InputError):
        some.check("phi3", [17], 40)
    some.check("phi3", [3, 9], 16)
