"""`repsim-nb compare` and `stitch`: every option that a shell can write, checked before the heavy work."""

import inspect
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import repsim_nb
from repsim_nb.activations import Sampling
from repsim_nb.cli.command import main
from repsim_nb.models import Packing
from tests.support.command_line import refused

# Arguments of `compare` that its command gives even where nothing is asked, each with its default.
DEFAULTS = {
    name: Packing("documents") if name == "packing" else parameter.default
    for name, parameter in inspect.signature(repsim_nb.compare).parameters.items()
    if name not in ("a", "b", "corpus", "measure", "groups")
}


class Compared(SimpleNamespace):
    """Stands in for the heavy half of the package."""

    def estimate(self, a, b, corpus, measure, **how):
        self.estimated.append((a, b))
        Sampling(corpus, n_rows=how["n_rows"])
        return f"{measure.name} of {how['n_rows']} rows"

    def compare(self, a, b, corpus, measure, **how):
        self.asked = (a, b, corpus, repr(measure), how)
        dims = {"layer_a": [0, 1, 2], "layer_b": [0, 1, 2]}
        return xr.DataArray(np.eye(3), coords=dims, dims=tuple(dims), name=measure.name)


@pytest.fixture
def compared(monkeypatch):
    stand_in = Compared(estimated=[], asked=None)
    for name in ("estimate", "compare"):
        monkeypatch.setitem(vars(repsim_nb), name, getattr(stand_in, name))
    return stand_in


