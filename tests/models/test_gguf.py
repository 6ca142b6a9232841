"""GGUF files: the same values as the network that was written into them."""

import json
import os

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models import gguf as module

TEXTS = ["import numpy as np", "The quick brown fox jumps over the lazy dog."]
WIDTH, DEPTH, HEADS, KEYS, INNER, CONTEXT = 32, 2, 4, 2, 48, 64


def trained_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def network(vocabulary, tied):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        num_key_value_heads=KEYS,
        intermediate_size=INNER,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        rms_norm_eps=1e-5,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def interleaved(weight, heads):
    """Rotary dimensions in GGUF's order: pairs beside each other instead of halves."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


NAMES = {
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(path, net, tokenizer, quantised=False):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(DEPTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(tokenizer.get_vocab_size())
    words = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([3 if word == "<|end|>" else 1 for word in words])
    model = json.loads(tokenizer.to_str())["model"]
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}

    def add(name, values):
        kind = gguf.GGMLQuantizationType.Q8_0
        if quantised and values.ndim == 2 and values.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)

    add("token_embd.weight", weights["model.embed_tokens.weight"])
    add("output_norm.weight", weights["model.norm.weight"])
    if not net.config.tie_word_embeddings:
        add("output.weight", weights["lm_head.weight"])
    for layer in range(DEPTH):
        own = f"model.layers.{layer}."
        add(f"blk.{layer}.attn_q.weight", interleaved(weights[own + "self_attn.q_proj.weight"], HEADS))
        add(f"blk.{layer}.attn_k.weight", interleaved(weights[own + "self_attn.k_proj.weight"], KEYS))
        for theirs, ours in NAMES.items():
            add(f"blk.{layer}.{ours}.weight", weights[f"{own}{theirs}.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "repsim-nb" / "models"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
def test_a_gguf_file_gives_the_values_of_the_network_that_was_written(tied, tmp_path, cache, monkeypatch):
    tokenizer = trained_tokenizer()
    net = network(tokenizer.get_vocab_size(), tied)
    file = write_gguf(tmp_path / "small.gguf", net, tokenizer)
    model = rs.load_model(str(file))
    batch = model.batch(TEXTS)
    for text, ids, mask in zip(TEXTS, batch.ids, batch.mask, strict=True):
        assert ids[mask].tolist() == tokenizer.encode(text).ids
    with torch.no_grad():
        expected = net(batch.ids, attention_mask=batch.mask).logits
    assert (model.logits(batch) - expected)[batch.mask].abs().max() < 1e-4
    assert (model.n_layers, model.d_model, model.context) == (DEPTH, WIDTH, CONTEXT)
    about = model.provenance
    assert about["gguf_sha256"] == module.sha256_of(file)
    assert rs.estimate(str(file), n_rows=5).result == 8 * 3 * 3

    monkeypatch.setattr(module, "convert", lambda *_: pytest.fail("it was converted again"))
    assert torch.equal(rs.load_model(file).logits(batch), model.logits(batch))
    (weights,) = cache.glob("gguf-*/model.safetensors")
    assert oct(weights.stat().st_mode & 0o777) == oct(0o666 & ~current_umask())


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantised_weights_are_the_numbers_that_they_stand_for(tmp_path, cache):
    tokenizer = trained_tokenizer()
    net = network(tokenizer.get_vocab_size(), False)
    file = write_gguf(tmp_path / "fewer-bits.gguf", net, tokenizer, quantised=True)
    loaded = rs.load_model(str(file)).module.state_dict()
    kind = gguf.GGMLQuantizationType.Q8_0
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight"):
        given = net.state_dict()[name].numpy()
        stands_for = gguf.quants.dequantize(gguf.quants.quantize(given, kind), kind)
        assert 0 < np.abs(stands_for - given).max() < 0.02
        assert np.array_equal(loaded[name].numpy(), stands_for)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"nothing", "is not a GGUF file: its first bytes"), (b"GGUF" + bytes(40), "Cannot read '.*broken.gguf'")],
)
def test_what_is_no_gguf_file_is_refused_and_leaves_nothing(content, message, tmp_path, cache):
    file = tmp_path / "broken.gguf"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        rs.load_model(str(file))
    assert list(cache.glob("*")) == []
