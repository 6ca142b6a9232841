"""One spawned pool and one local Dask cluster for all tests of this folder, which one process of pytest runs."""

import pytest

from tests.support.clusters import dask, spawned


@pytest.fixture(scope="session")
def pool():
    with spawned() as executor:
        yield executor


@pytest.fixture(scope="session")
def cluster():
    with dask() as executor:
        yield executor


@pytest.fixture(params=["pool", "cluster"])
def elsewhere(request):
    return request.getfixturevalue(request.param)
