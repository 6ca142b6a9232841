"""Run notebooks in parallel, each in its own process, within limits on cores and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from repsim_nb.errors import InputError
from repsim_nb.runs.interpreter import needs_notebooks, same_package
from repsim_nb.runs.notebooks import Notebook
from repsim_nb.runs.results_folder import FAILED, SKIPPED, read_record
from repsim_nb.runs.signals import interruptible, tell_main_thread
from repsim_nb.system.atomic import OutputError, remove_abandoned
from repsim_nb.system.memory import LIMIT
from repsim_nb.system.windows import on_windows

POLL_SECONDS = 0.2  # between checks of the running cells
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
STOP_SECONDS = 30.0  # that a terminated cell has for cleaning up
TOO_LARGE = "needs more than the memory limit"


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_cell(notebook: str, parameters: dict[str, Any], out: str, folder: str) -> int:
    """Entry point of the process of one cell; returns the exit code."""
    from repsim_nb.runs.execution import RunError, run_notebook

    try:
        with interruptible():
            _stop_with_parent()
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
    """Terminate this cell if the sweep is killed, which closes the other end of stdin."""
    import threading

    def wait() -> None:
        os.read(0, 1)  # nothing is ever sent, so it returns when the pipe is closed
        tell_main_thread()

    threading.Thread(target=wait, daemon=True).start()


_PROGRAM = "import json, sys; from repsim_nb.runs.cells import run_cell; sys.exit(run_cell(**json.loads(sys.argv[1])))"


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

    def start(self, environment: dict[str, str]) -> _Running:
        """Start the run in its own process."""
        remove_abandoned(self.folder.parent, self.folder.stem)
        what = {
            "notebook": str(self.notebook.path),
            "parameters": self.parameters,
            "out": str(self.folder.parent),
            "folder": self.folder.name,
        }
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the cell ends)
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(what)],
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


def run_cells(todo: Sequence[Cell], jobs: int, memory: int, progress: bool) -> None:
    """Run all cells, at most `jobs` at a time.

    If the running cells together exceed the memory limit, the last one is stopped and restarted later.

    Parameters
    ----------
    todo
        The cells to run.
    jobs
        Maximum number of cells at a time.
    memory
        Maximum bytes for all running cells together.
    progress
        Whether to print a line for each finished cell.

    Raises
    ------
    MissingExtraError
        If the packages that run notebooks are not installed.
    """
    needs_notebooks()
    waiting, done = list(todo), 0
    running: list[_Running] = []
    environment = {
        **dict.fromkeys(THREADS, str(max(1, cores() // jobs))),
        LIMIT: str(max(1, memory // jobs // 2)),  # half of its share, like the default limit
    }
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(waiting.pop(0).start(environment))
            time.sleep(POLL_SECONDS)
            for one in [one for one in running if one.process.poll() is not None]:
                one.end()
                running.remove(one)
                done += 1
                if progress:
                    print(f"[{done}/{len(todo)}] {_status_line(one.cell)}", flush=True)
            if running and sum(one.bytes for one in running) > memory:
                last = running.pop()
                last.tell()
                last.stop()
                if running:
                    waiting.insert(0, last.cell)
                    jobs = len(running)
                else:
                    last.cell.exit_code, last.cell.error = last.process.returncode, TOO_LARGE
                    done += 1
                    if progress:
                        print(f"[{done}/{len(todo)}] {_status_line(last.cell)}", flush=True)
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
