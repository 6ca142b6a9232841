"""Vectors of sentences, held against those of sentence-transformers itself. Models are small and random."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM
from transformers import AutoModelForSequenceClassification as AutoClassifier

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models.sentence_files import read_layout
from repsim_nb.models.sentences import SENTENCE, TOKENS, Pooling
from tests.models.test_classifiers import word_tokenizer
from tests.models.test_encoders import ENCODERS, random_module

TEXTS = ["the baker admired the clerk", "yawned", "the poet who visited the miner yawned", "", "the clerk " * 12]
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
PROMPTS = {"query": "the miner danced ", "document": "", "mine": "if "}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2, "vocab_size": 70}
T5 |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 16}
DECODER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DECODER |= {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 70, "max_position_embeddings": 64}
DECODER |= {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "tie_word_embeddings": True}


def jittered(module):
    """Away from the small start, at which any mistake would hide below 1e-5."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module.eval()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Kind -> a folder with a random encoder of it."""

    def saved(kind, module=None, side="right"):
        folder = tmp_path_factory.mktemp(kind)
        (random_module(kind) if module is None else jittered(module)).save_pretrained(folder)
        tokenizer = word_tokenizer("bert" if kind == "bert" else "roberta")
        tokenizer.padding_side = side
        if module is not None:
            tokenizer.model_max_length = 64  # T5 names no longest sequence itself
        tokenizer.save_pretrained(folder)
        return folder

    return saved


@pytest.fixture(scope="module")
def bert(encoder):
    return encoder("bert")


def publish(folder, encoder, *modules, **settings):
    """A model as sentence-transformers saves it."""
    transformer = st.Transformer(str(encoder))
    SentenceTransformer(modules=[transformer, *modules], device="cpu", **settings).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def plain(bert, tmp_path_factory):
    """A model that takes the mean of BERT's states."""
    return publish(tmp_path_factory.mktemp("plain"), bert, st.Pooling(16))


@pytest.fixture(scope="module")
def dense(bert, tmp_path_factory):
    """A model with a Dense module and a Normalize behind its Pooling."""
    torch.manual_seed(1)
    modules = (st.Pooling(16), st.Dense(16, 8), st.Normalize())
    return publish(tmp_path_factory.mktemp("dense"), bert, *modules)


def copy(folder, published):
    return shutil.copytree(published, folder, dirs_exist_ok=True)


def head_of(folder):
    """What comes behind the encoder of a published model, which is not loaded itself."""
    return read_layout(folder).read_head(torch.float32, 40)


STATES, MASK = torch.linspace(-1, 1, 96).reshape(2, 3, 16).sin(), torch.ones(2, 3, dtype=torch.bool)


def say(folder, file, **settings):
    """Put settings into one of its files."""
    file = folder / file
    file.parent.mkdir(exist_ok=True)
    said = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(said | settings))


def both(folder, texts=TEXTS, **given):
    """Vectors of this package and of sentence-transformers."""
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts, convert_to_tensor=True, **given)
    ours = rs.load_model(folder).sentences(texts, **given)
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.05
    return ours, theirs.clone()


def check(folder, texts=TEXTS, **given):
    ours, theirs = both(folder, texts, **given)
    assert (ours - theirs).abs().max() < 5e-6 * max(1, theirs.abs().max())


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("mode", [*MODES, ("mean", "cls"), ("lasttoken", "max", "weightedmean", "max")])
def test_pooling_is_that_of_sentence_transformers(mode, include):
    states = torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(9) < torch.tensor([9, 5, 4])[:, None]
    theirs = st.Pooling(16, mode, include_prompt=include)
    expected = theirs({TOKENS: states, "attention_mask": mask.long(), "prompt_length": 3})[SENTENCE]
    ours = Pooling((mode,) if isinstance(mode, str) else mode, include, 16)
    assert (ours({TOKENS: states}, mask, 3)[SENTENCE] - expected).abs().max() < 1e-6


