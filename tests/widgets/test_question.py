"""What an explorer asks: saved and restored whole, and written as Python and as commands that give the same map."""

import json
import shlex
from contextlib import redirect_stdout
from dataclasses import fields
from io import StringIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.activations import Sampling
from repsim_nb.cli.arguments import with_values
from repsim_nb.cli.command import main, parser
from repsim_nb.comparison.controls import Controls
from repsim_nb.errors import InputError
from repsim_nb.models import Packing
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty
from repsim_nb.widgets.answer import Cache, answer, answers
from repsim_nb.widgets.details import run_stitch
from repsim_nb.widgets.question import APART, Question
from repsim_nb.widgets.reproduce import as_commands, as_python
from repsim_nb.widgets.state import EXPECTED, from_json, to_json

A, B, C = "tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-neox-w64-d4"
TEXTS = tuple(f"Document {i} says: import module_{i} as m{i}; the value of x is {i * 7}." for i in range(12))
CACHE = Cache()
SMALL = {"corpus": TEXTS, "n_rows": 60}
# Arguments of an explorer, each with what no picker shows of them in words.
ASKED = {
    "rtd": ({"measure": rs.get_measure("rtd", seed=3, points=20)}, ""),
    "rbf": ({"measure": rs.get_measure("cka", kernel="rbf", bandwidth=0.5)}, ""),
    "biased": ({"measure": rs.get_measure("cka", debiased=False), "layers_a": (1,), "n_rows": 80}, ""),
    "null and interval": ({"measure": "procrustes", "null": "permutation", "interval": 0.95, "layers_a": (2,)}, ""),
    "null": ({"null": 19}, "null of 19 permutations, no interval"),
    "interval": ({"interval": 0.8, "seed": 4}, "no null, 0.8 interval"),
    "between documents": ({"between_documents": True}, "pairs of rows of one document left out"),
    "controls": (
        {"leave_out_first": 5, "leave_out_norms": 5, "standardize": True, "remove_components": 1},
        "the first 5 tokens of every sequence left out, rows with more than 5 times the median norm left out, "
        "features standardized, first principal component removed",
    ),
    "components": ({"remove_components": 2, "null": 19}, "first 2 principal components removed"),
    "packed": ({"packing": "packed"}, "documents packed into windows"),
    "windows": ({"packing": Packing("packed", 16)}, "documents packed into windows of 16 tokens"),
    "short": ({"packing": Packing(length=8)}, "windows of one document of at most 8 tokens"),
    "few": ({"rows_per_document": 3, "n_rows": 24, "seed": 1}, "3 tokens of each document"),
    "mean": ({"rows": "mean", "n_rows": 10, "measure": rs.get_measure("jaccard", k=3)}, ""),
}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(params=ASKED.values(), ids=ASKED.keys(), scope="module")
def asked(request):
    """An explorer that asks for something, what that is, and what is said of it."""
    how, words = request.param
    return rs.Explorer(A, B, **SMALL | how), how, words


def test_explorer_gives_what_compare_and_its_code_give(asked):
    explorer, how, _ = asked
    found = answers(explorer.question, CACHE)[None][B]  # as a run does
    direct = rs.compare(A, B, list(TEXTS), **{"n_rows": 60} | how)
    made = {}
    exec(explorer.code.replace("ax = rs.figures.heatmap(result)", ""), made)
    for other in (direct, made["result"]):
        xr.testing.assert_allclose(found.drop_attrs(), other.drop_attrs(), rtol=0, atol=1e-12)
        assert found.coords.keys() == other.coords.keys()


def test_explorer_says_what_no_picker_shows_and_saves_it(asked):
    explorer, _, words = asked
    assert words in explorer._setup.also.value
    assert bool(words) == ("Other options:" in explorer._setup.also.value)
    again = rs.Explorer.from_state(explorer.state)
    assert again.question == explorer.question
    assert again._setup.also.value == explorer._setup.also.value
    assert json.loads(explorer.state).keys() <= EXPECTED.keys()


