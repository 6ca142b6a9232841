"""Run notebooks in parallel, each in its own process, within limits on cores and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from repsim_nb.errors import InputError
from repsim_nb.runs.interpreter import needs_notebooks, same_package
from repsim_nb.runs.notebooks import Notebook, find_notebook
from repsim_nb.runs.results_folder import FAILED, SKIPPED, read_record
from repsim_nb.runs.signals import interruptible, tell_main_thread
from repsim_nb.system.atomic import OutputError, remove_abandoned
from repsim_nb.system.cluster import cores
from repsim_nb.system.executor import THREADS, mapped
from repsim_nb.system.memory import LIMIT
from repsim_nb.system.windows import on_windows

POLL_SECONDS = 0.2  # between checks of the running cells
CELL_BYTES = 10**9  # that a cell is expected to need before one has run
STOP_SECONDS = 30.0  # that a terminated cell has for cleaning up
TOO_LARGE = "needs more than the memory limit"


@dataclass(frozen=True)
class Unit:
    """A cell in words that any process of any machine with the same files understands."""

    notebook: str  # path
    parameters: dict[str, Any]
    out: str
    folder: str


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: 0, 1 for a failed notebook or 2 for wrong input, and what was said."""

    exit_code: int
    error: str = ""


def run_cell(_: None, unit: Unit) -> Outcome:
    """Run one cell, unless its folder is there: a worker that died may have finished it."""
    from repsim_nb.runs.execution import RunError, run_notebook

    if Cell(find_notebook(unit.notebook), unit.parameters, Path(unit.out, unit.folder)).finished:
        return Outcome(0)
    remove_abandoned(Path(unit.out), Path(unit.folder).stem)
    try:
        run_notebook(unit.notebook, unit.parameters, unit.out, folder=unit.folder, progress=False)
    except RunError as error:
        return Outcome(1, str(error))
    except (InputError, OSError) as error:
        return Outcome(2, str(error))
    return Outcome(0)


def run_process(unit: Unit) -> int:
    """Entry point of a process for one cell, which ends with the sweep; returns the exit code."""
    try:
        with interruptible():
            _stop_with_parent()
            outcome = run_cell(None, unit)
    except KeyboardInterrupt:
        return 130
    if outcome.error:
        print(outcome.error, file=sys.stderr)
    return outcome.exit_code


def _stop_with_parent() -> None:
    """Terminate this cell if the sweep is killed, which closes the other end of stdin."""
    import threading

    def wait() -> None:
        os.read(0, 1)  # nothing is ever sent, so it returns when the pipe is closed
        tell_main_thread()

    threading.Thread(target=wait, daemon=True).start()


_PROGRAM = (
    "import json, sys; from repsim_nb.runs.cells import Unit, run_process; "
    "sys.exit(run_process(Unit(**json.loads(sys.argv[1]))))"
)


@dataclass
class Cell:
    """One combination of parameter values, and its outcome."""

    notebook: Notebook
    parameters: dict[str, Any]
    folder: Path
    exit_code: int | None = None
    error: str = ""

    @property
    def finished(self) -> bool:
        """Whether a complete folder exists for this version of the notebook and these parameters."""
        record = read_record(self.folder)
        wanted = {"given": sorted(self.parameters), "notebook_sha256": self.notebook.sha256}
        return (
            "error" not in record
            and all(record.get(name) == value for name, value in wanted.items())
            and all(record.get("parameters", {}).get(name) == value for name, value in self.parameters.items())
        )

    @property
    def failed(self) -> Path:
        """The folder with the executed copy of a failed run."""
        return self.folder.with_name(self.folder.name + FAILED)

    @property
    def skipped(self) -> str:
        """What the last run could not download, if it was skipped."""
        folder = self.folder.with_name(self.folder.name + SKIPPED)
        return str(read_record(folder).get("skipped", "")) if self.exit_code == 0 else ""

    @property
    def unit(self) -> Unit:
        """What a worker needs to know."""
        out = self.folder.parent.absolute()
        return Unit(str(self.notebook.path.absolute()), self.parameters, str(out), self.folder.name)

    def start(self, environment: dict[str, str]) -> _Running:
        """Start the run in its own process."""
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the cell ends)
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(asdict(self.unit))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, **same_package(), **environment},
            start_new_session=True,  # Ctrl-C goes to the sweep, which stops its cells itself
        )
        return _Running(self, process, stderr)

    def settle(self) -> None:
        """Take over the outcome of a run that finished or failed earlier."""
        if self.finished:
            self.exit_code = 0
        elif self.exit_code is None:
            raise OutputError(f"{self.folder} was removed during the sweep. Start the sweep again.")

    def line(self) -> dict[str, Any]:
        """The row of this cell in the table."""
        if self.skipped:
            folder = self.folder.name + SKIPPED
            ended = {"status": "skipped", "exit_code": 0, "seconds": None, "error": self.skipped, "folder": folder}
            return {**self.parameters, **ended}
        record = read_record(self.folder if self.exit_code == 0 else self.failed)
        if self.error == TOO_LARGE or self.exit_code not in (0, 1):
            record = {}  # a stopped run writes no record, so this one is from an earlier attempt
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
    stderr: IO[bytes]

    @property
    def bytes(self) -> int:
        """Current memory of the process and its kernel, without shared memory."""
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
        """Record the exit code and the last line of stderr."""
        self.cell.exit_code = self.process.wait()
        self.stderr.seek(0)
        stderr = self.stderr.read().decode(errors="replace").strip().splitlines()
        self.cell.error = stderr[-1] if stderr else f"exit code {self.cell.exit_code}"
        self.close()

    def tell(self) -> None:
        """That it is to end. Windows ends a process on the spot, which would leave its kernel: there stdin tells it."""
        if on_windows() and self.process.stdin:
            self.process.stdin.close()
        else:
            self.process.terminate()

    def stop(self) -> None:
        """Wait for a terminated process to clean up, then kill it."""
        try:
            self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self) -> None:
        """Close the streams of the process."""
        self.stderr.close()
        if self.process.stdin:
            self.process.stdin.close()


