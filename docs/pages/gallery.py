"""The gallery: every file of docs/gallery is run, and its figure stands above its code."""

import ast
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

DPI = 110


def write(examples: Path, folder: Path) -> None:
    """Run every example, and write its picture and the page of all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = [_section(path, folder) for path in sorted(examples.glob("*.py"))]
    page = folder / "index.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("{{ figures }}", "\n\n".join(sections)), encoding="utf-8")


def titled(path: Path) -> tuple[str, str, str]:
    """Title, text and code of an example."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    title, _, about = (ast.get_docstring(tree) or "").partition("\n\n")
    start = tree.body[1].lineno - 1
    return title.strip().removesuffix("."), about.strip(), "\n".join(source.splitlines()[start:]).strip()


def run(path: Path) -> Any:
    """Run an example and return its figure, which it leaves as `figure` or as the figure of `ax`."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), names)
    return names["figure"] if "figure" in names else names["ax"].figure


def _section(path: Path, folder: Path) -> str:
    title, about, code = titled(path)
    figure = run(path)
    figure.savefig(folder / f"{path.stem}.png", dpi=DPI, bbox_inches="tight")
    plt.close("all")
    return f"## {title}\n\n{about}\n\n![{title}]({path.stem}.png)\n\n```python\n{code}\n```"
