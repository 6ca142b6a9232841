"""One pass over the corpus gives what all activations in memory give, in memory that is known and does not grow."""

import gc
import shutil
import warnings
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import repsim_nb as rs
from repsim_nb.activations import Sampling, extraction
from repsim_nb.activations.extraction import plan_aligned
from repsim_nb.activations.selection import FewerRowsWarning
from repsim_nb.comparison import cost, sides, streaming
from repsim_nb.comparison.cost import Estimate, estimate, expected_bytes
from repsim_nb.comparison.streaming import accumulate, stream
from repsim_nb.errors import InputError
from repsim_nb.measures import get_measure
from repsim_nb.measures.moments import Moments
from repsim_nb.models import Packing, loading
from repsim_nb.models.checkpoint import read_metadata
from repsim_nb.models.shape import shape_of
from repsim_nb.system import memory
from repsim_nb.system.memory import available_memory
from repsim_nb.system.resources import Resources
from repsim_nb.system.shipped import data_dir

SMALL, LARGE = "tiny-neox-w32-d2", "tiny-neox-w64-d4"
GB = 10**9


@pytest.fixture(scope="module")
def models():
    return rs.load_model(SMALL), rs.load_model(LARGE)


@pytest.fixture(scope="module")
def texts():
    return list(rs.load_corpus("python-docs").texts[:40])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(extraction, "MAX_BATCH_TOKENS", 1000)


@pytest.mark.parametrize("measure", ["cka", "procrustes", "cca"])
@pytest.mark.parametrize("rows", ["tokens", "last", "mean"])
def test_streaming_gives_what_compare_gives(models, texts, measure, rows):
    how = {"corpus": texts, "measure": measure, "rows": rows, "n_rows": 700}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*rows for .* features")  # one row per document is few
        streamed, expected = stream(*models, **how), rs.compare(*models, **how)
    assert streamed.attrs == expected.attrs
    assert streamed.drop_attrs().coords.equals(expected.drop_attrs().coords)
    # Of 40 rows, one per document, the models' own rounding in other batches shows in the sixth digit.
    np.testing.assert_allclose(streamed, expected, rtol=1e-6 if rows == "tokens" else 1e-5)
    assert (streamed.name, streamed.dims, streamed.shape) == (measure, ("layer_a", "layer_b"), (3, 5))


@pytest.mark.parametrize("layers", [{}, {"layers_a": [2, 0], "layers_b": [1]}], ids=["itself", "other layers"])
def test_a_model_with_itself(models, texts, layers):
    streamed = stream(models[0], corpus=texts, n_rows=600, **layers)
    expected = rs.compare(models[0], corpus=texts, n_rows=600, **layers)
    assert streamed.attrs == expected.attrs
    np.testing.assert_allclose(streamed, expected, rtol=1e-6)


def test_minibatch_cka_streams(models, texts):
    streamed = stream(*models, texts, measure=get_measure("cka", batch=64), n_rows=640)
    np.testing.assert_allclose(streamed, rs.compare(*models, texts, n_rows=640), atol=0.1)


def test_batches_hold_every_row_once(models, texts):
    plan, other = plan_aligned(models, None, Sampling(texts, n_rows=500))
    batches = plan.batches()
    assert len(batches) > 3
    assert sorted(np.concatenate(batches)) == list(range(500))
    whole = other.run()
    for index in batches:
        part = other.run(index)
        assert all((part[layer] - whole[layer][index]).abs().max() < 1e-5 for layer in whole)
    assert sum(plan.tokens(index) for index in batches) == plan.tokens()


def everything(models, texts):
    with pytest.warns(FewerRowsWarning):
        return plan_aligned(models, None, Sampling(texts, n_rows=10**6))


def test_halves_of_a_corpus_add_up(models, texts, tmp_path):
    cka = get_measure("cka")
    halves = [everything(models, part) for part in (texts[:10], texts[10:20])]
    first, second = (accumulate(plans, cka) for plans in halves)
    first.save(tmp_path / "first.safetensors")
    both = Moments.load(tmp_path / "first.safetensors") + second
    whole = accumulate(everything(models, texts[:20]), cka)
    assert both.n == whole.n
    np.testing.assert_allclose(cka.from_moments(both), cka.from_moments(whole), rtol=1e-6)