@pytest.mark.parametrize("mode", ["cls", ("weightedmean", "lasttoken")])
def test_sentences_leave_the_prompt_out_where_include_prompt_is_false(plain, tmp_path, mode):
    copy(tmp_path, plain)
    say(tmp_path, "1_Pooling/config.json", pooling_mode=mode, include_prompt=False)
    say(tmp_path, "config_sentence_transformers.json", prompts=PROMPTS)
    check(tmp_path, prompt_name="query")
    model = rs.load_model(tmp_path)
    off = (model.sentences(TEXTS, prompt_name="query") - model.sentences(TEXTS)).abs().max()
    assert off > 0.1  # what remains has still seen it


def test_sentences_join_the_modes_of_older_files_in_their_fixed_order(plain, tmp_path):
    copy(tmp_path, plain)
    older = {
        f"pooling_mode_{mode}": mode in ("mean_tokens", "cls_token", "weightedmean_tokens", "lasttoken")
        for mode in ("lasttoken", "weightedmean_tokens", "mean_tokens", "max_tokens", "cls_token")
    }
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **older}))
    check(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16}))
    check(tmp_path)  # none at all is the mean


def test_sentences_follow_the_default_prompt_and_every_other(plain, tmp_path):
    copy(tmp_path, plain)
    say(tmp_path, "config_sentence_transformers.json", prompts=PROMPTS, default_prompt_name="query")
    check(tmp_path)
    check(tmp_path, prompt_name="mine")
    check(tmp_path, prompt_name="document")
    check(tmp_path, prompt="the pilot ")
    check(tmp_path, prompt="")
    model = rs.load_model(tmp_path)
    assert (model.sentences(TEXTS) - model.sentences(TEXTS, prompt="")).abs().max() > 0.1
    assert torch.equal(model.sentences(TEXTS), model.sentences(TEXTS, prompt_name="query"))
    with pytest.raises(InputError, match=r"Unknown prompt 'min'\. Did you mean 'mine'"):
        model.sentences(TEXTS, prompt_name="min")
    with pytest.raises(InputError, match="Got both prompt_name"):
        model.sentences(TEXTS, prompt_name="mine", prompt="the ")


def test_sentences_of_a_model_without_prompts_know_two_empty_ones(plain, tmp_path):
    check(plain, prompt_name="query")


def test_sentences_of_a_batch_take_no_prompt(plain, tmp_path):
    copy(tmp_path, plain)
    say(tmp_path, "config_sentence_transformers.json", prompts=PROMPTS, default_prompt_name="query")
    model = rs.load_model(tmp_path)
    texts = [text for text in TEXTS if text]
    batch = model.batch(texts)
    with pytest.raises(InputError, match="'the miner danced ' goes before every text, but the text of a batch is"):
        model.sentences(batch)
    assert (model.sentences(batch, prompt="") - model.sentences(texts, prompt="")).abs().max() < 1e-5


@pytest.mark.parametrize("rows", ["mean", "last", "cls"])
def test_extract_reads_the_text_without_the_default_prompt(plain, tmp_path, rows):
    copy(tmp_path, plain)
    say(tmp_path, "config_sentence_transformers.json", prompts=PROMPTS, default_prompt_name="query")
    with_prompt, without = rs.load_model(tmp_path), rs.load_model(plain)
    texts = TEXTS[:3]
    found = rs.extract(with_prompt, texts, rows=rows, n_rows=3)
    assert torch.equal(found[3], rs.extract(without, texts, rows=rows, n_rows=3)[3])
    if rows == "mean":
        assert (found[3] - with_prompt.sentences(texts, prompt="")).abs().max() < 1e-5
        assert (found[3] - with_prompt.sentences(texts)).abs().max() > 0.1
    assert found.provenance["model"]["sentences"]["default_prompt_name"] == "query"
    assert found.provenance["model"]["sentences"]["prompts"] == {"query": "the miner danced ", "mine": "if "}


def test_sentences_are_cut_off_where_the_model_says(plain, tmp_path):
    copy(tmp_path, plain)
    long = ["the baker yawned " * 30, "the poet danced"]
    check(tmp_path, long)  # of a tokenizer that names no limit: at the places of the encoder
    for settings in ({"max_seq_length": 7}, {"tokenizer_args": {"model_max_length": 9}, "max_seq_length": 30}):
        say(tmp_path, "sentence_bert_config.json", **settings)
        check(tmp_path, long)
    assert rs.load_model(tmp_path).context == 9
    say(tmp_path, "tokenizer_config.json", truncation_side="left")
    check(tmp_path, long)


