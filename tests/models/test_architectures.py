"""What loads: the table, the survey that makes it, and what loading says of architectures outside it."""

import csv

import pytest
import torch
import transformers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import repsim_nb as rs
from repsim_nb.models import architectures as listed
from repsim_nb.models.survey_table import COLUMNS, TABLE, UnsurveyedWarning
from repsim_nb.survey import judge, page, run, small
from repsim_nb.system.shipped import checkout, data_dir

VERDICTS = {"right", "refused", "cannot be built here"}
MODULE = "repsim_nb.models.survey_table"


def rows():
    with (data_dir() / TABLE).open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_architectures_has_a_valid_row_for_each_architecture():
    table = listed()
    assert table.index.name == "architecture"
    assert [*table.columns] == [name for name in COLUMNS if name != "architecture"]
    assert set(table["verdict"]) == VERDICTS
    assert set(table["auto_class"]) == set(small.KINDS)
    assert table["transformers"].str.fullmatch(r"\d+\.\d+\.\d+\S*").all()
    assert not table.reset_index().duplicated(["architecture", "model_type"]).any()
    right = table["verdict"] == "right"
    assert (table["deviation"][right] < judge.TOLERANCE).all()
    assert table["deviation"][~right].isna().all()
    assert (table["reason"][~right].str.len() > 5).all()
    assert right.sum() > 100


def test_architectures_lists_all_that_this_version_of_transformers_offers():
    if {row["transformers"] for row in rows()} != {transformers.__version__}:
        pytest.skip("the table is of another version of transformers")
    found = [(row["auto_class"], row["model_type"], row["architecture"]) for row in rows()]
    assert found == small.architectures()


def test_page_shows_the_table():
    top = checkout()
    if top is None:
        pytest.skip("docs/ is part of a checkout alone")
    assert (top / run.PAGE).read_text(encoding="utf-8") == page.page(rows())


@pytest.mark.parametrize(
    "which",
    [
        ("AutoModelForCausalLM", "gpt_neox", "GPTNeoXForCausalLM"),
        ("AutoModelForMaskedLM", "fnet", "FNetForMaskedLM"),
        ("AutoModelForSequenceClassification", "squeezebert", "SqueezeBertForSequenceClassification"),
        ("AutoModelForCausalLM", "axk2", "AXK2ForCausalLM"),  # its attention chooses tokens, some of equal score
        ("AutoModelForMaskedLM", "perceiver", "PerceiverForMaskedLM"),  # no depth and width in its config
        ("AutoModelForCausalLM", "musicgen", "MusicgenForCausalLM"),
    ],
    ids=lambda which: which[2],
)
def test_survey_gives_the_verdict_of_the_table(which):
    row = next(row for row in rows() if (row["auto_class"], row["model_type"], row["architecture"]) == which)
    found = judge.survey(*which)
    assert (found.verdict, found.reason) == (row["verdict"], row["reason"])


@pytest.mark.parametrize("changed", ["embed", "run", "head"])
def test_judge_finds_a_model_that_gives_other_numbers_than_transformers(monkeypatch, changed):
    load = rs.load_model

    def load_changed(*args, **kwargs):
        model = load(*args, **kwargs)
        own = getattr(model, changed)
        monkeypatch.setattr(model, changed, lambda *given: own(*given) * 1.01)
        return model

    monkeypatch.setattr(rs, "load_model", load_changed)
    module = small.small("AutoModelForCausalLM", "gpt_neox", "GPTNeoXForCausalLM", judge.tokenizer())
    found = judge.judge(module, judge.tokenizer())
    assert found.verdict == "wrong"
    assert found.deviation > 0.01


def test_judge_finds_a_model_whose_texts_change_each_other(monkeypatch):
    from repsim_nb.models.neutral import NEUTRAL

    load = rs.load_model

    def load_carelessly(*args, **kwargs):
        model = load(*args, **kwargs)
        model.neutral = NEUTRAL
        return model

    monkeypatch.setattr(rs, "load_model", load_carelessly)
    module = small.small("AutoModelForMaskedLM", "fnet", "FNetForMaskedLM", judge.tokenizer())
    found = judge.judge(module, judge.tokenizer())
    assert found.verdict == "wrong"
    assert "of 5 texts" in found.reason
    assert found.deviation > 1


