"""Whatever decides a value changes the key it is kept under, and nothing else does."""

import copy
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import repsim_nb as rs
from repsim_nb.activations import StoreWarning, store
from repsim_nb.models import load_model
from repsim_nb.models.identity import UntraceableError, network_sha256

NAME = "tiny-neox-w32-d2"
TEXTS = [f"The number {i} comes before {i + 1}, and {i + 1} after it." for i in range(12)]
SIZES = {
    "vocab_size": 2048,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,  # so that attention attends to something
}


def network(family="Llama", kind="ForCausalLM", **more):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **more)
    return getattr(transformers, f"{family}{kind}")(config).eval()


def llama():
    return load_model(network(), tokenizer=load_model(NAME).tokenizer)


def gemma():
    return load_model(
        network("Gemma2", num_key_value_heads=2, head_dim=8, sliding_window=4), tokenizer=load_model(NAME).tokenizer
    )


def bert():
    return load_model(network("Bert", "Model"), tokenizer=load_model("tiny-bert-nli-00").tokenizer)


def native():
    return load_model("tiny-gelu-4l-s0")


def norm_epsilon(model):
    model._trunk.layers[0].input_layernorm.variance_epsilon = 0.5


def rotary_frequencies(model):
    model._trunk.rotary_emb.inv_freq *= 0.5


def rotary_scaling(model):
    model._trunk.rotary_emb.attention_scaling = 2.0


def attention_scaling(model):
    model._trunk.layers[1].self_attn.scaling *= 2


def activation(model):
    model._trunk.layers[0].mlp.act_fn = torch.nn.ReLU().eval()


def window_of_attention(model):
    model._trunk.config.sliding_window = 2


def soft_cap(model):
    model._trunk.layers[0].self_attn.attn_logit_softcapping = 1.0


def embedding_scale(model):
    model._trunk.embed_tokens.embed_scale.fill_(1.0)


def torch_norm_epsilon(model):
    model.module.encoder.layer[0].output.LayerNorm.eps = 0.5


def position_buffer(model):
    model.module.embeddings.position_ids[0, :2] = 3


def native_epsilon(model):
    model.module.layers[0].ln1.eps = 0.5


def weight(model):
    model._trunk.layers[0].mlp.up_proj.weight.data[0] += 1


CHANGES = [
    (llama, norm_epsilon),
    (llama, rotary_frequencies),
    (llama, rotary_scaling),
    (llama, attention_scaling),
    (llama, activation),
    (llama, weight),
    (gemma, window_of_attention),
    (gemma, soft_cap),
    (gemma, embedding_scale),
    (bert, torch_norm_epsilon),
    (bert, position_buffer),
    (native, native_epsilon),
]


@pytest.mark.parametrize(("made", "change"), CHANGES, ids=lambda f: f.__name__)
def test_store_is_never_stale_after_a_change_in_memory(tmp_path, made, change):
    model = made()
    how = {"corpus": TEXTS, "n_rows": 40, "store": tmp_path}
    before = rs.extract(model, **how)[model.n_layers]
    change(model)
    after = rs.extract(model, **how)[model.n_layers]
    assert torch.equal(after, rs.extract(model, **how | {"store": None})[model.n_layers])
    assert not torch.allclose(before, after, atol=1e-4), "the change decides the values"


def test_store_is_never_stale_after_any_of_all_attributes_of_a_network_is_changed():
    """Every number, flag and buffer that any part of three architectures holds, one after the other."""
    for made in (network(), network("Gemma2", num_key_value_heads=2, head_dim=8), network("Bert", "Model")):
        keys, places = [network_sha256(made)], 0
        for _, part in made.named_modules():
            for name, value in list(vars(part).items()):
                if name.startswith(("_", "training")) or not isinstance(value, bool | int | float | str):
                    continue
                changed = not value if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)
                if name == "name_or_path":  # no value depends on it
                    continue
                part.__dict__[name] = changed
                keys.append(network_sha256(made))
                part.__dict__[name] = value
                places += 1
            for buffer in part._buffers.values():
                if buffer is not None:
                    kept = buffer.clone()
                    buffer.view(-1)[0] += 1
                    keys.append(network_sha256(made))
                    buffer.copy_(kept)
                    places += 1
        assert places > 20
        assert len(set(keys)) == places + 1
        assert network_sha256(made) == keys[0]


CONFIG = {"rms_norm_eps": 0.1, "layer_types": ["full_attention"], "_attn_implementation": "eager", "use_cache": False}


@pytest.mark.parametrize("setting", list(CONFIG))
def test_network_sha256_changes_with_the_config_in_memory(setting):
    made = network()
    before = network_sha256(made)
    setattr(made.config, setting, CONFIG[setting])
    assert network_sha256(made) != before


def _doubled(*args, **kwargs):
    return None


def hook(made):
    made.model.layers[0].register_forward_hook(lambda *_: None)


def own_forward(made):
    made.model.layers[0].forward = lambda *_: None


def own_part(made):
    made.model.norm = type("Mine", (torch.nn.Identity,), {"__module__": "mine"})()


def own_function(made):
    made.model.layers[0].mlp.scale = _doubled


def training(made):
    made.model.layers[0].train()


def opaque(made):
    made.model.layers[0].mlp.held = iter([1])


def compiled(made):
    made.model.layers[0].compile(backend="eager")


