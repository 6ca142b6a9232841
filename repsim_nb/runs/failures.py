"""Find all errors in an executed notebook, including those that do not fail a headless run.

An exception inside `interact` or `with Output()` is caught by the widget and ends up in the notebook's widget state.
SystemExit ends a run early without an error. A traceback on stderr comes from a thread or a callback. The widgets of
this package show their errors in an area of their own. All of these count as failures, except in cells tagged
`raises-exception`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any

from repsim_nb.errors import UnreachableError

_STATE = "application/vnd.jupyter.widget-state+json"
_VIEW = "application/vnd.jupyter.widget-view+json"
_INJECTED_TAGS = {"injected-parameters", "papermill-error-cell-tag"}
ALERT = "repsim-error"  #: CSS class of a widget's error area
_TAG = re.compile(r"<[^>]+>")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# tqdm's watchdog, on which nothing depends, loses a race with a new progress bar now and then.
_WATCHDOG = re.compile(r"Exception in thread tqdm_monitor:\s+Traceback.*?^\w+Error: [^\n]*$", re.S | re.M)


@dataclass(frozen=True)
class Failure:
    """One error: its place, counting cells as in the original notebook, and its reason."""

    place: str  #: such as "in cell 4 of 9, `acts = rs.extract(model)`"
    reason: str  #: such as "ValueError: too few rows"

    @property
    def unreachable(self) -> str:
        """What cannot be downloaded here, if that is the reason; otherwise empty."""
        name, _, message = self.reason.partition(": ")
        return message if name == UnreachableError.__name__ else ""


def place(cells: list[Any], index: int, inside: str = "in") -> str:
    """Describe the cell at `index` of an executed notebook, not counting cells added by papermill."""
    own = [cell for cell in cells if not _INJECTED_TAGS & set(cell["metadata"].get("tags", []))]
    number = 1 + sum(any(cell is other for other in own) for cell in cells[:index])
    lines = (line.strip() for line in cells[index]["source"].splitlines())
    first = next((line for line in lines if line and not line.startswith(("#", "%"))), "")
    return f"{inside} cell {min(number, len(own))} of {len(own)}, `{first}`"


def failures(notebook: Mapping[str, Any]) -> list[Failure]:
    """All errors in the outputs and the widget state of an executed notebook, in the order of its cells."""
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


def first(found: list[Failure]) -> Failure | None:
    """The failure to report: the first, or what cannot be downloaded, if a widget has shown the same before."""
    missing = next((failure for failure in found if failure.unreachable), None)
    if missing and all(missing.unreachable in failure.reason for failure in found):
        return missing
    return next(iter(found), None)


def _errors(outputs: list[Any]) -> Iterator[str]:
    for output in outputs:
        if output["output_type"] == "error":
            yield _plain(f"{output['ename']}: {output['evalue']}")
        elif output["output_type"] == "stream" and output["name"] == "stderr":
            text = _WATCHDOG.sub("", _plain("".join(output["text"])))
            if "Traceback (most recent call last)" in text:
                yield text.strip().splitlines()[-1]


def _alerts(state: Mapping[str, Any]) -> Iterator[str]:
    """The error shown by one of this package's widgets."""
    text = unescape(_TAG.sub("", state.get("value") or "")) if ALERT in state.get("_dom_classes", []) else ""
    if text:
        yield text


def _plain(text: str) -> str:
    return _ANSI.sub("", text).strip()


def _shown(cells: list[Any]) -> dict[str, int]:
    """Widget id -> index of the cell that shows it."""
    return {
        output["data"][_VIEW]["model_id"]: index
        for index, cell in enumerate(cells)
        for output in cell.get("outputs", [])
        if _VIEW in output.get("data", {})
    }


def _cell_of(identity: str, widgets: Mapping[str, Any], shown: Mapping[str, int]) -> int | None:
    """The first cell that shows the widget or a box that contains it."""
    boxes = {identity}
    while not boxes & shown.keys():
        held = {f"IPY_MODEL_{box}" for box in boxes}
        outer = {name for name, widget in widgets.items() if held & set(widget["state"].get("children", []))} - boxes
        if not outer:
            return None
        boxes |= outer
    return min(shown[box] for box in boxes & shown.keys())
