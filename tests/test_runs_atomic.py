"""A file or a folder is there completely or not at all."""

import pytest

from repsim_nb import resources
from repsim_nb.atomic import OutputError, atomic, atomic_folder, writable


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


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for path, reason in [("file/x.nc", "not a directory"), ("missing/x.nc", "no such file"), (".", "is a folder")]:
        with pytest.raises(OutputError, match=reason):
            writable(tmp_path / path)
    with pytest.raises(OutputError, match="Cannot make the folder"), atomic(tmp_path / "file" / "x.nc"):
        pytest.fail("the block must not run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_folder_of_the_installation_is_named(monkeypatch, tmp_path):
    assert resources.notebooks_dir().is_dir()
    assert resources.data_dir().is_dir()
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path)
    with pytest.raises(FileNotFoundError, match="lacks its folder data/"):
        resources.data_dir()
