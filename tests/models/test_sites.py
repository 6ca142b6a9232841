"""Models are read inside their blocks, against transformers, weights and TransformerLens' own hooks."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models.site_trial import tell
from tests.models.test_classifiers import word_tokenizer

TEXT = "the baker admired the clerk and the poet who visited the miner yawned if the pilot danced"
WORDS = TEXT.split()
TEXTS = [" ".join((WORDS * 3)[start : start + n]) for start, n in enumerate([2, 21, 5, 5, 17, 9, 3])]
HEADS = 4
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": HEADS, "vocab_size": 70}
SIZES |= {"intermediate_size": 48, "max_position_embeddings": 40, "pad_token_id": 1, "initializer_range": 0.2}
GROUPED = {"num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 2}
GPT2 = {"n_inner": 48, "bos_token_id": 0, "eos_token_id": 2}
OPT = {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2}
FALCON = {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 48}
MORE = {
    "gpt2": GPT2,
    "gpt_neox": {},
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": 16},
    "phi": {},
    "phi3": GROUPED,
    "opt": OPT,
    "bloom": {},
    "falcon": FALCON,
}
ATTENTION = {  # its module and output matrix
    "gpt2": ("attn", "c_proj"),
    "gpt_neox": ("attention", "dense"),
    "phi": ("self_attn", "dense"),
    "opt": ("self_attn", "out_proj"),
    "bloom": ("self_attention", "dense"),
    "falcon": ("self_attention", "dense"),
}
SCALED = GROUPED | {"residual_multiplier": 0.5}
ADDS_RESIDUAL = ("bloom",)  # inside its attention


def random_module(kind, **more):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SIZES | MORE.get(kind, {}) | more))
    module = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # biases start at zero, norms at one, where a mistake would not show
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return module


def loaded(module):
    return rs.load_model(module, tokenizer=word_tokenizer("roberta"))


@pytest.fixture(scope="module", params=MORE)
def module(request):
    return random_module(request.param)


@pytest.fixture(scope="module")
def model(module):
    return loaded(module)


def blocks_of(module):
    return next(m for m in module.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3)


def attention_of(block):
    """The attention of a block, and its output matrix."""
    paths = [*ATTENTION.values(), ("self_attn", "o_proj")]
    own, matrix = next(p for p in paths if hasattr(block, p[0]) and hasattr(getattr(block, p[0]), p[1]))
    return getattr(block, own), getattr(getattr(block, own), matrix)


@torch.no_grad()
def run(module, batch):
    """What enters and leaves the attention of every block, as transformers runs the batch with its mask."""
    entering, leaving = {}, {}

    def hook(layer):
        def see(_, args, kwargs, out):
            entering[layer] = args[0] if args else kwargs["hidden_states"]
            leaving[layer] = out[0] if isinstance(out, tuple) else out
            if module.config.model_type in ADDS_RESIDUAL:
                leaving[layer] = leaving[layer] - (args[1] if len(args) > 1 else kwargs["residual"])

        return see

    blocks = blocks_of(module)
    handles = [
        attention_of(block)[0].register_forward_hook(hook(layer), with_kwargs=True)
        for layer, block in enumerate(blocks, 1)
    ]
    module(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
    for handle in handles:
        handle.remove()
    return entering, leaving


@torch.no_grad()
def read(model, batch, site, layers=(1, 2, 3)):
    found = {}
    model.read(batch, layers, found.__setitem__, site)
    return found


def off(found, expected, batch):
    return (found - expected)[batch.mask].abs().max().item()


def test_read_gives_heads_that_sum_to_the_blocks_own_attention_output(module, model):
    batch = model.batch(TEXTS)
    _, expected = run(module, batch)
    whole, added = read(model, batch, "head_out"), read(model, batch, "attn_out")
    heads = [read(model, batch, f"head_out.{head}") for head in range(model.n_heads)]
    for layer, block in enumerate(blocks_of(module), 1):
        bias = attention_of(block)[1].bias
        bias = 0 if bias is None else bias
        assert off(sum(head[layer] for head in heads) + bias, expected[layer], batch) <= 1e-5
        assert off(whole[layer] + bias, expected[layer], batch) <= 1e-5
        assert off(added[layer], expected[layer], batch) <= 1e-5
        assert expected[layer].abs().max() > 0.1


@torch.no_grad()
def test_read_gives_of_one_head_what_is_left_when_all_others_are_zero(module, model):
    batch = model.batch(TEXTS)
    for layer in (1, 3):
        for head in range(HEADS):
            alone = copy.deepcopy(module)
            matrix = attention_of(blocks_of(alone)[layer - 1])[1]
            weight = matrix.weight if type(matrix).__name__ == "Conv1D" else matrix.weight.T
            size = len(weight) // HEADS
            weight[: head * size] = 0
            weight[(head + 1) * size :] = 0
            _, expected = run(alone, batch)
            bias = 0 if matrix.bias is None else matrix.bias
            found = read(model, batch, f"head_out.{head}")[layer]
            assert off(found + bias, expected[layer], batch) <= 1e-5


def values_by_head(attention):
    """Weight (query heads, size, width) and bias (query heads, size) that make values, written out by architecture."""
    kind = type(attention).__name__
    if kind == "GPT2Attention":
        return attention.c_attn.weight[:, 64:].T.view(4, 8, 32), attention.c_attn.bias[64:].view(4, 8)
    if kind in ("GPTNeoXAttention", "BloomAttention"):  # q, k, v of head 0, then of head 1, ...
        packed = attention.query_key_value
        rows = [row for head in range(4) for row in range(24 * head + 16, 24 * head + 24)]
        return packed.weight[rows].view(4, 8, 32), packed.bias[rows].view(4, 8)
    if kind == "FalconAttention":  # two queries, a key and a value of group 0, then of group 1
        rows = [row for group in (0, 0, 1, 1) for row in range(32 * group + 24, 32 * group + 32)]
        return attention.query_key_value.weight[rows].view(4, 8, 32), torch.zeros(4, 8)
    if kind == "Phi3Attention":  # four queries, two keys, two values
        rows = [row for group in (0, 0, 1, 1) for row in range(48 + 8 * group, 56 + 8 * group)]
        return attention.qkv_proj.weight[rows].view(4, 8, 32), torch.zeros(4, 8)
    weight, bias = attention.v_proj.weight, attention.v_proj.bias
    bias = torch.zeros(len(weight)) if bias is None else bias
    size = attention.head_dim
    groups = [head * len(weight) // size // 4 for head in range(4)]  # of each query head
    return weight.view(-1, size, 32)[groups], bias.view(-1, size)[groups]


@torch.no_grad()
def test_read_gives_ov_as_an_einsum_over_the_weights_does(module, model):
    batch = model.batch(TEXTS)
    entering, _ = run(module, batch)
    found, third = read(model, batch, "ov"), read(model, batch, "ov.2")
    for layer, block in enumerate(blocks_of(module), 1):
        attention, matrix = attention_of(block)
        weight, bias = values_by_head(attention)
        values = torch.einsum("btd,hed->bthe", entering[layer], weight) + bias
        turned = matrix.weight.T if type(matrix).__name__ == "Conv1D" else matrix.weight
        out = turned.reshape(32, 4, -1)
        assert off(found[layer], torch.einsum("bthe,dhe->btd", values, out), batch) <= 1e-5
        assert off(third[layer], torch.einsum("bte,de->btd", values[:, :, 2], out[:, 2]), batch) <= 1e-5


@torch.no_grad()
def test_read_does_not_take_the_last_third_of_what_neox_packs_by_head():
    module = random_module("gpt_neox")
    model = loaded(module)
    batch = model.batch(TEXTS)
    entering, _ = run(module, batch)
    attention = blocks_of(module)[0].attention
    packed = attention.query_key_value
    third = entering[1] @ packed.weight[-32:].T + packed.bias[-32:]
    wrong = third @ attention.dense.weight.T
    assert off(read(model, batch, "ov")[1], wrong, batch) > 0.1


@torch.no_grad()
def test_read_gives_what_adds_up_to_the_next_layer_and_belongs_to_its_block(module, model):
    batch = model.batch(TEXTS)
    hidden = {}
    model.residuals(batch, range(4), hidden.__setitem__)
    attn, mlp = read(model, batch, "attn_out"), read(model, batch, "mlp_out")
    for layer in (1, 2, 3):
        assert off(hidden[layer - 1] + attn[layer] + mlp[layer], hidden[layer], batch) <= 1e-4
    assert off(read(model, batch, "attn_out", [2])[2], attn[2], batch) == 0


@torch.no_grad()
def test_read_gives_mlp_activations_that_the_last_matrix_turns_into_mlp_out(module, model):
    batch = model.batch(TEXTS)
    activations, added = read(model, batch, "mlp_act"), read(model, batch, "mlp_out")
    names = ("mlp.c_proj", "mlp.dense_4h_to_h", "mlp.down_proj", "mlp.fc2", "fc2")
    assert activations[1].shape == (*batch.ids.shape, model.width("mlp_act"))
    assert model.width("mlp_act") in (48, 4 * 32)
    for layer, block in enumerate(blocks_of(module), 1):
        matrix = next(m for n, m in block.named_modules() if n in names)
        assert off(matrix(activations[layer]), added[layer], batch) <= 1e-5


@pytest.mark.parametrize("name", ["tiny-gelu-3l-s0", "tiny-solu-3l-s0"])
@torch.no_grad()
def test_read_gives_native_models_as_the_hooks_of_transformer_lens_do(name):
    model = rs.load_model(name)
    batch = model.batch(["The quick brown fox jumps over", "the lazy dog"])
    _, cache = model.bridge.run_with_cache(batch.ids)
    found = {site: read(model, batch, site) for site in (*model.sites[1:], "head_out.1", "ov.3")}
    for layer in (1, 2, 3):
        inside = {
            name: cache[f"blocks.{layer - 1}.{name}"] for name in ("hook_attn_out", "hook_mlp_out", "mlp.hook_post")
        }
        z, v = (cache[f"blocks.{layer - 1}.attn.hook_{name}"] for name in "zv")
        matrix = model.bridge.blocks[layer - 1].attn.W_O
        expected = {
            "attn_out": inside["hook_attn_out"],
            "mlp_out": inside["hook_mlp_out"],
            "mlp_act": inside["mlp.hook_post"],
            "head_out": torch.einsum("bthe,hed->btd", z, matrix),
            "ov": torch.einsum("bthe,hed->btd", v, matrix),
            "head_out.1": z[:, :, 1] @ matrix[1],
            "ov.3": v[:, :, 3] @ matrix[3],
        }
        assert set(expected) == set(found)
        for site, values in expected.items():
            assert off(found[site][layer], values, batch) <= 1e-5, site
        total = found["head_out"][layer] + model.module.layers[layer - 1].attn.o.bias
        assert off(total, found["attn_out"][layer], batch) <= 1e-5


@pytest.mark.parametrize("kind", ["gemma2", "olmo2"])
@torch.no_grad()
def test_read_gives_what_is_added_where_a_norm_follows_and_refuses_heads(kind):
    more = {"head_dim": 8} if kind == "gemma2" else {}
    model = loaded(random_module(kind, **GROUPED, **more))
    batch = model.batch(TEXTS)
    hidden = {}
    model.residuals(batch, range(4), hidden.__setitem__)
    attn, mlp = read(model, batch, "attn_out"), read(model, batch, "mlp_out")
    assert off(hidden[1] + attn[2] + mlp[2], hidden[2], batch) <= 1e-4
    assert model.sites == ("resid_post", "attn_out", "mlp_out", "mlp_act")
    with pytest.raises(InputError, match="its post_attention_layernorm norms the sum of the heads"):
        read(model, batch, "head_out")


@pytest.mark.parametrize(
    ("kind", "more", "site", "message"),
    [
        ("granite", SCALED, "attn_out", r"GraniteForCausalLM.* is not the output of .* scaled"),
        ("granite", SCALED, "ov.1", r"cannot be read at ov: .* can be read at resid_post, mlp_act\.$"),
        ("mixtral", GROUPED, "mlp_act", r"MixtralForCausalLM\) cannot .* no single last matrix of an MLP"),
        ("gpt_oss", GROUPED | {"head_dim": 8}, "head_out", "do not hold weighted means of what self_attn.v_proj gives"),
        ("deepseek_v3", {}, "ov", "its self_attn has no matrix that is known to make values"),
        ("codegen", {"rotary_dim": 4}, "ov", "attn.qkv_proj gives, in any known packing"),
        ("mamba", {}, "attn_out", r"no attention is known .*a MambaBlock has norm, mixer.*read at resid_post\.$"),
        ("mamba", {}, "head_out", "no attention is known"),
        ("llama", GROUPED, "pre_residual", r"what a post-norm block adds last\. .* last is mlp_out, "),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_read_refuses_sites_that_cannot_be_told_and_names_the_architecture_and_its_sites(kind, more, site, message):
    model = loaded(random_module(kind, **more))
    with pytest.raises(InputError, match=message):
        rs.extract(model, TEXTS, site=site)


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ("head-out", "Unknown site 'head-out'. Did you mean 'head_out'"),
        ("mlp-out", "Did you mean 'mlp_out'"),
        ("atn_out.1", "Did you mean 'attn_out'"),
        ("attn_out.1", r"Did you mean 'attn_out'"),
        ("ov.4", r"heads are ov\.0 to ov\.3, and ov is all of them"),
        ("ov.", r"has no site 'ov\.'"),
        ("head_out.-1", r"heads are head_out\.0 to head_out\.3"),
        ("head_out.01", r"has no site 'head_out\.01'"),
    ],
)
def test_read_names_the_nearest_site_and_the_heads(site, message):
    model = loaded(random_module("gpt2"))
    with pytest.raises(InputError, match=message):
        rs.extract(model, TEXTS, site=site)


def test_positions_inside_blocks_have_no_layer_0():
    model = loaded(random_module("gpt2"))
    assert model.positions("all", "ov.1") == [1, 2, 3]
    with pytest.raises(InputError, match=r"has no head_out\.2; layers of head_out\.2 start at 1"):
        model.positions([0, 1], "head_out.2")


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (2, "the 32 inputs of its self_attn.o_proj are not those of 2 heads"),
        (8, "are not those of 8 heads"),
        (3, "are not those of 3 heads"),
        (0, "states no one number of attention heads"),
    ],
)
def test_tell_refuses_a_wrong_number_of_heads(heads, message):
    model = loaded(random_module("llama", num_key_value_heads=4))
    refused = tell(model, model._stack(), heads, model._through).refused
    assert message in refused["ov"]
    assert message in refused["head_out"]


@pytest.mark.parametrize("heads", [1, 2])
def test_tell_refuses_heads_that_hold_several_weights(heads):
    model = rs.load_model("tiny-gelu-3l-s0")  # whose attention states no size of its heads
    assert "or another number of heads" in tell(model, model._stack(), heads, model._through).refused["ov"]


def test_read_says_so_where_the_output_matrix_was_replaced_after_the_trial():
    model = loaded(random_module("llama", **GROUPED))
    assert "ov" in model.sites
    attention = blocks_of(model.module)[0].self_attn
    attention.o_proj = Doubling(attention.o_proj)
    with pytest.raises(InputError, match="is now a Doubling; load the model again"):
        read(model, model.batch(TEXTS), "ov")


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_read_gives_the_heads_of_whichever_attention_runs(implementation):
    module = random_module("llama", **GROUPED)
    module.set_attn_implementation(implementation)
    model = loaded(module)
    batch = model.batch(TEXTS)
    _, expected = run(module, batch)
    assert off(read(model, batch, "head_out")[3], expected[3], batch) <= 1e-5


class Doubling(torch.nn.Module):
    """A norm, or another module, whose output is doubled."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *given):
        return 2 * self.inner(*given)


