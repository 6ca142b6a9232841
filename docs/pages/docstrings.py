"""Docstrings are plain text for `help()`; here they become reStructuredText."""

import re
from collections.abc import Iterable, Iterator

SECTION = re.compile(r"-{3,}$")
LITERAL = re.compile(r"(``.+?``|`[^`]+`)")
FREE_TEXT = ("Notes",)  # sections in which an indented paragraph is a formula or an example, not a description


def as_restructured_text(app, what, name, obj, options, lines: list[str]) -> None:
    """Change the lines of a docstring in place, as Sphinx asks; numpydoc sees the result."""
    lines[:] = restructured(lines)


def restructured(lines: Iterable[str]) -> list[str]:
    """The lines with formulae as literal blocks, and with what reStructuredText would read as markup escaped."""
    return list(_formulae(list(lines)))


def escaped(line: str) -> str:
    """A line of prose in which bars, stars and trailing underscores mean themselves."""
    parts = LITERAL.split(line)
    for place in range(0, len(parts), 2):
        text = parts[place].replace("\\", "\\\\")
        text = re.sub(r"([|*])", r"\\\1", text)
        parts[place] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", text)
    return "".join(parts)


def _formulae(lines: list[str]) -> Iterator[str]:
    section, literal = "", False
    for place, line in enumerate(lines):
        if place + 1 < len(lines) and SECTION.match(lines[place + 1].strip()) and line.strip():
            section, literal = line.strip(), False
        if section == "Examples" or not line.strip() or SECTION.match(line.strip()) or line.strip() == section:
            yield line
            continue
        indented = line.startswith("    ") and section in ("", *FREE_TEXT)
        if indented and not literal and not (place and lines[place - 1].strip().startswith("- ")):
            yield from (".. code-block:: none", "")
        literal = indented
        yield line if indented else _prose(line)


def _prose(line: str) -> str:
    return line if line.lstrip().startswith((".. ", ":")) else escaped(line)
