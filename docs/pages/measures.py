"""A page for every measure of the registry, from its docstring and its declarations."""

import inspect
import math
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from numpydoc.docscrape import NumpyDocString

import repsim_nb as rs
from docs.pages.docstrings import escaped, restructured
from repsim_nb.measures.registry import INVARIANCES, Measure

MISLEADS = "How the number misleads"
SEE = (
    "See also: :doc:`choose a measure </how-to/choose-a-measure>`, :doc:`read a map </how-to/read-a-map>`, "
    ":doc:`how sure a number is </how-to/uncertainty>`, :doc:`a measure of your own </how-to/my-measure>`."
)
CHANGES = {
    "permutation": "the order of the features changes",
    "orthogonal": "the features are rotated or mirrored",
    "scale": "everything is multiplied by one number",
    "shift": "one vector is added to every row",
    "linear": "the features are mixed by any invertible matrix",
}
MEANS = {"similarity": "a similarity: larger means more alike", "dissimilarity": "a dissimilarity: 0 means the same"}


def write(folder: Path) -> None:
    """Write a page for every measure, and the page that lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(rs.list_measures().index)
    for name in names:
        (folder / f"{name}.rst").write_text(page(rs.get_measure(name)), encoding="utf-8")
    (folder / "index.rst").write_text(_index(names), encoding="utf-8")


def page(measure: Measure) -> str:
    """The page of one measure, in reStructuredText."""
    doc = NumpyDocString(inspect.getdoc(type(measure)) or "")
    formula, misleads, more = _notes(doc["Notes"])
    parts = [
        _heading(measure.title, "="),
        f"``rs.get_measure({measure.name!r})``\n\n{_text(doc['Summary'] + [''] + doc['Extended Summary'])}",
        _facts(measure),
    ]
    if formula:
        parts.append(_heading("Formula", "-") + "\n" + formula)
    parts.append(_heading("What does not change it", "-") + "\n" + _invariances(measure))
    parts.append(_heading(MISLEADS, "-") + "\n" + misleads)
    if doc["Parameters"]:
        parts.append(_heading("Parameters", "-") + "\n" + _parameters(type(measure), doc["Parameters"]))
    if more:
        parts.append(_heading("More", "-") + "\n" + more)
    if doc["Raises"]:
        why = " ".join(" ".join(entry.desc) for entry in doc["Raises"])
        parts.append(_heading("When it refuses", "-") + f"\nAn ``InputError`` says so: {escaped(_lower(why))}")
    if doc["Examples"]:
        parts.append(_heading("Example", "-") + "\n" + "\n".join(doc["Examples"]))
    parts.append(_heading("References", "-") + "\n" + _references(doc["References"]))
    parts.append(SEE)
    return "\n\n".join(parts) + "\n"


def _notes(lines: list[str]) -> tuple[str, str, str]:
    """Formula and definition, what misleads, and what else the notes say."""
    text = "\n".join(lines).strip("\n")
    before, _, after = text.partition(MISLEADS)
    paragraphs = re.split(r"\n\s*\n", after.removeprefix(":").strip("\n "))
    count = 1
    while count < len(paragraphs) and (paragraphs[count].startswith("- ") or paragraphs[0] == ""):
        count += 1
    if paragraphs[0].startswith("- "):
        while count < len(paragraphs) and paragraphs[count].startswith("- "):
            count += 1
    misleads, more = "\n\n".join(paragraphs[:count]), "\n\n".join(paragraphs[count:])
    return (_text(before.splitlines()), _text(_capital(misleads).splitlines()), _text(more.splitlines()))


def _facts(m: Measure) -> str:
    rows = {
        "name": f"``{m.name}``",
        "direction": MEANS[m.direction],
        "range": range_of(m),
        "swapping the sides": "keeps the value" if m.symmetric else "gives another value",
        "a metric": "yes: it satisfies the triangle inequality" if m.metric else "no",
        "fewest rows": str(m.min_rows),
        "rows must outnumber features": _needs(m),
        "cost": f"{escaped(m.cost)} for a pair; n rows, d features",
        "defined in": escaped(m.reference),
    }
    lines = "\n".join(f"   * - {name}\n     - {value}" for name, value in rows.items())
    return f".. list-table::\n   :widths: 30 70\n   :stub-columns: 1\n\n{lines}"


def range_of(m: Measure) -> str:
    """The bounds of a measure in words."""
    low, high = ("unbounded" if math.isinf(end) else f"{end:.6g}" for end in m.bounds)
    if low == high == "unbounded":
        return "unbounded"
    return f"{low} to {high}" if high != "unbounded" else f"{low} and more"


def _needs(m: Measure) -> str:
    return "on " + " and ".join(sorted(m.needs_rows)) + " (else a DegenerateWarning)" if m.needs_rows else "no"


def _invariances(m: Measure) -> str:
    lines = "\n".join(
        f"   * - {what}\n     - {_yes(name in m.invariances_x)}\n     - {_yes(name in m.invariances_y)}"
        for name, what in CHANGES.items()
    )
    assert set(CHANGES) == set(INVARIANCES)
    return (
        "With default parameters, the value stays the same if\n\n.. list-table::\n   :widths: 60 20 20\n"
        f"   :header-rows: 1\n\n   * - change\n     - of x\n     - of y\n{lines}"
    )


def _parameters(cls: type[Measure], described: list[Any]) -> str:
    defaults = {f.name: f.default for f in fields(cls) if f.default is not MISSING}  # type: ignore[arg-type]
    lines = "\n".join(
        f"   * - ``{entry.name}``\n     - ``{defaults.get(entry.name)!r}``\n     - {escaped(' '.join(entry.desc))}"
        for entry in described
    )
    head = ".. list-table::\n   :widths: 15 15 70\n   :header-rows: 1\n\n   * - name\n     - default\n     - meaning\n"
    return head + lines


def _references(lines: list[str]) -> str:
    entries = re.split(r"\.\. \[\d+\]", " ".join(line.strip() for line in lines))
    return "\n".join(f"#. {escaped(entry.strip())}" for entry in entries if entry.strip())


def _index(names: list[str]) -> str:
    rows = "\n".join(
        f"   * - :doc:`{m.name} <{m.name}>`\n     - {m.title}\n     - {m.direction}\n     - {range_of(m)}\n"
        f"     - {', '.join(i for i in INVARIANCES if i in m.invariances) or 'none'}"
        for m in map(rs.get_measure, names)
    )
    contents = "\n".join(f"   {name}" for name in names)
    return f"""Measures
========

All {len(names)} measures of ``rs.list_measures()``, each with a page of its own: formula, range, invariances, how the
number misleads, and references. *Invariances* are what both sides may undergo, each on its own, without a change of the
value. :doc:`/how-to/choose-a-measure` says which to take.

.. list-table::
   :header-rows: 1
   :widths: 18 34 14 14 20

   * - name
     - measure
     - direction
     - range
     - invariances
{rows}

.. toctree::
   :hidden:

{contents}
"""


def _heading(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}\n"


def _text(lines: list[str]) -> str:
    return "\n".join(restructured(["Notes", "-----", *lines])[2:]).strip("\n")


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
