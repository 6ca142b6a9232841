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
    """Tests that share a server, a cluster or something that takes long to make are run by one worker."""
    from xdist.scheduler import LoadScopeScheduling

    shared = (
        "/browser/",
        "/cluster/",
        "/docs/",
        "test_atlas.py",
        "test_diff.py",
        "test_download.py",
        "test_datasets.py",
    )

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return next((part for part in shared if part in nodeid), nodeid)

    return Scheduling(config, log)
