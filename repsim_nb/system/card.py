"""Objects of the package as notebooks show them: in words, with the provenance folded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any


def card(title: str, sentences: Sequence[str], provenance: Any, folded: Mapping[str, str] | None = None) -> str:
    """HTML with a title, a list of sentences and the provenance as indented JSON, folded.

    Everything is escaped, except the values of `folded`: more parts by their titles, already HTML.
    """
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    record = f"<pre>{escape(json.dumps(provenance, indent=1, ensure_ascii=False, default=str))}</pre>"
    parts = [*(folded or {}).items(), ("Provenance", record)]
    details = "".join(f"<details><summary>{escape(name)}</summary>{html}</details>" for name, html in parts)
    return f'<div><strong>{escape(title)}</strong><ul style="margin: 4px 0">{said}</ul>{details}</div>'


def show_in_notebooks(module: str, name: str, as_html: Callable[[Any], str]) -> None:
    """Let a running IPython show instances of a class of another package by `as_html`, unless the user has a formatter.

    The class is named, so that its package is not imported for this.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    formatter = shell.display_formatter.formatters["text/html"] if shell else None
    if formatter is not None and formatter.for_type_by_name(module, name) is None:
        formatter.for_type_by_name(module, name, as_html)
