"""An HTML file of its own: one script of ours, which the file allows by its hash, and nothing from elsewhere."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from repsim_nb.errors import InputError
from repsim_nb.system.atomic import atomic
from repsim_nb.system.memory import readable_size
from repsim_nb.system.versions import versions
from repsim_nb.widgets.bounds import reachable
from repsim_nb.widgets.picker import STYLE

SUFFIXES = (".html", ".htm")
_HERE = Path(__file__).parent


def file_for(path: str | os.PathLike[str]) -> Path:
    """Where a page may be written.

    Raises
    ------
    InputError
        Another suffix, or a place that cannot be reached.
    """
    file = reachable(path)
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"Cannot save a page as '{file.name}'. Give a name that ends in .html.")
    return file


def write(page: str, file: Path, parts: list[str], max_bytes: int) -> Path:
    """Write a page if it is small enough; `parts` are its close-ups, which can be left out.

    Raises
    ------
    InputError
        The page is larger than `max_bytes`, or cannot be written.
    """
    content = page.encode("utf-8", "replace")
    if len(content) > max_bytes:
        said = f"The page would take {readable_size(len(content))}; max_bytes is {readable_size(max_bytes)}."
        if not parts:
            raise InputError(f"{said} Raise max_bytes.")
        share = readable_size(sum(len(part.encode("utf-8", "replace")) for part in parts))
        raise InputError(f"{said} {share} of it are {len(parts)} close-ups: leave them out, or raise max_bytes.")
    with atomic(file) as draft:
        draft.write_bytes(content)
    return file


def document(
    title: str, body: str, folded: Sequence[tuple[str, str]], n_closeups: int, data: Any, drawings: Mapping[str, Path]
) -> str:
    """A whole page: body, a foot with folded texts, the data of its script, and the widgets' scripts by name."""
    script = _script(drawings)
    allowed = base64.b64encode(sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    count = f"{n_closeups} close-up{'' if n_closeups == 1 else 's'}"
    foot = f"Made with repsim-nb {versions()['repsim-nb']}. This page holds {count} and needs no network."
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE.read_text(encoding="utf-8")}{(_HERE / "saved_page.css").read_text(encoding="utf-8")}</style>
</head>
<body class="repsim">
<main>
<h1>{escape(title)}</h1>
{body}
<footer>
{"".join(_folded(name, text) for name, text in folded if text)}
<p class="repsim-note">{escape(foot)}</p>
</footer>
</main>
<script type="application/json" id="repsim-data">{_as_data(data)}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def in_paragraph(words: list[str]) -> str:
    """A result in words: its title, then sentences."""
    head, *sentences = words
    return f'<p class="repsim-page-words"><strong>{escape(head)}.</strong> {escape(" ".join(sentences))}</p>'


def _folded(title: str, text: str) -> str:
    held = f'<pre class="repsim-code" tabindex="0">{escape(text)}</pre>'
    return f"<details><summary>{escape(title)}</summary>{held}</details>"


def _as_data(data: Any) -> str:
    """JSON that no markup in it can end."""
    written = json.dumps(data)
    return written.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _script(drawings: Mapping[str, Path]) -> str:
    """The script of each widget as a constant of its name, then that of the page."""
    parts = [
        f"const {name} = (() => {{\n{path.read_text(encoding='utf-8').replace('export default', 'return')}}})();"
        for name, path in drawings.items()
    ]
    return "\n".join(["", *parts, (_HERE / "saved_page.js").read_text(encoding="utf-8")])
