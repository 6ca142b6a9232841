"""TransformerLens' native format: the same numbers as TransformerLens, from today's names and from the older ones."""

import json
import os
import shutil

import pytest
import torch

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models.native import ACTIVATIONS
from tests.support.native_checkpoints import SHAPE, TOKENIZER, older, older_weights, oldest, today, write

TEXTS = ["Return a new array of given shape and type.", "Short.", "Ünïcödé 🦊, too."]


def bridge_config(act_fn):
    from transformer_lens.config import TransformerBridgeConfig

    return TransformerBridgeConfig(
        **SHAPE,
        act_fn=act_fn,
        attn_only=False,
        final_rms=False,
        normalization_type="LN",
        positional_embedding_type="standard",
        architecture="TransformerLensNative",
    )


def network_of_transformer_lens(act_fn):
    """Its own network with random weights, norms off one and zero so that none can be forgotten."""
    from transformer_lens.model_bridge.sources.native import NativeModel

    torch.manual_seed(0)
    network = NativeModel(bridge_config(act_fn)).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        parameter.normal_(1.0 if "ln" in name and name.endswith("weight") else 0.0, 0.25)
    return network


@pytest.fixture(scope="module", params=ACTIVATIONS)
def pair(request, tmp_path_factory):
    """A model of ours from a directory, and TransformerLens' network that the directory was made of."""
    network = network_of_transformer_lens(request.param)
    folder = write(tmp_path_factory.mktemp("native"), today(request.param), network.state_dict())
    for file in TOKENIZER.glob("tokenizer*"):
        shutil.copy(file, folder)
    return rs.load_model(folder), network


@torch.no_grad()
def test_logits_are_those_of_transformer_lens(pair):
    model, network = pair
    batch = model.batch(TEXTS)
    assert not batch.mask.all()
    theirs = network(batch.ids, attention_mask=batch.mask.long())
    assert theirs[batch.mask].std() > 0.1
    assert (model.logits(batch) - theirs)[batch.mask].abs().max() < 1e-5


@torch.no_grad()
def test_splitting_at_any_position_changes_nothing(pair):
    model, _ = pair
    batch = model.batch(TEXTS)
    whole, embedded = model.logits(batch), model.embed(batch)
    seen = {}
    model.residuals(batch, range(model.n_layers + 1), lambda layer, hidden: seen.update({layer: hidden}))
    for k in range(model.n_layers + 1):
        lower = model.run(embedded, 0, k, batch)
        assert torch.equal(seen[k], lower)
        joined = model.head(model.run(lower, k, model.n_layers, batch), batch)
        assert (joined - whole)[batch.mask].abs().max() < 1e-5


@torch.no_grad()
def test_the_bridge_is_the_same_model_and_leaves_ours_as_it_was(pair):
    model, _ = pair
    batch = model.batch(TEXTS)
    before, weights = model.logits(batch), model.weights_sha256
    theirs, cache = model.bridge.run_with_cache(batch.ids, attention_mask=batch.mask.long())
    assert (theirs - before)[batch.mask].abs().max() < 1e-5
    inside = cache["blocks.1.hook_resid_post"]
    assert (model.run(model.embed(batch), 0, 2, batch) - inside)[batch.mask].abs().max() < 1e-5
    for parameter in model.bridge.parameters():
        parameter.zero_()
    del model.__dict__["weights_sha256"]
    assert model.weights_sha256 == weights
    assert torch.equal(model.logits(batch), before)


@pytest.mark.parametrize("file", ["model.safetensors", "SomeName_final.pth"])
@pytest.mark.parametrize("output_bias", [True, False])
@pytest.mark.parametrize("act_fn", ["gelu", "solu_ln"])
@torch.no_grad()
def test_the_older_format_is_read_as_transformer_lens_converts_it(tmp_path, act_fn, output_bias, file):
    from transformer_lens.model_bridge.sources.native import boot
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    weights = older_weights(act_fn, output_bias)
    model = rs.load_model(write(tmp_path, older(act_fn), weights, file))
    converted = convert_tl_checkpoint(weights, bridge_config(act_fn))
    theirs = boot(bridge_config(act_fn))
    theirs.load_state_dict({"unembed.bias": torch.zeros(SHAPE["d_vocab"])} | converted, strict=True)

    batch = model.batch(TEXTS)
    logits = model.logits(batch)
    assert (model.module.head.bias is not None) == output_bias
    for bridge in (theirs, model.bridge):
        assert (bridge(batch.ids, attention_mask=batch.mask.long()) - logits)[batch.mask].abs().max() < 1e-5


