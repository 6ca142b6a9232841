"""Run the survey: each architecture in its own process, with limits on time and memory."""

from __future__ import annotations

import csv
import hashlib
import multiprocessing
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import repsim_nb
from repsim_nb.models.survey_table import COLUMNS, TABLE
from repsim_nb.survey.page import page
from repsim_nb.survey.small import architectures
from repsim_nb.system.atomic import atomic
from repsim_nb.system.shipped import checkout, data_dir
from repsim_nb.system.versions import versions

SECONDS = 120  # time limit for one architecture
MEMORY = 12 * 2**30  # address space limit in bytes
PAGE = Path("docs", "what_loads.md")


class WrongVerdictError(Exception):
    """An architecture loads and returns wrong numbers, so the table is not written."""


def run(work: Path) -> Path:
    """Survey all architectures and write the table and its page, reusing rows from earlier runs of the same code.

    Parameters
    ----------
    work
        Folder for finished rows.

    Returns
    -------
    Path
        Path of the page.

    Raises
    ------
    WrongVerdictError
        If an architecture returns other numbers than transformers.
    """
    top = checkout()
    if top is None:
        raise FileNotFoundError("Run the survey from a checkout of repsim-nb: it writes to data/ and docs/.")
    rows_file = work / f"{_code()}.csv"
    work.mkdir(parents=True, exist_ok=True)
    done = {tuple(row[:3]): row for row in _read(rows_file)}
    everything = architectures()
    with rows_file.open("a", newline="", encoding="utf-8") as file:
        for number, which in enumerate(everything, start=1):
            if which in done:
                continue
            row = [*which, _transformers(), *_surveyed(which)]
            csv.writer(file, lineterminator="\n").writerow(row)
            file.flush()
            done[which] = row
            print(f"[{number}/{len(everything)}] {which[2]}: {' '.join(filter(None, row[4:]))}", flush=True)
    rows = [done[which] for which in everything]
    wrong = [row[2] for row in rows if row[4] == "wrong"]
    if wrong:
        raise WrongVerdictError(
            f"These load but return other numbers than transformers: {', '.join(wrong)}. See {rows_file}."
        )
    with atomic(data_dir() / TABLE) as table, table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    with atomic(top / PAGE) as written:
        written.write_text(page([dict(zip(COLUMNS, row, strict=True)) for row in rows]), encoding="utf-8")
    return top / PAGE


def _surveyed(which: tuple[str, str, str]) -> tuple[str, str, str]:
    """Verdict, reason and deviation of one architecture, judged in its own process."""
    server: Any = multiprocessing.get_context("forkserver" if "forkserver" in _start_methods() else "spawn")
    if hasattr(server, "set_forkserver_preload"):
        server.set_forkserver_preload(["repsim_nb.survey.judge"])  # imports torch and transformers only once
    mine, theirs = server.Pipe(duplex=False)
    process = server.Process(target=_judged, args=(which, theirs))
    process.start()
    theirs.close()
    try:
        if mine.poll(SECONDS):
            found: tuple[str, str, str] = mine.recv()
            process.join(SECONDS)
            return found
        return "cannot be built here", f"it takes more than {SECONDS} s", ""
    except EOFError:
        process.join()
        return "cannot be built here", f"its process ended with exit code {process.exitcode}", ""
    finally:
        process.kill()
        process.join()


def _judged(which: tuple[str, str, str], to: Connection) -> None:
    import torch
    from transformers.utils import logging

    from repsim_nb.survey.judge import survey

    _limit_memory()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    found = survey(*which)
    to.send((found.verdict, found.reason, "" if found.deviation is None else f"{found.deviation:.1e}"))


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    with suppress(ValueError, OSError):  # systems without this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _start_methods() -> list[str]:
    return multiprocessing.get_all_start_methods()


def _transformers() -> str:
    return versions()["transformers"]


def _code() -> str:
    """Hash of everything that decides the verdicts: the sources of models, activations and survey, and versions."""
    package = Path(repsim_nb.__file__).parent
    digest = hashlib.sha256(repr(versions()).encode())
    for folder in ("models", "activations", "survey"):
        for source in sorted((package / folder).glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _read(file: Path) -> Iterator[list[str]]:
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as lines:
            yield from (row for row in csv.reader(lines) if len(row) == len(COLUMNS))
