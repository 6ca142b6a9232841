"""Slices of weight matrices, against what the layers of bare transformers models do with random inputs."""

import copy

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.survey.judge import tokenizer
from repsim_nb.weights.labelled import labelled, labelled_gradients
from repsim_nb.weights.matrices import BlockPlan, parameters_of, plans

TOKENS = tokenizer()
SIZES = {
    "vocab_size": len(TOKENS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": TOKENS.pad_token_id,
    "initializer_range": 0.3,
}
GPT = {"vocab_size": len(TOKENS), "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3}
DISTIL = {"vocab_size": len(TOKENS), "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "initializer_range": 0.3}
NEO = {"attention_types": [[["global"], 2]], "num_layers": 2, "num_heads": 4}
OPT = SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 32}
SHARED = {"num_key_value_heads": 2}
# name -> class, config, paths in a block of the module that makes values and of the one that reads them
ARCHITECTURES = {
    "gpt_neox": ("GPTNeoXForCausalLM", SIZES, "attention.query_key_value", "attention.dense"),
    "gpt2": ("GPT2LMHeadModel", GPT, "attn.c_attn", "attn.c_proj"),
    "llama": ("LlamaForCausalLM", SIZES, "self_attn.v_proj", "self_attn.o_proj"),
    "llama, shared keys": ("LlamaForCausalLM", SIZES | SHARED, "self_attn.v_proj", "self_attn.o_proj"),
    "mistral": ("MistralForCausalLM", SIZES | SHARED, "self_attn.v_proj", "self_attn.o_proj"),
    "qwen2": ("Qwen2ForCausalLM", SIZES | SHARED, "self_attn.v_proj", "self_attn.o_proj"),
    "gemma3, wide heads": (
        "Gemma3ForCausalLM",
        SIZES | SHARED | {"head_dim": 16},
        "self_attn.v_proj",
        "self_attn.o_proj",
    ),
    "opt": ("OPTForCausalLM", OPT, "self_attn.v_proj", "self_attn.out_proj"),
    "phi": ("PhiForCausalLM", SIZES, "self_attn.v_proj", "self_attn.dense"),
    "gptj": ("GPTJForCausalLM", GPT | {"rotary_dim": 4}, "attn.v_proj", "attn.out_proj"),
    "gpt_neo": ("GPTNeoForCausalLM", SIZES | NEO, "attn.attention.v_proj", "attn.attention.out_proj"),
    "bert": ("BertForSequenceClassification", SIZES, "attention.self.value", "attention.output.dense"),
    "roberta": ("RobertaModel", SIZES, "attention.self.value", "attention.output.dense"),
    "distilbert": ("DistilBertModel", DISTIL, "attention.v_lin", "attention.out_lin"),
    "mpnet": ("MPNetModel", SIZES, "attention.attn.v", "attention.attn.o"),
}
NATIVE = ("attn.v", "attn.o")


def bare(name, dtype=torch.float64):
    kind, config, _, _ = ARCHITECTURES[name]
    network = getattr(transformers, kind)
    torch.manual_seed(0)
    return network._from_config(network.config_class(**config)).to(dtype).eval()


def loaded(name):
    if name == "native":
        return rs.load_model("tiny-gelu-3l-s0")
    return rs.load_model(bare(name, torch.float32), tokenizer=TOKENS)


def blocks_of(module, n_layers=2):
    return next(m for m in module.modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers)


def matrices_of(model, layer):
    return plans(model, [layer])[layer].read(nn.Parameter.detach)


def recorded(module, block, value, output):
    """Random inputs of the value projection, and what then enters and leaves the output projection.

    Each sequence has one token, which can only attend to itself: what enters are the values of all heads.
    """
    seen = {}
    modules = dict(block.named_modules())
    generator = torch.Generator().manual_seed(3)

    def replaced(_, given):
        seen["x"] = torch.randn(given[0].shape, generator=generator, dtype=given[0].dtype)
        return (seen["x"], *given[1:])

    handles = [
        modules[value].register_forward_pre_hook(replaced),
        modules[output].register_forward_pre_hook(lambda _, given: seen.update({"values": given[0]})),
        modules[output].register_forward_hook(lambda _, __, out: seen.update({"out": out})),
    ]
    with torch.no_grad():
        module(torch.arange(5, len(TOKENS))[:, None])
    for handle in handles:
        handle.remove()
    return [seen[name].flatten(0, -2).double().numpy() for name in ("x", "values", "out")]


def solved(x, y):
    """The matrix of the affine map from rows of x to rows of y."""
    return np.linalg.lstsq(np.hstack([x, np.ones((len(x), 1))]), y, rcond=None)[0][:-1].T


@pytest.mark.parametrize("name", [*ARCHITECTURES, "native"])
def test_plans_gives_the_value_and_output_matrices_that_the_heads_use(name):
    """Values are solved from random inputs, and W_O W_V from what the whole attention adds."""
    model = loaded(name)
    module = copy.deepcopy(model.module).double()
    block = blocks_of(module, model.n_layers)[1]
    value, output = NATIVE if name == "native" else ARCHITECTURES[name][2:]
    x, values, out = recorded(module, block, value, output)
    own = matrices_of(model, 2)
    by_head = np.split(values, len(own.values), axis=1)
    for head, found in enumerate(own.values):
        np.testing.assert_allclose(solved(x, by_head[head]), found.numpy(), atol=1e-6)
    whole, *heads = [each for each in labelled(own, heads=True) if each.part == "ov"]
    product = (whole.factors[0].double() @ whole.factors[1].double()).numpy()
    np.testing.assert_allclose(solved(x, out), product, atol=1e-5)
    assert [each.head for each in heads] == list(range(len(own.values)))
    summed = sum(left.double() @ right.double() for left, right in (each.factors for each in heads))
    np.testing.assert_allclose(summed.numpy(), product, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "llama, shared keys", "qwen2", "opt", "phi", "bert", "native"])
def test_plans_gives_the_query_and_key_matrices_that_attention_sees(name, monkeypatch):
    model = loaded(name)
    module = copy.deepcopy(model.module).double()
    blocks = blocks_of(module, model.n_layers)
    calls = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def seen(query, key, value, *args, **kwargs):
        calls.append((query, key))
        return attend(query, key, value, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
    modules = dict(blocks[1].named_modules())
    paths = {
        "gpt_neox": ["attention.query_key_value"],
        "gpt2": ["attn.c_attn"],
        "bert": ["attention.self.query", "attention.self.key"],
        "native": ["attn.q", "attn.k"],
    }.get(name, ["self_attn.q_proj", "self_attn.k_proj"])
    x = torch.randn(len(TOKENS) - 5, 1, model.d_model, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    handles = [modules[path].register_forward_pre_hook(lambda _, __: (x,)) for path in paths]
    with torch.no_grad():
        module(torch.arange(5, len(TOKENS))[:, None])  # at position 0, where rotary positions turn nothing
    for handle in handles:
        handle.remove()
    own = matrices_of(model, 2)
    for found, made in zip((own.query, own.key), calls[1], strict=True):
        repeats = made.shape[1] // len(found)
        for head in range(made.shape[1]):
            matrix = solved(x[:, 0].numpy(), made[:, head, 0].numpy())
            scale = matrix.ravel() @ found[head // repeats].numpy().ravel() / found[head // repeats].norm().item() ** 2
            np.testing.assert_allclose(matrix / scale, found[head // repeats].numpy(), atol=1e-6)
            assert scale == pytest.approx(1) or name in ("opt", "phi")  # which divide by the root of the width first


def test_plans_does_not_take_the_last_rows_of_neox_for_its_values():
    """The slice in the code released with Diehl Martinez et al. (2024) mixes queries, keys and values of some heads."""
    model = rs.load_model("tiny-neox-w64-d4")
    block = model.module.gpt_neox.layers[3]
    packed, output = block.attention.query_key_value.weight, block.attention.dense.weight
    own = matrices_of(model, 4)
    last_rows = packed[-model.d_model :]
    x, values, _ = recorded(model.module, block, "attention.query_key_value", "attention.dense")
    right = solved(x, values)
    np.testing.assert_allclose(own.value.flatten(0, 1), right, atol=1e-4)
    assert np.linalg.norm(last_rows.numpy() - right) > 0.5 * np.linalg.norm(right)
    table = rs.weights.spectra(model, layers=4, parts="ov", heads=False)
    found = table["proportional_effective_rank"].item()
    assert found == pytest.approx(effective_rank(output.numpy() @ right) / 64, rel=1e-4)
    assert abs(found - effective_rank(output.numpy() @ last_rows.numpy()) / 64) > 0.005


def effective_rank(matrix, at_most=None):
    s = np.linalg.svd(np.asarray(matrix, dtype=float), compute_uv=False)[:at_most]
    p = s / s.sum()
    return np.exp(-(p * np.log(p)).sum())


def test_spectra_uses_all_singular_values_of_the_mlp():
    """The code released with Diehl Martinez et al. (2024) uses the first ones, as many as a head is wide."""
    model = rs.load_model("tiny-neox-w64-d4")
    table = rs.weights.spectra(model, parts=["mlp_in", "mlp_out"])
    for part, path in (("mlp_in", "dense_h_to_4h"), ("mlp_out", "dense_4h_to_h")):
        rows = table[table["part"] == part]
        assert rows["dimension"].tolist() == [64] * 4
        weights = [getattr(block.mlp, path).weight.numpy() for block in model.module.gpt_neox.layers]
        expected = [effective_rank(weight) / 64 for weight in weights]
        assert rows["proportional_effective_rank"].tolist() == pytest.approx(expected, rel=1e-10)
        truncated = [effective_rank(weight, at_most=16) / 16 for weight in weights]
        assert (np.array(truncated) - expected > 0.005).all()


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "llama, shared keys", "bert"])
def test_spectra_equals_numpy_on_whole_matrices_of_bare_models(name):
    module = bare(name, torch.float32)
    block = blocks_of(module)[0]
    found = rs.weights.spectra(rs.load_model(module, tokenizer=TOKENS), layers=1)
    whole = found[found["head"] == "whole"].set_index("part")
    paths = {
        "gpt_neox": {"output": "attention.dense", "mlp_in": "mlp.dense_h_to_4h", "mlp_out": "mlp.dense_4h_to_h"},
        "gpt2": {"output": "attn.c_proj", "mlp_in": "mlp.c_fc", "mlp_out": "mlp.c_proj"},
        "llama, shared keys": {
            "query": "self_attn.q_proj",
            "key": "self_attn.k_proj",
            "mlp_gate": "mlp.gate_proj",
            "mlp_in": "mlp.up_proj",
            "mlp_out": "mlp.down_proj",
        },
        "bert": {"query": "attention.self.query", "mlp_in": "intermediate.dense", "mlp_out": "output.dense"},
    }[name]
    for part, path in paths.items():
        weight = block.get_submodule(path).weight.detach().double().numpy()
        weight = weight.T if name == "gpt2" else weight  # Conv1D has (inputs, outputs)
        assert whole.loc[part, ["rows", "columns", "dimension"]].tolist() == [*weight.shape, min(weight.shape)]
        assert whole.loc[part, "effective_rank"] == pytest.approx(effective_rank(weight), rel=1e-10)
        assert whole.loc[part, "frobenius_norm"] == pytest.approx(np.linalg.norm(weight), rel=1e-10)
        assert whole.loc[part, "condition_number"] == pytest.approx(np.linalg.cond(weight), rel=1e-8)


def test_spectra_counts_shared_heads_once_for_keys_and_values_and_each_for_queries_and_ov():
    table = rs.weights.spectra(loaded("llama, shared keys"), layers=[2])
    heads = table[table["head"] != "whole"].groupby("part")["head"].apply(list).to_dict()
    assert heads == {part: [0, 1, 2, 3] for part in ("query", "output", "ov")} | {"key": [0, 1], "value": [0, 1]}
    assert set(table.loc[table["part"] == "ov", "dimension"]) == {
        16,
        8,
    }  # two value heads of width 8 together, one alone
    assert not table.isna().any(axis=None)


def test_spectra_of_weights_in_half_precision_are_exact():
    model = rs.load_model(bare("llama, shared keys", torch.float32), tokenizer=TOKENS, dtype="bfloat16")
    attention = blocks_of(model.module)[0].self_attn
    value, output = (getattr(attention, path).weight.double().numpy() for path in ("v_proj", "o_proj"))
    heads = [output[:, 8 * h : 8 * h + 8] @ value[8 * (h // 2) : 8 * (h // 2) + 8] for h in range(4)]
    ov = rs.weights.spectra(model, layers=1, parts="ov").set_index("head")["frobenius_norm"]
    for head, matrix in [("whole", sum(heads)), *enumerate(heads)]:
        assert ov[head] == pytest.approx(np.linalg.norm(matrix), rel=1e-10)


def test_labelled_gradients_are_the_change_of_the_product_along_the_gradients():
    """The derivative of (W_O + t dW_O)(W_V + t dW_V) at t = 0, by central differences, which are exact here."""
    model = loaded("llama, shared keys")
    plan = BlockPlan(model, 1)
    weights = plan.read(lambda parameter: parameter.detach().double())
    generator = torch.Generator().manual_seed(0)
    steps = {p: torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters_of({1: plan})}
    changes = plan.read(steps.__getitem__)
    for head in range(4):
        group = head // 2

        def product(t, head=head, group=group):
            value = weights.value[group] + t * changes.value[group]
            return (weights.output[head] + t * changes.output[head]) @ value

        left, right = next(
            each.factors for each in labelled_gradients(weights, changes, True) if each[:2] == ("ov", head)
        )
        torch.testing.assert_close(left @ right, (product(0.5) - product(-0.5)), rtol=1e-10, atol=1e-10)
    parts = {each[:2]: each.factors for each in labelled_gradients(weights, changes, True)}
    whole = parts["ov", None][0] @ parts["ov", None][1]
    summed = sum(parts["ov", head][0] @ parts["ov", head][1] for head in range(4))
    torch.testing.assert_close(summed, whole, rtol=1e-10, atol=1e-10)


class Adapted(nn.Linear):
    pass


def adapt(model):
    block = blocks_of(model.module)[1]
    block.mlp.down_proj = Adapted(48, 32, bias=False)


def gate(model):
    blocks_of(model.module)[1].gate = nn.Linear(32, 32)


def normalise(model):
    attention = blocks_of(model.module)[1].self_attn
    attention.o_proj = nn.Sequential(nn.LayerNorm(32), attention.o_proj)


def swap(model):
    blocks_of(model.module)[1].self_attn.v_proj.register_forward_hook(lambda _, __, out: out.flip(-1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (adapt, "mlp.down_proj is of class Adapted, expected a plain linear map"),
        (gate, "its block also has gate.weight, whose part is not known"),
        (normalise, "its block also has self_attn.o_proj.1.weight, whose part is not known"),
        (swap, "what reaches self_attn.o_proj are not the values of each head, side by side"),
    ],
)
def test_plans_refuses_a_block_whose_slices_would_not_be_what_its_heads_use(change, words):
    model = loaded("llama")
    change(model)
    with pytest.raises(InputError, match=rf"matrices of LlamaForCausalLM .*cannot be told apart at layer 2: .*{words}"):
        plans(model, [1, 2])


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        (
            "MixtralForCausalLM",
            {"num_local_experts": 2, "num_key_value_heads": 4},
            "no MLP whose matrices have known names",
        ),
        ("FalconForCausalLM", {}, "no query, key, value and output matrix by a known name"),
        ("DiffLlamaForCausalLM", {}, "are not the values of each head"),
        ("BitNetForCausalLM", {"num_key_value_heads": 4}, "are not the values of each head"),
    ],
)
def test_spectra_refuses_architectures_it_cannot_tell_by_name(kind, more, words):
    network = getattr(transformers, kind)
    torch.manual_seed(0)
    module = network._from_config(network.config_class(**SIZES | more)).float().eval()
    with pytest.raises(InputError, match=rf"\({kind}\) cannot be told apart at layer 1: .*{words}"):
        rs.weights.spectra(rs.load_model(module, tokenizer=TOKENS))


def test_spectra_refuses_a_model_of_transformer_lens_and_takes_the_one_it_was_made_from():
    model = rs.load_model("tiny-gelu-3l-s0")
    with pytest.raises(InputError, match=r"\(TransformerBridge\) cannot be told apart at layer 1"):
        rs.weights.spectra(rs.load_model(model.bridge))
    assert set(rs.weights.spectra(model)["layer"]) == {1, 2, 3}


def test_spectra_refuses_matrices_of_zeros_by_place_and_reads_the_others():
    model = loaded("llama")
    blocks_of(model.module)[1].mlp.down_proj.weight.zero_()
    with pytest.raises(InputError, match="weights of LlamaForCausalLM at layer 2, part mlp_out, head whole are all 0"):
        rs.weights.spectra(model)
    assert set(rs.weights.spectra(model, layers=1)["layer"]) == {1}
    assert set(rs.weights.spectra(model, parts=["mlp_in", "ov"])["part"]) == {"mlp_in", "ov"}
