"""A local cluster is of this machine alone, and closed with its executor; one from the command line is joined."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.cli.command import main
from repsim_nb.errors import InputError
from repsim_nb.system.cluster import opened

NAMES = ["tiny-neox-w32-d2", "tiny-neox-w64-d2"]


def test_opened_starts_a_cluster_that_only_this_machine_can_reach():
    with opened("dask") as executor:
        assert executor.submit(pow, 2, 3).result() == 8
        own, workers = psutil.Process(), list(executor._client.run(os.getpid).values())
        sockets = [socket for pid in [own.pid, *workers] for socket in psutil.Process(pid).net_connections("inet")]
        listening = {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        processes = [psutil.Process(pid) for pid in workers]
        assert processes
    assert psutil.wait_procs(processes, timeout=60)[1] == []


def test_population_runs_on_the_scheduler_and_worker_that_the_recipe_starts(tmp_path, monkeypatch):
    """The commands of the page on clusters, without srun."""
    monkeypatch.chdir(tmp_path)
    dask, own = Path(sys.executable).with_name("dask"), {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = []

    def start(*words):
        given = [str(dask), *words, "--scheduler-file", "scheduler.json", "--no-dashboard"]
        started.append(subprocess.Popen(given, env={**os.environ, **own}, stdout=-3, stderr=-3))

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        start("worker", "--nworkers", "1", "--nthreads", "1", "--memory-limit", "2GB", "--local-directory", "own")
        while not (Path("scheduler.json").exists() and Path("scheduler.json").stat().st_size):
            assert started[0].poll() is None
            time.sleep(0.05)
        words = ["--measures", "cka", "--n-rows", "60", "--store", "kept", "--executor", "dask:scheduler.json"]
        assert main(["population", *NAMES, *words, "--out", "table.nc"]) == 0
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(60)
    assert len(list(tmp_path.glob("kept/*.safetensors"))) == 2
    with xr.open_dataset("table.nc", engine="h5netcdf") as table:
        xr.testing.assert_equal(table, rs.compare_models(NAMES, "cka", n_rows=60))


def test_opened_says_that_a_scheduler_wants_a_certificate(tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": "tls://127.0.0.1:9"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"no scheduler answers.*check your TLS configuration"), opened(f"dask:{file}"):
        pass
