"""A driver that is killed while a cluster works is started again, and does nothing again that was finished."""

import json
import multiprocessing
import sys
import time
from unittest.mock import patch

import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.cli.command import main
from tests.support.notebook_files import write

NAMES = ["tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-neox-w128-d2"]  # more than there are workers
FIT = {"fit": "least_squares", "n_fit": 16, "n_report": 4}
DOCUMENTS = [f"def function_{k}(x):\n    return x + {k}\n" * (5 + k % 7) for k in range(120)]  # little to tokenize
CELL = """\
import pathlib, time
from repsim_nb.runs import output_dir
while k == 2 and not pathlib.Path(go).exists(): time.sleep(0.05)
(output_dir() / "values.csv").write_text(f"layer,k\\n0,{k * 10}\\n")
"""


def corpus(folder):
    file = folder / "corpus.txt"
    file.write_text("\n\n".join(DOCUMENTS), encoding="utf-8")
    return str(file)


class Stitches:
    finished = "out/.table.nc*/*.json"

    def __init__(self, folder):
        self.out = self.result = folder / "out" / "table.nc"
        self.asked = {"layers": 1, "corpus": corpus(folder), **FIT}

    def words(self):
        fit = ["--fit", "least_squares", "--n-fit", "16", "--n-report", "4"]
        return ["stitch", *NAMES[:2], "--layers", "1", "--corpus", self.asked["corpus"], *fit]

    def again(self, executor):
        with patch("repsim_nb.stitching.kept_cells.shutil.rmtree"):
            return rs.stitching_table(NAMES[:2], NAMES[:2], **self.asked, out=self.out, executor=executor)

    def alone(self):
        return rs.stitching_table(NAMES[:2], NAMES[:2], **self.asked)


class Population:
    finished = "store/*.safetensors"

    def __init__(self, folder):
        self.out = self.result = folder / "out" / "table.nc"
        self.store = folder / "store"
        self.asked = ("cka", corpus(folder)), {"n_rows": 800}

    def words(self):
        (measure, text), _ = self.asked
        options = ["--measures", measure, "--corpus", text, "--n-rows", "800", "--store", str(self.store)]
        return ["population", *NAMES, *options]

    def again(self, executor):
        named, options = self.asked
        return rs.compare_models(NAMES, *named, **options, store=self.store, executor=executor)

    def alone(self):
        named, options = self.asked
        return rs.compare_models(NAMES, *named, **options)


class Sweep:
    finished = "out/k=?,*/values.csv"

    def __init__(self, folder):
        self.out, self.go = folder / "out", folder / "go"
        self.result = self.out / "sweep.csv"
        self.notebook = write(folder, "nb", CELL, parameters="k: int = 1\ngo: str = ''\n")

    def words(self):
        return ["sweep", str(self.notebook), "-p", "k", "1,2", "-p", "go", str(self.go)]

    def again(self, executor):
        self.go.touch()
        return self._table(rs.sweep_notebook(self.notebook, self._grid, self.out, executor=executor))

    def alone(self):
        return self._table(rs.sweep_notebook(self.notebook, self._grid, self.out.with_name("alone"), jobs=2))

    @property
    def _grid(self):
        return {"k": [1, 2], "go": [str(self.go)]}

    def _table(self, found):
        return xr.Dataset.from_dataframe(found.drop(columns="seconds"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("kind", [Stitches, Population, Sweep])
def test_a_driver_killed_while_a_cluster_works_is_started_again_and_finds_what_was_finished(kind, cluster, tmp_path):
    (tmp_path / "out").mkdir()
    call, about = kind(tmp_path), tmp_path / "scheduler.json"
    about.write_text(json.dumps({"address": cluster._client.scheduler.address}), encoding="utf-8")
    words = [*call.words(), "--out", str(call.out), "--executor", f"dask:{about}"]
    driver = multiprocessing.get_context("forkserver").Process(target=main, args=(words,))

    def finished():
        whole = [path for path in tmp_path.glob(kind.finished) if not path.name.startswith(".")]  # others are drafts
        return {path: path.stat().st_ino for path in whole}

    driver.start()
    while not finished():
        assert driver.exitcode is None
        time.sleep(0.01)
    driver.kill()
    driver.join()
    before = finished()
    assert not call.result.exists()
    table = call.again(cluster)
    after = finished()
    assert before.items() <= after.items(), "a file that was written again is another file"
    xr.testing.assert_equal(table, call.alone())
