"""A notebook that needs what cannot be downloaded is skipped; whatever else goes wrong is a failure."""

import pytest

import repsim_nb as rs
from repsim_nb.cli.command import main
from repsim_nb.errors import InputError
from repsim_nb.runs import RunError, run_notebook
from repsim_nb.runs.failures import Failure, first
from repsim_nb.runs.results_folder import read_record
from tests.support.notebook_files import save, write

NEEDS = "from repsim_nb.errors import UnreachableError\nif n_rows != 1:\n    raise UnreachableError('no index <here>')"
WHY = "no index <here>"


def visible(folder):
    return sorted(path.name for path in folder.iterdir())


def test_run_notebook_skips_what_cannot_be_downloaded_and_leaves_the_earlier_run(tmp_path):
    path, out = write(tmp_path, "nb", save("one"), NEEDS, "print('never')"), tmp_path / "out"
    assert not run_notebook(path, {"n_rows": 1}, out).skipped
    run = run_notebook(path, {}, out)
    assert run.skipped == WHY
    assert run.folder == out / "nb.skipped"
    assert run.notebook.is_file()
    assert visible(out) == ["index.html", "nb", "nb.skipped"]
    record = read_record(run.folder)
    assert (record["status"], record["skipped"], "error" in record) == ("skipped", WHY, False)
    assert read_record(out / "nb")["status"] == "done"
    assert "Skipped: no index &lt;here&gt;" in (out / "index.html").read_text()

    run_notebook(path, {"n_rows": 1}, out)
    assert visible(out) == ["index.html", "nb"], "a run that reaches its end removes the skipped one"


def test_run_notebook_keeps_one_folder_of_the_last_run_that_did_not_reach_its_end(tmp_path):
    write(tmp_path, "nb", "1 / 0")
    with pytest.raises(RunError, match="ZeroDivisionError"):
        run_notebook(tmp_path / "nb.ipynb", {}, tmp_path / "out")
    assert read_record(tmp_path / "out" / "nb.failed")["status"] == "failed"
    write(tmp_path, "nb", NEEDS)
    assert run_notebook(tmp_path / "nb.ipynb", {}, tmp_path / "out").skipped
    assert visible(tmp_path / "out") == ["index.html", "nb.skipped"]
    write(tmp_path, "nb", "1 / 0")
    with pytest.raises(RunError):
        run_notebook(tmp_path / "nb.ipynb", {}, tmp_path / "out")
    assert visible(tmp_path / "out") == ["index.html", "nb.failed"]


def test_run_notebook_fails_on_a_wrong_file(tmp_path):
    wrong = "from repsim_nb.errors import InputError\nraise InputError('has the sha256 1; expected 2')"
    with pytest.raises(RunError, match="InputError: has the sha256 1"):
        run_notebook(write(tmp_path, "nb", wrong), {}, tmp_path)


@pytest.mark.parametrize("name", ["nb.skipped", "nb.failed"])
def test_run_notebook_refuses_the_names_of_runs_that_did_not_reach_their_end(tmp_path, name):
    with pytest.raises(InputError, match=f"'{name}' is reserved"):
        run_notebook(write(tmp_path, "nb", "1"), {}, tmp_path, folder=name)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_repsim_nb_run_ends_with_0_when_a_notebook_is_skipped(tmp_path, capsys, jobs):
    paths = [write(tmp_path, "fine", save("one")), write(tmp_path, "needs", NEEDS)]
    assert main(["run", *map(str, paths), "--jobs", jobs, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert f"needs: skipped: {WHY}" in printed.out
    assert printed.err == ""
    assert visible(tmp_path / "out") == ["fine", "index.html", "needs.skipped"]


def test_sweep_notebook_runs_skipped_cells_again(tmp_path):
    code = NEEDS.replace("n_rows != 1", "n_rows == 2 and not __import__('os').path.exists('../../index')")
    path, out = (
        write(tmp_path, "nb", save("values"), code.replace("../../index", str(tmp_path / "index"))),
        tmp_path / "out",
    )
    table = rs.sweep_notebook(path, {"n_rows": [1, 2]}, out)
    assert table.status.tolist() == ["done", "skipped"]
    assert table.error.tolist() == ["", WHY]
    assert table.exit_code.tolist() == [0, 0]
    assert table.folder.tolist() == ["n_rows=1", "n_rows=2.skipped"]
    assert main(["sweep", str(path), "-p", "n_rows", "1,2", "--out", str(out)]) == 0
    (tmp_path / "index").touch()
    assert rs.sweep_notebook(path, {"n_rows": [1, 2]}, out).status.tolist() == ["done", "done"]
    assert "n_rows=2.skipped" not in visible(out)


def test_first_is_what_is_missing_only_when_nothing_else_went_wrong():
    shown, raised = Failure("inside a widget", "no index"), Failure("in cell 3 of 4", "UnreachableError: no index")
    other = Failure("in cell 1 of 4", "ZeroDivisionError: division by zero")
    assert first([]) is None
    assert first([shown, raised]).unreachable == "no index"
    assert first([other, raised]) is other
    assert first([other]).unreachable == ""
