"""Two processes share a sweep, or a stitching table, in one folder: nothing is lost and nothing is done twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.cli.command import main
from repsim_nb.system.shard import Shard, ShareDone
from tests.support.notebook_files import write

SAVE = """\
import os, time
from repsim_nb.runs import output_dir
with open(os.environ["LOG"], "a") as log: print("start", k, file=log)
if k == 4 and not os.path.exists(os.environ["LOG"] + ".mended"): time.sleep(100)
(output_dir() / "values.csv").write_text(f"layer,value\\n0,{k * 10}\\n")
with open(os.environ["LOG"], "a") as log: print("end", k, file=log)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_two_shares_of_a_sweep_at_once_lose_nothing_when_one_is_killed_and_started_again(tmp_path):
    path, log, out = write(tmp_path, "nb", SAVE, parameters="k: int = 0\n"), tmp_path / "log", tmp_path / "out"
    command = [sys.executable, "-m", "repsim_nb", "sweep", str(path), "-p", "k", "1,2,3,4", "--out", str(out)]
    own = {**os.environ, "LOG": str(log), "PYTHONPATH": str(Path(rs.__file__).parent.parent)}

    def share(number):
        return subprocess.Popen([*command, "--jobs", "1", "--shard", f"{number}/2"], env=own, cwd=tmp_path, stdout=-1)

    with share(1) as one, share(2) as two:
        while not (log.exists() and "start 4" in log.read_text()):
            assert two.poll() is None
            time.sleep(0.05)
        two.send_signal(signal.SIGKILL)
        two.wait()
        log.with_name("log.mended").touch()
        with share(2) as again:
            said = again.communicate()[0].decode()
        one.communicate()
    assert (one.returncode, again.returncode) == (0, 0)
    assert "Share 2 of 2 is done, 2 of 4 units" in said
    assert not (out / "sweep.csv").exists()
    before = log.read_text()
    assert sorted(line for line in before.splitlines() if "end" in line) == ["end 1", "end 2", "end 3", "end 4"]
    assert main(command[3:]) == 0
    assert log.read_text() == before, "the last call only collects"
    assert pd.read_csv(out / "sweep.csv").status.tolist() == ["done"] * 4
    assert pd.read_csv(out / "tables" / "values.csv").value.tolist() == [10, 20, 30, 40]


def test_shares_of_a_stitching_table_are_collected_by_a_call_without_one(tmp_path, capsys):
    out, names = tmp_path / "table.nc", ["tiny-neox-w32-d2", "tiny-neox-w64-d2"]
    how = {"fit": "least_squares", "n_fit": 16, "n_report": 4}
    command = ["stitch", *names, "--layers", "1", "--fit", "least_squares", "--n-fit", "16", "--n-report", "4"]
    assert main([*command, "--out", str(out), "--shard", "1/2"]) == 0
    assert "Share 1 of 2 is done, 2 of 4 units" in capsys.readouterr().out
    with pytest.raises(ShareDone, match="Share 2 of 2"):
        rs.stitching_table(names, names, 1, **how, out=out, executor=Shard(2, 2))
    cells = list(tmp_path.glob(".table.nc.*/*.json"))
    assert len(cells) == 4
    assert not out.exists()
    marked = cells[0].read_text().replace('"steps": 0', '"steps": 7')
    cells[0].write_text(marked)
    table = rs.stitching_table(names, names, 1, **how, out=out)
    assert sorted(table.steps.values.ravel().tolist()) == [0, 0, 0, 7], "read, not fitted again"
    assert list(tmp_path.iterdir()) == [out]


def test_shares_of_a_population_fill_its_store_and_a_call_without_one_compares(tmp_path, capsys):
    names = ["tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-neox-w128-d2"]
    out, store = tmp_path / "table.nc", tmp_path / "store"
    command = ["population", *names, "--measures", "cka", "--n-rows", "60", "--store", str(store), "--out", str(out)]
    for number in (1, 2):
        assert main([*command, "--shard", f"{number}/2"]) == 0
        assert f"Share {number} of 2 is done, {3 - number} of 3 units" in capsys.readouterr().out
        assert len(list(store.glob("*.safetensors"))) == (2, 3)[number - 1]
    assert not out.exists()
    before = {path: path.read_bytes() for path in store.glob("*.safetensors")}
    assert main(command) == 0
    assert "cka of 3 models at 3 layers" in capsys.readouterr().out
    with xr.open_dataset(out, engine="h5netcdf") as table:
        xr.testing.assert_equal(table, rs.compare_models(names, "cka", n_rows=60))
    assert {path: path.read_bytes() for path in store.glob("*.safetensors")} == before