def test_load_model_lowers_the_case_where_the_model_does(plain, tmp_path):
    copy(tmp_path, plain)
    texts = ["The Baker admired THE clerk", "Yawned"]
    cased = rs.load_model(tmp_path)
    say(tmp_path, "sentence_bert_config.json", do_lower_case=True)
    check(tmp_path, texts)
    model = rs.load_model(tmp_path)
    assert torch.equal(model.sentences(texts), cased.sentences([text.lower() for text in texts]))
    assert (model.sentences(texts) - cased.sentences(texts)).abs().max() > 0.1
    rows = rs.extract(model, texts, n_rows=6)  # is read alike, at the places of the text as it is given
    lower = rs.extract(cased, [text.lower() for text in texts], n_rows=6)
    assert torch.equal(rows[3], lower[3])
    assert rows.rows.char_end.tolist() == lower.rows.char_end.tolist()
    given = rs.load_model(tmp_path, tokenizer=word_tokenizer("bert"))  # a tokenizer that is given is taken as it is
    assert torch.equal(given.sentences(texts), cased.sentences(texts))


@pytest.mark.parametrize(
    "modules",
    [
        [st.Pooling(16), st.Dense(16, 8), st.Normalize()],
        [st.Pooling(16), st.Normalize(), st.Dense(16, 24, bias=False, activation_function=nn.GELU()), st.LayerNorm(24)],
        [st.Normalize(), st.Pooling(16, "max"), st.Dropout(0.5), st.Dense(16, 4, activation_function=None)],
        [st.Dense(16, 12, module_input_name="token_embeddings"), st.Pooling(12, ("mean", "max"))],
        [st.Pooling(16), st.Dense(16, 16, use_residual=True), st.Dense(16, 6, use_residual=True)],
        [st.Pooling(16), st.Dense(16, 6, module_output_name="aside"), st.Normalize("aside", "sentence_embedding")],
    ],
    ids=["dense", "normalized before", "normalized too early", "of tokens", "residual", "by name"],
)
def test_sentences_run_through_modules_in_any_order(bert, tmp_path, modules):
    torch.manual_seed(1)
    for module in modules:
        for parameter in module.parameters():
            nn.init.normal_(parameter)
    check(publish(tmp_path, bert, *modules))


@pytest.mark.parametrize("name", ["Identity", "ReLU", "SiLU", "Sigmoid", "LeakyReLU", "Softplus", "Mish", "Hardswish"])
def test_dense_modules_have_the_activation_that_they_name(dense, tmp_path, name):
    copy(tmp_path, dense)
    home = "linear" if name == "Identity" else "activation"
    say(tmp_path, "2_Dense/config.json", activation_function=f"torch.nn.modules.{home}.{name}")
    theirs = st.Dense.load(str(tmp_path), subfolder="2_Dense")({SENTENCE: STATES.mean(1)})[SENTENCE]
    assert (head_of(tmp_path)(STATES, MASK) - nn.functional.normalize(theirs)).abs().max() < 1e-6


def test_sentences_keep_as_many_numbers_as_truncate_dim_says(bert, tmp_path):
    publish(tmp_path, bert, st.Pooling(16), st.Normalize(), truncate_dim=5)
    check(tmp_path)
    assert rs.load_model(tmp_path).sentences(TEXTS).shape == (5, 5)


def test_sentences_are_those_of_pairs_too(plain, tmp_path):
    pairs = [("the baker admired the clerk", "the clerk yawned"), ("yawned", "if the pilot danced")]
    copy(tmp_path, plain)
    say(tmp_path, "config_sentence_transformers.json", prompts=PROMPTS)
    check(tmp_path, pairs, prompt_name="query")


@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if kind != "bert"])
def test_sentences_of_other_encoders(encoder, tmp_path, kind):
    check(publish(tmp_path, encoder(kind), st.Pooling(16), st.Normalize()))


