"""The notebooks in notebooks/, described by their own first lines."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError, unknown
from repsim_nb.runs.notebook_parameters import Parameter, read_parameters
from repsim_nb.system.shipped import notebooks_dir

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Notebook:
    """A notebook file, its title, claim and parameters."""

    name: str
    path: Path
    title: str  #: its first heading
    claim: str  #: the first sentence after it, without the label "Claim."
    parameters: tuple[Parameter, ...]
    n_cells: int

    @property
    def sha256(self) -> str:
        """Hash of kinds, sources and tags of the current cells. Opening and saving a file can change the rest of it."""
        cells = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
        parts = [
            [cell["cell_type"], "".join(cell["source"]), sorted(cell.get("metadata", {}).get("tags", []))]
            for cell in cells
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def list_notebooks() -> pd.DataFrame:
    """List the notebooks that ship with the package: index name, columns title, claim, parameters, path."""
    import pandas as pd

    rows = [
        (book.name, book.title, book.claim, ", ".join(parameter.name for parameter in book.parameters), str(book.path))
        for book in notebooks()
    ]
    return pd.DataFrame(rows, columns=["name", "title", "claim", "parameters", "path"]).set_index("name")


def notebooks() -> list[Notebook]:
    """All notebooks that ship with the package, ordered by name."""
    return [read_notebook(path) for path in sorted(notebooks_dir().glob("*.ipynb"))]


def find_notebook(name: str | Path) -> Notebook:
    """Find a notebook by name, or by the path of an .ipynb file.

    Raises InputError with the closest name for an unknown one, FileNotFoundError for a missing file.
    """
    path = Path(name)
    if path.suffix == ".ipynb":
        if not path.is_file():
            raise FileNotFoundError(f"There is no notebook file {path}. Use the path of an .ipynb file, or a name.")
        return read_notebook(path)
    known = {path.stem: path for path in notebooks_dir().glob("*.ipynb")}
    if str(name) not in known:
        raise unknown("notebook", str(name), known, hint="For your own notebook use its path, ending in .ipynb.")
    return read_notebook(known[str(name)])


def read_notebook(path: Path) -> Notebook:
    """What the notebook in a file says about itself; InputError when it is none."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        prose = _prose(cells)
        parameters = read_parameters(cells, path.stem)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a notebook of format 4 ({type(error).__name__}: {error}).") from None
    heading = re.search(r"^#+\s+(.+)$", prose, flags=re.MULTILINE)
    title = heading[1] if heading else path.stem
    claim = _first_sentence(prose[heading.end() :] if heading else prose)
    return Notebook(path.stem, path.resolve(), _plain(title), claim, parameters, len(cells))


def calling(cells: list[Mapping[str, Any]], name: str) -> int | None:
    """Index of the first cell that calls a function imported from this package without a folder argument.

    Only counts unconditional calls: not under an `if`, in a loop, in a function, or in a cell that is allowed to fail.
    """
    lines = [(index, line) for index, cell in enumerate(cells) for line in _statements(cell)]
    imported = {
        alias.asname or name
        for _, line in lines
        if isinstance(line, ast.ImportFrom) and (line.module or "").split(".")[0] == "repsim_nb"
        for alias in line.names
        if alias.name == name
    }
    for index, line in lines:
        call = getattr(line, "value", None)
        if isinstance(call, ast.Call) and getattr(call.func, "id", None) in imported:
            elsewhere = any(keyword.arg == "folder" for keyword in call.keywords)
            if not elsewhere:
                return index
    return None


def _statements(cell: Mapping[str, Any]) -> list[ast.stmt]:
    if cell["cell_type"] != "code" or "raises-exception" in cell.get("metadata", {}).get("tags", []):
        return []
    try:
        plain = [line for line in "".join(cell["source"]).splitlines() if not line.startswith(("%", "!"))]
        return ast.parse("\n".join(plain)).body
    except (SyntaxError, ValueError):
        return []


def _prose(cells: list[Mapping[str, Any]]) -> str:
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def _first_sentence(prose: str) -> str:
    paragraphs = (part.strip() for part in re.split(r"\n\s*\n", prose))
    paragraph = next((part for part in paragraphs if part and not part.startswith("#")), "")
    text = re.sub(r"^Claim[.:]\s*", "", _plain(paragraph))
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text, maxsplit=1)[0]


def _plain(markdown: str) -> str:
    """Strip links, emphasis and code marks, and join lines."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    return " ".join(re.sub(r"\*+|`|^>\s*", "", text, flags=re.MULTILINE).split())
