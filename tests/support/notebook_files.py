"""Small notebooks that the tests of runs write for themselves."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PARAMETERS = """\
preset: str = "default"  # quick | default | paper
n_rows: int | None = None  # rows compared
measures: list[str] = ["cka", "procrustes"]  # names
rate: float = 0.5
shuffle: bool = False  # a # in a comment, and "quotes"
"""


def write(folder: Path, name: str, *code: str, parameters: str = PARAMETERS) -> Path:
    """A notebook with a heading, a claim, a parameters cell, and then the given code cells."""
    cells = [
        new_markdown_cell(f"# The title of {name}\n\n**Claim.** Rows agree (Brown et al. 2023). More follows."),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        new_markdown_cell("## Work"),
        *map(new_code_cell, code),
    ]
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


def save(stem: str, caption: str = "") -> str:
    """Code that saves a figure, its caption and a table the way repsim_nb.figures.save does."""
    return f"""\
from repsim_nb.runs import output_dir
(output_dir() / "{stem}.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>')
(output_dir() / "{stem}.png").write_bytes(b"not looked at")
(output_dir() / "{stem}.caption.txt").write_text({caption!r})
(output_dir() / "{stem}.csv").write_text("layer,value")
"""
