"""Folders that came from anybody: each loads as what it is, or is refused in one clear line, and so is its estimate."""

import json
import re
import shutil
from importlib import util

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, BertForPreTraining, BertModel

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models.shape import shape_of
from tests.models.test_classifiers import word_tokenizer
from tests.models.test_encoders import sentence_model
from tests.models.test_loading import random_causal
from tests.support.hostile_folders import CHANGES, GOOD, config, copied, weights
from tests.support.native_checkpoints import older, older_weights, write


@pytest.fixture(scope="module")
def good():
    model = rs.load_model(GOOD)
    batch = model.batch(["Return a new array of given shape and type."])
    return batch, model.logits(batch)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.filterwarnings("ignore")  # of libraries that meet what they were not made for
@torch.no_grad()
def test_load_model_and_estimate_take_a_changed_folder_for_what_it_is_or_refuse_it(tmp_path, good, name):
    change, outcome = CHANGES[name]
    folder = copied(tmp_path / "model")
    change(folder)
    try:
        model, said = rs.load_model(folder), "loads"
    except InputError as error:
        said = str(error)
        assert "\n" not in said
        assert len(said) < 1200
        assert str(folder) in said or str(folder.resolve()) in said
    else:
        batch, logits = good
        assert (model.logits(batch) - logits).abs().max() < 1e-4
    assert re.search(outcome or "^loads$", said), said
    try:
        shape_of(folder)
    except InputError as error:
        refused = str(error)
        assert outcome is not None, refused
        assert "\n" not in refused


def test_load_model_takes_a_file_for_no_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    for read in (rs.load_model, shape_of):
        with pytest.raises(InputError, match="is a file; expected a folder"):
            read(tmp_path / "model.safetensors")


def test_load_model_says_where_a_checkpoint_may_be_instead(tmp_path, monkeypatch):
    (tmp_path / "run" / "checkpoint-500").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-500" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"it has no config.json. Name a folder in it, such as 'checkpoint-500'.$"):
        rs.load_model("run")
    with pytest.raises(InputError, match=r"If you meant a folder, there is none at 'run/checkpoint-5'.$"):
        rs.load_model("run/checkpoint-5")


def test_load_model_follows_links_within_a_folder_and_into_the_cache_of_the_hub(tmp_path, good):
    batch, logits = good
    cache = tmp_path / "hub" / "models--some--neox"
    snapshot = cache / "snapshots" / "0123abc"
    (cache / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, file in enumerate(GOOD.iterdir()):
        shutil.copy(file, cache / "blobs" / str(i))
        (snapshot / file.name).symlink_to(f"../../blobs/{i}")
    beside = copied(tmp_path / "beside")
    (beside / "model.safetensors").rename(beside / "weights")
    (beside / "model.safetensors").symlink_to("weights")
    linked = tmp_path / "linked"
    linked.symlink_to(beside)
    local = copied(tmp_path / "local")  # as older versions of huggingface_hub filled a local_dir
    for file in local.glob("model*"):
        file.unlink()
        file.symlink_to((snapshot / file.name).resolve())
    for folder in (snapshot, beside, linked, local):
        with torch.no_grad():
            assert (rs.load_model(folder).logits(batch) - logits).abs().max() < 1e-5
        assert shape_of(folder).n_layers == 2


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
def test_load_model_runs_a_kernel_only_where_the_caller_names_it(tmp_path, monkeypatch, good, name):
    folder = copied(tmp_path / "model")
    config(**{name: "kernels-community/flash-attn3"})(folder)
    fetched = []

    def fetch(kernel, **_):
        fetched.append(kernel)
        raise ImportError("no kernels here")

    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", fetch)
    for read in (rs.load_model, shape_of):
        with pytest.raises(InputError, match="Only eager, sdpa, flex_attention are accepted from a config"):
            read(folder)
    batch, logits = good
    with torch.no_grad():
        model = rs.load_model(folder, options={"attn_implementation": "eager"})
        assert (model.logits(batch) - logits).abs().max() < 1e-4
    assert model.module.config._attn_implementation == "eager"
    assert not fetched
    with pytest.raises(InputError, match="no kernels here"):
        rs.load_model(folder, options={"attn_implementation": "kernels-community/flash-attn3"})
    assert fetched == ["kernels-community/flash-attn3"]


def test_load_model_reads_quantised_weights_with_their_scales_where_the_config_says_how(tmp_path, good):
    """Blocks of 128 by 128 in floats of 8 bits, as DeepSeek-V3 has them."""
    expected = {}

    def shorten(tensors):
        for name in [name for name, value in tensors.items() if value.ndim == 2 and ".layers." in name]:
            scale = tensors[name].float().abs().max() / 448
            tensors[name] = (tensors[name].float() / scale).to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = scale.view(1, 1)
            expected[name] = tensors[name].float() * scale

    folder = copied(tmp_path / "model")
    weights(shorten)(folder)
    with pytest.raises(
        InputError, match=r"8 of its tensors are not floating-point .*F8_E4M3; .*no quantization_config"
    ):
        rs.load_model(folder)
    config(quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})(folder)
    model = rs.load_model(folder)
    assert len(expected) == 8
    found = model.module.state_dict()
    assert all(torch.allclose(found[name], weight) for name, weight in expected.items())
    batch, logits = good
    with torch.no_grad():
        assert 0 < (model.logits(batch) - logits).abs().max() < 0.2 * logits.std()
    weights(lambda tensors: [tensors.pop(f"{name}_scale_inv") for name in expected])(folder)
    with pytest.raises(InputError, match="Cannot load"):
        rs.load_model(folder)