@pytest.mark.parametrize(("auto", "head"), [(AutoModelForMaskedLM, "cls."), (AutoClassifier, "classifier.")])
def test_sentences_are_of_the_encoder_where_a_checkpoint_has_a_head(encoder, tmp_path, auto, head):
    own = encoder("bert", random_module("bert", auto))
    publish(tmp_path, own, st.Pooling(16))
    for file in ("model.safetensors", "config.json"):
        shutil.copy(own / file, tmp_path / file)
    assert any(name.startswith(head) for name in load_file(tmp_path / "model.safetensors"))
    check(tmp_path)
    assert rs.load_model(tmp_path).kind == "encoder"
    assert rs.load_model(own).kind == ("encoder" if head == "cls." else "classifier")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_sentences_of_decoders_are_their_last_tokens(encoder, tmp_path, kind, side):
    """Sentence-transformers pads on the left if the tokenizer says so; here nothing is padded."""
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64} if kind == "gpt2" else {}
    module = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(DECODER | sizes)))
    publish(tmp_path, encoder(kind, module, side), st.Pooling(16, "lasttoken"), st.Normalize(), prompts=PROMPTS)
    model, theirs = rs.load_model(tmp_path), SentenceTransformer(str(tmp_path), device="cpu")
    for text in TEXTS[:3]:  # one by one: in company, padding on the left moves the places of GPT-2
        expected = theirs.encode([text], prompt_name="query", convert_to_tensor=True)
        assert (model.sentences([text], prompt_name="query") - expected).abs().max() < 1e-6
    assert model.kind == "causal"
    alone = torch.cat([model.sentences([text]) for text in TEXTS])
    assert (model.sentences(TEXTS) - alone).abs().max() < 1e-6


def test_load_model_refuses_decoders_that_look_ahead(encoder, tmp_path):
    config = AutoConfig.for_model("gemma3_text", **DECODER, use_bidirectional_attention=True)
    publish(tmp_path, encoder("gemma", AutoModel.from_config(config)), st.Pooling(16))
    with pytest.raises(InputError, match=r"looks ahead|cannot be run part by part"):
        rs.load_model(tmp_path)


def t5(kind):
    return getattr(transformers, f"{kind.upper()}EncoderModel")(AutoConfig.for_model(kind, **T5))


@pytest.mark.parametrize("kind", ["t5", "mt5", "umt5"])
def test_sentences_of_t5_with_a_dense_module(encoder, tmp_path, kind):
    dense = st.Dense(16, 12, bias=False, activation_function=nn.Identity())
    check(publish(tmp_path, encoder(kind, t5(kind)), st.Pooling(16), dense, st.Normalize()))


def test_sentences_of_a_whole_t5_are_of_its_encoder(encoder, tmp_path):
    own = encoder("t5", transformers.T5ForConditionalGeneration(AutoConfig.for_model("t5", **T5)))
    publish(tmp_path, own, st.Pooling(16))
    for file in ("model.safetensors", "config.json"):
        shutil.copy(own / file, tmp_path / file)
    check(tmp_path)


@pytest.mark.parametrize("kind", ["t5", "mt5", "umt5"])
@torch.no_grad()
def test_run_of_t5_is_right_from_every_position_to_every_other(encoder, kind):
    """Its first block alone knows the bias of relative positions: a later one that comes first must be given it."""
    model = rs.load_model(encoder(kind, t5(kind)))
    assert (model.kind, model.n_layers, model.d_model) == ("encoder", 3, 16)
    batch = model.batch([text for text in TEXTS if text])
    theirs = model.module(input_ids=batch.ids, attention_mask=batch.mask.long(), output_hidden_states=True)
    for k in range(4):
        lower = model.run(model.embed(batch), 0, k, batch)
        if k < 3:  # the last of theirs is behind the norm
            assert (lower - theirs.hidden_states[k])[batch.mask].abs().max() < 1e-6
        for m in range(k, 4):
            part = model.run(lower, k, m, batch)
            if m < 3:
                assert (part - theirs.hidden_states[m])[batch.mask].abs().max() < 1e-6
            whole = model.head(model.run(part, m, 3, batch), batch)
            assert (whole - theirs.last_hidden_state)[batch.mask].abs().max() < 1e-6
    bias = model.module.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    assert bias.std() > 0.1  # so that leaving it out would show


