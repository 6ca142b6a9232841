"""A printout of the workshop: one page of HTML for each notebook, a sheet of paper or a slide for each section."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import needs
from repsim_nb.system.atomic import atomic
from repsim_nb.workshop.solutions import PLACEHOLDER, workshop_notebooks

if TYPE_CHECKING:
    import nbformat

LEFT_OUT = ("about-parameters", "parameters", "imports")  # cells that are not for reading
STYLE = """
@page { size: A4 landscape; margin: 12mm }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2024; max-width: 60rem; margin: 0 auto; padding: 1rem }
section { break-after: page; border-bottom: 1px solid #d9dde2; padding: 1.5rem 0 }
section:last-of-type { break-after: auto; border: 0 }
h1 { font-size: 1.9rem } h2 { font-size: 1.5rem } h3 { font-size: 1.25rem; color: #1f5fa8 }
pre { font: .8rem/1.45 ui-monospace, monospace; background: #f5f6f7; padding: .5rem .7rem; white-space: pre-wrap;
  overflow-wrap: anywhere; margin: .4rem 0 }
.jp-OutputArea-output pre { background: none } .anchor-link { display: none }
img { max-width: 100%; max-height: 95mm } table { border-collapse: collapse; font-size: .85rem }
td, th { padding: .15rem .7rem; text-align: right } thead { border-bottom: 1px solid #888 }
.answer { border-bottom: 1px dotted #888; height: 2.2rem }
@media print { body { max-width: none; padding: 0 } section { border: 0; padding: 0 }
  pre, img, table { break-inside: avoid } }
"""


def page(notebook: nbformat.NotebookNode) -> str:
    """The printout of a notebook as a page of HTML that needs nothing else, neither files nor a network.

    A section begins at every heading. Outputs are those that the notebook has, except progress and feedback; in place
    of the answer to an exercise there is a line to write on.
    """
    slides = "\n".join(f"<section>\n{_html(cells)}\n</section>" for cells in _slides(notebook))
    title = escape(notebook.cells[0].source.splitlines()[0].lstrip("# "))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
{slides}
</body>
</html>
"""


def write_handouts(out: str | Path, preset: str = "default") -> list[Path]:
    """Run the notebooks of the workshop, without answers, and write the printout of each to `out`.

    Raises
    ------
    MissingExtraError
        If nbconvert is not installed.
    RunError
        If a notebook fails.
    """
    from tempfile import TemporaryDirectory

    import nbformat

    from repsim_nb.runs import run_notebook

    needs("a handout", "nbconvert")
    written = []
    with TemporaryDirectory() as scratch:
        for name, path in workshop_notebooks().items():
            run = run_notebook(path, {"preset": preset}, scratch)
            written.append(Path(out, f"{name}.html"))
            with atomic(written[-1]) as draft:
                draft.write_text(page(nbformat.read(run.notebook, as_version=4)), encoding="utf-8")
    return written


def _slides(notebook: nbformat.NotebookNode) -> Iterator[list[Any]]:
    """The cells of each section, without those that are not for reading."""
    cells: list[Any] = []
    for cell in notebook.cells:
        if cell.get("id") in LEFT_OUT or "injected-parameters" in cell.metadata.get("tags", []):
            continue
        if cells and cell.cell_type == "markdown" and cell.source.startswith("#"):
            yield cells
            cells = []
        cells.append(cell)
    yield cells


def _html(cells: list[Any]) -> str:
    import nbformat

    shown = nbformat.from_dict(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [_quiet(c) for c in cells]}
    )
    body, _ = _exporter().from_notebook_node(shown)
    line = '<div class="answer"></div>' if any(_asks(cell) for cell in cells) else ""
    return str(body) + line


@lru_cache
def _exporter() -> Any:
    """Of a body without a head: nothing in it names a script or a style elsewhere."""
    from nbconvert import HTMLExporter

    return HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)


def _quiet(cell: Any) -> Any:
    """A copy of a cell without progress, and without the feedback on an answer that is not there."""
    copy = {**cell, "metadata": {}}
    if cell.cell_type == "code":
        kept = [one for one in cell.outputs if one.get("name") != "stderr"]
        copy["outputs"] = [one for one in kept if one.output_type == "stream"] if _asks(cell) else kept
        copy["execution_count"] = None
    return copy


def _asks(cell: Any) -> bool:
    return cell.cell_type == "code" and PLACEHOLDER.search(cell.source) is not None
