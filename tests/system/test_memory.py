"""How much memory there is, on every system."""

from collections import namedtuple

import psutil
import pytest

from repsim_nb.system import memory
from repsim_nb.system.memory import SHARE, available_memory, limit_bytes

# As psutil gives them: bytes in all, and those that can be given without swapping.
MacOS = namedtuple("svmem", "total available percent used free active inactive wired")
Windows = namedtuple("svmem", "total available percent used free")
SYSTEMS = {
    "macOS": MacOS(16 * 10**9, 4 * 10**9, 75.0, 9 * 10**9, 10**8, 4 * 10**9, 39 * 10**8, 2 * 10**9),
    "Windows": Windows(8 * 10**9, 3 * 10**9, 62.5, 5 * 10**9, 3 * 10**9),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_available_memory_is_what_other_systems_leave_not_all_they_have(monkeypatch, tmp_path, system):
    told = SYSTEMS[system]
    monkeypatch.setattr(psutil, "virtual_memory", lambda: told)
    monkeypatch.setattr(memory, "CGROUPS", str(tmp_path / "no such folder"))
    monkeypatch.setattr(memory, "OWN_CGROUPS", str(tmp_path / "no such file"))
    monkeypatch.delattr("os.sysconf", raising=False)  # Windows has none
    monkeypatch.delenv(memory.LIMIT, raising=False)
    assert available_memory() == told.available
    assert limit_bytes(None) == SHARE * told.available


@pytest.mark.skipif(not memory.Path("/proc/meminfo").exists(), reason="Linux")
def test_available_memory_is_what_the_kernel_says_on_linux():
    lines = dict(line.split(":") for line in memory.Path("/proc/meminfo").read_text().splitlines())
    assert memory._free() == pytest.approx(int(lines["MemAvailable"].split()[0]) * 1024, rel=0.2)


def test_available_memory_is_unknown_where_the_system_does_not_tell(monkeypatch):
    def hidden():
        raise OSError("no /proc")

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    monkeypatch.setattr(memory, "_container_headroom", lambda: None)
    assert available_memory() is None
    assert limit_bytes(None) is None or memory.os.environ.get(memory.LIMIT)


def test_a_container_that_leaves_less_than_the_system_counts(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SYSTEMS["macOS"])
    monkeypatch.setattr(memory, "_container_headroom", lambda: 10**9)
    assert available_memory() == 10**9