def most_rows_held(monkeypatch, models, texts, n_rows):
    """The longest tensor of activations that one streamed comparison makes."""
    longest = []
    run = extraction.Plan.run

    def watched(self, *args, **kwargs):
        rows = run(self, *args, **kwargs)
        longest.append(max(len(x) for x in rows.values()))
        return rows

    monkeypatch.setattr(extraction.Plan, "run", watched)
    stream(*models, texts, n_rows=n_rows)
    assert sum(longest) == 2 * n_rows
    return max(longest)


def test_no_more_than_a_batch_of_rows_is_held(monkeypatch, models, texts):
    assert most_rows_held(monkeypatch, models, texts, 3000) <= extraction.MAX_BATCH_TOKENS


def test_the_second_pass_is_in_float64_where_float32_loses_digits(monkeypatch, models, texts):
    run = extraction._run

    def with_outlier(model, selection, *args):
        rows = run(model, selection, *args)
        for x in rows.values():
            x[np.flatnonzero(selection.document == 0)[:1]] *= 1e4
        return rows

    monkeypatch.setattr(extraction, "_run", with_outlier)
    dtypes = []
    monkeypatch.setattr(streaming, "accumulate", lambda *a: (dtypes.append(a[2:]), accumulate(*a))[1])
    assert np.isfinite(stream(*models, texts, n_rows=500)).all()
    assert dtypes == [(), (torch.float64,)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, t: stream(*m, t, measure="rsa"), r"rsa\(.*needs all rows at once"),
        (lambda m, t: stream({0: np.ones((3, 2))}), "Only models can be streamed, got dict: compare activations"),
        (lambda m, t: stream(*m, t, memory_limit=1000), r"cka needs .* MB when streamed; the limit is 1 kB.*batch=256"),
        (lambda m, t: stream(*m, t, memory_limit=0), "expected a positive number of bytes"),
        (lambda m, t: stream(*m, t, measure="cca", memory_limit=1000), "or choose fewer layers.$"),
        (lambda m, t: stream(*m, t, layers_a=9), "Layer 9 does not exist"),
    ],
)
def test_misuse_is_named_before_anything_runs(monkeypatch, models, texts, call, message):
    monkeypatch.setattr(extraction, "_run", lambda *a: pytest.fail("a model was run"))
    with pytest.raises(InputError, match=message):
        call(models, texts)


def test_expected_bytes_choose_the_route(models):
    models = [shape_of(model) for model in models]
    layers = [list(range(3)), list(range(5))]
    cka, rows = get_measure("cka"), 10**6

    def expected(measure, rows, limit):
        return expected_bytes(models, layers, measure, Sampling(n_rows=rows), resources=Resources(memory_limit=limit))

    free = expected(cka, rows, 100 * GB)
    assert free.route == "memory"
    assert free.activations >= 4 * rows * (3 * 32 + 5 * 64)
    assert expected(cka, rows, GB).route == "stream"
    assert expected(cka, 2 * rows, GB).moments == free.moments
    with pytest.raises(InputError, match=r"cka of 1,000,000 rows needs 1.8 GB .* set n_rows to at most .* batch=256"):
        _ = expected(cka, rows, 4_350_000).route
    with pytest.raises(InputError, match=r"rsa .* cannot be streamed; .* that can be streamed"):
        _ = expected(get_measure("rsa"), rows, GB).route
    few = expected(get_measure("cka", batch=256), rows, GB)
    assert few.moments is not None


def test_wide_models_stream_in_constant_memory_by_batches():
    widths = dict.fromkeys(range(40), 8192)
    assert get_measure("cka").accumulator(widths, widths).nbytes > 100 * GB
    assert get_measure("cka", batch=256).accumulator(widths, widths).nbytes < 4 * GB


def test_an_estimate_is_readable_and_about_right(models, texts):
    about = estimate(*models, texts, n_rows=400, memory_limit=GB, trial=True)
    assert (about.rows, about.result, about.limit) == (400, 8 * 15, GB)
    assert about.seconds is not None
    assert 0.001 < about.seconds < 60
    lines = str(about).splitlines()
    assert lines[0] == "cka of 400 rows: in memory"
    words = ["weights", "in memory", "streaming", "limit", "result", "text", "peak", "time"]
    assert [line.split("  ")[1] for line in lines[1:]] == words
    assert "not possible" in str(estimate(*models, texts, measure="rsa", n_rows=400))
    assert "over the limit" in str(estimate(*models, texts, n_rows=400, memory_limit=10))


