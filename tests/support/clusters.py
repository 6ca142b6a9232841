"""Executors for tests: a spawned process pool and a local Dask cluster, of two workers each."""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

PRELOADED = [
    "distributed",
    "repsim_nb.comparison",
    "repsim_nb.depth",
    "repsim_nb.stitching",
    "transformers.models.auto",
]


@contextmanager
def spawned(workers=2):
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield pool


@contextmanager
def dask(workers=2):
    """An executor on a cluster of this machine, which nobody else can reach; a killed worker is replaced at once."""
    from distributed import Client, LocalCluster
    from distributed.utils import get_mp_context

    if get_mp_context().get_start_method() == "forkserver":
        get_mp_context().set_forkserver_preload(PRELOADED)

    own = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit="2GB", **own)
    with cluster, Client(cluster) as client:
        yield client.get_executor(pure=False, retries=2)


def die_once(mark):
    """Kill this process as a machine or the system would, unless the file says that it has been killed before."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
