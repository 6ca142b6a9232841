import json
import re

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

import repsim_nb as rs
from repsim_nb.activations import extract_aligned
from repsim_nb.activations.selection import FewerRowsWarning
from repsim_nb.corpora import nli_heuristics
from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint import read_metadata
from repsim_nb.system.shipped import data_dir
from repsim_nb.zoo.bert import accuracies

PAIRS = [
    ("the baker admired the clerk", "the clerk admired the baker"),
    ("the poet who visited the miner yawned", "the miner yawned"),
    ("if the pilot danced the singer shouted", "the pilot danced"),
]
PAIRS_AS_TEXTS = ["the baker admired the clerk", "the poet yawned"]
KINDS = {
    "bert": {"intermediate_size": 32, "max_position_embeddings": 40},
    "roberta": {"intermediate_size": 32, "max_position_embeddings": 42, "pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {"hidden_dim": 32, "max_position_embeddings": 40},
}


def word_tokenizer(kind):
    """Words are tokens; pairs are joined as each kind joins them."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = {word: i for i, word in enumerate([*special, *nli_heuristics.VOCABULARY])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>" if kind == "roberta" else "<s> $A </s> $B:1 </s>:1",
        special_tokens=[(s, words[s]) for s in ("<s>", "</s>")],
    )
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if kind == "bert" else [])]
    special = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=names, **special)


def random_classifier(kind):
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 70, "num_labels": 3}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(sizes | KINDS[kind]))
    module = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():  # transformers starts so small that any mistake would hide below 1e-5
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module


@pytest.fixture(scope="module", params=KINDS)
def module(request):
    return random_classifier(request.param)


@pytest.fixture(scope="module")
def model(module):
    return rs.load_model(module, tokenizer=word_tokenizer(module.config.model_type))


@pytest.fixture(scope="module")
def reference(module, model):
    """Logits and hidden states of transformers on the pairs, tokenized by transformers alone."""
    first, second = zip(*PAIRS, strict=True)
    tokens = model.tokenizer(list(first), list(second), padding=True, return_tensors="pt")
    with torch.no_grad():
        return module(**tokens, output_hidden_states=True)


@torch.no_grad()
def test_logits_are_those_of_transformers(model, reference):
    assert model.kind == "classifier"
    assert (model.n_layers, model.d_model, model.context) == (3, 16, 40)
    assert model.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    logits = model.logits(model.batch(PAIRS))
    assert logits.shape == (3, 3)
    assert logits.std(0).min() > 0.01  # the pairs do differ
    assert (logits - reference.logits).abs().max() < 1e-5


@torch.no_grad()
def test_parts_joined_at_any_position_give_the_whole(model, reference):
    batch = model.batch(PAIRS)
    for k in range(model.n_layers + 1):
        lower = model.run(model.embed(batch), 0, k, batch)
        joined = model.head(model.run(lower, k, model.n_layers, batch), batch)
        assert (joined - reference.logits).abs().max() < 1e-5


@torch.no_grad()
def test_positions_are_the_hidden_states_of_transformers(model, reference):
    seen = {}
    batch = model.batch(PAIRS)
    model.residuals(batch, range(model.n_layers + 1), lambda layer, hidden: seen.update({layer: hidden.clone()}))
    for layer, theirs in enumerate(reference.hidden_states):
        assert (seen[layer] - theirs)[batch.mask].abs().max() < 1e-5


@torch.no_grad()
def test_padding_changes_nothing_and_a_pair_is_not_its_turned_round_self(model):
    together = model.logits(model.batch(PAIRS))
    for i, pair in enumerate(PAIRS):
        assert (model.logits(model.batch([pair]))[0] - together[i]).abs().max() < 1e-5
    turned = model.logits(model.batch([(b, a) for a, b in PAIRS]))
    assert (turned - together).abs().max() > 0.01


def test_offsets_of_a_pair_count_on_behind_the_first_text(model):
    batch = model.batch(PAIRS)
    for (a, b), offsets, real in zip(PAIRS, batch.offsets, batch.carries_text, strict=True):
        joined = f"{a}\n{b}"
        assert [joined[i:j] for i, j in offsets[real].tolist()] == joined.split()
    assert (batch.types is not None) == (model.module.config.model_type == "bert")


def test_which_model_comes_first_changes_no_segment():
    """A tokenizer that says nothing of segments may cut for a model that asks for them: both cut alike."""
    kinds = "distilbert", "bert"
    plain, segmented = (rs.load_model(random_classifier(kind), tokenizer=word_tokenizer(kind)) for kind in kinds)
    corpus = rs.load_corpus("nli-heuristics", limit=20)
    alone = rs.extract(segmented, corpus, rows="cls", n_rows=20)
    beside = extract_aligned([plain, segmented], corpus, rows="cls", n_rows=20)[1]
    assert (beside[3] - alone[3]).abs().max() < 1e-5


def test_a_saved_classifier_loads_from_its_directory(model, module, tmp_path):
    module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    loaded = rs.load_model(tmp_path)
    assert (loaded.kind, loaded.weights_sha256) == ("classifier", model.weights_sha256)
    batch = loaded.batch(PAIRS)
    with torch.no_grad():
        assert (loaded.logits(batch) - model.logits(batch)).abs().max() < 1e-5
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(re.sub(r'("n_layers"|"num_hidden_layers"): 3', r"\1: 4", config))
    with pytest.raises(InputError, match="sequence classifier or text encoder: the checkpoint lacks"):
        rs.load_model(tmp_path)


def test_bad_pairs_say_what_is_wrong(model):
    with pytest.raises(InputError, match="both"):
        model.batch(["one text", ("a", "pair")])
    with pytest.raises(InputError, match=r"got \('a', 'b', 'c'\)"):
        model.windows([("a", "b", "c")])
    with pytest.raises(InputError, match=r"Pair number 1 has .* more than the 40"):
        model.batch([PAIRS[0], ("the " * 20, "the " * 20)])


@pytest.mark.parametrize("rows", ["tokens", "last", "mean", "cls"])
def test_rows_of_classifiers(model, rows):
    corpus = rs.load_corpus("nli-heuristics", "validation").take(range(20))
    acts = rs.extract(model, corpus, rows=rows, n_rows=40 if rows == "tokens" else 20)
    batch = model.batch(corpus.inputs)
    seen = {}
    model.residuals(batch, [2], lambda layer, hidden: seen.update({layer: hidden}))
    document = [corpus.documents.index(name) for name in acts.rows.document]
    if rows == "mean":
        text = batch.carries_text[..., None]
        expected = ((seen[2] * text).sum(1) / text.sum(1))[document]
    else:
        expected = seen[2][document, acts.rows.position.tolist()]
    assert (acts[2] - expected).abs().max() < 1e-5
    if rows != "tokens":
        assert sorted(document) == list(range(20))
    if rows == "cls":
        assert (acts.rows.position == 0).all()
    else:
        joined = ["\n".join(corpus.inputs[d]) for d in document]
        ends = acts.rows.char_end
        assert all(
            text[end - 1].isalpha() and (text + " ")[end].isspace() for text, end in zip(joined, ends, strict=True)
        )


def test_a_classifier_without_a_corpus_reads_the_one_it_was_made_for(model):
    assert rs.extract(model, layers=0, rows="cls", n_rows=5).provenance["corpus"]["corpus"] == "nli-heuristics"


def test_the_first_token_of_a_causal_model_has_seen_nothing():
    with pytest.raises(InputError, match="causal"):
        rs.extract("tiny-neox-w32-d2", ["Some text."], rows="cls")


@torch.no_grad()
def test_what_blocks_add_gives_the_residual_stream_when_it_is_added(model):
    corpus = rs.load_corpus("nli-heuristics", "validation").take(range(20))
    read = {site: rs.extract(model, corpus, site=site, rows="last", n_rows=20) for site in model.sites}
    for site in ("attn_out", "mlp_out", "pre_residual"):
        assert list(read[site]) == [1, 2, 3]
    assert (read["mlp_out"][2] == read["pre_residual"][2]).all()
    blocks = next(m for m in model.module.modules() if isinstance(m, torch.nn.ModuleList))
    for layer, block in enumerate(blocks, 1):
        modules = dict(block.named_modules())
        middle, last = (
            next(modules[name] for name in names if name in modules)
            for names in (("attention.output.LayerNorm", "sa_layer_norm"), ("output.LayerNorm", "output_layer_norm"))
        )
        after_attention = middle(read["attn_out"][layer] + read["resid_post"][layer - 1])
        after_both = last(read["mlp_out"][layer] + after_attention)
        assert (after_both - read["resid_post"][layer]).abs().max() < 1e-5


def test_sites_that_are_not_there_say_so(model):
    with pytest.raises(InputError, match="has no mlp_out"):
        rs.extract(model, PAIRS_AS_TEXTS, site="mlp_out", layers=0)
    with pytest.raises(InputError, match="Did you mean 'mlp_out'"):
        rs.extract(model, PAIRS_AS_TEXTS, site="mlp-out")
    with pytest.raises(InputError, match=r"Choose one of: attn_out, .* is a classifier model"):
        rs.extract(model, PAIRS_AS_TEXTS, site="ov")


def test_padded_rows_are_every_position_of_some_pairs(model):
    corpus = rs.load_corpus("nli-heuristics", "validation").take(range(20))
    acts = rs.extract(model, corpus, rows="padded", n_rows=6 * 40 + 39)
    assert acts.rows.position.tolist() == list(range(40)) * 6
    assert acts.rows.document.nunique() == 6
    index = [corpus.documents.index(name) for name in acts.rows.document[::40]]
    batch = model.batch(corpus.take(index).inputs)
    seen = {}
    model.residuals(batch, [2], lambda layer, hidden: seen.update({layer: hidden}))
    padded = acts[2].view(6, 40, -1)[:, : batch.ids.shape[1]]
    assert (padded - seen[2])[batch.mask].abs().max() < 1e-5
    text = acts.rows.char_end.to_numpy().reshape(6, 40)[:, : batch.ids.shape[1]] > 0
    assert (text == batch.carries_text.numpy()).all()
    with pytest.warns(FewerRowsWarning, match="has only 800"):
        assert len(rs.extract(model, corpus, layers=0, rows="padded", n_rows=900).rows) == 800
    with pytest.raises(InputError, match="less than one window of 40"):
        rs.extract(model, corpus, rows="padded", n_rows=39)
    with pytest.raises(InputError, match="a shared tokenizer"):
        rs.compare(model, "tiny-neox-w32-d2", ["Some text."], rows="padded")


def published_cards():
    names = rs.models.accuracies("tiny-bert-nli").index
    return {name: read_metadata(data_dir() / name / "model.safetensors") for name in names}


def test_the_embedded_classifiers_differ_out_of_distribution_alone():
    table = rs.models.accuracies("tiny-bert-nli")
    assert len(table) == 40
    hard = table[[c for c in table if c.startswith("lexical_overlap/non-entailment")]].mean(axis=1)
    assert hard.max() - hard.min() > 0.4
    assert table.test.max() - table.test.min() < 0.015
    entailed = [c for c in table if "/entailment/" in c]
    assert len(entailed) == 15
    assert table[entailed].to_numpy().min() > 0.95  # nobody just says no
    catalogue = rs.list_models().loc[table.index]
    assert (catalogue.kind == "classifier").all()
    assert (catalogue.accuracy == table.test).all()


def test_the_embedded_classifiers_come_of_one_recipe_with_seeds_of_their_own():
    recipes = [json.loads(card["recipe"]) for card in published_cards().values()]
    own = {key: {recipe.pop(key) for recipe in recipes} for key in ("name", "init_seed", "data_seed")}
    assert all(len(values) == 40 for values in own.values())
    assert not own["init_seed"] & own["data_seed"]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert len({card["corpus_sha256"] for card in published_cards().values()}) == 1


def test_accuracies_of_a_family_are_those_of_its_classifiers():
    every, models = rs.models.accuracies(), rs.list_models()
    for family in models.family[every.index].unique():
        assert rs.models.accuracies(family).equals(every[models.family[every.index] == family])
    with pytest.raises(InputError, match="Did you mean 'tiny-bert-nli'"):
        rs.models.accuracies("tiny-bert-nly")


@pytest.mark.parametrize("name", ["tiny-bert-nli-07", "tiny-bert-nli-31"])
def test_published_accuracies_are_those_of_the_weights(name):
    model = rs.load_model(name)
    assert accuracies(model.module, model.tokenizer) == rs.models.accuracies().loc[name].to_dict()
