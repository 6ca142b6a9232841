"""The index page of an output folder: figures, captions, parameters and links of all runs."""

import os
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from repsim_nb.runs.results_folder import FAILED, RECORD, SKIPPED, Figure, figures, read_record, tables
from repsim_nb.system.atomic import DRAFT, atomic

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5d6570; --line: #d9dde2; --page: #fcfcfb; --link: #1f5fa8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6e8; --soft: #9aa3ad; --line: #353b42; --page: #16191c; --link: #86b8f0 } }
body { font: 17px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem }
h1 { font-size: 1.7rem; margin: 0 0 .3rem } h2 { font-size: 1.35rem; margin: 0 0 .3rem; line-height: 1.3 }
p { max-width: 42rem; margin: .4rem 0 } a { color: var(--link) } nav li { margin: .15rem 0 }
section { border-top: 1px solid var(--line); margin-top: 2.8rem; padding-top: 1.8rem }
.soft, figcaption span { color: var(--soft); font-size: .85rem } .failed { color: #c0392b }
.skipped { border-left: 3px solid var(--line); padding-left: .8rem }
.figures { display: flex; flex-wrap: wrap; gap: 1.6rem; align-items: flex-start; margin: 1.4rem 0 }
figure { margin: 0; width: fit-content; min-width: min(100%, 20rem); max-width: 100% }
figure img { max-width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 6px;
  box-sizing: border-box; padding: .6rem }
figcaption { margin-top: .5rem; font-size: .95rem; line-height: 1.45; contain: inline-size; max-width: 42rem }
figcaption span { display: block }
details { margin: .6rem 0 } summary { cursor: pointer } code { font-size: .85em }
table { border-collapse: collapse; margin: .5rem 0; font-size: .9rem }
td { padding: .15rem 1.2rem .15rem 0; vertical-align: top; overflow-wrap: anywhere }
"""


def write_index(out: str | os.PathLike[str]) -> Path:
    """Write `out/index.html` from the run folders in `out`; return its path.

    Raises OutputError if it cannot be written.
    """
    out = Path(out)
    folders = sorted(record.parent for record in out.glob(f"*/{RECORD}") if not record.parent.match(DRAFT))
    runs = [(folder, read_record(folder)) for folder in folders]
    runs = [
        (folder, record) for folder, record in runs if not {"notebook", "title"}.isdisjoint(record)
    ]  # skip other programs' records
    with atomic(out / "index.html") as path:
        path.write_text(_page(runs), encoding="utf-8")
    return out / "index.html"


def _page(runs: list[tuple[Path, dict[str, Any]]]) -> str:
    contents = "\n".join(
        f'<li><a href="#{quote(folder.name)}">{escape(_title(folder, record))}</a></li>' for folder, record in runs
    )
    sections = "\n".join(_section(folder, record) for folder, record in runs)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>repsim-nb: figures</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Figures</h1>
<p class="soft">Made by repsim-nb. Every figure comes from the notebook named above it.</p>
<nav><ul>
{contents}
</ul></nav>
{sections}
</body>
</html>
"""


def _title(folder: Path, record: dict[str, Any]) -> str:
    title = str(record.get("title") or folder.name)
    usual = str(record.get("notebook") or folder.name)
    return title if folder.name in (usual, usual + FAILED, usual + SKIPPED) else f"{title} ({folder.name})"


def _section(folder: Path, record: dict[str, Any]) -> str:
    failed = f'<p class="failed">Failed {escape(str(record["error"]))}</p>' if "error" in record else ""
    if "skipped" in record:
        failed = f'<p class="skipped">Skipped: {escape(str(record["skipped"]))}</p>'
    shown = "\n".join(_figure(figure) for figure in figures(folder))
    return f"""<section id="{escape(folder.name)}">
<h2>{escape(_title(folder, record))}</h2>
<p>{escape(str(record.get("claim", "")))}</p>
{failed}
<p class="soft">{_facts(folder, record)}</p>
<div class="figures">
{shown}
</div>
{_tables(tables(folder))}
{_parameters(record)}
</section>"""


def _facts(folder: Path, record: dict[str, Any]) -> str:
    facts = [_link(path, f"notebook {path.name}") for path in sorted(folder.glob("*.ipynb"))]
    if "seconds" in record:
        facts.append(f"{record['seconds']:.1f} s")
    if "started" in record:
        facts.append(escape(str(record["started"])[:16].replace("T", " ")) + " UTC")
    return " · ".join(facts)


def _figure(figure: Figure) -> str:
    caption, picture = escape(figure.caption), figure.files[0]
    files = " · ".join(_link(path, path.suffix[1:].upper()) for path in figure.files)
    return f"""<figure>
<a href="{_address(picture)}"><img src="{_address(picture)}" alt="{caption}" loading="lazy"></a>
<figcaption>{caption}<span>{files}</span></figcaption>
</figure>"""


def _tables(files: list[Path]) -> str:
    if not files:
        return ""
    stems = dict.fromkeys(path.stem for path in files)
    rows = "\n".join(
        f"<tr><td>{escape(stem)}</td><td>"
        + " · ".join(_link(path, path.suffix[1:].upper()) for path in files if path.stem == stem)
        + "</td></tr>"
        for stem in stems
    )
    return f"<details><summary>Tables ({len(stems)})</summary>\n<table>\n{rows}\n</table>\n</details>"


def _parameters(record: dict[str, Any]) -> str:
    given = record.get("given", [])
    rows = "\n".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(repr(value))}</code></td>"
        f'<td class="soft">{"given" if name in given else "default"}</td></tr>'
        for name, value in record.get("parameters", {}).items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    revision = f"<p class='soft'>Revision {escape(str(record['revision']))}</p>" if record.get("revision") else ""
    if not rows and not versions:
        return ""
    return f"""<details><summary>Parameters and versions</summary>
<table>
{rows}
</table>
<p class="soft">{escape(versions)}</p>
{revision}
</details>"""


def _link(path: Path, text: str) -> str:
    return f'<a href="{_address(path)}">{escape(text)}</a>'


def _address(path: Path) -> str:
    """URL relative to the page: the run's folder and the file."""
    return quote(f"{path.parent.name}/{path.name}")
