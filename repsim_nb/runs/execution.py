"""Run one notebook from start to end, into a folder that appears only if the whole run succeeds."""

import logging
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from repsim_nb.errors import InputError
from repsim_nb.runs.failures import Failure, failures, first
from repsim_nb.runs.failures import place as place_of
from repsim_nb.runs.index import write_index
from repsim_nb.runs.interpreter import needs_notebooks
from repsim_nb.runs.notebook_parameters import check
from repsim_nb.runs.notebooks import Notebook, calling, find_notebook
from repsim_nb.runs.provenance import provenance
from repsim_nb.runs.results_folder import FAILED, RUN_DIR, SKIPPED, figures, replaceable, tables, write_record
from repsim_nb.runs.status_line import Progress
from repsim_nb.system.atomic import atomic, atomic_folder, release, replace_folder

STARTS = 3  # attempts to start a kernel
UNBORN = "before replying to kernel_info"  # what jupyter_client says of a kernel that has run nothing


@dataclass(frozen=True)
class Run:
    """A notebook that ran without an error, and its outputs, or one that was skipped."""

    name: str
    folder: Path
    notebook: Path  #: the executed copy
    seconds: float  #: wall time
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    skipped: str = ""  #: what cannot be downloaded, if the notebook needs it; `folder` then holds the executed copy


class RunError(RuntimeError):
    """A notebook failed while running. `folder` holds its executed copy, `failure` says where and why."""

    def __init__(self, name: str, failure: Failure, folder: Path):
        self.name, self.failure, self.folder = name, failure, folder
        super().__init__(
            f"Notebook {name!r} failed {failure.place}: {failure.reason} (The executed copy is in {folder}.)"
        )


def run_notebook(
    name: str | Path,
    parameters: Mapping[str, Any] = MappingProxyType({}),
    out: str | Path = "results/",
    *,
    folder: str | None = None,
    progress: bool | None = None,
) -> Run:
    """Run a notebook in a fresh kernel of this interpreter, into `out/NAME/`, and update `out/index.html`.

    Parameters
    ----------
    name
        Name of a notebook that ships with the package (see `list_notebooks`), or the path of an .ipynb file.
    parameters
        Values for names in its parameters cell, of the types declared there.
    out
        Folder of all runs, created if missing. An earlier `out/NAME/` is replaced when this run has succeeded.
    folder
        Another name for `out/NAME/`.
    progress
        Whether to show the running cell on stderr; None means only in a terminal.

    Returns
    -------
    Run
        The executed notebook, its figures and tables. If it needs something that cannot be downloaded here, such as
        a model from a package index that cannot be reached, the run is skipped: `Run.skipped` says why,
        `out/NAME.skipped/` holds the executed copy, and `out/NAME/` stays unchanged.

    Raises
    ------
    InputError
        If the name, a parameter or the type of a value is wrong, or the folder cannot be written. Nothing runs then.
    MissingExtraError
        If papermill is not installed.
    FileNotFoundError
        If the notebook file does not exist.
    RunError
        If a cell or a widget fails. `out/NAME.failed/` then holds the executed copy, and `out/NAME/` stays unchanged.
    """
    needs_notebooks()
    notebook = find_notebook(name)
    values = check(notebook.parameters, parameters, notebook.name)
    label = folder or notebook.name
    if label.endswith((FAILED, SKIPPED)):
        raise InputError(f"The name {label!r} is reserved for folders of failed and skipped runs. Rename the notebook.")
    place, failed, skipped = (Path(out, label + suffix) for suffix in ("", FAILED, SKIPPED))
    for folder_of_run in (place, failed, skipped):
        replaceable(folder_of_run)
    try:
        with atomic_folder(place) as draft, closing(Progress(notebook.name, notebook.n_cells, progress)) as watch:
            record = _record(notebook, values)
            failure = _execute(notebook, values, draft, watch)
            record["seconds"] = round(watch.seconds, 2)
            if failure:
                folder_of_run = skipped if failure.unreachable else failed
                write_record(draft, record | _why(failure))
                release(draft)
                replace_folder(draft, folder_of_run)
                raise RunError(notebook.name, failure, folder_of_run)
            write_record(draft, record | {"status": "done"})
    except RunError as error:
        shutil.rmtree(failed if error.failure.unreachable else skipped, ignore_errors=True)
        write_index(out)
        if not error.failure.unreachable:
            raise
        return _run(notebook.name, skipped, record["seconds"], error.failure.unreachable)
    for folder_of_run in (failed, skipped):
        shutil.rmtree(folder_of_run, ignore_errors=True)
    write_index(out)
    return _run(notebook.name, place, record["seconds"])


