"""Loading by other ways than a name: from memory, by transformers' options, onto devices and into precisions."""

import io
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, BitsAndBytesConfig, GPTNeoXForCausalLM

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models import loading
from repsim_nb.models.shape import shape_of
from repsim_nb.system.shipped import data_dir
from tests.models.test_classifiers import random_classifier, word_tokenizer
from tests.models.test_encoders import random_module

NAME = "tiny-neox-w32-d2"
TEXTS = ["Return a new array of given shape and type.", "Short.", "Ünïcödé 🦊, too."]
WORDS = ["the baker admired the clerk", "the clerk yawned"]


def random_causal():
    config = AutoConfig.for_model("gpt_neox", hidden_size=16, num_hidden_layers=3, num_attention_heads=2, vocab_size=70)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


IN_MEMORY = {
    "causal": random_causal,
    "classifier": lambda: random_classifier("bert"),
    "encoder": lambda: random_module("bert"),
    "masked": lambda: random_module("roberta", AutoModelForMaskedLM),
}


@pytest.mark.parametrize("kind", IN_MEMORY)
@torch.no_grad()
def test_a_model_in_memory_is_left_unchanged(kind):
    module = IN_MEMORY[kind]().train()
    next(module.parameters()).requires_grad_(False)

    def state():
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        return {name: (id(t), t.device, t.dtype, t.requires_grad) for name, t in tensors.items()}

    names = [name for name, _ in module.named_modules()]
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    before = state()
    tokenizer = word_tokenizer("bert")
    loaded = rs.load_model(module, tokenizer=tokenizer, dtype="float16")
    loaded.run(loaded.embed(loaded.batch(WORDS)), 0, 2, loaded.batch(WORDS))
    for parameter in loaded.module.parameters():
        parameter.zero_()
    assert loaded.kind == ("encoder" if kind == "masked" else kind)
    assert state() == before
    assert all(m.training for m in module.modules())
    assert [name for name, _ in module.named_modules()] == names
    assert module.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())


def test_a_tokenizer_that_is_given_is_in_the_provenance():
    own = rs.load_model(NAME)
    given = [rs.load_model(NAME, tokenizer=t).provenance for t in (own.tokenizer, word_tokenizer("bert"))]
    hashes = [about.pop("tokenizer_sha256") for about in given]
    assert hashes[0] != hashes[1]
    assert given == [own.provenance] * 2


def test_what_cannot_be_taken_from_memory_says_why():
    module, tokenizer = random_causal(), word_tokenizer("bert")
    with pytest.raises(InputError, match="Pass tokenizer"):
        rs.load_model(module)
    with pytest.raises(InputError, match="options are for loading"):
        rs.load_model(module, tokenizer=tokenizer, options={"device_map": "cpu"})
    with pytest.raises(InputError, match="is a GPTNeoXModel; expected a causal"):
        rs.load_model(module.gpt_neox, tokenizer=tokenizer)


def test_a_language_model_that_looks_ahead_is_not_taken_for_causal():
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 70, "head_dim": 8}
    for ahead in (False, True):
        config = AutoConfig.for_model(
            "gemma3_text", **sizes, intermediate_size=32, num_key_value_heads=1, use_bidirectional_attention=ahead
        )
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config)
        if not ahead:
            assert rs.load_model(module, tokenizer=word_tokenizer("roberta")).kind == "causal"
        else:
            with pytest.raises(InputError, match=r"\(Gemma3ForCausalLM\) looks ahead: later tokens change"):
                rs.load_model(module, tokenizer=word_tokenizer("roberta"))


@pytest.mark.parametrize(
    ("kind", "sizes", "context"),
    [
        ("bloom", {"hidden_size": 16, "n_layer": 3, "n_head": 2}, 2048),
        ("mpt", {"d_model": 16, "n_layers": 3, "n_heads": 2, "max_seq_len": 64}, 64),
    ],
)
def test_models_whose_config_names_no_positions_load(kind, sizes, context):
    module = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=70, **sizes))
    assert rs.load_model(module, tokenizer=word_tokenizer("roberta")).context == context


