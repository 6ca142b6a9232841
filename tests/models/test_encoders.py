"""Text encoders: bare ones, masked language models, sentence-embedding models. Small and random, on word tokens."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

import repsim_nb as rs
from repsim_nb.activations import extract_aligned
from repsim_nb.errors import InputError
from repsim_nb.models import Packing
from tests.models.test_classifiers import KINDS, word_tokenizer

TEXTS = [
    "the baker admired the clerk",
    "the poet who visited the miner yawned",
    "if the pilot danced the singer shouted",
    "the clerk yawned",
]
ENCODERS = KINDS | {
    "mpnet": {"intermediate_size": 32, "max_position_embeddings": 42, "pad_token_id": 1},
    "megatron-bert": {"intermediate_size": 32, "max_position_embeddings": 40},  # a norm behind its blocks
    "electra": {"intermediate_size": 32, "max_position_embeddings": 40, "embedding_size": 8},
    "modernbert": {
        "intermediate_size": 32,
        "max_position_embeddings": 40,
        "local_attention": 4,
        "global_attn_every_n_layers": 2,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "cls_token_id": 0,
        "sep_token_id": 2,
    },
}


PRE_NORM = ("modernbert", "megatron-bert")


def random_module(kind, auto=AutoModel):
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 70}
    torch.manual_seed(0)
    module = auto.from_config(AutoConfig.for_model(kind, **(sizes | ENCODERS[kind]))).eval()
    with torch.no_grad():  # transformers starts so small that any mistake would hide below 1e-5
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module


@pytest.fixture(scope="module", params=ENCODERS)
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=[AutoModel, AutoModelForMaskedLM], ids=["bare", "masked"])
def module(request, kind):
    return random_module(kind, request.param)


@pytest.fixture(scope="module")
def model(module):
    return rs.load_model(module, tokenizer=word_tokenizer(module.config.model_type))


@pytest.fixture(scope="module")
def reference(module, model):
    """What transformers gives, tokenized by transformers alone."""
    tokens = model.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return module(**tokens, output_hidden_states=True)


@torch.no_grad()
def test_an_encoder_gives_what_transformers_gives(model, module, reference):
    assert (model.kind, model.n_layers, model.d_model, model.context) == ("encoder", 3, 16, 40)
    batch = model.batch(TEXTS)
    masked = "MaskedLM" in type(module).__name__
    expected = reference.logits if masked else reference.last_hidden_state
    assert expected.shape[-1] == (70 if masked else 16)
    found = model.logits(batch)
    assert found[batch.mask].std() > 0.05
    assert (found - expected)[batch.mask].abs().max() < 1e-5


@torch.no_grad()
def test_parts_joined_at_any_position_give_the_whole(model, reference):
    batch = model.batch(TEXTS)
    whole = model.logits(batch)
    for k in range(model.n_layers + 1):
        lower = model.run(model.embed(batch), 0, k, batch)
        joined = model.head(model.run(lower, k, model.n_layers, batch), batch)
        assert (joined - whole)[batch.mask].abs().max() < 1e-5


@torch.no_grad()
def test_positions_are_the_hidden_states_of_transformers(model, module, reference):
    seen = {}
    batch = model.batch(TEXTS)
    model.residuals(batch, range(model.n_layers + 1), lambda layer, hidden: seen.update({layer: hidden.clone()}))
    pre_norm = module.config.model_type in PRE_NORM
    for layer, theirs in enumerate(reference.hidden_states):
        off = (seen[layer] - theirs)[batch.mask].abs().max()
        if pre_norm and layer == model.n_layers:  # transformers shows it behind the final norm
            assert off > 0.1
        else:
            assert off < 1e-5


@torch.no_grad()
def test_padding_and_batch_size_change_no_real_row(model):
    batch = model.batch(TEXTS)
    together = model.logits(batch)
    for i, text in enumerate(TEXTS):
        alone = model.logits(model.batch([text]))[0]
        assert (alone - together[i, : len(alone)]).abs().max() < 1e-5


def test_a_saved_encoder_loads_from_its_directory_whatever_its_pooler(model, module, tmp_path):
    module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    loaded = [rs.load_model(tmp_path) for _ in range(2)]
    assert {m.weights_sha256 for m in loaded} == {model.weights_sha256}  # nothing in it is made up
    batch = model.batch(TEXTS)
    with torch.no_grad():
        assert torch.equal(loaded[0].logits(batch), model.logits(batch))


SHORT = ["the baker admired the clerk", "yawned", "the poet who visited the miner yawned"]
POOLINGS = {  # by hand, over all tokens but padding: (states of one sequence,) -> one vector
    "mean_tokens": lambda x: x.mean(0),
    "max_tokens": lambda x: x.amax(0),
    "cls_token": lambda x: x[0],
    "lasttoken": lambda x: x[-1],
}


def sentence_model(folder, mode="mean_tokens", normalized=True, kind="bert", path="", longest=12, more=()):
    """A folder as sentence-transformers lays it out."""
    module = random_module(kind)
    module.save_pretrained(folder / path)
    word_tokenizer(kind).save_pretrained(folder / path)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {f"pooling_mode_{name}": name == mode for name in POOLINGS}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **modes}))
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalized else []), *more]
    paths = [path, "1_Pooling", "2_Normalize", "3_Dense"]
    modules = [{"idx": i, "path": paths[i], "type": f"sentence_transformers.models.{k}"} for i, k in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    return module


@pytest.mark.parametrize(
    ("mode", "normalized", "path"),
    [(mode, True, "") for mode in POOLINGS] + [("mean_tokens", False, "0_Transformer")],
)
@torch.no_grad()
def test_sentences_are_pooled_as_they_were_published(tmp_path, mode, normalized, path):
    module = sentence_model(tmp_path, mode, normalized, path=path)
    model = rs.load_model(tmp_path)
    assert (model.kind, model.context) == ("encoder", 12)
    assert model.batch(["the baker yawned " * 9]).ids.shape == (3, 12)  # 27 words, two of twelve places are special
    found = model.sentences(model.batch(SHORT))
    for text, vector in zip(SHORT, found, strict=True):
        states = module(**model.tokenizer([text], return_tensors="pt")).last_hidden_state[0]
        expected = POOLINGS[mode](states)
        expected = expected / expected.norm() if normalized else expected
        assert (vector - expected).abs().max() < 1e-5


def test_rows_of_means_are_the_sentences_of_a_model_that_pools_by_the_mean(tmp_path):
    sentence_model(tmp_path, normalized=False)
    model = rs.load_model(tmp_path)
    acts = rs.extract(model, SHORT, rows="mean", n_rows=3)
    assert acts.rows.document.nunique() == 3
    with torch.no_grad():
        assert (acts[3] - model.sentences(model.batch(SHORT))).abs().max() < 1e-5
    first = rs.extract(model, SHORT, rows="cls", n_rows=3)
    assert (first.rows.position == 0).all()
    last = rs.extract(model, SHORT, rows="last", n_rows=3)
    assert last.rows.position.tolist() == [5, 1, 7]  # before the special token that ends a sequence
    assert (first[3] - last[3]).abs().max() > 0.1


def test_an_encoder_is_compared_with_a_causal_model_across_tokenizers(tmp_path):
    sentence_model(tmp_path, longest=40)
    texts = [f"{a} {b}" for a in TEXTS for b in TEXTS]
    result = rs.compare(tmp_path, "tiny-neox-w32-d2", corpus=texts, rows="mean", n_rows=16)
    assert result.shape == (4, 3)
    assert np.isfinite(result).all()
    own = rs.compare(tmp_path, corpus=texts, rows="mean", n_rows=16)
    assert np.abs(np.diag(own) - 1).max() < 1e-5


def test_means_across_tokenizers_are_of_whole_documents(tmp_path):
    """Of a longer one, the last window begins elsewhere in each model, and so is other text."""
    sentence_model(tmp_path, longest=40)
    short, long = [f"{a} and {b}" for a in TEXTS[3:] for b in TEXTS[3:]] + TEXTS[:3], ["the baker yawned " * 9]
    pair = [rs.load_model(tmp_path), rs.load_model("tiny-neox-w32-d2")]
    both = extract_aligned(pair, [*long * 3, *short], rows="mean", n_rows=9, packing=Packing(length=24))
    kept = both[0].rows.document.tolist()
    assert set(kept) <= {f"texts:{i}" for i in range(3, 7)}
    assert len(kept) == round(7 * both[0].provenance["coverage"]) > 0
    with pytest.raises(InputError, match="needs documents that are one window in every model; of 3 documents none"):
        extract_aligned(pair, long * 3, rows="mean", n_rows=9, packing=Packing(length=24))


def test_layouts_that_cannot_be_read_say_why(tmp_path):
    sentence_model(tmp_path, more=["Dense"])
    with pytest.raises(InputError, match=r"3_Dense/config\.json' is not a file"):
        rs.load_model(tmp_path)
    sentence_model(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"1_Pooling/config\.json' is not valid JSON"):
        rs.load_model(tmp_path)


def test_weights_that_are_not_there_are_not_made_up(tmp_path):
    module = random_module("bert")
    word_tokenizer("bert").save_pretrained(tmp_path)
    module.config.save_pretrained(tmp_path)
    from safetensors.torch import save_file

    weights = module.state_dict()
    save_file({k: v for k, v in weights.items() if not k.startswith("pooler")}, tmp_path / "model.safetensors")
    assert rs.load_model(tmp_path).n_layers == 3  # a pooler is not used
    lacking = {k: v for k, v in weights.items() if not k.startswith("encoder.layer.1")}
    save_file(lacking, tmp_path / "model.safetensors")
    with pytest.raises(
        InputError, match=r"text encoder: the checkpoint lacks 16 of the weights .* encoder\.layer\.1\."
    ):
        rs.load_model(tmp_path)


def test_an_encoder_cannot_be_stitched():
    model = rs.load_model(random_module("bert"), tokenizer=word_tokenizer("bert"))
    with pytest.raises(InputError, match=r"is of kind 'encoder'; only causal and classifier can be stitched"):
        rs.stitch(model, model, 1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "vit", "architectures": ["ViTForImageClassification"]}, "is a ViTForImageClassification"),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, "is a ViTModel; expected a causal language model"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "is a T5ForConditionalGeneration"),
        ({"model_type": "bert", "architectures": ["BertForTokenClassification"]}, "is a BertForTokenClassification"),
        ({"model_type": "bart", "is_encoder_decoder": True}, "is a model of type 'bart'"),
        ({"model_type": "no such thing"}, "is a model of type 'no such thing'"),
        ({}, "names neither an architecture nor a model_type"),
    ],
)
def test_models_of_other_kinds_are_refused_by_what_they_are(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message) as refused:
        rs.load_model(tmp_path)
    assert "\n" not in str(refused.value)


def test_architectures_that_do_not_split_are_refused():
    for kind, message in (
        ("albert", "no embeddings followed by a stack of 3 blocks"),
        ("xlm", "cannot be run part by"),
    ):
        sizes = {"emb_dim": 16, "n_layers": 3, "n_heads": 2, "n_words": 70} if kind == "xlm" else {"hidden_size": 16}
        config = AutoConfig.for_model(kind, num_hidden_layers=3, num_attention_heads=2, vocab_size=70, **sizes)
        with pytest.raises(InputError, match=message):
            rs.load_model(AutoModel.from_config(config), tokenizer=word_tokenizer("roberta"))


def test_inside_its_blocks_is_what_they_add(model, module):
    read = {site: rs.extract(model, TEXTS, site=site, rows="last", n_rows=4) for site in model.sites}
    blocks = next(m for m in model.module.modules() if isinstance(m, torch.nn.ModuleList))
    for layer, block in enumerate(blocks, 1):
        before, after = read["resid_post"][layer - 1], read["resid_post"][layer]
        middle = read["attn_out"][layer] + before
        if module.config.model_type in PRE_NORM:
            assert (read["mlp_out"][layer] + middle - after).abs().max() < 1e-5
        else:
            first, second = (n for n in block.modules() if isinstance(n, torch.nn.LayerNorm))
            assert (second(read["mlp_out"][layer] + first(middle)) - after).abs().max() < 1e-5