@pytest.mark.parametrize("layers", [3, 8, 10])
@torch.no_grad()
def test_the_oldest_format_is_read_as_transformer_lens_turns_it(tmp_path, layers):
    from transformer_lens.model_bridge.sources.tl_legacy import _convert_neel_solu_old_weights

    weights = older_weights("solu_ln", layers=layers)
    old = oldest(weights, layers)
    config = bridge_config("solu_ln")
    config.n_layers = layers
    theirs = _convert_neel_solu_old_weights(old, config)
    assert theirs.keys() == weights.keys() != old.keys()
    assert all(torch.equal(theirs[key], weights[key]) for key in weights)
    shape = older("solu_ln") | {"n_layers": layers}
    first = rs.load_model(write(tmp_path / "a", shape | {"architecture": "neel-solu-old"}, old, "A_final.pth"))
    second = rs.load_model(write(tmp_path / "b", shape, weights))
    assert first.weights_sha256 == second.weights_sha256


@torch.no_grad()
def test_models_without_mlps_are_those_of_transformer_lens(tmp_path):
    from transformer_lens.model_bridge.sources.native import boot
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    weights = older_weights(mlps=False)
    config = bridge_config("gelu")
    config.attn_only = True
    theirs = boot(config)
    theirs.load_state_dict(convert_tl_checkpoint(weights, config), strict=True)
    written = older("attn_only") | {"attn_only": True, "d_mlp": -1}  # what stands there is of no use
    model = rs.load_model(write(tmp_path, written, weights, "Attn_final.pth"))
    batch = model.batch(TEXTS)
    logits = model.logits(batch)
    for bridge in (theirs, model.bridge):
        assert (bridge(batch.ids, attention_mask=batch.mask.long()) - logits)[batch.mask].abs().max() < 1e-5


def test_an_output_bias_of_zeros_is_none(tmp_path):
    weights = older_weights() | {"unembed.b_U": torch.zeros(SHAPE["d_vocab"])}
    assert rs.load_model(write(tmp_path, older(), weights)).module.head.bias is None


def test_every_sequence_starts_as_these_models_were_trained(tmp_path):
    """The tokenizers of the toy models add no start token by themselves."""
    from transformers import AutoTokenizer

    bare = tmp_path / "tokenizer"
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    tokenizer.save_pretrained(bare)
    stored = json.loads((bare / "tokenizer.json").read_text(encoding="utf-8"))
    (bare / "tokenizer.json").write_text(json.dumps(stored | {"post_processor": None}), encoding="utf-8")
    assert AutoTokenizer.from_pretrained(bare)("a")["input_ids"] == tokenizer("a")["input_ids"][1:]

    model = rs.load_model(write(tmp_path / "model", older() | {"tokenizer_name": str(bare)}, older_weights()))
    batch = model.batch(TEXTS)
    assert (batch.ids[:, 0] == model.tokenizer.bos_token_id).all()
    assert torch.equal(batch.ids, rs.load_model("tiny-neox-w32-d2").batch(TEXTS).ids)
    assert not batch.carries_text[:, 0].any()