def test_a_class_of_the_users_is_what_it_derives_from():
    class Mine(GPTNeoXForCausalLM):
        pass

    assert rs.load_model(Mine(random_causal().config), tokenizer=word_tokenizer("roberta")).kind == "causal"


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_values_that_are_not_finite_are_named_so(kind):
    module = IN_MEMORY[kind]()
    next(p for name, p in module.named_parameters() if "layer" in name).data.fill_(float("nan"))
    for dtype, advice in (("float32", "Check its weights"), ("float16", "Load it with dtype='float32'")):
        with pytest.raises(InputError, match=rf"values that are not finite at its .* in torch\.{dtype}\. {advice}"):
            rs.load_model(module, tokenizer=word_tokenizer("roberta"), dtype=dtype)


@pytest.fixture(scope="module")
def plain():
    return rs.load_model(NAME)


@torch.no_grad()
def test_a_device_map_of_one_device_changes_nothing(plain):
    mapped = rs.load_model(NAME, options={"device_map": "cpu", "attn_implementation": "eager"})
    assert mapped.weights_sha256 == plain.weights_sha256
    batch = plain.batch(TEXTS)
    assert (mapped.logits(batch) - plain.logits(batch))[batch.mask].abs().max() < 1e-5
    assert mapped.module.config._attn_implementation == "eager" != plain.module.config._attn_implementation


@torch.no_grad()
def test_a_model_spread_over_places_is_the_same_model(plain, tmp_path):
    """With weights on disk, as with several GPUs, accelerate wraps every part of a model's forward."""
    places = {
        "gpt_neox.embed_in": "cpu",
        "gpt_neox.layers.0": "cpu",
        "gpt_neox.layers.1": "disk",
        "gpt_neox.final_layer_norm": "cpu",
        "gpt_neox.rotary_emb": "cpu",
        "gpt_neox.emb_dropout": "cpu",
        "lm_head": "disk",
    }
    spread = rs.load_model(NAME, options={"device_map": places, "offload_folder": str(tmp_path)})
    assert any(p.is_meta for p in spread.module.parameters())
    assert spread.device.type == "cpu"
    batch = spread.batch(TEXTS)
    assert (spread.logits(batch) - plain.logits(batch))[batch.mask].abs().max() < 1e-5
    for layer in range(plain.n_layers + 1):
        ours = spread.run(spread.embed(batch), 0, layer, batch)
        assert (ours - plain.run(plain.embed(batch), 0, layer, batch)).abs().max() < 1e-5
    assert spread.weights_sha256 == plain.weights_sha256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trust_remote_code": True}, "code from a repository is never run"),
        ({"use_safetensors": False}, "only tensors are read"),
        ({"weights_only": False}, "only tensors are read"),
        ({"token": "hf_x"}, "log in with `hf auth login`"),
        ({"torch_dtype": "auto"}, "pass dtype="),
        ({"ignore_mismatched_sizes": True}, "never become random numbers"),
        ({"device_mapp": "auto"}, "Unknown option 'device_mapp'. Did you mean 'device_map'"),
        ({"attn_implementation": "some/kernel"}, "with the options attn_implementation: `kernels` is either not"),
        ({"attn_implementation": "no_such"}, "with the options "),
        ({"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}, "with the options "),
    ],
)
def test_options_that_are_not_taken_are_one_clear_message(options, message):
    with pytest.raises(InputError, match=message) as refused:
        rs.load_model(NAME, options=options)
    assert "\n" not in str(refused.value)
    assert "hf_x" not in str(refused.value)


def test_code_of_a_model_is_not_run_whatever_stdin_answers(tmp_path, monkeypatch):
    auto = {"AutoConfig": "conf.C", "AutoModelForCausalLM": "conf.M"}
    config = {"model_type": "of its own", "architectures": ["OwnForCausalLM"], "auto_map": auto}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "conf.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    for read in (rs.load_model, shape_of):
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
        with pytest.raises(InputError, match="needs its own code, which is never run") as refused:
            read(tmp_path)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


def test_options_and_device_do_not_contradict_each_other():
    with pytest.raises(InputError, match="device='cpu' and the options device_map both place the model"):
        rs.load_model(NAME, device="cpu", options={"device_map": "cpu"})
    with pytest.raises(InputError, match="TransformerLens' format"):
        rs.load_model("tiny-gelu-3l-s0", options={"device_map": "cpu"})


def test_the_device_is_chosen_and_said_once(caplog):
    loading._automatic.cache_clear()
    with caplog.at_level(logging.INFO, "repsim_nb"):
        chosen = rs.load_model(NAME)
        again = rs.load_model(NAME)
    said = [r.message for r in caplog.records if "device='auto'" in r.message]
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert said == [f"device='auto' is {expected} on this machine."]
    assert chosen.device.type == again.device.type == chosen.provenance["device"] == expected
    assert f"float32 on {chosen.device}" in repr(chosen)