def test_small_has_every_kind_of_block_and_weights_that_tell():
    config = small.shrunk(transformers.CONFIG_MAPPING["gemma3_text"], small.special_tokens(judge.tokenizer()))
    assert (config.num_hidden_layers, config.hidden_size, config.sliding_window) == (6, 32, 8)
    assert set(config.layer_types) == {"sliding_attention", "full_attention"}
    module = small.perturbed(random_neox())
    assert all(parameter.std() > 0.05 for parameter in module.parameters())


def random_neox():
    torch.manual_seed(0)
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=99, intermediate_size=32)
    )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "GPTNeoXForCausalLM is not in the table of surveyed architectures"),
        (
            {"GPTNeoXForCausalLM": [{"model_type": "gpt_neox", "verdict": "refused", "reason": "it was odd"}]},
            r"GPTNeoXForCausalLM is 'refused' in the table of surveyed architectures \(it was odd\)",
        ),
    ],
    ids=["unlisted", "refused"],
)
def test_load_model_says_that_an_architecture_was_not_surveyed(monkeypatch, table, words):
    monkeypatch.setattr(f"{MODULE}._rows", lambda: table)
    with pytest.warns(UnsurveyedWarning, match=words):
        rs.load_model(random_neox(), tokenizer=judge.tokenizer())


def test_load_model_says_nothing_of_an_architecture_that_is_right_and_of_classes_derived_from_it():
    class Mine(GPTNeoXForCausalLM):
        pass

    for module in (random_neox(), Mine(random_neox().config)):
        rs.load_model(module, tokenizer=judge.tokenizer())  # warnings are errors


def surveyed_in(monkeypatch, folder, verdicts):
    """The survey of two architectures with these verdicts, in a checkout at `folder`; which were judged."""
    judged = []

    def surveyed(which):
        judged.append(which)
        verdict = verdicts[which[1]]
        if verdict is None:
            raise KeyboardInterrupt
        return verdict, "" if verdict == "right" else "a reason", ""

    (folder / "data").mkdir(exist_ok=True)
    monkeypatch.setattr(run, "checkout", lambda: folder)
    monkeypatch.setattr(run, "data_dir", lambda: folder / "data")
    monkeypatch.setattr(run, "architectures", lambda: [("AutoModel", t, f"{t}Model") for t in verdicts])
    monkeypatch.setattr(run, "_surveyed", surveyed)
    return judged


def test_run_resumes_after_an_interruption(monkeypatch, tmp_path):
    surveyed_in(monkeypatch, tmp_path, {"a": "right", "b": None})
    with pytest.raises(KeyboardInterrupt):
        run.run(tmp_path / "work")
    assert not (tmp_path / "data" / TABLE).exists()
    judged = surveyed_in(monkeypatch, tmp_path, {"a": "right", "b": "refused"})
    written = run.run(tmp_path / "work")
    assert judged == [("AutoModel", "b", "bModel")]
    assert "| bModel | b | refused |  | a reason |" in written.read_text(encoding="utf-8")
    assert (tmp_path / "data" / TABLE).read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)


def test_run_writes_no_table_that_holds_a_wrong_verdict(monkeypatch, tmp_path):
    surveyed_in(monkeypatch, tmp_path, {"a": "right", "b": "wrong"})
    with pytest.raises(run.WrongVerdictError, match="bModel"):
        run.run(tmp_path / "work")
    assert not (tmp_path / "data" / TABLE).exists()


def test_run_ends_an_architecture_that_takes_too_long(monkeypatch):
    monkeypatch.setattr(run, "SECONDS", 0)
    monkeypatch.setattr(run, "_start_methods", lambda: ["spawn"])  # sooner begun
    assert run._surveyed(("AutoModel", "bert", "BertModel")) == ("cannot be built here", "it takes more than 0 s", "")
