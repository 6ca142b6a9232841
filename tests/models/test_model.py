import pickle
import shutil

import pytest
import torch

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models import checkpoints
from repsim_nb.models.checkpoint import read_metadata
from repsim_nb.system.shipped import data_dir

TEXTS = [
    "Return a new array of given shape and type, filled with zeros.",
    "Short.",
    "def f(x):\n    return [y**2 for y in x if y]\n" * 4,
    "Ünïcödé 🦊 and 日本語, too.",
]


@pytest.fixture(scope="module", params=["tiny-neox-w32-d2", "tiny-neox-w64-d4"])
def model(request):
    return rs.load_model(request.param)


@pytest.fixture(scope="module")
def reference(model):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(data_dir() / model.name, dtype=torch.float32).eval()


@torch.no_grad()
def test_log_probabilities_are_those_of_transformers(model, reference):
    batch = model.batch(TEXTS)
    ours = model.logits(batch).log_softmax(-1)
    theirs = reference(batch.ids, attention_mask=batch.mask.long()).logits.log_softmax(-1)
    assert (ours - theirs)[batch.mask].abs().max() < 1e-5


@torch.no_grad()
def test_splitting_at_any_position_changes_nothing(model):
    batch = model.batch(TEXTS)
    whole = model.logits(batch)
    embedded = model.embed(batch)
    for k in range(model.n_layers + 1):
        lower = model.run(embedded, 0, k, batch)
        joined = model.head(model.run(lower, k, model.n_layers, batch), batch)
        assert (joined - whole)[batch.mask].abs().max() < 1e-5


@torch.no_grad()
def test_positions_are_the_hidden_states_of_transformers_and_the_last_is_before_the_final_norm(model, reference):
    batch = model.batch(TEXTS)
    seen = {}
    model.residuals(batch, range(model.n_layers + 1), lambda layer, hidden: seen.update({layer: hidden.clone()}))
    theirs = reference(batch.ids, attention_mask=batch.mask.long(), output_hidden_states=True).hidden_states
    for layer in range(model.n_layers):
        assert (seen[layer] - theirs[layer])[batch.mask].abs().max() < 1e-4
    normed = reference.gpt_neox.final_layer_norm(seen[model.n_layers])
    assert (normed - theirs[-1])[batch.mask].abs().max() < 1e-4
    assert (seen[model.n_layers] - theirs[-1])[batch.mask].abs().max() > 0.1


@torch.no_grad()
def test_padding_and_batch_size_change_no_real_row(model):
    batch = model.batch(TEXTS)
    together = model.logits(batch)
    for i, text in enumerate(TEXTS):
        alone = model.logits(model.batch([text]))[0]
        assert (alone - together[i, : len(alone)]).abs().max() < 1e-5


@torch.no_grad()
def test_running_parts_leaves_the_model_as_it_was(model):
    batch = model.batch(TEXTS[:2])
    before, weights = model.logits(batch), model.weights_sha256
    model.run(model.embed(batch), 0, 1, batch)
    del model.__dict__["weights_sha256"]
    assert torch.equal(model.logits(batch), before)
    assert model.weights_sha256 == weights
    assert not any(p.requires_grad for p in model.module.parameters())


def test_a_long_text_is_cut_into_windows_and_nothing_is_lost(model):
    text = "".join(f"Sentence number {i} says: é🦊 {i * i}.\n" for i in range(200))
    batch = model.batch([text])
    assert len(batch) > 1
    assert batch.ids.shape[1] == model.context
    assert set(batch.texts.tolist()) == {0}
    real = batch.carries_text
    covered = {c for a, b in batch.offsets[real].tolist() for c in range(a, b)}
    assert covered == set(range(len(text)))
    assert model.tokenizer.decode(batch.ids[real]) == text
    assert (batch.ids[:, 0] == model.tokenizer.bos_token_id).all()
    assert not real[:, 0].any()


def test_embedded_models_beat_the_unigram_baseline_and_untrained_ones_do_not():
    models = rs.list_models().query("kind == 'causal' and source == 'embedded'")
    assert models.loss.notna().all()
    assert (models.loss < models.unigram_loss - 2).all()
    assert (models.bits_per_byte < 0.7 * models.unigram_bits_per_byte).all()
    untrained = models.untrained_loss.notna()  # not every family ships its first step
    assert untrained.sum() >= 4
    assert (models.untrained_loss > models.unigram_loss)[untrained].all()


@torch.no_grad()
def test_the_catalogue_tells_the_truth_about_loss_and_shape(model):
    row = rs.list_models().loc[model.name]
    assert (row.n_layers, row.d_model) == (model.n_layers, model.d_model)
    corpus = rs.load_corpus("python-docs", split="test")
    total = count = 0
    windows = model.windows(corpus.texts)
    for start in range(0, len(windows), 600):  # a sample: every window of 20 spread over the corpus
        batch = model.collate(windows[start : start + 20])
        losses = -model.logits(batch)[:, :-1].log_softmax(-1).gather(-1, batch.ids[:, 1:, None])[..., 0]
        real = batch.carries_text[:, 1:]
        total, count = total + losses[real].sum().item(), count + int(real.sum())
    assert abs(total / count - row.loss) < 0.25