class DoublingLinear(torch.nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def doubled_linear(linear):
    linear.__class__ = DoublingLinear
    return linear


class Remaining(torch.nn.Module):
    """Attention whose output is doubled only after its output matrix, so that this matrix's output is not added."""

    def __init__(self, attention):
        super().__init__()
        self._modules.update(attention._modules)
        self.own = [attention]  # not a submodule

    def forward(self, *args, **given):
        out, weights = self.own[0](*args, **given)
        return 2 * out, weights


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("part", "change", "site", "message"),
    [
        ("self_attn", Remaining, "attn_out", "is not the output of self_attn.o_proj"),
        ("self_attn", Remaining, "head_out.1", "is not the output of self_attn.o_proj"),
        ("self_attn.o_proj", doubled_linear, "head_out", "what enters self_attn.o_proj, times its matrix, is not what"),
        ("self_attn.o_proj", Doubling, "head_out", "its self_attn.o_proj, a Doubling, has no plain matrix in memory"),
    ],
)
def test_read_refuses_what_does_not_add_up_in_one_block_alone(part, change, site, message, dtype):
    model = rs.load_model(random_module("llama", **GROUPED), tokenizer=word_tokenizer("roberta"), dtype=dtype)
    block = blocks_of(model.module)[2]
    block.set_submodule(part, change(block.get_submodule(part)))
    with pytest.raises(InputError, match=message):
        read(model, model.batch(TEXTS), site)


