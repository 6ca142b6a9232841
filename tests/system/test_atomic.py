"""A file or a folder is there completely or not at all."""

import errno
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from repsim_nb.runs import save_figure, save_table
from repsim_nb.system import atomic as module
from repsim_nb.system import shipped as resources
from repsim_nb.system.atomic import OWNER, OutputError, atomic, atomic_folder, claim, writable
from repsim_nb.system.netcdf import write_netcdf


def test_a_file_appears_when_the_block_ends_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "new folder" / "table.csv"
    for text in ("one", "two"):
        with atomic(path) as temporary:
            temporary.write_text(text)
            assert temporary.suffix == ".csv"
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_when_the_block_fails(tmp_path, error):
    (tmp_path / "old.csv").write_text("old")

    def fail(output, half):
        with output as temporary:
            half(temporary)
            raise error

    with pytest.raises(error):
        fail(atomic(tmp_path / "old.csv"), lambda path: path.write_text("half"))
    with pytest.raises(error):
        fail(atomic_folder(tmp_path / "new"), lambda folder: (folder / "half").touch())
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for name in ("one", "two"):
        with atomic_folder(tmp_path / "run.1") as folder:
            (folder / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["run.1", "run.1/two"]


def test_a_folder_that_several_replace_at_once_is_whole(tmp_path):
    def replace(name):
        for _ in range(50):
            with atomic_folder(tmp_path / "run") as folder:
                for part in "ab":
                    (folder / part).write_text(name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(replace, "1234"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert len({(tmp_path / "run" / part).read_text() for part in "ab"}) == 1


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for path, reason in [("file/x.nc", "not a directory"), ("missing/x.nc", "no such file"), (".", "is a folder")]:
        with pytest.raises(OutputError, match=reason):
            writable(tmp_path / path)
    with pytest.raises(OutputError, match="Cannot create the folder"), atomic(tmp_path / "file" / "x.nc"):
        pytest.fail("the block must not run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_folder_of_the_installation_is_named(monkeypatch, tmp_path):
    assert resources.notebooks_dir().is_dir()
    assert resources.data_dir().is_dir()
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path)
    with pytest.raises(FileNotFoundError, match="lacks its folder data/"):
        resources.data_dir()


def left_by(folder, name, owner, age=0.0):
    """A draft that a process has left there; None: none that says so."""
    draft = folder / name
    draft.mkdir(parents=True)
    claim(draft)
    host, pid, since = json.loads((draft / OWNER).read_text())
    told = {"dead": [host, 2**30, since], "reused": [host, pid, since - 9], "far": ["far", 1, 1.0]}
    (draft / OWNER).write_text(json.dumps(told.get(owner, [host, pid, since])))
    if owner is None:
        (draft / OWNER).unlink()
    os.utime(draft, (time.time() - age,) * 2)
    return draft


@pytest.mark.parametrize("target", ["x", "y z.1"])
def test_drafts_of_processes_that_are_gone_are_removed_by_whoever_writes_next(tmp_path, target):
    gone = [
        left_by(tmp_path, ".x.00000001.partial", "dead"),
        left_by(tmp_path, ".y z.00000002.partial.1", "reused"),
        left_by(tmp_path, ".x.00000003.partial", None, age=100),
    ]
    stay = [
        left_by(tmp_path, ".x.00000004.partial", "alive"),
        left_by(tmp_path, ".x.00000005.partial", "far"),
        left_by(tmp_path, ".x.00000006.partial", None),
        left_by(tmp_path, ".mine.partial", "dead"),  # no name of ours
        left_by(tmp_path, ".x.partial.d", "dead"),
    ]
    old, new = tmp_path / ".x.00000007.partial.csv", tmp_path / ".x.00000008.partial.csv"
    for file in (old, new):
        file.touch()
    os.utime(old, (1, 1))
    with atomic_folder(tmp_path / target) as draft:
        assert json.loads((draft / OWNER).read_text())[1] == os.getpid()
    assert list((tmp_path / target).iterdir()) == []
    assert [path for path in [*gone, old] if path.exists()] == []
    assert [path for path in [*stay, new] if not path.exists()] == []


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def in_rust(*_, **__):
    raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


def behind_another(*_, **__):
    try:
        no_space()
    except OSError as error:
        raise RuntimeError("something else") from error


@pytest.mark.parametrize("fails", [no_space, in_rust, behind_another])
@pytest.mark.parametrize("output", [atomic, atomic_folder])
def test_a_full_disk_is_said_in_one_line_whatever_library_meets_it(tmp_path, fails, output):
    def work():
        with output(tmp_path / "x"):
            fails()

    with pytest.raises(OutputError, match=r"Cannot write .*x: no space left on device\. Free some space"):
        work()
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_a_block_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError, match="of its own"), atomic(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "of its own")


def test_a_draft_is_not_taken_for_the_folder_of_a_killed_process_while_it_is_written(tmp_path):
    with atomic_folder(tmp_path / "one") as one, atomic_folder(tmp_path / "two") as two:
        os.utime(one, (1, 1))
        with atomic(tmp_path / "x.csv") as path:
            path.touch()
        assert one.is_dir()
        assert two.is_dir()


def test_write_netcdf_keeps_values_names_and_labels(tmp_path):
    table = xr.Dataset(
        {"cka": (("a", "b"), np.arange(6.0).reshape(2, 3), {"unit": "é"})},
        {"a": ["x", "ü"], "b": [1, 2, 3]},
        {"provenance": '{"a": 1}'},
    )
    write_netcdf(table, tmp_path / "new" / "table.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "new" / "table.nc", engine="h5netcdf"), table)
    write_netcdf(table.cka, tmp_path / "one.nc")
    xr.testing.assert_identical(xr.load_dataarray(tmp_path / "one.nc", engine="h5netcdf"), table.cka)


def test_what_a_notebook_saves_on_a_full_disk_is_refused(tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.setattr(module.os, "fsync", no_space)
    with pytest.raises(OutputError, match="no space left"):
        save_table(pd.DataFrame({"a": [1]}), "table", tmp_path)
    with pytest.raises(OutputError, match="no space left"):
        save_figure(plt.figure(), "figure", "A caption.", tmp_path)
    plt.close("all")
    with pytest.raises(OutputError, match="no space left"):
        write_netcdf(xr.DataArray([1.0], name="a"), tmp_path / "x.nc")
    assert list(tmp_path.iterdir()) == []
