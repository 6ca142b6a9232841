"""What the catalogue says of models on the hub: against published numbers, and against what configs come to."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models import checkpoints
from repsim_nb.models.native import Native, NativeConfig
from repsim_nb.models.packaged import PACKAGED
from repsim_nb.models.published import HUB_MODELS, PYTHIA, TOYS, repositories

HEADS = {  # Brown et al. 2023, Table 1: dimension of a head, and how much of it rotates
    "70m": (64, 16),
    "160m": (64, 16),
    "410m": (64, 16),
    "1b": (256, 64),
    "1.4b": (128, 32),
    "2.8b": (80, 20),
    "6.9b": (128, 32),
    "12b": (128, 32),
}
SIZES = {  # Biderman et al. 2023, Table 1: layers, width, and parameters in all, as the README of Pythia has them
    "70m": (6, 512, 70_426_624),
    "160m": (12, 768, 162_322_944),
    "410m": (24, 1024, 405_334_016),
    "1b": (16, 2048, 1_011_781_632),
    "1.4b": (24, 2048, 1_414_647_808),
    "2.8b": (32, 2560, 2_775_208_960),
    "6.9b": (32, 4096, 6_857_302_016),
    "12b": (36, 5120, 11_846_072_320),
}
TOY_SIZES = {"gelu-3l": 9_437_184, "solu-3l": 9_437_184, "gelu-4l": 12_582_912, "solu-4l": 12_582_912}


@pytest.fixture(scope="module")
def models():
    return rs.list_models()


def test_models_of_the_hub_are_listed_after_the_embedded_ones(models):
    hub = models[models.source == "hub"]
    assert hub.index.tolist() == [known.name for known in HUB_MODELS] == models.index.tolist()[-len(HUB_MODELS) :]
    others = models[: -len(HUB_MODELS)]
    packaged = others[others.source == "package index"]
    assert packaged.index.tolist() == [*PACKAGED] == others.index.tolist()[-len(PACKAGED) :]
    assert packaged[["licence", "note", "n_parameters", "bytes"]].notna().all(axis=None)
    assert set(others.source[: -len(PACKAGED)]) == {"embedded"}
    assert hub.needs_download.all()
    assert not others.needs_download[: -len(PACKAGED)].any()
    assert set(hub.kind) == {"causal"}
    assert hub[["n_layers", "d_model", "d_head", "n_parameters"]].notna().all(axis=None)
    assert hub[["loss", "accuracy", "tokens_seen"]].isna().all(axis=None)
    assert models.index.is_unique


@pytest.mark.parametrize("size", HEADS)
@pytest.mark.parametrize("suffix", ["", "-deduped"])
def test_pythia_has_the_published_shape(models, size, suffix):
    row = models.loc[f"EleutherAI/pythia-{size}{suffix}"]
    assert (row.d_head, row.rotary_dim) == HEADS[size]
    assert (row.n_layers, row.d_model, row.n_parameters) == SIZES[size]
    assert row.activation == "gelu"


def test_toy_models_have_the_published_shape(models):
    """Brown et al. 2023, Section 3: parameters without embeddings; TransformerLens counts no biases and norms."""
    for name, parameters in TOY_SIZES.items():
        row = models.loc[name]
        assert (row.d_model, row.d_head) == (512, 64)
        assert row.n_layers * 12 * row.d_model**2 == parameters
        assert row.activation == ("gelu" if row.family == "gelu" else "solu_ln")


@pytest.mark.parametrize("known", [k for k in PYTHIA if "seed" not in k.name and "deduped" not in k.name], ids=str)
def test_the_numbers_of_pythia_follow_from_a_config(known):
    config = GPTNeoXConfig(
        hidden_size=known.d_model,
        num_hidden_layers=known.n_layers,
        num_attention_heads=known.n_heads,
        intermediate_size=4 * known.d_model,
        vocab_size=known.vocabulary,
        rotary_pct=0.25,
    )
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in network.parameters()) == known.n_parameters
    assert network.gpt_neox.layers[0].attention.head_size == known.d_head
    assert 2 * len(network.gpt_neox.rotary_emb.inv_freq) == known.rotary_dim


@pytest.mark.parametrize("known", TOYS, ids=lambda known: known.name)
def test_the_numbers_of_toy_models_follow_from_a_config(known):
    shape = NativeConfig(
        d_model=known.d_model,
        n_layers=known.n_layers,
        n_heads=known.n_heads,
        d_head=known.d_head,
        d_mlp=4 * known.d_model,
        n_ctx=known.n_ctx,
        d_vocab=known.vocabulary,
        act_fn=known.activation or "gelu",
        attn_only=known.activation is None,
    )
    with torch.device("meta"):
        assert sum(p.numel() for p in Native(shape).parameters()) == known.n_parameters


def test_names_are_those_of_transformer_lens():
    from transformer_lens.supported_models import MODEL_ALIASES, OFFICIAL_MODEL_NAMES

    ours = repositories()
    theirs = {alias: name for name, aliases in MODEL_ALIASES.items() for alias in aliases}
    toys = {alias: name for alias, name in theirs.items() if name.startswith("NeelNanda/")}
    other = {name for name in toys.values() if "Shortformer" in name}  # positions of its own
    assert {alias: ours.get(alias) for alias in toys} == {
        alias: name if name not in other else None for alias, name in toys.items()
    }
    official = {name for name in OFFICIAL_MODEL_NAMES if name.startswith(("NeelNanda/", "EleutherAI/pythia"))}
    assert official - set(ours.values()) == other | {name for name in official if name.endswith("-v0")}
    assert ours["pythia-160m-seed3"] == ours["EleutherAI/pythia-160m-seed3"] == "EleutherAI/pythia-160m-seed3"
    assert all(theirs[name] == repository for name, repository in ours.items() if name in theirs)


def test_the_checkpoints_of_pythia_are_those_of_transformer_lens():
    from transformer_lens.tools.model_registry.checkpoints import PYTHIA_CHECKPOINTS

    for name in ("EleutherAI/pythia-70m", "pythia-12b-deduped", "pythia-14m-seed9"):
        assert checkpoints(name) == [f"step{step}" for step in PYTHIA_CHECKPOINTS]
    assert len(PYTHIA_CHECKPOINTS) == 154
    assert checkpoints("gelu-3l") == []
    assert checkpoints("tiny-neox-w64-d4")[:2] == ["step0", "step50"]
    with pytest.raises(InputError, match="Did you mean 'pythia-70m'"):
        checkpoints("pythia-70")


@pytest.mark.parametrize("name", ["tiny-neox-w64-d4", "tiny-gelu-3l-s0", "tiny-solu-3l-s0", "tiny-bert-nli-00"])
def test_columns_of_embedded_models_follow_from_what_is_loaded(models, name):
    row, model = models.loc[name], rs.load_model(name)
    module = model.module
    assert (row.kind, row.n_layers, row.d_model) == (model.kind, model.n_layers, model.d_model)
    if name.startswith("tiny-neox"):
        attention = module.gpt_neox.layers[0].attention
        assert (row.d_head, row.activation) == (attention.head_size, module.config.hidden_act)
        assert row.rotary_dim == 2 * len(module.gpt_neox.rotary_emb.inv_freq)
    elif name.startswith("tiny-bert"):
        attention = module.bert.encoder.layer[0].attention.self
        assert (row.d_head, row.activation) == (attention.attention_head_size, module.config.hidden_act)
    else:
        assert row.d_head == module.layers[0].attn.q.out_features // module.layers[0].attn.heads
        assert row.activation == module.config.act_fn == ("gelu" if "gelu" in name else "solu_ln")
    assert models.rotary_dim.isna()[name] == (not name.startswith("tiny-neox"))
    assert row.n_parameters == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("pythia-70", "pythia-70m"),
        ("gelu_3l", "gelu-3l"),
        ("SoLU-12L", "solu-12l"),
        ("tiny-neox-w32-d22", "tiny-neox-w32-d2"),
        ("pythia-1.4-deduped", "pythia-1.4b-deduped"),
    ],
)
def test_unknown_names_say_what_is_near(given, near):
    with pytest.raises(InputError, match=rf"Unknown model '{given}'\. Did you mean '{near}'\?"):
        rs.load_model(given)