def test_as_commands_asks_the_same_as_the_explorer(asked):
    question = asked[0].question
    question = Question(**{f.name: getattr(question, f.name) for f in fields(Question)} | {"models_b": (A, C)})
    question = Question(**vars(question) | {"sampling": question.sampling.of("python-docs"), "split": "train"})
    run, *compared = (shlex.split(line) for line in as_commands(question, to_json(question)).splitlines())
    assert from_json(dict(parser().parse_args(with_values(run[1:])).parameters)["state"])[0] == question
    assert [line[:4] for line in compared] == [["repsim-nb", "compare", A, b] for b in (A, C)]
    calls = []

    def compare(*models_and_more, **how):
        calls.append((models_and_more, how))
        return xr.DataArray(np.eye(2), dims=("layer_a", "layer_b"), name="x")

    with pytest.MonkeyPatch.context() as patched, redirect_stdout(StringIO()):
        patched.setattr(rs, "estimate", lambda *given, **how: "", raising=False)
        patched.setattr(rs, "compare", compare, raising=False)
        patched.setattr(rs, "load_corpus", lambda *given: given, raising=False)
        for line in compared:
            assert main([*line[1:-1], "/tmp/x.csv"]) == 0
    for b, ((a, given_b, corpus, measure), how) in zip((None, C), calls, strict=True):
        assert (a, given_b, corpus) == (A, b, ("python-docs", "train"))
        assert repr(measure) == repr(question.configured)
        layers = {f"layers_{side}": question.layers(side) for side in "ab"}
        everything = vars(question.sampling) | vars(question.uncertainty) | vars(question.controls) | layers
        assert how == {name: v for name, v in everything.items() if name not in APART} | {
            "store": None,
            "memory_limit": None,
            "batch_tokens": None,
            "executor": None,
        }


def test_as_commands_gives_the_map_of_the_explorer(tmp_path, monkeypatch):
    question = Question(
        A, (B,), "cka", {"debiased": False}, Sampling(n_rows=100, seed=2), controls=Controls(standardize=True)
    )
    monkeypatch.chdir(tmp_path)
    line = as_commands(question, "{}").splitlines()[1]
    with redirect_stdout(StringIO()):
        assert main(shlex.split(line)[1:]) == 0
    with xr.open_dataarray(tmp_path / f"{A}--{B}.nc", engine="h5netcdf") as written:
        np.testing.assert_allclose(written.values, answer(question, B, CACHE).values, rtol=0, atol=1e-12)


def test_as_commands_leaves_texts_to_the_notebook():
    lines = as_commands(Question(A, (B,), sampling=Sampling(TEXTS)), "{}").splitlines()
    assert [line.split()[1] for line in lines] == ["run"]


def test_as_python_imports_from_the_package_alone_and_shows_the_close_up_after_controls():
    explorer = rs.Explorer(A, A, **SMALL, standardize=True, leave_out_first=5)
    explorer.run()
    explorer.selected = (1, 2)
    explorer.wait()
    assert [line for line in explorer.code.splitlines() if "import" in line.split("(")[0]] == ["import repsim_nb as rs"]
    made = {}
    exec(explorer.code, made)
    (acts,) = rs.extract_aligned([A], list(TEXTS), n_rows=60, layers=["all"])
    (left,), kept = Controls(leave_out_first=5, standardize=True).applied(acts)
    assert len(made["closeup"].difference) == kept.sum() < 60
    np.testing.assert_allclose(
        made["closeup"].difference, rs.closeup.shared_axes(left[1], left[2]).difference, rtol=0, atol=1e-12
    )
    assert f"of {kept.sum()} rows" in explorer._behind.closeup.points.value


def test_explorer_keeps_what_it_may_use_to_itself(tmp_path):
    explorer = rs.Explorer(A, B, **SMALL, store=str(tmp_path / "kept"), memory_limit=10**9, batch_tokens=64)
    plain = rs.Explorer(A, B, **SMALL)
    assert explorer.state == plain.state
    assert explorer.code == plain.code
    np.testing.assert_allclose(explorer.run(), plain.run(), atol=1e-6)
    assert list((tmp_path / "kept").rglob("*"))
    small = rs.Explorer(A, B, **SMALL, measure="procrustes", memory_limit=1000)
    with pytest.raises(InputError, match="memory_limit"):
        small.run()