def test_an_estimate_reads_no_weights(monkeypatch, models):
    monkeypatch.setattr(extraction, "load_model", lambda *_: pytest.fail("a model was loaded"))
    about = estimate(SMALL, LARGE, n_rows=1000, memory_limit=GB)
    assert about.weights == tuple(4 * sum(p.numel() for p in m.module.parameters()) for m in models)
    assert replace(about, weights=(), batch=0) == replace(
        estimate(*models, n_rows=1000, memory_limit=GB, trial=False), weights=(), batch=0
    )
    assert about.activations < about.peak < about.activations + sum(about.weights) + about.batch + 1000


def test_a_config_alone_tells_how_many_weights_there_will_be(tmp_path):
    for name in (SMALL, "tiny-solu-3l-s0", "tiny-bert-nli-00"):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(data_dir() / name / "config.json", folder)
        known, told = shape_of(name), shape_of(folder)
        assert (told.n_layers, told.d_model, told.d_mlp) == (known.n_layers, known.d_model, known.d_mlp)
        assert told.parameters == pytest.approx(known.parameters, rel=0.03)  # BERT's pooler is the classifier's
    for given, message in [("tiny-neox-w32-d22", "Did you mean 'tiny-neox-w32-d2'"), (str(tmp_path), "no config.json")]:
        with pytest.raises(InputError, match=message):
            shape_of(given)
    with pytest.raises(FileNotFoundError, match="No model directory"):
        shape_of("./missing")


def test_an_estimate_knows_how_long_windows_are(monkeypatch):
    long = replace(shape_of(SMALL), context=10**6)
    monkeypatch.setattr(sides, "shape_of", lambda _: long)
    how = {"n_rows": 10, "memory_limit": GB}
    full = estimate(SMALL, **how).batch
    assert full == int(cost.RETAINED * 10**6 * long.token_bytes)
    for known in ({"packing": Packing("packed", 128)}, {"corpus": ["Short.", "Short too."]}, {"corpus": [("a", "b")]}):
        assert estimate(SMALL, **known, **how).batch < full / 100
    for unknown in ({"packing": "packed", "corpus": ["Short."]}, {"corpus": ["x" * 10**6]}):
        assert estimate(SMALL, **unknown, **how).batch == full


def test_two_models_of_one_name_are_two(models):
    other = rs.load_model(models[0].module, tokenizer=models[0].tokenizer)
    other.name = models[0].name
    assert len(estimate(models[0], other).weights) == 2
    assert len(estimate(models[0], models[0], layers_b=1).weights) == 1
    assert len(estimate(SMALL, SMALL, layers_b=1).weights) == 1


def test_masks_of_attention_are_no_parameters(tmp_path):
    tensors = {"w": torch.zeros(3, 5), "attn.bias": torch.ones(1, 1, 8, 8), "mask": torch.ones(8, 8).bool()}
    save_file(tensors, tmp_path / "model.safetensors")
    assert read_metadata(tmp_path / "model.safetensors")["parameters"] == "15"


def test_half_of_a_download_is_as_good_as_none(tmp_path, models, monkeypatch):
    """Loading goes on with it, while a folder of the user's that lacks a file is an error."""
    models[1].module.save_pretrained(tmp_path, max_shard_size="100KB")
    next(tmp_path.glob("model-00002-*")).unlink()
    with pytest.raises(InputError, match="lacks 1 of the"):
        shape_of(tmp_path)
    monkeypatch.setattr(loading, "download", lambda *_: tmp_path)
    assert shape_of("some/shards").parameters == shape_of(LARGE).parameters