@pytest.mark.parametrize("device", ["cuda", "mps", "cuda:7", "meta", "xpu"])
def test_a_device_that_is_not_there_says_so(device):
    if (device == "cuda" and torch.cuda.is_available()) or (device == "mps" and torch.backends.mps.is_available()):
        pytest.skip(f"{device} is there")
    with pytest.raises(InputError, match=rf"device='{device}' is not available: this machine and PyTorch have .*cpu"):
        rs.load_model(NAME, device=device)


def largest_difference(one, two):
    """Of activations, in units of the spread of each layer."""
    return max(((one[layer] - two[layer]).abs().max() / two[layer].std()).item() for layer in two)


@pytest.fixture(scope="module", params=[NAME, "tiny-gelu-3l-s0", "tiny-bert-nli-00"])
def name(request):
    return request.param


def rows(name, **how):
    corpus = rs.load_corpus("nli-heuristics" if "bert" in name else "python-docs").take(range(60))
    return rs.extract(rs.load_model(name, **how), corpus, n_rows=300)


@pytest.fixture(scope="module")
def expected(name):
    return rows(name, device="cpu")


@pytest.mark.parametrize("tokens", [1, 300, 100_000])
def test_numbers_do_not_depend_on_the_size_of_batches(name, expected, tokens, monkeypatch):
    monkeypatch.setattr("repsim_nb.activations.extraction.tokens_per_batch", lambda *_, **__: tokens)
    assert largest_difference(rows(name, device="cpu"), expected) < 1e-4


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.3), ("float16", 0.05)])
def test_numbers_agree_between_precisions(name, expected, dtype, tolerance):
    found = rows(name, device="cpu", dtype=dtype)
    assert found[1].dtype == torch.float32
    assert 0 < largest_difference(found, expected) < tolerance


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_numbers_agree_between_devices(name, expected, device):
    there = torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()
    if not there:
        pytest.skip(f"this machine has no {device}")
    assert largest_difference(rows(name, device=device), expected) < 1e-3


def test_load_model_takes_the_folder_of_a_tokenizer_instead_of_the_tokenizer():
    folder = data_dir() / "tiny-bert-nli-00"
    given = rs.load_model("tiny-bert-nli-01", tokenizer=folder)
    loaded = rs.load_model("tiny-bert-nli-01", tokenizer=rs.load_model("tiny-bert-nli-00").tokenizer)
    pairs = [("the doctor saw the judge .", "the judge saw the doctor .")]
    assert torch.equal(given.batch(pairs).ids, loaded.batch(pairs).ids)
    assert given.provenance["tokenizer_sha256"] == loaded.provenance["tokenizer_sha256"]
    with pytest.raises(FileNotFoundError, match="No folder of a tokenizer at 'nowhere'"):
        rs.load_model("tiny-bert-nli-01", tokenizer="nowhere")


def test_load_model_and_shape_of_leave_torchs_default_type_alone_meanwhile(monkeypatch):
    """It is one for all threads: another that reads activations would get tensors of the type of these weights."""
    from repsim_nb.models.shape import shape_of

    name, types = "tiny-neox-w32-d2", []
    stored = json.loads((data_dir() / name / "config.json").read_text(encoding="utf-8"))
    assert stored["dtype"] == "float16"
    monkeypatch.setattr(torch, "set_default_dtype", types.append)
    rs.load_model(name)
    shape_of(name)
    assert set(types) == {torch.float32}


def test_threads_that_load_models_at_once_leave_torchs_default_type_as_it_was(monkeypatch):
    from repsim_nb.models.shape import shape_of

    def slowly(dtype, change=torch.set_default_dtype):
        change(dtype)
        time.sleep(0.01)

    monkeypatch.setattr(torch, "set_default_dtype", slowly)
    name, before = "tiny-neox-w32-d2", torch.get_default_dtype()
    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(rs.load_model, name, dtype="float16" if i % 2 else "float32") for i in range(8)]
        found += [threads.submit(shape_of, name) for _ in range(4)]
        for each in found:
            each.result()
    after = torch.get_default_dtype()
    monkeypatch.undo()
    torch.set_default_dtype(before)  # whatever was found, other tests start from here
    assert after == before
