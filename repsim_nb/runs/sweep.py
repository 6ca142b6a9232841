"""One notebook over a grid of parameter values: in parallel, within cores and memory, going on where it stopped.

DIR/n_rows=512,seed=0/       the folder of one run, whole or not there, like that of `repsim-nb run`
DIR/n_rows=512,seed=1.failed/
DIR/sweep.csv                a line for each cell: parameters, status, exit code, seconds, error
DIR/tables/STEM.csv          what the runs saved as STEM.csv, one below the other, the parameters as columns
DIR/index.html               all figures
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from repsim_nb.atomic import OutputError, atomic, make_folder, writable
from repsim_nb.errors import InputError
from repsim_nb.memory import LIMIT, available_memory
from repsim_nb.runs.folder import read_record, replaceable, tables
from repsim_nb.runs.index import write_index
from repsim_nb.runs.kernel import same_package
from repsim_nb.runs.notebooks import Notebook, find_notebook
from repsim_nb.runs.parameters import Parameter, ParameterError, check, match, takes_lists

if TYPE_CHECKING:
    import pandas as pd

LOOK = 0.2  # seconds between looks at the running cells
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PATIENCE = 30.0  # seconds that a cell which is told to end has for it
LONGEST = 80  # characters of a folder's name
TOO_LARGE = "needs more than the memory given"


def sweep_notebook(
    name: str | Path,
    grid: Mapping[str, Sequence[Any]],
    out: str | Path = "results/sweep",
    *,
    jobs: int | None = None,
    memory: float | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Run a notebook with every combination of parameter values; cells that an earlier sweep has finished are kept.

    A cell is finished when its folder is there, with these parameters and from this notebook as it is now. Each runs
    in a process of its own, whose threads share the cores, and which takes its part of `memory` for the limit of what
    it holds (the environment variable REPSIM_NB_MEMORY). Where the cells together take more than `memory`, the last
    one that was started is stopped, and begun again when there is room.

    Args:
        name: of a notebook that comes with the package, or the path of an .ipynb file.
        grid: parameter -> its values, of the type declared in the notebook; all combinations are run.
        out: folder of the sweep.
        jobs: cells at a time; None is the number of cores.
        memory: bytes that all cells together may take; None is what is available now.
        progress: print a line for each cell.

    Returns:
        One row for each cell (what sweep.csv holds): the parameters, status ("done", "failed"), exit_code, seconds,
        error, folder. The tables of all runs are in `out/tables`.

    Raises:
        InputError: unknown notebook, a misspelt parameter, a value of the wrong type, an empty grid, before anything
            runs. A cell that fails raises nothing: see status.
    """
    notebook = find_notebook(name)
    jobs, memory = _positive("jobs", jobs, cores()), _positive("memory", memory, available_memory() or sys.maxsize)
    out = Path(out)
    cells = _cells(notebook, grid, out)
    for cell in cells:
        replaceable(cell.folder)
    todo = [cell for cell in cells if not cell.finished]
    if progress:
        print(f"{len(cells)} cells, {len(cells) - len(todo)} done before; {jobs} at a time", flush=True)
    writable(make_folder(out) / "sweep.csv")
    _run(todo, jobs, memory, progress)
    for cell in cells:
        cell.settle()
    return _summarised(cells, out)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_grid(parameters: tuple[Parameter, ...], given: Sequence[tuple[str, str]], notebook: str) -> dict[str, Any]:
    """Parameter -> values, from the texts of a command line: "1,2,3", or of parameters that are lists "a,b;c".

    >>> from repsim_nb.runs.parameters import Parameter
    >>> names = Parameter("names", "list[str]", [], kind=list[str])
    >>> parse_grid((Parameter("k", "int", 1, kind=int), names), [("k", "1,2"), ("names", "a,b;c")], "nb")
    {'k': [1, 2], 'names': [['a', 'b'], ['c']]}
    """
    if len(dict(given)) < len(given):
        raise ParameterError("A parameter is given twice; give each -p NAME once, with all its values.")
    match(parameters, dict(given), notebook)
    known = {parameter.name: parameter for parameter in parameters}
    return {
        name: [known[name].parse(part.strip()) for part in text.split(";" if takes_lists(known[name].kind) else ",")]
        for name, text in given
    }