def test_load_model_names_the_package_that_a_quantisation_needs(tmp_path):
    needs = {"awq": "gptqmodel", "aqlm": "aqlm", "quanto": "optimum-quanto", "hqq": "hqq", "torchao": "torchao"}
    needs |= {"compressed-tensors": "compressed-tensors", "vptq": "vptq", "auto-round": "auto-round", "eetq": "kernels"}
    for method, package in needs.items():
        if util.find_spec(package.replace("-", "_")):
            continue
        folder = copied(tmp_path / method)
        config(quantization_config={"quant_method": method})(folder)
        with pytest.raises(InputError, match=rf"its weights quantised with {method}: .*{package}"):
            rs.load_model(folder)


@pytest.mark.filterwarnings("ignore:.*has its weights only as a pickle")
@pytest.mark.parametrize("sharded", [False, True])
def test_load_model_looks_at_pickles_as_at_safetensors(tmp_path, good, sharded):
    folder = copied(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    file, index = folder / "pytorch_model.bin", folder / "pytorch_model.bin.index.json"
    if sharded:
        file = folder / "pytorch_model-00001-of-00001.bin"

    def saved(place, **changed):
        torch.save(tensors | changed, file)
        if sharded:
            index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(tensors, place)}))
        return folder

    batch, logits = good
    with torch.no_grad():
        assert (rs.load_model(saved(file.name)).logits(batch) - logits).abs().max() < 1e-5
    name = next(name for name in tensors if "dense" in name)
    with pytest.raises(InputError, match=r"1 of its tensors are not floating-point numbers .*\(I8; "):
        rs.load_model(saved(file.name, **{name: tensors[name].to(torch.int8)}))
    with pytest.raises(InputError, match="1 of its tensors have no place"):
        rs.load_model(saved(file.name, **{f"{name}_scale": torch.ones(1)}))
    if sharded:
        with pytest.raises(InputError, match="which lies outside"):
            rs.load_model(saved("../../pytorch_model.bin"))


def trained(kind, folder, tokenizer_kind="bert", **sizes):
    """A random model in a folder, with a tokenizer of words."""
    config = AutoConfig.for_model("bert", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=70)
    config.intermediate_size = 32
    torch.manual_seed(0)
    module = kind(config).eval()
    module.save_pretrained(folder)
    word_tokenizer(tokenizer_kind).save_pretrained(folder)
    return module


def changed(folder, **tensors):
    """The weights in a folder with some tensors more, or in place of others."""
    file = folder / "model.safetensors"
    save_file(load_file(file) | {name.replace("__", "."): t for name, t in tensors.items()}, file, {"format": "pt"})


@torch.no_grad()
def test_load_model_leaves_out_heads_and_poolers_that_an_encoder_has_no_use_for(tmp_path):
    """As in google-bert/bert-base-uncased: both heads, a pooler, positions, and the trunk under its own name."""
    whole = trained(BertForPreTraining, tmp_path)
    changed(tmp_path, bert__embeddings__position_ids=torch.arange(512)[None])
    batch = None
    for architecture in ("BertForPreTraining", "BertForMaskedLM", "BertModel"):
        said = json.loads((tmp_path / "config.json").read_text()) | {"architectures": [architecture]}
        (tmp_path / "config.json").write_text(json.dumps(said))
        model = rs.load_model(tmp_path)
        batch = model.batch(["the baker admired the clerk"])
        states = whole.bert(batch.ids, batch.mask.long()).last_hidden_state
        assert (model.run(model.embed(batch), 0, 2, batch) - states).abs().max() < 1e-5
        changed(tmp_path, bert__encoder__layer__2__output__dense__weight=torch.ones(16, 32))
        with pytest.raises(InputError, match=r"1 of its tensors have no place .*encoder\.layer\.2\.output"):
            rs.load_model(tmp_path)
        file = tmp_path / "model.safetensors"
        tensors = load_file(file)
        tensors.pop("bert.encoder.layer.2.output.dense.weight")
        save_file(tensors, file, {"format": "pt"})


