"""Executors that a command line names: a Dask cluster of this machine, or one that a batch system has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from repsim_nb.errors import InputError, needs
from repsim_nb.system.memory import available_memory
from repsim_nb.system.shard import Shard

WORKER_BYTES = 2 * 10**9  # that a worker of a local cluster has at least, if there is that much
RETRIES = 2  # of a unit whose worker died
LOOPBACK = "127.0.0.1"  # workers run pickles, so nobody else may reach a local cluster
PATIENCE = 60  # seconds for a scheduler to answer


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def opened(text: str | None, shard: str | None = None) -> Iterator[Executor | None]:
    """Open the executor that a text names, and close what was opened for it.

    Parameters
    ----------
    text
        "dask" for a cluster of this machine, with as many workers as its cores and memory allow; "dask:FILE" for the
        cluster whose scheduler wrote this file (`dask scheduler --scheduler-file FILE`); None for none.
    shard
        I/N for a share of the units instead.

    Raises
    ------
    InputError
        The text names no executor, the file is missing, or no scheduler answers.
    MissingExtraError
        dask.distributed is not installed.
    """
    if text is not None and shard is not None:
        raise InputError(f"--executor {text} and --shard {shard} both say where units run. Give one of them.")
    if text is None:
        yield None if shard is None else Shard.parsed(shard)
        return
    kind, colon, file = text.partition(":")
    if kind != "dask" or (colon and not file):
        raise InputError(f"--executor {text}: expected dask, or dask:FILE with the file of a scheduler.")
    needs("--executor dask", "distributed", extra="cluster")
    from distributed import Client, LocalCluster

    if not file:
        with LocalCluster(**_of_this_machine()) as cluster, Client(cluster) as client:
            yield client.get_executor(pure=False, retries=RETRIES)
        return
    if not Path(file).is_file():
        raise InputError(f"--executor {text}: there is no file {file}. Start `dask scheduler --scheduler-file {file}`.")
    try:
        client = Client(scheduler_file=file, timeout=PATIENCE)
    except (OSError, ValueError, TypeError) as error:  # TypeError: its address is tls://, and no certificate is given
        raise InputError(f"--executor {text}: no scheduler answers at the address in {file}: {error}") from error
    with client:
        yield client.get_executor(pure=False, retries=RETRIES)


def _of_this_machine() -> dict[str, object]:
    """A cluster for the cores and the free memory, one thread per worker, reachable from this machine alone."""
    memory = available_memory()
    workers = cores() if memory is None else max(1, min(cores(), memory // WORKER_BYTES))
    return {
        "n_workers": workers,
        "threads_per_worker": 1,
        "memory_limit": "auto" if memory is None else memory // workers,
        "host": LOOPBACK,
        "dashboard_address": f"{LOOPBACK}:0",  # any free port, since the usual one may be taken
        "worker_dashboard_address": f"{LOOPBACK}:0",
    }
