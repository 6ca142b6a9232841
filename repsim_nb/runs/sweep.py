"""Run one notebook over a grid of parameter values: in parallel, within limits, resuming after an interruption.

DIR/n_rows=512,seed=0/       the folder of one run, complete or absent, like that of `repsim-nb run`
DIR/n_rows=512,seed=1.failed/
DIR/sweep.csv                a line per cell: parameters, status, exit code, seconds, error
DIR/tables/STEM.csv          STEM.csv of all runs, concatenated, with the parameters as columns
DIR/index.html               all figures
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError, check_effect
from repsim_nb.runs.cells import Cell, run_cells
from repsim_nb.runs.index import write_index
from repsim_nb.runs.interpreter import needs_notebooks
from repsim_nb.runs.notebook_parameters import Parameter, ParameterError, check, match, takes_lists
from repsim_nb.runs.notebooks import Notebook, find_notebook
from repsim_nb.runs.results_folder import FAILED, SKIPPED, replaceable, tables
from repsim_nb.system.atomic import atomic, make_folder, writable
from repsim_nb.system.cluster import cores
from repsim_nb.system.executor import checked
from repsim_nb.system.memory import available_memory
from repsim_nb.system.shard import Shard

if TYPE_CHECKING:
    import pandas as pd

TABLE_RECORD = ".sweep.json"  # in the folder of tables: stems of the tables that sweeps wrote
MAX_NAME_LENGTH = 80  # characters of a folder name


def sweep_notebook(
    name: str | Path,
    grid: Mapping[str, Sequence[Any]],
    out: str | Path = "results/sweep",
    *,
    jobs: int | None = None,
    memory: float | None = None,
    progress: bool = False,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Run a notebook with every combination of parameter values, keeping cells that an earlier sweep finished.

    Parameters
    ----------
    name
        Name of a notebook that ships with the package, or the path of an .ipynb file.
    grid
        Parameter -> list of values of the type declared in the notebook. All combinations are run.
    out
        Folder of the sweep.
    jobs
        Maximum number of cells at a time; None means the number of cores.
    memory
        Maximum bytes for all cells together; None means the memory available now.
    progress
        Whether to print a line for each cell.
    executor
        Where cells run, instead of `jobs` processes here: an Executor of `concurrent.futures` whose workers see the
        same folders. It is not shut down. A `Shard` runs its share of the cells in `jobs` processes here; a last call
        without one collects all cells.

    Returns
    -------
    pandas.DataFrame
        One row per cell, as in sweep.csv: the parameters, status ("done", "failed" or "skipped"), exit_code, seconds,
        error and folder. The tables of all runs are in `out/tables`.

    Raises
    ------
    InputError
        If the notebook or a parameter is unknown, a value has the wrong type, or the grid is empty. Nothing runs then.
        A failing cell does not raise; see its status.
    ShareDone
        The executor is a `Shard`, and its cells have run.

    Notes
    -----
    A cell is finished if its folder exists for these parameters and this version of the notebook. Each cell runs in
    its own process with its share of the cores, and its share of `memory` as the limit (REPSIM_NB_MEMORY). A cell
    waits until there is room for the largest so far. If the cells together still exceed `memory`, the last one started
    is stopped, and runs again alone after the others.
    """
    needs_notebooks()
    shard, executor = (executor, None) if isinstance(executor, Shard) else (None, checked(executor))
    if executor is not None:
        check_effect(sweep_notebook, {"jobs": jobs, "memory": memory}, "the executor has workers of its own.")
    notebook = find_notebook(name)
    jobs, memory = _positive("jobs", jobs, cores()), _positive("memory", memory, available_memory() or sys.maxsize)
    out = Path(out)
    every = _cells(notebook, grid, out)
    cells = every if shard is None else shard.take(every)
    for cell in cells:
        replaceable(cell.folder)
    todo = [cell for cell in cells if not cell.finished]
    if progress:
        print(f"{len(cells)} cells, {len(cells) - len(todo)} already done; {jobs} at a time", flush=True)
    writable(make_folder(out) / "sweep.csv")
    run_cells(todo, jobs, memory, progress, executor)
    for cell in cells:
        cell.settle()
    if shard is not None:
        raise shard.done(len(cells), len(every))
    return _write_summary(cells, out)


def parse_grid(parameters: tuple[Parameter, ...], given: Sequence[tuple[str, str]], notebook: str) -> dict[str, Any]:
    """Parse "1,2,3" from the command line, or "a,b;c" for parameters that are lists: parameter -> values.

    >>> from repsim_nb.runs.notebook_parameters import Parameter
    >>> names = Parameter("names", "list[str]", [], kind=list[str])
    >>> parse_grid((Parameter("k", "int", 1, kind=int), names), [("k", "1,2"), ("names", "a,b;c")], "nb")
    {'k': [1, 2], 'names': [['a', 'b'], ['c']]}
    """
    if len(dict(given)) < len(given):
        raise ParameterError("A parameter is given twice; use each -p NAME once, with all its values.")
    match(parameters, dict(given), notebook)
    known = {parameter.name: parameter for parameter in parameters}
    return {
        name: [known[name].parse(part.strip()) for part in text.split(";" if takes_lists(known[name].kind) else ",")]
        for name, text in given
    }


