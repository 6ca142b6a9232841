"""What all tests share: offline, one thread, an isolated cache, figures without a screen."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"
os.environ["JUPYTER_PLATFORM_DIRS"] = "1"
if hasattr(os, "fork"):  # workers of Dask come from a process that has imported everything, see tests.support.clusters
    os.environ["DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD"] = "forkserver"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One worker runs the tests of a file, which share fixtures, or of a folder that shares a server or a cluster."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return next((folder for folder in ("browser", "cluster") if f"/{folder}/" in file), file)

    return Scheduling(config, log)