@torch.no_grad()
def test_load_model_takes_a_trunk_without_its_prefix(tmp_path):
    whole = trained(BertModel, tmp_path)
    model = rs.load_model(tmp_path)
    batch = model.batch(["the clerk yawned"])
    states = whole(batch.ids, batch.mask.long()).last_hidden_state
    assert (model.run(model.embed(batch), 0, 2, batch) - states).abs().max() < 1e-5
    changed(tmp_path, encoder__layer__1__output__dense__weight_scale=torch.ones(16, 1))
    with pytest.raises(InputError, match=r"1 of its tensors have no place .*weight_scale"):
        rs.load_model(tmp_path)


def test_load_model_refuses_integers_in_the_native_format(tmp_path):
    folder = write(tmp_path, older(), older_weights())
    assert rs.load_model(folder).n_layers == 3
    weights = older_weights()
    for dtype in (torch.int8, torch.float8_e4m3fn):
        write(folder, older(), weights | {"blocks.1.mlp.W_in": weights["blocks.1.mlp.W_in"].to(dtype)})
        with pytest.raises(InputError, match=r"1 of its weights are not floating-point numbers .*blocks\.1\.mlp\.W_in"):
            rs.load_model(folder)
    write(folder, older() | {"n_layers": 2}, weights)
    with pytest.raises(InputError, match=r"has no place for the weight blocks\.2"):
        rs.load_model(folder)


def test_load_model_asks_for_no_memory_before_the_shapes_of_the_native_format_agree(tmp_path):
    for key, value in {"d_vocab": 10**9, "n_ctx": 10**9, "d_mlp": 10**9}.items():
        folder = write(tmp_path, older() | {key: value}, older_weights())
        with pytest.raises(InputError, match=rf"its config\.json requires .*{value}"):
            rs.load_model(folder)


def test_load_model_takes_a_tokenizer_by_name_from_the_hub_or_a_folder_alone(tmp_path):
    folder = write(tmp_path, older() | {"tokenizer_name": "../../x/y"}, older_weights())
    with pytest.raises(InputError, match=r"says tokenizer_name=.* expected a name as"):
        rs.load_model(folder)


def on_meta(module):
    return module.to("meta")


def in_qint8(module):
    return torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8)


def in_int8(module):
    weight = module.gpt_neox.layers[0].mlp.dense_4h_to_h
    weight.weight = torch.nn.Parameter(weight.weight.to(torch.int8), requires_grad=False)
    return module


def in_float8(module):
    weight = module.gpt_neox.layers[0].mlp.dense_4h_to_h
    weight.weight = torch.nn.Parameter(weight.weight.to(torch.float8_e4m3fn), requires_grad=False)
    return module


def partly_on_meta(module):
    module.lm_head.to("meta")
    return module


def sparse(module):
    module.lm_head.weight = torch.nn.Parameter(module.lm_head.weight.detach().to_sparse())
    return module


@pytest.mark.filterwarnings("ignore:.*(deprecated|quantiz|Sparse)")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (on_meta, "has no values for gpt_neox.embed_in.weight, .* more .device 'meta'"),
        (partly_on_meta, "has no values for lm_head.weight .device 'meta'"),
        (in_qint8, "has weights that are quantised, packed or sparse: gpt_neox.layers.0.attention"),
        (in_int8, "has weights that are quantised, packed or sparse: gpt_neox.layers.0.mlp.dense_4h_to_h.weight"),
        (in_float8, "has weights that are quantised, packed or sparse: gpt_neox.layers.0.mlp.dense_4h_to_h.weight"),
        (sparse, "has weights that are quantised, packed or sparse: lm_head.weight"),
    ],
)
def test_load_model_refuses_a_module_whose_weights_are_not_plain_numbers(spoil, message):
    module = spoil(random_causal())
    with pytest.raises(InputError, match=message):
        rs.load_model(module, tokenizer=word_tokenizer("bert"))


def test_estimate_of_an_adapter_is_refused_as_its_model_is(tmp_path):
    folder = tmp_path / "0_Transformer"
    sentence_model(tmp_path, path="0_Transformer")
    assert shape_of(tmp_path).n_layers == 3
    (folder / "adapter_config.json").write_text("{}")
    for read in (rs.load_model, shape_of):
        with pytest.raises(InputError, match="0_Transformer' contains an adapter"):
            read(tmp_path)