class Code:
    """What a malicious pickle holds: unpickling it would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("where", ["beside the tensors", "instead of them"])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path, where):
    code = Code(str(tmp_path / "it ran"))
    content = {**older_weights(), "more": code} if where == "beside the tensors" else code
    folder = write(tmp_path / "model", older(), content, "Evil_final.pth")
    with pytest.raises(
        InputError, match=r"Cannot load .*Evil_final\.pth' is broken or contains more than named tensors"
    ):
        rs.load_model(folder)
    assert not (tmp_path / "it ran").exists()
    torch.load(folder / "Evil_final.pth", weights_only=False)
    assert (tmp_path / "it ran").exists()  # elsewhere it would have


@pytest.mark.parametrize("content", [[torch.ones(2)], {"embed.W_E": 3.0}, "weights"])
def test_a_pickle_of_something_else_is_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"A_final\.pth' is broken or contains more than named tensors"):
        rs.load_model(write(tmp_path, older(), content, "A_final.pth"))


def test_a_broken_pickle_is_refused(tmp_path):
    folder = write(tmp_path, older(), older_weights(), "A_final.pth")
    whole = (folder / "A_final.pth").read_bytes()
    for content in (whole[: len(whole) // 2], whole[:10], b"", b"no file of torch.save"):
        (folder / "A_final.pth").write_bytes(content)
        with pytest.raises(InputError, match=r"A_final\.pth' is broken"):
            rs.load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalization": "LNPre"}, r"normalization='LNPre' are not supported, only 'LN'"),
        ({"normalization": None}, r"normalization=None are not supported"),
        ({"attn_only": True}, r"no place for the weight blocks\.0\.ln2\.b"),
        ({"attn_only": "yes"}, r"attn_only='yes' are not supported"),
        ({"shortformer_pos": True}, r"shortformer_pos=True are not supported"),
        ({"positional_embedding_type": "rotary"}, r"only 'standard'"),
        ({"architecture": "mingpt"}, r"architecture='mingpt' are not supported"),
        ({"output_logits_soft_cap": 30.0}, r"output_logits_soft_cap=30\.0 are not supported"),
        ({"n_key_value_heads": 1}, r"n_key_value_heads=1 are not supported, only 2"),
        ({"act_fn": "solu_lm"}, r"Unknown activation 'solu_lm'. Did you mean 'solu_ln'\?"),
        ({"d_mlp": ..., "n_heads": ...}, r"needs n_heads, d_mlp"),
        ({"n_layers": 0}, r"n_layers=0; expected a positive integer"),
        ({"d_model": "12"}, r"d_model='12'; expected a positive integer"),
        ({"n_layers": 2}, r"no place for the weight blocks\.2\."),
        ({"n_layers": 4}, r"the weight blocks\.3\..* is missing"),
        ({"d_model": 14}, r"embed\.W_E has shape \(2048, 12\); its config\.json requires \(2048, 14\)"),
        ({"n_heads": 5, "d_head": 2}, r"blocks\.0\.attn\.W_. has shape"),
        ({"act_fn": "solu_ln"}, r"the weight blocks\.0\.mlp\.ln\.w is missing"),
        (
            {"tokenizer_name": "no-such/tokenizer"},
            r"Cannot load the tokenizer of .*'no-such/tokenizer': .* Or pass tokenizer",
        ),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path, changes, message):
    config = {key: value for key, value in (older() | changes).items() if value is not ...}
    folder = write(tmp_path / "model", config, older_weights())
    with pytest.raises(InputError, match=message) as refused:
        rs.load_model(folder)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_wrong_weights_of_today_say_why(tmp_path):
    weights = network_of_transformer_lens("gelu").state_dict()
    for wrong, message in (
        (weights | {"layers.1.mlp.fc_in.bias": torch.zeros(3)}, r"fc_in\.bias has shape \(3,\); .* requires \(20,\)"),
        ({k: v for k, v in weights.items() if "layers.1" not in k}, r"the weight layers\.1\.\S* is missing"),
        (weights | {"more": torch.zeros(3)}, r"no place for the weight more"),
    ):
        with pytest.raises(InputError, match=message):
            rs.load_model(write(tmp_path, today(), wrong))


def test_broken_files_say_why(tmp_path):
    folder = write(tmp_path, older(), older_weights())
    whole = (folder / "config.json").read_text()
    for content in (whole[:-9], "", "\x00"):
        (folder / "config.json").write_text(content)
        with pytest.raises(InputError, match=r"config\.json' is not valid JSON"):
            rs.load_model(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(InputError, match=r"config\.json' is a list; expected names and values"):
        rs.load_model(folder)
    (folder / "config.json").write_text(whole)
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match="truncated or not a safetensors"):
        rs.load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights"):
        rs.load_model(folder)