def test_a_revision_is_another_checkpoint_under_both_spellings():
    one = rs.load_model("tiny-neox-w32-d2@step0")
    two = rs.load_model("tiny-neox-w32-d2", revision="step0")
    trained = rs.load_model("tiny-neox-w32-d2")
    assert one.weights_sha256 == two.weights_sha256 != trained.weights_sha256
    assert one.name == "tiny-neox-w32-d2@step0"
    assert one.provenance["revision"] == "step0"


def test_the_last_step_names_the_final_weights(model):
    recipe = read_metadata(data_dir() / model.name / "model.safetensors")
    last = f"step{recipe['step']}"
    assert checkpoints(model.name)[-1] == last
    final = rs.load_model(f"{model.name}@{last}")
    assert final.weights_sha256 == model.weights_sha256
    assert (final.name, final.provenance["revision"]) == (f"{model.name}@{last}", last)
    one_less = f"step{int(recipe['step']) - 1}"
    with pytest.raises(InputError, match=f"Unknown revision of {model.name} '{one_less}'. Did you mean 'step"):
        rs.load_model(model.name, revision=one_less)


def test_local_directories_load_like_names(tmp_path, model):
    shutil.copytree(data_dir() / model.name, tmp_path / "mine")
    assert rs.load_model(tmp_path / "mine").weights_sha256 == model.weights_sha256
    with pytest.raises(InputError, match="no revisions"):
        rs.load_model(tmp_path / "mine", revision="step0")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tiny-neox-w32-d22", "Did you mean 'tiny-neox-w32-d2'"),
        ("tiny-neox-w32-d2@step1", "Did you mean 'step0'"),
        (torch.nn.Linear(2, 2), "must be a transformers PreTrainedModel or TransformerLens.*got Linear"),
    ],
)
def test_unknown_models_say_what_is_near(given, message):
    with pytest.raises(InputError, match=message):
        rs.load_model(given)