def partial_of_mine(made):
    made.model.layers[0].mlp.scale = partial(_doubled, 2)


UNTRACEABLE = {
    hook: "has hooks or a forward of its own",
    own_forward: "has hooks or a forward of its own",
    own_part: "it contains a Mine from mine",
    own_function: r"it contains a _doubled from test_identity \(LlamaForCausalLM.model.layers.0.mlp.scale\)",
    partial_of_mine: "it contains a _doubled",
    training: "its LlamaDecoderLayer is in training mode",
    opaque: "it contains a list_iterator, whose content cannot be inspected",
    compiled: "its LlamaDecoderLayer is compiled",
}


@pytest.mark.parametrize("change", list(UNTRACEABLE), ids=lambda f: f.__name__)
def test_network_sha256_refuses_what_it_cannot_hold(change):
    made = network()
    change(made)
    with pytest.raises(UntraceableError, match=UNTRACEABLE[change]):
        network_sha256(made)


def test_network_sha256_refuses_an_attention_that_someone_registered(monkeypatch):
    made = network()
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", _doubled)
    with pytest.raises(UntraceableError, match="it contains a _doubled"):
        network_sha256(made)


def test_network_sha256_is_that_of_a_copy_and_stays_when_the_network_is_run():
    made = network("Gemma2", num_key_value_heads=2, head_dim=8)
    before = network_sha256(made)
    assert network_sha256(copy.deepcopy(made)) == before
    made(torch.arange(40)[None])
    made(torch.arange(40)[None], output_hidden_states=True)  # for which transformers leaves hooks on it
    made.config._name_or_path, made.name_or_path = "elsewhere", "elsewhere"
    assert network_sha256(made) == before


@pytest.mark.parametrize("seed", ["1", "2"])
def test_fingerprint_is_the_same_in_every_process(seed):
    """Whatever the order of sets is there."""
    script = (
        "from tests.models.test_identity import *; from repsim_nb.models.batch import Windows;"
        "print(llama().fingerprint(), bert().fingerprint(), native().fingerprint(), llama().windows.key)"
    )
    there = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
    }
    done = subprocess.run([sys.executable, "-c", script], env=there, capture_output=True, text=True, check=True)
    models = llama(), bert(), native()
    assert done.stdout.split() == [*(model.fingerprint() for model in models), models[0].windows.key]


OUTSIDE = {
    "precision of products": lambda: torch.set_float32_matmul_precision("medium"),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
}


@pytest.mark.parametrize("what", list(OUTSIDE))
def test_store_key_changes_with_how_torch_is_told_to_compute(what):
    before = store._precision("cpu")
    try:
        OUTSIDE[what]()
        assert store._precision("cpu") != before
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.set_autocast_enabled("cpu", False)


def test_store_key_changes_with_the_token_at_padded_places(tmp_path):
    model = llama()
    how = {"corpus": TEXTS, "rows": "padded", "n_rows": 64, "store": tmp_path}
    before = rs.extract(model, **how)
    model.tokenizer = copy.deepcopy(model.tokenizer)
    model.tokenizer.pad_token = model.tokenizer.convert_ids_to_tokens(7)
    after = rs.extract(model, **how)
    assert torch.equal(after[2], rs.extract(model, **how | {"store": None})[2])
    assert not torch.allclose(before[2], after[2], atol=1e-4)


def test_a_network_in_training_mode_is_not_stored_and_says_so(tmp_path):
    model = llama()
    model.module.train()
    with pytest.warns(StoreWarning, match="is in training mode"):
        rs.extract(model, TEXTS, n_rows=40, store=tmp_path)
    assert not list(tmp_path.iterdir())


def test_stitches_tell_models_with_the_same_weights_apart():
    a, b = llama(), llama()
    a.name, b.name = "a", "b"
    norm_epsilon(b)
    texts = [f"{text} {text}" for text in TEXTS]
    table = rs.stitching.stitching_table([a, b], [a, b], layers=[1], corpus=texts, map="identity", n_report=12)
    for one in (a, b):
        alone = rs.stitching.stitching_table([one], [one], layers=[1], corpus=texts, map="identity", n_report=12)
        assert alone.receiver_loss.item() == pytest.approx(float(table.receiver_loss.sel(receiver=one.name)))
    assert abs(float(table.receiver_loss[0] - table.receiver_loss[1])) > 1e-4


def test_stitches_refuse_two_different_models_of_one_name():
    a, b = llama(), llama()
    norm_epsilon(b)
    with pytest.raises(rs.errors.InputError, match="Two different models are called"):
        rs.stitching.stitching_table([a], [b], layers=[1], corpus=TEXTS, map="identity", n_report=12)


def test_a_shipped_table_is_of_models_that_nobody_has_changed():
    test = rs.load_corpus("nli-heuristics")
    reported = test.take(sorted(np.random.default_rng(0).permutation(len(test))[:500]))

    def found(change=None):
        model = load_model("tiny-bert-nli-00")
        if change:
            change(model)
        how = {"map": "identity", "seed": 0, "n_report": 500}
        return rs.stitching.shipped_table("generalization-inside", [model], reported, **how) is not None

    def relabelled(model):
        model.labels = model.labels[::-1]

    def epsilon(model):
        model.module.bert.encoder.layer[0].output.LayerNorm.eps = 0.5

    assert found()
    assert not found(relabelled)
    assert not found(epsilon)
