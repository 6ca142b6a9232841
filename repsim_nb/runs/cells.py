"""Runs of notebooks side by side, each in a process of its own, within cores and memory."""

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
from repsim_nb.runs.results_folder import FAILED, read_record
from repsim_nb.runs.signals import interruptible, tell_main_thread
from repsim_nb.system.atomic import OutputError, remove_abandoned
from repsim_nb.system.memory import LIMIT
from repsim_nb.system.windows import on_windows

LOOK = 0.2  # seconds between looks at the running cells
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PATIENCE = 30.0  # seconds that a cell which is told to end has for it
TOO_LARGE = "needs more than the memory given"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_cell(notebook: str, parameters: dict[str, Any], out: str, folder: str) -> int:
    """What the process of one cell does; the exit code."""
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
    """A sweep that is killed takes its cells along: nobody holds the other end of stdin any more."""
    import threading

    def wait() -> None:
        os.read(0, 1)  # nothing is ever sent: it returns when the pipe is closed
        tell_main_thread()

    threading.Thread(target=wait, daemon=True).start()


_PROGRAM = "import json, sys; from repsim_nb.runs.cells import run_cell; sys.exit(run_cell(**json.loads(sys.argv[1])))"


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
            and all(record.get("parameters", {}).get(name) == value for name, value in self.parameters.items())
        )

    @property
    def failed(self) -> Path:
        """The folder that its executed copy is in when it has failed."""
        return self.folder.with_name(self.folder.name + FAILED)

    def start(self, environment: dict[str, str]) -> _Running:
        """In a process of its own."""
        remove_abandoned(self.folder.parent, self.folder.stem)
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
        if self.error == TOO_LARGE or self.exit_code not in (0, 1):
            record = {}  # one that was stopped wrote none: it is of an earlier attempt
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

    def tell(self) -> None:
        """That it is to end. Windows ends a process on the spot, which would leave its kernel: there stdin tells it."""
        if on_windows() and self.process.stdin:
            self.process.stdin.close()
        else:
            self.process.terminate()

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


def run_cells(todo: Sequence[Cell], jobs: int, memory: int, progress: bool) -> None:
    """All cells, at most `jobs` at a time; where they take more than `memory` together, one waits for the others.

    Args:
        progress: print a line for each.

    Raises:
        MissingExtraError: the packages that run notebooks are not installed.
    """
    needs_notebooks()
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
                last.tell()
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
            one.tell()
        for one in running:
            one.stop()


def _said(cell: Cell) -> str:
    line = cell.line()
    if line["status"] == "done":
        return f"{cell.folder.name}: done in {line['seconds'] or 0:.1f} s"
    return f"{cell.folder.name}: failed (exit code {cell.exit_code}): {line['error']}"
