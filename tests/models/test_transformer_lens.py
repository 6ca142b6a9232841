"""load_model takes what users of TransformerLens hold in memory, and gives the numbers of its own hooks."""

import types

import pytest
import torch
import transformers as hf
from torch import nn

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models.hooked import is_hooked

TEXTS = ["The quick brown fox", "jumps", "over the lazy dog and runs away from all that"]
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
SMALL |= {"max_position_embeddings": 64, "vocab_size": 2048, "initializer_range": 0.3}


@pytest.fixture(scope="module")
def tokenizer():
    return rs.load_model("tiny-neox-w32-d2").tokenizer


def network(kind):
    """A transformers model of random weights."""
    torch.manual_seed(0)
    made = {
        "neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**SMALL)),
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=64, vocab_size=2048, initializer_range=0.3)
        ),
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, num_key_value_heads=2)),
        "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**SMALL, num_key_value_heads=2, head_dim=8)),
    }
    return made[kind]().eval()


def bridge_of(module, tokenizer, folded=False):
    from transformer_lens.model_bridge import TransformerBridge

    names = {"neox": "EleutherAI/pythia-70m", "gpt2": "gpt2", "llama": "meta-llama/Llama-2-7b-hf"}
    name = names.get(module.config.model_type.removeprefix("gpt_"), "google/gemma-2-2b")
    bridge = TransformerBridge.boot_transformers(name, hf_model=module, tokenizer=tokenizer, device="cpu")
    if folded:
        bridge.enable_compatibility_mode(disable_warnings=True)
    return bridge


@pytest.fixture(params=[(kind, folded) for kind in ("neox", "gpt2", "llama", "gemma2") for folded in (False, True)])
def bridge(request, tokenizer):
    kind, folded = request.param
    return bridge_of(network(kind), tokenizer, folded)


@torch.no_grad()
def test_load_model_reads_a_bridge_as_its_own_cache_has_it_at_every_layer_with_padding(bridge):
    model = rs.load_model(bridge)
    assert (model.kind, model.n_layers, model.d_model, model.context) == ("causal", 3, 32, 64)
    batch = model.batch(TEXTS)
    assert not batch.mask.all(), "some of it is padding"
    expected, cache = bridge.run_with_cache(batch.ids, attention_mask=batch.mask.long())
    at = {0: cache["blocks.0.hook_resid_pre"]} | {k + 1: cache[f"blocks.{k}.hook_resid_post"] for k in range(3)}
    found = {}
    model.residuals(batch, range(4), found.__setitem__)
    for layer, values in at.items():
        assert (found[layer] - values)[batch.mask].abs().max() <= 1e-5, layer
    assert (model.logits(batch) - expected)[batch.mask].abs().max() <= 1e-5
    for k, m in ((0, 1), (1, 3), (2, 3), (0, 3)):
        assert (model.run(at[k], k, m, batch) - at[m])[batch.mask].abs().max() <= 1e-5
    assert (model.head(at[3], batch) - expected)[batch.mask].abs().max() <= 1e-5


@torch.no_grad()
def test_read_of_a_bridge_gives_its_own_hooks_inside_blocks(bridge):
    model = rs.load_model(bridge)
    batch = model.batch(TEXTS)
    _, cache = bridge.run_with_cache(batch.ids, attention_mask=batch.mask.long())
    assert {"attn_out", "mlp_out"} <= set(model.sites)
    found = {site: {} for site in (*model.sites[1:], *(["head_out.1"] if "head_out" in model.sites else []))}
    for site, values in found.items():
        model.read(batch, [1, 2, 3], values.__setitem__, site)
    for layer in (1, 2, 3):
        at = f"blocks.{layer - 1}"
        own = {"attn_out": cache[f"{at}.hook_attn_out"], "mlp_out": cache[f"{at}.hook_mlp_out"]}
        if "head_out" in found:
            z, matrix = cache[f"{at}.attn.hook_z"], model.bridge.blocks[layer - 1].attn.W_O
            z = z.unflatten(-1, matrix.shape[:2]) if z.dim() == 3 else z
            own |= {"head_out": torch.einsum("bthe,hed->btd", z, matrix), "head_out.1": z[:, :, 1] @ matrix[1]}
        if "mlp_act" in found:
            own["mlp_act"] = cache[f"{at}.mlp.hook_post"]
        for site, values in own.items():
            assert (found[site][layer] - values)[batch.mask].abs().max() <= 1e-5, site


def test_load_model_of_a_bridge_gives_what_the_transformers_model_gives(tokenizer):
    module = network("neox")
    plain = rs.load_model(module, tokenizer=tokenizer)
    lens = rs.load_model(bridge_of(network("neox"), tokenizer))
    mine, theirs = (rs.extract(model, TEXTS, n_rows=20) for model in (lens, plain))
    for layer in range(4):
        assert (mine[layer] - theirs[layer]).abs().max() <= 1e-5
    diagonal = rs.compare(lens, plain, TEXTS, n_rows=20).values.diagonal()
    assert diagonal == pytest.approx(1, abs=1e-5)