def _cells(notebook: Notebook, grid: Mapping[str, Sequence[Any]], out: Path) -> list[Cell]:
    if not grid:
        raise InputError("A sweep needs at least one parameter with its values, such as -p seed 0,1,2.")
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise InputError(f"grid[{name!r}]={values!r}; expected a list of values.")
    combinations = []
    for values in itertools.product(*grid.values()):
        combinations.append(check(notebook.parameters, dict(zip(grid, values, strict=True)), notebook.name))
    cells = [
        Cell(notebook, values, out / label) for values, label in zip(combinations, _labels(combinations), strict=True)
    ]
    twice = next((c for i, c in enumerate(cells) if c.folder in [other.folder for other in cells[:i]]), None)
    if twice:
        raise InputError(f"The cell {twice.folder.name} is in the grid twice; list each value once.")
    return cells


def _labels(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Folder names, with a hash for those that differ only in case, which some file systems ignore."""
    plain = [_label(values) for values in cells]
    often = Counter(label.casefold() for label in set(plain))
    return [
        _hashed(label, values) if often[label.casefold()] > 1 else label
        for label, values in zip(plain, cells, strict=True)
    ]


def _label(parameters: Mapping[str, Any]) -> str:
    """A folder name with the values, plus a hash if they are too long or contain other characters."""
    label = ",".join(f"{name}={value}" for name, value in parameters.items())
    plain = re.sub(r"[^\w=,.+-]+", "_", label)
    if plain == label and len(label) <= MAX_NAME_LENGTH and not label.endswith((FAILED, SKIPPED, ".")):
        return label
    return _hashed(plain, parameters)


def _hashed(plain: str, parameters: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
    return f"{plain[:MAX_NAME_LENGTH]}-{digest[:8]}"


def _write_summary(cells: list[Cell], out: Path) -> pd.DataFrame:
    """Write all tables and the index; return the table of the cells."""
    import pandas as pd

    table = pd.DataFrame([cell.line() for cell in cells])
    with atomic(out / "sweep.csv") as path:
        table.to_csv(path, index=False)
    _write_tables({stem: pd.concat(frames, ignore_index=True) for stem, frames in _by_stem(cells)}, out / "tables")
    write_index(out)
    return table


def _write_tables(found: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Replace the tables listed in the record; other files in the folder may be the user's own."""
    record = folder / TABLE_RECORD

    def write_record(stems: set[str]) -> None:
        with atomic(record) as path:
            path.write_text(json.dumps(sorted(stems)), encoding="utf-8")

    before = _read_record(record)
    if not found and not before:
        return
    write_record(before | set(found))  # before writing, so that an interruption leaves no unlisted table
    for stem, table in found.items():
        with atomic(folder / f"{stem}.csv") as path:
            table.to_csv(path, index=False)
    for stem in before - set(found):
        (folder / f"{stem}.csv").unlink(missing_ok=True)
    write_record(set(found))


def _read_record(record: Path) -> set[str]:
    try:
        stems = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return {stem for stem in stems if isinstance(stem, str)} if isinstance(stems, list) else set()


def _by_stem(cells: list[Cell]) -> Iterator[tuple[str, list[pd.DataFrame]]]:
    """CSV files of the finished runs by stem, with the parameters as first columns."""
    import pandas as pd

    done = [cell for cell in cells if cell.exit_code == 0 and not cell.skipped]
    files = {cell.folder: [path for path in tables(cell.folder) if path.suffix == ".csv"] for cell in done}
    for stem in sorted({path.stem for found in files.values() for path in found}):
        frames = []
        for cell in done:
            for path in (path for path in files[cell.folder] if path.stem == stem):
                try:
                    frame = pd.read_csv(path)
                except pd.errors.EmptyDataError:  # an empty table
                    continue
                except (pd.errors.ParserError, UnicodeDecodeError) as error:
                    warnings.warn(f"{path} is not a table and is left out of the sweep's tables: {error}", stacklevel=4)
                    continue
                for name, value in reversed(cell.parameters.items()):
                    column = f"parameter_{name}" if name in frame else name
                    frame.insert(
                        0, column, [value if isinstance(value, str | int | float) else str(value)] * len(frame)
                    )
                frames.append(frame)
        if frames:
            yield stem, frames


def _positive(name: str, given: float | None, otherwise: int) -> int:
    value = otherwise if given is None else given
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        raise InputError(f"{name}={given!r}; expected a positive number.")
    return int(value)