def run_cell(notebook: str, parameters: dict[str, Any], out: str, folder: str) -> int:
    """What the process of one cell does; the exit code."""
    from repsim_nb.runs.execution import RunError, run_notebook

    _stop_with_parent()
    try:
        run_notebook(notebook, parameters, out, folder=folder, progress=False)
    except RunError as error:
        print(error, file=sys.stderr)
        return 1
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _stop_with_parent() -> None:
    """A sweep that is killed takes its cells along: nobody holds the other end of stdin any more."""
    import signal
    import threading

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what it cleans up then must not be cut short
        raise KeyboardInterrupt

    def wait() -> None:
        os.read(0, 1)  # nothing is ever sent: it returns when the pipe is closed
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=wait, daemon=True).start()


_PROGRAM = "import json, sys; from repsim_nb.runs.sweep import run_cell; sys.exit(run_cell(**json.loads(sys.argv[1])))"


@dataclass
class Cell:
    """One combination of values, and what became of it."""

    notebook: Notebook
    parameters: dict[str, Any]
    folder: Path
    exit_code: int | None = None
    error: str = ""

    @property
    def finished(self) -> bool:
        """Whether its folder is there, whole, from this notebook as it is now and with these parameters."""
        record = read_record(self.folder)
        wanted = {"given": sorted(self.parameters), "notebook_sha256": self.notebook.sha256}
        return (
            "error" not in record
            and all(record.get(name) == value for name, value in wanted.items())
            and all(record["parameters"].get(name) == value for name, value in self.parameters.items())
        )

    @property
    def failed(self) -> Path:
        """The folder that its executed copy is in when it has failed."""
        return self.folder.with_name(f"{self.folder.name}.failed")

    def start(self, environment: dict[str, str]) -> _Running:
        """In a process of its own."""
        left_over = f".{self.folder.stem}.*.partial{self.folder.suffix}"  # by a process that was killed
        for left in self.folder.parent.glob(left_over):
            shutil.rmtree(left, ignore_errors=True)
        what = {
            "notebook": str(self.notebook.path),
            "parameters": self.parameters,
            "out": str(self.folder.parent),
            "folder": self.folder.name,
        }
        said = tempfile.TemporaryFile()  # noqa: SIM115 (closed where the cell ends)
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(what)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, **same_package(), **environment},
            start_new_session=True,  # Ctrl-C is for the sweep, which then stops its cells itself
        )
        return _Running(self, process, said)

    def settle(self) -> None:
        """Take over what the record says of a run that was finished, or that has failed, before."""
        if self.finished:
            self.exit_code = 0
        elif self.exit_code is None:
            raise OutputError(f"{self.folder} was removed while the sweep ran. Start it again.")

    def line(self) -> dict[str, Any]:
        """Its row in the table."""
        record = read_record(self.folder if self.exit_code == 0 else self.failed)
        return {
            **self.parameters,
            "status": "done" if self.exit_code == 0 else "failed",
            "exit_code": self.exit_code,
            "seconds": record.get("seconds"),
            "error": "" if self.exit_code == 0 else record.get("error") or self.error,
            "folder": self.folder.name if self.exit_code == 0 else self.failed.name if record else "",
        }


@dataclass
class _Running:
    cell: Cell
    process: subprocess.Popen[bytes]
    said: IO[bytes]

    @property
    def bytes(self) -> int:
        """Memory of the process and its kernel now, without what they share with others."""
        import psutil

        total = 0
        try:
            root = psutil.Process(self.process.pid)
            for process in (root, *root.children(recursive=True)):
                about = process.memory_info()
                total += about.rss - getattr(about, "shared", 0)
        except psutil.Error:  # ended meanwhile
            pass
        return total

    def end(self) -> None:
        """Take note of how it ended."""
        self.cell.exit_code = self.process.wait()
        self.said.seek(0)
        said = self.said.read().decode(errors="replace").strip().splitlines()
        self.cell.error = said[-1] if said else f"exit code {self.cell.exit_code}"
        self.close()

    def stop(self) -> None:
        """Wait until it has cleaned up, once it was told to end."""
        try:
            self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self) -> None:
        """Nothing is read or written any more."""
        self.said.close()
        if self.process.stdin:
            self.process.stdin.close()


