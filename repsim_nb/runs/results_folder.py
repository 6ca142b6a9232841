"""The folder of one run: the executed notebook, its figures with captions, its tables, and `run.json`.

A notebook saves into `output_dir()`. While `run_notebook` executes it, that is a temporary folder, renamed when the
run has succeeded; in an interactive session it is `results/<name of the notebook>`.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repsim_nb.system.atomic import OutputError, atomic

RUN_DIR = "REPSIM_NB_RUN_DIR"  #: environment variable with the folder of the running notebook
RECORD = "run.json"  #: marks a folder as that of a run, the only kind that a later run may replace
FAILED = ".failed"  #: suffix of the folder with the executed copy of a failed run
SKIPPED = ".skipped"  #: suffix of the folder of a run that needs what cannot be downloaded
_TABLES = (".csv", ".nc")
_KINDS: dict[str, Any] = {
    "parameters": dict,
    "given": list,
    "versions": dict,
    "seconds": (int, float),
}  # types of the fields in a record


def output_dir() -> Path:
    """The existing folder in which the running notebook saves its figures and tables.

    Raises OutputError if it cannot be created, or if the folder of the run does not exist.
    """
    if os.environ.get(RUN_DIR):
        folder = Path(os.environ[RUN_DIR])
        if not folder.is_dir():
            raise OutputError(f"The folder of this run, {folder}, does not exist, so outputs would be lost.")
        return folder
    folder = Path("results", Path(os.environ.get("JPY_SESSION_NAME") or "interactive").stem)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot write to {folder.resolve()}: {error.strerror}. Use another folder.") from error
    if not any(folder.iterdir()):
        write_record(folder, {"notebook": folder.name})
    return folder


@dataclass(frozen=True)
class Figure:
    """One figure of a run: stem, files and caption."""

    stem: str
    files: tuple[Path, ...]  #: SVG first, if there is one
    caption: str


def figures(folder: Path) -> list[Figure]:
    """The figures saved in a run's folder, ordered by stem."""
    stems = sorted({path.stem for suffix in (".svg", ".png") for path in folder.glob(f"*{suffix}")})
    return [_figure(folder, stem) for stem in stems]


def tables(folder: Path) -> list[Path]:
    """The CSV and NetCDF files saved in a run's folder, ordered by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in _TABLES)


def read_record(folder: Path) -> dict[str, Any]:
    """Read `run.json`; an empty dict if it cannot be read or belongs to another program."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    fits = isinstance(record, dict) and all(isinstance(record[k], kind) for k, kind in _KINDS.items() if k in record)
    return record if fits else {}


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write `run.json`."""
    with atomic(folder / RECORD) as path:
        path.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")


def replaceable(folder: Path) -> None:
    """Raise OutputError if `folder` contains anything other than the output of a run."""
    if not folder.exists() or not {"notebook", "notebook_sha256"}.isdisjoint(read_record(folder)):
        return
    if folder.is_dir() and not any(folder.iterdir()):
        return
    raise OutputError(f"{folder} exists and is not the folder of a run. Move it, or choose another output folder.")


def _figure(folder: Path, stem: str) -> Figure:
    files = tuple(path for suffix in (".svg", ".png") if (path := folder / f"{stem}{suffix}").is_file())
    caption = folder / f"{stem}.caption.txt"
    text = caption.read_text(encoding="utf-8").strip() if caption.is_file() else ""
    return Figure(stem, files, text or stem.replace("_", " "))
