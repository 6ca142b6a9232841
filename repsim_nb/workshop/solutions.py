"""Solutions of the exercises, which are kept apart from the notebooks, and notebooks with them filled in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from repsim_nb.errors import needs, unknown
from repsim_nb.system.shipped import notebooks_dir

if TYPE_CHECKING:
    import nbformat

PLACEHOLDER = re.compile(r"^answer_(\d)_(\d) = \.\.\..*$", re.MULTILINE)


def workshop_notebooks() -> dict[str, Path]:
    """The notebooks of the workshop by name, in their order."""
    return {path.stem: path for path in sorted((notebooks_dir() / "workshop").glob("*.ipynb"))}


def solution(key: str) -> str:
    """Read the solution of an exercise: lines of Python that assign its answer.

    Parameters
    ----------
    key
        Number of the exercise, such as "1.3".

    Returns
    -------
    str
        The lines that go in place of `answer_1_3 = ...`. They use names of the notebook.

    Raises
    ------
    InputError
        If there is no such exercise.

    Examples
    --------
    >>> print(solution("1.3"))
    answer_1_3 = x[::-1]
    """
    folder = notebooks_dir() / "workshop" / "solutions"
    known = {path.stem.removeprefix("answer_").replace("_", "."): path for path in folder.glob("answer_*.py")}
    if key not in known:
        raise unknown("exercise", key, known)
    return known[key].read_text(encoding="utf-8").rstrip()


def solved(name: str) -> nbformat.NotebookNode:
    """Read a notebook of the workshop with the solutions filled in.

    Parameters
    ----------
    name
        Name of the notebook, such as "1_representations".

    Returns
    -------
    nbformat.NotebookNode
        The notebook, not run.

    Raises
    ------
    InputError
        If there is no such notebook.
    MissingExtraError
        If nbformat is not installed.

    Examples
    --------
    >>> any("answer_1_3 = x[::-1]" in cell.source for cell in solved("1_representations").cells)
    True
    """
    needs("solved", "nbformat")
    import nbformat

    known = workshop_notebooks()
    if name not in known:
        raise unknown("notebook of the workshop", name, known)
    notebook: nbformat.NotebookNode = nbformat.read(known[name], as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = PLACEHOLDER.sub(lambda found: solution(f"{found[1]}.{found[2]}"), cell.source)
    return notebook