def test_load_model_leaves_a_bridge_as_it_was_and_is_no_longer_tied_to_it(tokenizer):
    bridge = bridge_of(network("gpt2"), tokenizer)
    bridge(torch.arange(9)[None])  # with gradients, which attention patterns keep
    before = {name: value.clone() for name, value in bridge.state_dict().items()}
    model = rs.load_model(bridge, dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert all(torch.equal(value, before[name]) for name, value in bridge.state_dict().items())
    assert all(parameter.requires_grad for parameter in bridge.parameters())
    model = rs.load_model(bridge)
    batch = model.batch(TEXTS)
    expected = model.logits(batch)
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.zero_()
    assert torch.equal(model.logits(batch), expected)
    assert model.provenance["class"] == "TransformerBridge"
    assert "transformer_lens" in model.provenance


def test_load_model_lets_gradients_through_the_blocks_and_head_of_a_bridge(tokenizer):
    model = rs.load_model(bridge_of(network("llama"), tokenizer))
    batch = model.batch(TEXTS)
    hidden = model.embed(batch).clone().requires_grad_()
    model.head(model.run(hidden, 0, 3, batch), batch)[batch.mask].square().sum().backward()
    assert hidden.grad.abs().sum() > 0


def test_load_model_takes_a_bridge_of_transformer_lens_own_format(tokenizer):
    own = rs.load_model("tiny-solu-3l-s0")
    lens = rs.load_model(own.bridge)
    batch = own.batch(TEXTS)
    assert (lens.logits(lens.batch(TEXTS)) - own.logits(batch))[batch.mask].abs().max() <= 1e-4
    found, expected = (rs.extract(model, TEXTS, n_rows=20) for model in (lens, own))
    for layer in range(4):
        assert (found[layer] - expected[layer]).abs().max() <= 1e-5


class HookedTransformer(nn.Module):
    """The part of TransformerLens 1 to 3 that is used here, around a bridge: its blocks may be run to the last."""

    def __init__(self, bridge, **other):
        super().__init__()
        self.own, self.cfg, self.tokenizer = bridge, types.SimpleNamespace(**vars(bridge.cfg) | other), bridge.tokenizer

    @property
    def blocks(self):
        return self.own.blocks

    def forward(self, given, **how):
        return self.own(given, **how)

    def run_with_hooks(self, given, **how):
        return self.own.run_with_hooks(given, **how)

    def to(self, where, print_details=True):
        self.own.to(where, print_details=print_details)
        return self


HookedTransformer.__module__ = "transformer_lens.HookedTransformer"


def test_load_model_knows_a_hooked_transformer_by_its_class_and_refuses_what_it_cannot_read(tokenizer):
    bridge = bridge_of(network("gpt2"), tokenizer)
    hooked = HookedTransformer(bridge, model_name="toy")
    assert is_hooked(hooked)
    model = rs.load_model(hooked)
    batch = model.batch(TEXTS)
    assert (model.logits(batch) - bridge(batch.ids))[batch.mask].abs().max() <= 1e-5
    with pytest.raises(InputError, match=r"has bidirectional attention; expected a causal language model\. Pass"):
        rs.load_model(HookedTransformer(bridge, attention_dir="bidirectional"))
    hooked.tokenizer = None
    with pytest.raises(InputError, match=r"has no tokenizer\. Pass tokenizer="):
        rs.load_model(hooked)
    assert rs.load_model(hooked, tokenizer=tokenizer).n_layers == 3
    with pytest.raises(InputError, match="options are for loading"):
        rs.load_model(hooked, tokenizer=tokenizer, options={"device_map": "auto"})
    with pytest.raises(InputError, match="TransformerBridge or HookedTransformer, got Linear"):
        rs.load_model(nn.Linear(2, 2), tokenizer=tokenizer)


def test_load_model_refuses_a_bridge_whose_parts_are_not_the_whole(tokenizer):
    class Twice(HookedTransformer):
        def forward(self, given, **how):
            return super().forward(given, **how) * (1 if how else 2)

    with pytest.raises(InputError, match=r"cannot be run part by part: joined parts differ from the whole"):
        rs.load_model(Twice(bridge_of(network("gpt2"), tokenizer)))


def test_load_model_refuses_a_bridge_of_bert(tokenizer):
    config = hf.BertConfig(**{**SMALL, "num_hidden_layers": 2})
    from transformer_lens.model_bridge import TransformerBridge

    module = hf.BertForMaskedLM(config).eval()
    bridge = TransformerBridge.boot_transformers("google-bert/bert-base-cased", hf_model=module, tokenizer=tokenizer)
    with pytest.raises(InputError, match="has bidirectional attention"):
        rs.load_model(bridge)


@pytest.mark.parametrize("folded", [False, True])
@torch.no_grad()
def test_load_model_reads_a_real_hooked_transformer_where_that_version_is_installed(tokenizer, folded):
    lens = pytest.importorskip("transformer_lens")
    try:
        hooked = lens.HookedTransformer
    except ImportError:
        pytest.skip("TransformerLens 4 has bridges alone")
    torch.manual_seed(0)
    config = lens.HookedTransformerConfig(
        n_layers=3, d_model=32, n_ctx=64, d_head=8, n_heads=4, d_mlp=64, d_vocab=2048, act_fn="gelu", seed=0,
        normalization_type="LN", positional_embedding_type="rotary" if folded else "standard", rotary_dim=8,
    )  # fmt: skip
    theirs = hooked(config, tokenizer=tokenizer).eval()
    if folded:
        theirs.process_weights_(fold_ln=True, center_unembed=True, center_writing_weights=True)
    model = rs.load_model(theirs)
    batch = model.batch(TEXTS)
    expected, cache = theirs.run_with_cache(batch.ids)
    found = {}
    model.residuals(batch, range(4), found.__setitem__)
    assert (found[0] - cache["blocks.0.hook_resid_pre"]).abs().max() <= 1e-5
    for layer in range(3):
        assert (found[layer + 1] - cache[f"blocks.{layer}.hook_resid_post"]).abs().max() <= 1e-5
    assert (model.logits(batch) - expected).abs().max() <= 1e-5