@torch.no_grad()
def test_extract_reads_inside_the_blocks_of_t5(encoder):
    model = rs.load_model(encoder("t5", t5("t5")))
    read = {site: rs.extract(model, TEXTS[:3], site=site, rows="last", n_rows=3) for site in model.sites}
    for layer in (1, 2, 3):
        added = read["attn_out"][layer] + read["mlp_out"][layer]
        assert (read["resid_post"][layer - 1] + added - read["resid_post"][layer]).abs().max() < 1e-5


def test_sentences_do_not_depend_on_their_company(encoder, tmp_path):
    """FNet mixes all tokens, padding too: sentence-transformers gives a text another vector beside a longer one."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 70}
    module = AutoModel.from_config(AutoConfig.for_model("fnet", **sizes, max_position_embeddings=40))
    publish(tmp_path, encoder("fnet", module), st.Pooling(16))
    ours, together = both(tmp_path, TEXTS[:3])
    assert (ours - together).abs().max() > 0.1
    reference = SentenceTransformer(str(tmp_path), device="cpu")
    alone = torch.stack([reference.encode(text, convert_to_tensor=True) for text in TEXTS[:3]])
    assert (ours - alone).abs().max() < 1e-5


def test_sentences_in_half_precision(bert, tmp_path):
    publish(tmp_path, bert, st.Pooling(16, ("mean", "weightedmean")), st.Dense(32, 8))
    exact = rs.load_model(tmp_path).sentences(TEXTS)
    half = rs.load_model(tmp_path, dtype="bfloat16").sentences(TEXTS)
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).std() < 0.05 * exact.std()


def test_instructor_models_leave_the_prompt_out_whatever_their_files_say(plain, tmp_path):
    copy(tmp_path, plain)
    layout = read_layout(tmp_path)
    for repository, included in (("hkunlp/instructor-large", False), ("some/instructor-large", True)):
        head = layout.read_head(torch.float32, 40, repository)
        assert head.modules[0].include_prompt is included


LATER = "sentence_transformers.models."


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("sentence_bert_config.json", {"model_args": {"num_labels": 2}}, "model_kwargs: num_labels=2"),
        ("sentence_bert_config.json", {"config_args": {"num_hidden_layers": 2}}, "config_kwargs: num_hidden_layers=2"),
        ("sentence_bert_config.json", {"tokenizer_args": {"do_lower_case": True}}, "processor_kwargs: do_lower_case"),
        ("sentence_bert_config.json", {"tokenizer_name_or_path": "other"}, "tokenizer_name_or_path='other'"),
        ("sentence_bert_config.json", {"colour": "blue"}, "colour='blue', which is not supported"),
        ("sentence_bert_config.json", {"max_seq_length": "8"}, "max_seq_length='8'"),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "max_seq_length=0"),
        ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim=0"),
        ("config_sentence_transformers.json", {"truncate_dim": 2.5}, "truncate_dim=2.5"),
        ("config_sentence_transformers.json", {"prompts": {"a": 5}}, "prompts={'a': 5}"),
        ("config_sentence_transformers.json", {"prompts": ["a"]}, r"prompts=\['a'\]"),
        ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "names 'q' as its default prompt"),
        ("config_sentence_transformers.json", {"default_prompt_name": ["q"]}, r"names \['q'\] as its default prompt"),
        ("2_Dense/config.json", {"out_features": 9}, r"shape linear.bias \(8,\), .* requires linear.bias \(9,\)"),
        ("2_Dense/config.json", {"bias": False}, r"its config requires linear.weight \(8, 16\)"),
    ],
)
def test_load_model_refuses_settings_that_would_change_what_is_read(dense, tmp_path, file, settings, message):
    copy(tmp_path, dense)
    say(tmp_path, file, **settings)
    with pytest.raises(InputError, match=message):
        rs.load_model(tmp_path)


TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task='fill-mask'"),
        ("sentence_bert_config.json", {"modality_config": {"text": TEXT, "message": TEXT}}, "modality_config="),
        (
            "sentence_bert_config.json",
            {"modality_config": {"text": TEXT | {"method_output_name": ["hidden_states", 1]}}},
            "'hidden_states', 1",
        ),
        ("sentence_bert_config.json", {"module_output_name": "scores"}, "module_output_name='scores'"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 5}}}, "processing_kwargs="),
        ("sentence_bert_config.json", {"query_length": 4}, "query_length=4"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type='SparseEncoder'"),
        ("config_sentence_transformers.json", {"colour": "blue"}, "colour='blue'"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "pooling_mode='attention'"),
        ("1_Pooling/config.json", {"pooling_mode": []}, r"pooling_mode=\[\]"),
        ("1_Pooling/config.json", {"colour": "blue"}, "a Pooling module with colour='blue'"),
        ("1_Pooling/config.json", {"embedding_dimension": 32}, "expects states of width 32, got 16"),
        ("1_Pooling/config.json", {"pooling_mode": ["mean", "max"]}, "expects vectors of width 16, got 32"),
        ("2_Dense/config.json", {"activation_function": "os.system"}, "activation_function='os.system'"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.own.Tanh"}, "='torch.nn.own.Tanh'"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.functional.relu"}, "functional.relu'"),
        ("2_Dense/config.json", {"activation_function": None}, "activation_function=None"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "produce no sentence vector"),
        ("2_Dense/config.json", {"module_input_name": "other"}, "needs 'other', which no earlier module provides"),
        ("2_Dense/config.json", {"colour": "blue"}, "a Dense module with colour='blue'"),
    ],
)
def test_sentences_refuse_what_is_not_understood(dense, tmp_path, file, settings, message):
    copy(tmp_path, dense)
    say(tmp_path, file, **settings)
    head = head_of(tmp_path)
    with pytest.raises(InputError, match=message):
        head(STATES, MASK)


def test_sentences_refuse_what_is_not_understood_before_anything_runs(dense, tmp_path):
    copy(tmp_path, dense)
    say(tmp_path, "1_Pooling/config.json", pooling_mode="attention")
    model = rs.load_model(tmp_path)
    with pytest.raises(InputError, match="pooling_mode='attention'"):
        model.sentences(TEXTS)
    assert rs.extract(model, TEXTS[:3], n_rows=3)[3].shape == (3, 16)


def test_settings_that_change_no_number_are_taken(dense, tmp_path):
    copy(tmp_path, dense)
    say(tmp_path, "sentence_bert_config.json", model_args={"attn_implementation": "eager"}, unpad_inputs=False)
    say(tmp_path, "config_sentence_transformers.json", similarity_fn_name="dot")
    check(tmp_path)


def lines(folder, change):
    file = folder / "modules.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


@pytest.mark.parametrize("kind", ["Router", "WordEmbeddings", "CNN", "LSTM", "BoW", "CLIPModel", "StaticEmbedding"])
def test_modules_that_are_not_known_are_refused_by_name(dense, tmp_path, kind):
    copy(tmp_path, dense)
    other = {"path": "9_Other", "type": LATER + kind}
    lines(tmp_path, lambda modules: [*modules, other])
    with pytest.raises(InputError, match=f"need the module {kind}"):
        head_of(tmp_path)(STATES, MASK)
    lines(tmp_path, lambda modules: [other, *modules[:-1]])
    with pytest.raises(InputError, match=rf"begins with \['{kind}'\]; expected a Transformer"):
        rs.load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: [{**m[0], "type": "custom_st.Transformer"}, *m[1:]], r"begins with \['custom_st.Transformer'\]"),
        (lambda m: [m[0], {**m[1], "path": "../other"}], r"names '\.\./other', which lies outside"),
        (lambda m: [m[0], {**m[1], "path": "/etc"}], "names '/etc', which lies outside"),
        (lambda m: [m[0], {**m[1], "path": "C:\\x"}], "which lies outside"),
        (lambda m: [*m, {**m[1], "name": "0"}], "has two modules with the same name"),
        (lambda m: [], r"begins with \[\]"),
        (lambda m: {"a": 1}, "is not a list of modules"),
        (lambda m: [{**m[0], "type": None}], "has a module whose type is None"),
    ],
)
def test_load_model_refuses_layouts_that_lead_elsewhere(dense, tmp_path, change, message):
    copy(tmp_path, dense)
    lines(tmp_path, change)
    with pytest.raises(InputError, match=message):
        rs.load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: [m[0], {**m[1], "type": "custom_st.Pooling"}], "need the module custom_st.Pooling"),
        (
            lambda m: [m[0], {"path": "9", "type": LATER + "WeightedLayerPooling"}, *m[1:]],
            "module WeightedLayerPooling",
        ),
        (lambda m: [m[0], m[2], m[1]], "Dense module needs 'sentence_embedding'"),
        (lambda m: m[:1], "produce no sentence vector"),
    ],
)
def test_sentences_refuse_modules_that_make_none(dense, tmp_path, change, message):
    copy(tmp_path, dense)
    lines(tmp_path, change)
    with pytest.raises(InputError, match=message):
        head_of(tmp_path)(STATES, MASK)


class Code:
    """What a pickle runs when it is opened with trust."""

    def __reduce__(self):
        return (print, ("this must never run",))


def test_weights_of_modules_are_tensors_alone(dense, tmp_path, capfd):
    copy(tmp_path, dense)
    file = tmp_path / "2_Dense" / "model.safetensors"
    weights, pickle = load_file(file), file.with_name("pytorch_model.bin")
    file.unlink()
    with pytest.raises(InputError, match="lacks its weights"):
        rs.load_model(tmp_path)
    torch.save(weights, pickle)
    with pytest.warns(UserWarning, match="has its weights only as a pickle"):
        model = rs.load_model(tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS, convert_to_tensor=True)
    assert (model.sentences(TEXTS) - theirs).abs().max() < 2e-6
    for held in ({"linear.weight": Code()}, [1], {"linear.weight": 1}):
        torch.save(held, pickle)
        with pytest.raises(InputError, match="are broken or contain more than tensors"):
            rs.load_model(tmp_path)
    assert "never run" not in capfd.readouterr().out
    file.write_bytes(b"{}")
    with pytest.raises(InputError, match="are broken or contain more than tensors"):
        rs.load_model(tmp_path)


def test_pooling_refuses_sequences_of_which_no_token_takes_part():
    states, mask = torch.ones(2, 6, 4), torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    with pytest.raises(InputError, match="the prompt fills the longest sequence"):
        Pooling(("mean",), include_prompt=False)({TOKENS: states}, mask, 3)


def test_sentences_refuse_what_is_no_list_of_texts(dense, tmp_path):
    model = rs.load_model(copy(tmp_path, dense))
    for nothing in ("the baker", []):
        with pytest.raises(InputError, match=r"Expected a list of at least one text"):
            model.sentences(nothing)


def test_sentences_are_refused_of_models_that_pool_nothing(bert):
    for name in (bert, "tiny-neox-w32-d2"):
        with pytest.raises(InputError, match=r"no modules\.json that defines a pooling"):
            rs.load_model(name).sentences(TEXTS)


def test_store_and_provenance_tell_settings_apart(dense, tmp_path):
    settings = [
        ("1_Pooling/config.json", {"pooling_mode": "cls"}),
        ("1_Pooling/config.json", {"include_prompt": False}),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.ReLU"}),
        ("config_sentence_transformers.json", {"prompts": {"query": "the "}}),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}),
        ("config_sentence_transformers.json", {"truncate_dim": 4}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("sentence_bert_config.json", {"max_seq_length": 30}),
    ]
    store, seen = rs.activations.Store(tmp_path / "store"), []
    for number in range(len(settings) + 2):
        folder = copy(tmp_path / str(number), dense)
        if number < len(settings):
            say(folder, settings[number][0], **settings[number][1])
        file = folder / "2_Dense" / "model.safetensors"
        weights = {name: torch.full_like(value, 0.1) for name, value in load_file(file).items()}
        save_file(weights | ({"linear.bias": torch.ones(8)} if number == len(settings) else {}), file)
        seen.append(json.dumps(head_of(folder).about))
        if number in (0, len(settings), len(settings) + 1):
            model = rs.load_model(folder)
            rs.extract(model, TEXTS[:3], layers=3, rows="last", n_rows=3, store=store)
            assert json.dumps(model.provenance["sentences"]) == seen[-1]
    assert len(set(seen)) == len(settings) + 2
    assert len(store.entries()) == 3
