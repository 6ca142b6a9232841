"""llms.txt: the manual as one list of pages, and as one file of plain text, for readers that are programs."""

from pathlib import Path

from docs.pages import SITE
from repsim_nb.runs.notebooks import notebooks

HEAD = """# repsim-nb

> Measures how much representations of language models differ, layer by layer, in Jupyter: some thirty measures, model
> stitching, intervals and nulls. `import repsim_nb as rs`. Models and texts come with the package.

The package is `repsim-nb`, imported as `repsim_nb`. The package `repsim` on PyPI is another project.
"""


def write(source: Path, site: Path) -> None:
    """Write llms.txt (the list) and llms-full.txt (the hand-written pages) into the built site."""
    pages = sorted(path for path in source.rglob("*.md") if path.stem not in ("what_loads",))
    lines = [f"- [{_title(path)}]({SITE}/{path.relative_to(source).with_suffix('.html').as_posix()})" for path in pages]
    books = "\n".join(f"- {book.name}: {book.title} {book.claim}" for book in notebooks())
    (site / "llms.txt").write_text(
        f"{HEAD}\n## Pages\n\n" + "\n".join(lines) + f"\n\n## Notebooks\n\n{books}\n", encoding="utf-8"
    )
    whole = "\n\n".join(path.read_text(encoding="utf-8") for path in pages)
    (site / "llms-full.txt").write_text(f"{HEAD}\n{whole}\n", encoding="utf-8")


def _title(path: Path) -> str:
    first = next((line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")), path.stem)
    return first.removeprefix("# ")