def run_cells(todo: Sequence[Cell], jobs: int, memory: int, progress: bool, executor: Executor | None = None) -> None:
    """Run all cells: here, at most `jobs` at a time, each in its own process, or where an executor runs them.

    Parameters
    ----------
    todo
        The cells to run.
    jobs
        Maximum number of cells at a time.
    memory
        Maximum bytes for all running cells together. A cell waits until there is room for the largest so far; one
        that is stopped because they outgrew the limit together runs again alone.
    progress
        Whether to print a line for each finished cell.
    executor
        Where the cells run, instead of here; jobs and memory are then its own.

    Raises
    ------
    MissingExtraError
        If the packages that run notebooks are not installed.
    """
    needs_notebooks()
    ended = _in_processes(todo, jobs, memory) if executor is None else _on_executor(todo, executor)
    for done, cell in enumerate(ended, start=1):
        if progress:
            print(f"[{done}/{len(todo)}] {_status_line(cell)}", flush=True)


def _on_executor(todo: Sequence[Cell], executor: Executor) -> Iterator[Cell]:
    """Run cells on an executor, whose workers see the same folders; yield them in order."""
    units = [cell.unit for cell in todo]
    outcomes = mapped(run_cell, None, units, executor, what="sweep", unit="cell", name=lambda unit: unit.folder)
    for cell, outcome in zip(todo, outcomes, strict=True):
        cell.exit_code, cell.error = outcome.exit_code, outcome.error
        yield cell


def _in_processes(todo: Sequence[Cell], jobs: int, memory: int) -> Iterator[Cell]:
    """Run each cell in its own process; yield cells as they end."""
    waiting, alone, running = deque(todo), deque[Cell](), list[_Running]()
    need = CELL_BYTES  # of the largest so far
    environment = {
        **dict.fromkeys(THREADS, str(max(1, cores() // jobs))),
        LIMIT: str(max(1, memory // jobs // 2)),  # half of its share, like the default limit
    }
    try:
        while waiting or alone or running:
            room = memory - sum(max(need, one.bytes) for one in running)
            if waiting and (not running or (len(running) < jobs and need <= room)):
                running.append(waiting.popleft().start(environment))
            elif alone and not running:
                running.append(alone.popleft().start(environment))
            time.sleep(POLL_SECONDS)
            for one in [one for one in running if one.process.poll() is not None]:
                one.end()
                running.remove(one)
                yield one.cell
            sizes = [one.bytes for one in running]
            need = max(need, *sizes, 0)
            if sum(sizes) > memory:
                last = running.pop()
                last.tell()
                last.stop()
                if running:
                    alone.append(last.cell)
                else:
                    last.cell.exit_code, last.cell.error = last.process.returncode, TOO_LARGE
                    yield last.cell
    finally:
        for one in running:
            one.tell()
        for one in running:
            one.stop()


def _status_line(cell: Cell) -> str:
    line = cell.line()
    if line["status"] == "done":
        return f"{cell.folder.name}: done in {line['seconds'] or 0:.1f} s"
    if line["status"] == "skipped":
        return f"{cell.folder.name}: skipped: {line['error']}"
    return f"{cell.folder.name}: failed (exit code {cell.exit_code}): {line['error']}"
