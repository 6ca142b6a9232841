"""The notebooks of the manual, as the strict runner left them in results/, else without results; never run here."""

import json
from pathlib import Path
from typing import Any

import nbformat

from docs.pages import PROJECT, REPOSITORY
from repsim_nb.runs.notebooks import Notebook, notebooks
from repsim_nb.runs.results_folder import read_record

TUTORIALS = ("00_start_here", "04_measures_compared")  # what teaches; the other notebooks are findings
FRESH = "These results are of this notebook as it stands, run by `make figures` with the preset `{preset}`."
STALE = "These results are of an earlier version of this notebook, run with the preset `{preset}`."
WITHOUT = (
    "This copy has no results: the notebook was not among those that `make figures` had run when the manual was built."
)
COLAB = "https://colab.research.google.com/github/{path}/blob/gh-pages/colab/{name}.ipynb"
LAUNCH = f"[Open in Colab]({COLAB}) (its first cell installs the package), or run it here: `repsim-nb run {{name}}`."
INSTALL = f'%pip install --quiet "{PROJECT["name"]}[lab]=={PROJECT["version"]}"'


def write(source: Path, results: Path) -> None:
    """Write every notebook to tutorials/ or findings/ of `source`, and both pages that list them."""
    books = notebooks()
    tutorials = [book for book in books if book.name in TUTORIALS]
    findings = [book for book in books if book.name not in TUTORIALS]
    for folder, chosen in (("tutorials", tutorials), ("findings", findings)):
        (source / folder).mkdir(parents=True, exist_ok=True)
        for book in chosen:
            nbformat.write(shown(book, results), source / folder / f"{book.name}.ipynb")
        listed = "\n\n".join(f"[**{book.title}**]({book.name}.ipynb)\n: {book.claim}" for book in chosen)
        page = source / folder / "index.md"
        text = page.read_text(encoding="utf-8").replace("{{ notebooks }}", listed)
        names = "\n".join(book.name for book in chosen)
        page.write_text(text.replace("{{ contents }}", names), encoding="utf-8")


def write_colab(site: Path) -> None:
    """Write the notebooks for Colab to colab/ of the built site: without results, with a first cell that installs."""
    folder = site / "colab"
    folder.mkdir(parents=True, exist_ok=True)
    for book in notebooks():
        notebook = nbformat.read(book.path, as_version=4)
        first = nbformat.v4.new_code_cell(INSTALL, id="install")
        notebook.cells.insert(0, first)
        nbformat.write(notebook, folder / book.path.name)


def shown(book: Notebook, results: Path) -> Any:
    """The notebook to show, which says in its second cell whether it has results and of which run."""
    folder = results / book.name
    executed, record = folder / f"{book.name}.ipynb", read_record(folder)
    ran = executed.is_file() and "error" not in record and "skipped" not in record
    notebook = nbformat.read(executed if ran else book.path, as_version=4)
    _without_widgets(notebook)
    preset = record.get("parameters", {}).get("preset", "default")
    said = (FRESH if record.get("notebook_sha256") == book.sha256 else STALE).format(preset=preset) if ran else WITHOUT
    path = REPOSITORY.removeprefix("https://github.com/")
    note = f"```{{note}}\n{said} {LAUNCH.format(path=path, name=book.name)}\n```"
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(note))
    notebook.metadata["repsim_nb"] = json.loads(json.dumps({"results": said}))
    return notebook


def _without_widgets(notebook: Any) -> None:
    """Replace every live view by a sentence: what it would need to run is not in the page."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if data.pop("application/vnd.jupyter.widget-view+json", None) is not None:
                data["text/plain"] = "(An interactive view, shown in JupyterLab.)"
