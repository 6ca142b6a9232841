"""Errors in an executed notebook, also those that leave a headless run green.

An exception inside `interact` or `with Output()` is caught by the widget, printed where nobody looks, and saved in the
notebook's widget state. SystemExit ends a run early without complaint. A traceback on stderr comes from a thread or a
callback. The widgets of this package show what went wrong behind them, in a place of its own. All of them are
failures here, except in cells tagged `raises-exception`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any

_STATE = "application/vnd.jupyter.widget-state+json"
_VIEW = "application/vnd.jupyter.widget-view+json"
_NOT_THE_AUTHORS = {"injected-parameters", "papermill-error-cell-tag"}
ALERT = "repsim-error"  #: the class of a place in which a widget says what went wrong
_TAG = re.compile(r"<[^>]+>")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Failure:
    """One error: where, counted as the author of the notebook counts cells, and what."""

    place: str  #: such as "in cell 4 of 9, `acts = rs.extract(model)`"
    reason: str  #: such as "ValueError: too few rows"


def place(cells: list[Any], index: int, inside: str = "in") -> str:
    """How to name the cell at `index` of an executed notebook; cells added by papermill are not counted."""
    own = [cell for cell in cells if not _NOT_THE_AUTHORS & set(cell["metadata"].get("tags", []))]
    number = 1 + sum(any(cell is other for other in own) for cell in cells[:index])
    lines = (line.strip() for line in cells[index]["source"].splitlines())
    first = next((line for line in lines if line and not line.startswith(("#", "%"))), "")
    return f"{inside} cell {min(number, len(own))} of {len(own)}, `{first}`"


def failures(notebook: Mapping[str, Any]) -> list[Failure]:
    """Every error in the outputs and the widget state of an executed notebook, in the order of its cells."""
    cells = notebook["cells"]
    found = [
        (index, Failure(place(cells, index), reason))
        for index, cell in enumerate(cells)
        if "raises-exception" not in cell["metadata"].get("tags", [])
        for reason in _errors(cell.get("outputs", []))
    ]
    widgets = notebook["metadata"].get("widgets", {}).get(_STATE, {}).get("state", {})
    shown = _shown(cells)
    for identity, widget in widgets.items():
        for reason in [*_errors(widget["state"].get("outputs", [])), *_alerts(widget["state"])]:
            index = _cell_of(identity, widgets, shown)
            where = "inside a widget" if index is None else place(cells, index, "inside a widget of")
            found.append((len(cells) if index is None else index, Failure(where, reason)))
    return [failure for _, failure in sorted(found, key=lambda pair: pair[0])]


def _errors(outputs: list[Any]) -> Iterator[str]:
    for output in outputs:
        if output["output_type"] == "error":
            yield _plain(f"{output['ename']}: {output['evalue']}")
        elif output["output_type"] == "stream" and output["name"] == "stderr":
            text = _plain("".join(output["text"]))
            if "Traceback (most recent call last)" in text:
                yield text.strip().splitlines()[-1]


def _alerts(state: Mapping[str, Any]) -> Iterator[str]:
    """What one of this package's widgets says went wrong."""
    text = unescape(_TAG.sub("", state.get("value") or "")) if ALERT in state.get("_dom_classes", []) else ""
    if text:
        yield text


def _plain(text: str) -> str:
    return _ANSI.sub("", text).strip()


def _shown(cells: list[Any]) -> dict[str, int]:
    """Which cell shows which widget."""
    return {
        output["data"][_VIEW]["model_id"]: index
        for index, cell in enumerate(cells)
        for output in cell.get("outputs", [])
        if _VIEW in output.get("data", {})
    }


def _cell_of(identity: str, widgets: Mapping[str, Any], shown: Mapping[str, int]) -> int | None:
    """The first cell that shows the widget, or a box that holds it."""
    boxes = {identity}
    while not boxes & shown.keys():
        held = {f"IPY_MODEL_{box}" for box in boxes}
        outer = {name for name, widget in widgets.items() if held & set(widget["state"].get("children", []))} - boxes
        if not outer:
            return None
        boxes |= outer
    return min(shown[box] for box in boxes & shown.keys())