def test_what_does_not_fit_beside_each_other_is_said_and_loaded_in_turns(monkeypatch, texts):
    both = ["all", "all"]
    needed = sum(estimate(SMALL, LARGE).weights) + 4 * 10 * (3 * 32 + 5 * 64)
    ten = Sampling(n_rows=10)
    tight, enough, none = (Resources(memory_limit=limit) for limit in (needed - 1, needed, 1))
    assert extraction.one_at_a_time([SMALL, LARGE], both, ten, tight)
    assert not extraction.one_at_a_time([SMALL, LARGE], both, ten, enough)
    assert not extraction.one_at_a_time([SMALL, SMALL], both, ten, none)
    assert not extraction.one_at_a_time([rs.load_model(SMALL), LARGE], both, ten, none)

    expected = rs.compare(SMALL, LARGE, texts, n_rows=200)
    loaded, load = [], extraction.load_model

    def alone(name):
        gc.collect()
        assert [model for model in loaded if model() is not None] == [], "the model before is still there"
        model = load(name)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(extraction, "load_model", alone)
    for module in (extraction, cost):
        monkeypatch.setattr(module, "one_at_a_time", lambda *_: True)
    assert rs.compare(SMALL, LARGE, texts, n_rows=200).identical(expected)
    assert len(loaded) == 4
    about = estimate(SMALL, LARGE, n_rows=200)
    assert "one model at a time" in str(about)
    assert about.peak < replace(about, one_at_a_time=False).peak


def test_batches_are_as_large_as_widths_and_memory_let_them(models):
    small, large = map(shape_of, models)
    wide = replace(small, d_model=4096, d_mlp=16384)
    assert extraction.tokens_per_batch(small) == extraction.MAX_BATCH_TOKENS
    assert extraction.tokens_per_batch(wide) == extraction.MLP_BYTES["cpu"] // (4 * 16384)
    assert extraction.tokens_per_batch(wide, "cuda") > extraction.tokens_per_batch(wide)
    assert extraction.tokens_per_batch(large, memory_limit=100 * large.token_bytes) == 10
    assert extraction.tokens_per_batch(wide, memory_limit=1) == 1


def test_without_a_trial_there_is_no_time(models):
    about = expected_bytes([shape_of(models[0])], [[0, 1]], get_measure("cka"), Sampling(n_rows=10))
    assert about.seconds is None
    assert "time" not in str(about)
    assert about.result == 8 * 4


def test_more_rows_cost_more_time(models, texts, monkeypatch):
    def one_second(work):  # a busy machine would decide
        work()
        return 1.0

    monkeypatch.setattr(cost, "_timed", one_second)
    little, much = (estimate(*models, texts, n_rows=n, trial=True) for n in (50, 3000))
    assert much.seconds > 2 * little.seconds


def test_available_memory_is_what_the_system_or_the_container_leaves(monkeypatch):
    assert 10**7 < available_memory() < 10**14
    monkeypatch.setattr(memory, "_container_headroom", lambda: 12345)
    assert available_memory() == 12345
    monkeypatch.setattr(memory, "_free", lambda: None)
    monkeypatch.setattr(memory, "_container_headroom", lambda: None)
    assert available_memory() is None
    assert Estimate("cka", 10**9, 10**15, 10**3, 8, None).route == "memory"
    assert "unknown" in str(Estimate("cka", 10**9, 10**15, 10**3, 8, None))


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("0::/", {".": ("max", 500, 0)}, None),
        ("0::/a/b", {".": ("max", 500, 0), "a": (1000, 900, 300), "a/b": ("max", 100, 0)}, 400),
        ("0::/a", {".": (1000, 900, 0)}, 100),  # the group mounted at the top
        ("5:cpu:/x\n4:memory:/a", {"memory": (2**63, 500, 0), "memory/a": (1000, 900, 300)}, 400),
        (None, {".": (1000, 1100, 0)}, 0),
    ],
)
def test_a_container_leaves_what_its_groups_do_and_what_they_keep_of_files(tmp_path, monkeypatch, own, files, left):
    for folder, (most, used, kept) in files.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        old = folder.startswith("memory")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
        for name, value in zip(names, (most, used), strict=True):
            (tmp_path / folder / name).write_text(f"{value}\n")
        told = f"anon 5\n{'total_' if old else ''}inactive_file {kept}\n"
        (tmp_path / folder / "memory.stat").write_text(told)
    if own is not None:
        (tmp_path / "own").write_text(own + "\n")
    monkeypatch.setattr(memory, "CGROUPS", str(tmp_path), raising=False)
    monkeypatch.setattr(memory, "OWN_CGROUPS", str(tmp_path / "own"), raising=False)
    assert memory._container_headroom() == left