def _why(failure: Failure) -> dict[str, str]:
    """How a run ended that did not reach its end, for its record."""
    if failure.unreachable:
        return {"status": "skipped", "skipped": failure.unreachable}
    return {"status": "failed", "error": f"{failure.place}: {failure.reason}"}


def _execute(notebook: Notebook, values: dict[str, Any], draft: Path, watch: Progress) -> Failure | None:
    """Write the executed copy to `draft`; return the first failure, if any."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    from repsim_nb.runs.kernel import this_interpreter

    logging.getLogger("papermill").addFilter(_is_relevant)
    given, executed = draft / ".given.ipynb", draft / ".executed.ipynb"  # papermill interprets some names as URLs
    shutil.copyfile(notebook.path, given)
    died = None
    try:
        for starts in range(STARTS):
            try:
                papermill.execute_notebook(
                    _literal(given),
                    _literal(executed),
                    values,
                    kernel_name="python3",
                    language="python",
                    progress_bar=False,
                    kernel_manager_class=this_interpreter({RUN_DIR: str(draft.resolve())}),
                    on_cell_start=watch,
                )
                break
            except RuntimeError as error:  # another process has taken a port of the kernel before it could
                if UNBORN not in str(error) or starts + 1 == STARTS:
                    raise
    except papermill.PapermillExecutionError:
        pass  # the error is in the executed copy, like those that papermill misses
    except DeadKernelError:
        died = "the kernel died, most likely because memory ran out"
    executed_notebook = _settle(executed, notebook, draft)
    given.unlink()
    if died:
        return Failure(place_of(executed_notebook["cells"], watch.cell), died)
    return first(failures(executed_notebook)) or _missing_outputs(executed_notebook["cells"], draft)


def _missing_outputs(cells: list[Any], draft: Path) -> Failure | None:
    """Report a save call that left no file in the folder of the run."""
    for save, saved in (("save_figure", figures), ("save_table", tables)):
        index = calling(cells, save)
        if index is not None and not saved(draft):
            reason = f"{save} was called, but the folder of the run contains no such file"
            return Failure(place_of(cells, index), reason)
    return None


def _settle(executed: Path, notebook: Notebook, draft: Path) -> Any:
    """The executed notebook, under its own name and with metadata that name the files as they are."""
    import nbformat

    executed_notebook = nbformat.read(executed, as_version=4)
    executed_notebook.metadata.papermill |= {"input_path": str(notebook.path), "output_path": f"{notebook.name}.ipynb"}
    with atomic(draft / f"{notebook.name}.ipynb") as path:
        nbformat.write(executed_notebook, path)
    executed.unlink()
    return executed_notebook


def _literal(path: Path) -> str:
    """papermill fills in `{name}` in paths."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _is_relevant(record: logging.LogRecord) -> bool:
    """Drop warnings about names, which are already checked, and about a dead kernel, which becomes a failure."""
    return not record.getMessage().startswith(("Passed unknown parameter", "Kernel died"))


def _record(notebook: Notebook, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "notebook": notebook.name,
        "notebook_sha256": notebook.sha256,
        "title": notebook.title,
        "claim": notebook.claim,
        "parameters": {parameter.name: parameter.default for parameter in notebook.parameters} | values,
        "given": sorted(values),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance(),
    }


def _run(name: str, folder: Path, seconds: float, skipped: str = "") -> Run:
    files = tuple(file for figure in figures(folder) for file in figure.files)
    return Run(name, folder, folder / f"{name}.ipynb", seconds, files, tuple(tables(folder)), skipped)