def test_read_refuses_activations_whose_number_differs_by_block():
    model = loaded(random_module("llama", **GROUPED))
    mlp = blocks_of(model.module)[1].mlp
    mlp.gate_proj, mlp.up_proj, mlp.down_proj = (torch.nn.Linear(*shape) for shape in ((32, 24), (32, 24), (24, 32)))
    with pytest.raises(InputError, match="the MLPs of its blocks have 24 to 48 activations"):
        read(model, model.batch(TEXTS), "mlp_act")
    assert read(model, model.batch(TEXTS), "mlp_out")[2].shape[-1] == 32


def test_sites_of_blocks_without_an_mlp():
    from repsim_nb.models.native import Native, NativeConfig, NativeModel

    torch.manual_seed(0)
    config = NativeConfig(16, 2, 2, 8, 20, 70, 70, "gelu", attn_only=True)
    model = NativeModel("attention", Native(config), word_tokenizer("roberta"), {})
    assert model.sites == ("resid_post", "attn_out", "head_out", "ov")
    with pytest.raises(InputError, match=r"no MLP is known .*a Block has ln1, attn\)"):
        rs.extract(model, TEXTS, site="mlp_out")


@pytest.mark.parametrize("name", ["tiny-neox-w32-d2", "tiny-gelu-3l-s0"])
def test_sites_leave_the_hash_of_the_computation_and_the_model_as_they_were(name):
    model, untouched = rs.load_model(name), rs.load_model(name)
    read(model, model.batch(TEXTS), "ov", [1, 2])
    assert model.fingerprint() == untouched.fingerprint()  # which raises if a hook is left