def test_bad_arguments_say_what_is_wrong(tmp_path, reference):
    with pytest.raises(InputError, match="Did you mean 'float32'"):
        rs.load_model("tiny-neox-w32-d2", dtype="float23")
    with pytest.raises(InputError, match="Unknown device"):
        rs.load_model("tiny-neox-w32-d2", device="abacus")
    with pytest.raises(InputError, match="Got two revisions"):
        rs.load_model("tiny-neox-w32-d2@step0", revision="main")
    with pytest.raises(InputError, match="Pass tokenizer"):
        rs.load_model(reference)
    with pytest.raises(FileNotFoundError, match="No model directory"):
        rs.load_model(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config\.json"):
        rs.load_model(tmp_path)


def test_broken_checkpoints_say_what_is_wrong(tmp_path):
    source = data_dir() / "tiny-neox-w32-d2"
    broken = tmp_path / "broken"
    shutil.copytree(source, broken)
    weights = broken / "model.safetensors"
    whole = weights.read_bytes()
    for content in (whole[:-100], whole[:2000], b"", b"not a safetensors file at all"):
        weights.write_bytes(content)
        with pytest.raises(InputError, match="truncated or not a safetensors"):
            rs.load_model(broken)
    weights.unlink()
    with pytest.raises(InputError, match="has no weights"):
        rs.load_model(broken)
    (broken / "training_args.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"only training_args\.bin, which is not loaded"):
        rs.load_model(broken)
    for content in (b"", pickle.dumps(pytest.fail, protocol=2)):
        (broken / "pytorch_model.bin").write_bytes(content)
        with (
            pytest.warns(UserWarning, match="Only tensors are read"),
            pytest.raises(InputError, match="broken or contain more than tensors"),
        ):
            rs.load_model(broken)
    (broken / "pytorch_model.bin").unlink()
    weights.write_bytes(whole)
    config = (source / "config.json").read_text()
    (broken / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(InputError, match=r"lacks 12 of the weights .*layers\.2\."):
        rs.load_model(broken)
    (broken / "config.json").write_text('{"model_type": "bert", "architectures": ["BertForMaskedLM"]}')
    with pytest.raises(InputError, match=r"the checkpoint lacks most of the weights of BertForMaskedLM"):
        rs.load_model(broken)
    (broken / "config.json").write_text('{"model_type": "no such thing", "architectures": ["ThingForCausalLM"]}')
    with pytest.raises(InputError, match=r"as a causal language model.* 'no such thing'|`no such thing`"):
        rs.load_model(broken)
    (broken / "config.json").write_text(config.replace('"hidden_size": 32', '"hidden_size": 48'))
    with pytest.raises(
        InputError, match=r"of its tensors have a shape that does not match .*\(2048, 32\) for \(2048, 48\)"
    ):
        rs.load_model(broken)


def test_tensors_of_a_pickle_in_a_folder_are_read_as_from_the_hub(tmp_path, model, reference):
    shutil.copytree(data_dir() / model.name, tmp_path / "mine", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(reference.state_dict(), tmp_path / "mine" / "pytorch_model.bin")
    with pytest.warns(UserWarning, match="has its weights only as a pickle"):
        loaded = rs.load_model(tmp_path / "mine")
    assert loaded.weights_sha256 == model.weights_sha256
    assert loaded.provenance["pickled"]


@pytest.fixture(scope="module")
def in_shards(tmp_path_factory, reference):
    folder = tmp_path_factory.mktemp("shards")
    reference.save_pretrained(folder, max_shard_size="100KB")
    for file in (data_dir() / reference.config.name_or_path).glob("tokenizer*"):
        shutil.copy(file, folder)
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return folder


def test_a_checkpoint_in_shards_is_the_whole_one(in_shards, model):
    assert rs.load_model(in_shards).weights_sha256 == model.weights_sha256


def test_a_shard_that_is_missing_or_broken_is_one_clear_message(in_shards, tmp_path):
    shutil.copytree(in_shards, tmp_path / "mine")
    shards = sorted((tmp_path / "mine").glob("model-*.safetensors"))
    whole = shards[1].read_bytes()
    shards[1].write_bytes(whole[:-8])
    with pytest.raises(InputError, match=rf"{shards[1].name}' is truncated"):
        rs.load_model(tmp_path / "mine")
    shards[1].unlink()
    with pytest.raises(
        InputError, match=rf"lacks 1 of the {len(shards)} files with its weights, for example {shards[1].name}"
    ):
        rs.load_model(tmp_path / "mine")
    (tmp_path / "mine" / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    with pytest.raises(InputError, match="is not an index of weights"):
        rs.load_model(tmp_path / "mine")


def test_positions_and_shapes_are_checked(model):
    batch = model.batch(TEXTS)
    hidden = model.embed(batch)
    with pytest.raises(InputError, match="expected 0 <= k <= m"):
        model.run(hidden, 2, 1, batch)
    with pytest.raises(InputError, match="expected 0 <= k <= m"):
        model.run(hidden, 0, model.n_layers + 1, batch)
    with pytest.raises(InputError, match="d_model"):
        model.run(hidden[..., :-1], 0, 1, batch)
    with pytest.raises(InputError, match="does not exist"):
        model.positions([model.n_layers + 1])
    with pytest.raises(InputError, match='expected "all"'):
        model.positions("al")
    with pytest.raises(InputError, match="empty"):
        model.positions([])
    assert model.positions(-1) == [model.n_layers]
    with pytest.raises(InputError, match="Put it in a list"):
        model.batch("one string")
    with pytest.raises(InputError, match="Nothing to tokenize"):
        model.batch([])


def test_shapes_are_checked_while_tests_run():
    from jaxtyping import TypeCheckError

    from repsim_nb.models import Batch

    good = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(TypeCheckError):
        Batch(good, torch.zeros(2, 4, dtype=torch.bool), torch.zeros(2, 3, 2, dtype=torch.int64), good[:, 0])


@torch.no_grad()
def test_the_bridge_is_the_same_model_with_hooks_inside_its_blocks(model):
    batch = model.batch(TEXTS[:1])
    _, cache = model.bridge.run_with_cache(batch.ids)
    hidden = model.embed(batch)
    for layer in range(1, model.n_layers + 1):
        there = cache[f"blocks.{layer - 1}.hook_resid_post"]
        assert (model.run(hidden, 0, layer, batch) - there).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "gemma2", "qwen3"])
@torch.no_grad()
def test_other_architectures_split_exactly_at_every_position(kind, model):
    """Each has its own way with embeddings: learned positions, a scale, a cap on the logits."""
    from transformers import AutoConfig, AutoModelForCausalLM

    size = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 2048}
    extra = {"llama": {"intermediate_size": 32}, "gpt2": {"n_positions": 64},
             "opt": {"ffn_dim": 32, "max_position_embeddings": 64, "word_embed_proj_dim": 16},
             "gemma2": {"intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4},
             "qwen3": {"intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8}}[kind]  # fmt: skip
    torch.manual_seed(0)
    module = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **size, **extra, pad_token_id=0)).eval()
    loaded = rs.load_model(module, tokenizer=model.tokenizer)
    assert (loaded.n_layers, loaded.d_model) == (3, 16)
    batch = loaded.batch(TEXTS)
    whole = module(input_ids=batch.ids, attention_mask=batch.mask.long()).logits
    for k in range(4):
        lower = loaded.run(loaded.embed(batch), 0, k, batch)
        joined = loaded.head(loaded.run(lower, k, 3, batch), batch)
        assert (joined - whole)[batch.mask].abs().max() < 1e-5