def test_explorer_streams_what_would_take_more_than_its_limit():
    question = rs.Explorer(A, B, n_rows=500).question  # 5.3 MB in memory, 3 MB as sums
    cache = Cache(resources=Resources(memory_limit=4 * 10**6))
    streamed = answer(question, B, cache)
    assert not cache.holds(question, B)
    np.testing.assert_allclose(streamed, rs.compare(A, B, n_rows=500, memory_limit=4 * 10**6), rtol=0, atol=1e-12)
    np.testing.assert_allclose(streamed, answer(question, B, CACHE), atol=1e-5)


def test_the_checkbox_asks_for_null_and_interval_or_for_what_was_given():
    explorer = rs.Explorer(A, B, **SMALL)
    assert not explorer.uncertainty.value
    explorer.uncertainty.value = True
    assert explorer.question.uncertainty == Uncertainty("permutation", 0.95)
    given = rs.Explorer(A, B, **SMALL, null=49, seed=2, between_documents=True)
    assert given.uncertainty.value
    given.uncertainty.value = False
    assert given.question.uncertainty == Uncertainty(between_documents=True, seed=2)
    assert "permutations" not in given._setup.also.value
    given.uncertainty.value = True
    assert given.question.uncertainty == Uncertainty(49, None, None, True, 2)
    given.corpus.seed = 3
    assert given.question.uncertainty.seed == 3


def test_tokens_of_one_document_are_limited_where_rows_are_tokens():
    explorer = rs.Explorer(A, B, **SMALL, rows_per_document=3)
    explorer.corpus.rows = "mean"
    assert explorer.question.sampling == Sampling(TEXTS, rows="mean", n_rows=60)
    assert explorer._setup.also.value == explorer.error == ""
    explorer.corpus.rows = "tokens"
    assert explorer.question.sampling.rows_per_document == 3


OLD = {"model_a": A, "models_b": [B], "measure": "cka", "params": {"debiased": False}, "corpus": None, "split": None}
OLD |= {"rows": "tokens", "n_rows": 1000, "seed": 1, "layers_a": "all", "layers_b": [0, 1]}


@pytest.mark.parametrize(
    ("more", "how"),
    [
        ({}, {}),
        ({"uncertainty": False}, {}),
        ({"uncertainty": True, "against": B, "selected": [0, 1]}, {"null": "permutation", "interval": 0.95}),
        ({"packing": "packed"}, {"packing": "packed"}),
        ({"packing": {"kind": "packed", "length": 64}}, {"packing": Packing("packed", 64)}),
        ({"interval": True}, {"interval": True}),
    ],
)
def test_a_state_saved_by_another_version_is_restored(more, how):
    explorer = rs.Explorer.from_state(json.dumps(OLD | more))
    measure = rs.get_measure("cka", debiased=False)
    assert explorer.question == rs.Explorer(A, B, measure=measure, seed=1, layers_b=(0, 1), **how).question


def test_every_option_has_an_entry_in_the_state():
    options = {f.name for each in (Sampling, Uncertainty, Controls) for f in fields(each)} - {"groups"}
    saved = json.loads(to_json(Question(A, (B,), controls=Controls(leave_out_first=np.int64(2)))))
    assert saved.keys() >= options
    assert saved["leave_out_first"] == 2
    assert set(EXPECTED) == saved.keys() | {"uncertainty", "against", "selected", "step"}