def test_compare_writes_a_table_and_says_what_it_did(capsys, tmp_path, compared):
    options = ["--n-rows", "64", "--seed", "3", "--layers-a", "0,2"]
    assert main(["compare", "a", "b", *options, "--out", str(tmp_path / "x.nc")]) == 0
    *asked, how = compared.asked
    assert asked == ["a", "b", None, repr(repsim_nb.get_measure("cka"))]
    assert how == {**DEFAULTS, "layers_a": [0, 2], "n_rows": 64, "seed": 3}
    estimate, summary = capsys.readouterr().out.splitlines()
    assert estimate == "cka of 64 rows"
    assert summary == f"cka from 0.0000 to 1.0000, mean 0.3333 -> {tmp_path / 'x.nc'}"
    with xr.open_dataarray(tmp_path / "x.nc") as stored:
        assert stored.name == "cka"
        assert stored.sel(layer_a=1, layer_b=1) == 1

    assert main(["compare", "a", "b", "--out", str(tmp_path / "x.csv")]) == 0
    assert pd.read_csv(tmp_path / "x.csv").columns.tolist() == ["layer_a", "layer_b", "cka"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.nc"]


# Every option of `compare` that a shell can write, with another value than its default.
WRITTEN = {
    ("--site", "mlp_out"): {"site": "mlp_out"},
    ("--rows", "last"): {"rows": "last"},
    ("--n-rows", "2e3"): {"n_rows": 2000},
    ("--rows-per-document", "3"): {"rows_per_document": 3},
    ("--seed", "-1"): {"seed": -1},
    ("--packing", "packed"): {"packing": Packing("packed")},
    ("--packing", "packed:128"): {"packing": Packing("packed", 128)},
    ("--packing", "documents:64:no-bos"): {"packing": Packing("documents", 64, False)},
    ("--packing", "packed:bos"): {"packing": Packing("packed", None, True)},
    ("--null", "moments"): {"null": "moments"},
    ("--null", "99"): {"null": 99},
    ("--interval", "0.9"): {"interval": 0.9},
    ("--interval", "true"): {"interval": True},
    ("--between-documents",): {"between_documents": True},
    ("--leave-out-first", "1"): {"leave_out_first": 1},
    ("--leave-out-norms", "2.5"): {"leave_out_norms": 2.5},
    ("--standardize",): {"standardize": True},
    ("--remove-components", "2"): {"remove_components": 2},
    ("--store", "kept"): {"store": "kept"},
    ("--store", "true"): {"store": True},
    ("--memory-limit", "4e9"): {"memory_limit": 4 * 10**9},
    ("--batch-tokens", "512"): {"batch_tokens": 512},
    ("--layers-b", "-1,0"): {"layers_b": [-1, 0]},
}


@pytest.mark.parametrize(("words", "value"), WRITTEN.items(), ids=" ".join)
def test_compare_takes_every_option_and_writes_it_as_it_is_read(tmp_path, compared, words, value):
    from repsim_nb.runs.command_options import COMPARISON

    assert main(["compare", "a", "b", *words, "--out", str(tmp_path / "x.nc")]) == 0
    assert compared.asked[-1] == DEFAULTS | value
    ((name, read),) = value.items()
    if name in COMPARISON and words != ("--n-rows", "2e3") and name != "memory_limit":
        assert COMPARISON[name].words(read) == list(words)
    assert {name for options in WRITTEN.values() for name in options} >= set(COMPARISON) - {"executor"}


@pytest.mark.parametrize(
    ("words", "params"),
    [
        (["rtd", "-p", "seed", "3", "-p", "points", "20"], {"seed": 3, "points": 20}),
        (["cka", "-p", "kernel", "rbf", "-p", "bandwidth", "0.5"], {"kernel": "rbf", "bandwidth": 0.5}),
        (["cka", "-p", "debiased", "false", "-p", "batch", "none"], {"debiased": False}),
        (["svcca", "-p", "components", "4"], {"components": 4}),
    ],
)
def test_compare_configures_its_measure_as_the_measure_declares(tmp_path, compared, words, params):
    assert main(["compare", "a", "a", "--measure", *words, "--out", str(tmp_path / "x.nc")]) == 0
    assert compared.asked[3] == repr(repsim_nb.get_measure(words[0], **params))
    assert compared.asked[:2] == ("a", None)


def test_stitch_takes_every_option_of_the_table(monkeypatch, tmp_path):
    from repsim_nb import stitching
    from repsim_nb.runs import command_options as options

    def table(*given, **how):
        asked.append((given, how))
        return SimpleNamespace(penalty=np.zeros(4))

    asked = []
    monkeypatch.setattr(stitching, "stitching_table", table)
    words = "--map low_rank --rank 4 --steps 50 --warmup 5 --n-fit 64 --n-report 32 --shuffle --seed 2 --race 0.5"
    words += " --into 0,2 --controls self,untrained --measures cka,rsa"
    out = tmp_path / "table.nc"
    assert main(["stitch", "a", "b", *words.split(), "--layers", "1", "--corpus", "mine", "--out", str(out)]) == 0
    how = {"map": "low_rank", "fit": "gradient", "seed": 2, "rank": 4, "steps": 50, "warmup": 5}
    how |= {"n_fit": 64, "n_report": 32, "shuffle": True, "race": 0.5}
    apart = {"into": [0, 2], "controls": ["self", "untrained"], "measures": ["cka", "rsa"]}
    assert asked == [((["a", "b"], ["a", "b"], [1], "mine"), {**how, **apart, "out": out, "executor": None})]
    assert set(options.STITCHES) - {"executor"} == set(how)


def test_population_takes_every_option_of_compare_models(monkeypatch, tmp_path):
    from repsim_nb.runs import command_options as options

    def table(*given, **how):
        asked.append((given, how))
        dims = ("layer", "model_a", "model_b")
        return xr.Dataset({"cka": (dims, np.zeros((2, 3, 3))), "rsa": (dims, np.ones((2, 3, 3)))})

    asked, estimated = [], []
    monkeypatch.setitem(vars(repsim_nb), "compare_models", table)
    monkeypatch.setitem(vars(repsim_nb), "estimate_models", lambda *given, **how: estimated.append(how))
    monkeypatch.setitem(vars(repsim_nb), "load_corpus", lambda name, split: f"{name} {split}")
    how = {
        **{"site": "attn_out", "rows": "mean", "n_rows": 64, "rows_per_document": 2, "seed": -3},
        **{"packing": repsim_nb.Packing("packed", 32), "between_documents": True, "leave_out_first": 1},
        **{"leave_out_norms": 5.5, "standardize": True, "remove_components": 2, "store": "kept"},
        **{"memory_limit": 4 * 10**9, "batch_tokens": 512, "null": 99},
    }
    words = [word for name, value in how.items() for word in options.POPULATION[name].words(value)]
    out = tmp_path / "table.nc"
    command = ["population", "a", "b", "c", *words, "--layers", "1,2", "--corpus", "mine", "--out", str(out)]
    parameters = ["-p", "rsa.outer", "kendall", "-p", "cka.debiased", "False"]
    assert main([*command, "--measures", "cka,rsa", *parameters]) == 0
    ((given, received),) = asked
    measures = [repsim_nb.get_measure("cka", debiased=False), repsim_nb.get_measure("rsa", outer="kendall")]
    assert repr(given) == repr((["a", "b", "c"], measures, "mine None"))
    assert received == {**how, "layers": [1, 2], "executor": None}
    assert set(options.POPULATION) - {"executor"} == set(how)
    assert estimated == [{name: value for name, value in received.items() if name not in ("executor", "store")}]
    with xr.open_dataset(out, engine="h5netcdf") as stored:
        assert stored.rsa.values.sum() == 18


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x.csv"], "must end in .nc"),
        (["--out", "missing/x.nc"], "no such file or directory"),
        (["--measures", "cka,rsaa"], "Did you mean 'rsa'?"),
        (["--measures", "cka,rsa", "-p", "procrustes.x", "1"], "with a measure of cka, rsa"),
        (["--measures", "cka,rsa", "-p", "debiased", "False"], "expected -p MEASURE.NAME VALUE"),
        (["--measures", "cka,rsa", "-p", "cka.debias", "False"], "Did you mean 'debiased'?"),
        (["--layers", "0,last"], "'all', 'last', 'relative', 'best'"),
        (["--corpus", "python-docs", "--corpus", "python-docs"], "one corpus twice"),
        (["--split", "train"], "--corpus"),
        (["--shard", "3/2"], "I from 1 to N"),
        (["--shard", "1/2"], "store= (models)"),
        (["--shard", "1/2", "--store", "kept", "--executor", "dask"], "Give one of them"),
    ],
    ids=" ".join,
)
def test_population_refuses_before_the_heavy_work(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in words else ["--out", "x.nc"]
    assert message in refused(capsys, "population", "tiny-neox-w32-d2", "tiny-neox-w64-d2", *words, *out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--out": "x.txt"}, ".nc, .csv, .svg, .png"),
        ({"--out": "missing/x.nc"}, "no such file or directory"),
        ({"--out": "file/x.nc"}, "not a directory"),
        ({"--measure": "ckaa"}, "Did you mean 'cka'?"),
        ({"--layers-a": "0,last"}, "'0,last'"),
        ({"--n-rows": "many"}, "'n_rows' expects int, received 'many'"),
        ({"--seed": "1.5"}, "'seed' expects int"),
        ({"--packing": "packed:128:boss"}, "such as packed:128:bos"),
        ({"--packing": "pakced"}, "Did you mean 'packed'?"),
        ({"--split": "train"}, "--corpus"),
        ({"--measure": "rtd", "-p": ("sed", "3")}, "Unknown parameter of rtd 'sed'. Did you mean 'seed'?"),
        ({"--measure": "rtd", "-p": ("seed", "x")}, "'seed' expects int, received 'x'"),
        ({"--measure": "rtd", "-p": ("seed", "-1")}, "seed must be an integer at least 0"),
        ({"--measure": "cka", "-p": ("groups", "3")}, "one value per row"),
        ({"--standardise": "yes"}, "--standardise"),
    ],
)
def test_compare_refuses_before_the_heavy_work(capsys, tmp_path, monkeypatch, compared, changes, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    given = ({"--out": "x.nc"} | changes).items()
    options = [word for name, value in given for word in (name, *([value] if isinstance(value, str) else value))]
    assert message in refused(capsys, "compare", "a", "b", *options)
    assert (compared.estimated, compared.asked) == ([], None)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_error_of_the_package_itself_is_not_dressed_up(monkeypatch, compared, tmp_path):
    monkeypatch.setitem(vars(repsim_nb), "compare", lambda *given, **how: {}["a"])
    with pytest.raises(KeyError):
        main(["compare", "a", "b", "--out", str(tmp_path / "x.nc")])


@pytest.mark.slow
def test_two_embedded_models_are_compared_for_real(capsys, tmp_path):
    command = ["compare", "tiny-neox-w32-d2", "tiny-neox-w64-d2", "--n-rows", "256", "--layers-a", "0,2"]
    for suffix in ("nc", "svg"):
        assert main([*command, "--out", str(tmp_path / f"maps.{suffix}")]) == 0
    assert "cka of 256 rows: in memory\n  weights    626 kB + 1.45 MB" in capsys.readouterr().out
    with xr.open_dataarray(tmp_path / "maps.nc", engine="h5netcdf") as stored:
        assert stored.dims == ("layer_a", "layer_b")
        assert stored.layer_a.values.tolist() == [0, 2]
        assert np.isfinite(stored).all()
    assert (tmp_path / "maps.svg").read_text().count("<svg") == 1

    assert "Layer 9 does not exist" in refused(capsys, *command[:-1], "9", "--out", str(tmp_path / "x.nc"))
    assert "Did you mean 'tiny-neox-w32-d" in refused(
        capsys, "compare", "tiny-neox-w32", "b", "--out", str(tmp_path / "x.nc")
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps.nc", "maps.svg"]