def _run(todo: list[Cell], jobs: int, memory: int, progress: bool) -> None:
    """All cells of `todo`, at most `jobs` at a time."""
    waiting, done = list(todo), 0
    running: list[_Running] = []
    environment = {
        **dict.fromkeys(THREADS, str(max(1, cores() // jobs))),
        LIMIT: str(max(1, memory // jobs // 2)),  # half of its part, as half of what is free is the default
    }
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(waiting.pop(0).start(environment))
            time.sleep(LOOK)
            for one in [one for one in running if one.process.poll() is not None]:
                one.end()
                running.remove(one)
                done += 1
                if progress:
                    print(f"[{done}/{len(todo)}] {_said(one.cell)}", flush=True)
            if running and sum(one.bytes for one in running) > memory:
                last = running.pop()
                last.process.terminate()
                last.stop()
                if running:
                    waiting.insert(0, last.cell)
                    jobs = len(running)
                else:
                    last.cell.exit_code, last.cell.error = last.process.returncode, TOO_LARGE
                    done += 1
                    if progress:
                        print(f"[{done}/{len(todo)}] {_said(last.cell)}", flush=True)
    finally:
        for one in running:
            one.process.terminate()
        for one in running:
            one.stop()


def _said(cell: Cell) -> str:
    line = cell.line()
    values = ", ".join(f"{name}={value}" for name, value in cell.parameters.items())
    if line["status"] == "done":
        return f"{values}: done in {line['seconds']:.1f} s"
    return f"{values}: failed (exit code {cell.exit_code}): {line['error']}"


def _cells(notebook: Notebook, grid: Mapping[str, Sequence[Any]], out: Path) -> list[Cell]:
    if not grid:
        raise InputError("A sweep needs at least one parameter with its values, such as -p seed 0,1,2.")
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise InputError(f"grid[{name!r}]={values!r}; expected a list of values.")
    checked = []
    for values in itertools.product(*grid.values()):
        checked.append(check(notebook.parameters, dict(zip(grid, values, strict=True)), notebook.name))
    cells = [Cell(notebook, values, out / _label(values)) for values in checked]
    twice = next((c for i, c in enumerate(cells) if c.folder in [other.folder for other in cells[:i]]), None)
    if twice:
        raise InputError(f"The cell {twice.folder.name} is in the grid twice; give each value once.")
    return cells


def _label(parameters: Mapping[str, Any]) -> str:
    """A folder's name that says the values, with a hash where they are too long for one or hold other characters."""
    told = ",".join(f"{name}={value}" for name, value in parameters.items())
    plain = re.sub(r"[^\w=,.+-]+", "_", told)
    if plain == told and len(told) <= LONGEST:
        return told
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
    return f"{plain[:LONGEST]}-{digest[:8]}"


def _summarised(cells: list[Cell], out: Path) -> pd.DataFrame:
    """Write the tables; that of the cells."""
    import pandas as pd

    table = pd.DataFrame([cell.line() for cell in cells])
    with atomic(out / "sweep.csv") as path:
        table.to_csv(path, index=False)
    shutil.rmtree(out / "tables", ignore_errors=True)
    for stem, frames in _by_stem(cells):
        with atomic(out / "tables" / f"{stem}.csv") as path:
            pd.concat(frames, ignore_index=True).to_csv(path, index=False)
    write_index(out)
    return table


def _by_stem(cells: list[Cell]) -> Iterator[tuple[str, list[pd.DataFrame]]]:
    """The CSV files of the finished runs by stem, the parameters as first columns."""
    import pandas as pd

    done = [cell for cell in cells if cell.exit_code == 0]
    files = {cell.folder: [path for path in tables(cell.folder) if path.suffix == ".csv"] for cell in done}
    for stem in sorted({path.stem for found in files.values() for path in found}):
        frames = []
        for cell in done:
            for path in (path for path in files[cell.folder] if path.stem == stem):
                frame = pd.read_csv(path)
                for name, value in reversed(cell.parameters.items()):
                    column = f"parameter_{name}" if name in frame else name
                    frame.insert(
                        0, column, [value if isinstance(value, str | int | float) else str(value)] * len(frame)
                    )
                frames.append(frame)
        yield stem, frames


def _positive(name: str, given: float | None, otherwise: int) -> int:
    value = otherwise if given is None else given
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        raise InputError(f"{name}={given!r}; expected a positive number.")
    return int(value)
