"""The pages about the project: contributing, security and changelog as the repository has them, and its addresses."""

import shutil
from pathlib import Path

from docs.pages import PROJECT, TOP

COPIED = ("CONTRIBUTING", "SECURITY", "CHANGELOG")


def write(folder: Path) -> None:
    """Copy the pages that stand at the top of the repository, and put its addresses into the page that lists them."""
    for name in COPIED:
        shutil.copy(TOP / f"{name}.md", folder / f"{name.lower()}.md")
    page = folder / "index.md"
    addresses = "\n".join(f"- {name}: <{url}>" for name, url in PROJECT["urls"].items())
    page.write_text(page.read_text(encoding="utf-8").replace("{{ addresses }}", addresses), encoding="utf-8")