WRONG = [("selected", [1]), ("selected", ["a", 2]), ("against", 3), ("params", None), ("rows", None), ("seed", "0")]
WRONG += [("n_rows", True), ("layers_b", [0.5]), ("corpus", 1), ("models_b", []), ("site", 1), ("packing", 64)]
WRONG += [("null", 0.5), ("interval", "yes"), ("between_documents", 1), ("leave_out_first", 0.5)]
WRONG += [("leave_out_norms", "5"), ("standardize", None), ("remove_components", True), ("rows_per_document", "3")]
BAD = {
    "{": "not a saved state",
    "[]": "not a saved state",
    '{"model_a": "tiny"}': "names no models",
    json.dumps({"model_a": A, "models_b": [B], "mesure": "cka"}): "Did you mean 'measure'",
    json.dumps({"model_a": A, "models_b": [B], "standardise": True}): "Did you mean 'standardize'",
    json.dumps({"model_a": A, "models_b": [B], "packing": {"kind": "packed", "lenght": 3}}): "Did you mean 'length'",
    json.dumps({"model_a": A, "models_b": [B], "packing": {"bos": 3}}): "bos of packing is 3",
    json.dumps({"model_a": A, "models_b": [B], "packing": "pakced"}): "Did you mean 'packed'",
    json.dumps({"model_a": A, "models_b": [B], "null": "moment"}): "Did you mean 'moments'",
    json.dumps({"model_a": A, "models_b": [B], "leave_out_norms": 0.5}): "above 1",
    json.dumps({"model_a": C, "models_b": [B], "measure": "ckaa"}): "Did you mean 'cka'",
    json.dumps({"model_a": C, "models_b": [B], "params": {"k": 3}}): "Unknown parameter of cka 'k'",
    json.dumps({"model_a": A, "models_b": [B], "layers_a": [7]}): "Layer 7",
    json.dumps({"model_a": A, "models_b": [B], "rows": "mean", "rows_per_document": 3}): "no effect",
    **{json.dumps({"model_a": C, "models_b": [A], name: x}): f"{name} is .*; expected" for name, x in WRONG},
}


def test_a_bad_state_changes_nothing():
    explorer = rs.Explorer(A, B)
    before = explorer.question
    for text, message in BAD.items():
        with pytest.raises(InputError, match=message):
            explorer.state = text
        assert explorer.question == before
    explorer._take_away.state.value = "{"
    explorer._take_away.restore.click()
    assert "not a saved state" in explorer.error


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"uncertainty": True}, r'has no argument .uncertainty.\. Give null="permutation" and interval=0.95 instead'),
        ({"debiased": False}, r'measure=get_measure\("cka", debiased=...\)'),
        ({"measure": "rtd", "points": 20}, r'measure=get_measure\("rtd", points=...\)'),
        ({"nrows": 20}, "Explorer has no argument 'nrows'. Did you mean 'n_rows'"),
        ({"measure": rs.get_measure("cka", groups=[0, 0, 1, 1])}, "groups of cka is one value per row"),
        ({"null": 3}, "at least 19"),
        ({"rows": "mean", "rows_per_document": 3}, "no effect"),
        ({"remove_components": -1}, "0 or more"),
        ({"memory_limit": 0}, "memory_limit=0"),
    ],
)
def test_explorer_refuses_an_argument_and_says_how_it_is_written(how, says):
    with pytest.raises(InputError, match=says):
        rs.Explorer(A, B, **how)


def test_explorer_of_another_site_says_so_and_stitches_nothing(monkeypatch):
    explorer = rs.Explorer(A, B, **SMALL, site="mlp_out", leave_out_first=1)
    also = "site mlp_out, the first token of every sequence left out"
    assert also in explorer._setup.also.value
    assert "60 rows · 46.1 kB" in explorer._bar.estimate.value  # 4 bytes x 60 rows x (2 x 32 + 2 x 64), no layer 0
    assert "site='mlp_out'" in explorer.code
    with pytest.raises(InputError, match="Models are stitched at the residual stream; this map is of mlp_out"):
        run_stitch(explorer.question, B, (1, 1), CACHE, {})


def test_as_python_names_every_model_on_the_side_of_b():
    question = Question(A, (B, A), sampling=Sampling(TEXTS, n_rows=60))
    made = {}
    exec(as_python(question, A), made)
    for b in (A, B):
        np.testing.assert_allclose(made["results"][b], answer(question, b, CACHE), rtol=0, atol=1e-12)
    assert made["result"] is made["results"][A]
