"""Tables of text for a terminal."""

import csv
import io
import math
import shutil
import sys
from collections.abc import Sequence

_GAP = "  "
_NARROWEST = 12  # columns are not shortened below this


def aligned(header: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> str:
    """Format columns side by side, shortening the widest with an ellipsis until a line fits `width`.

    By default that is the width of the terminal; nothing is shortened in a pipe or a file.
    """
    lines = [[_text(value) for value in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    spare = (width or _terminal()) - len(_GAP) * (len(widths) - 1)
    while sum(widths) > spare and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return "\n".join(_GAP.join(map(_cell, line, widths)).rstrip() for line in lines)


def comma_separated(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format the same table as CSV, without shortening."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().rstrip("\n")


def _terminal() -> float:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf


def _text(value: object) -> str:
    if value is None or value != value:  # NaN is the only value that differs from itself
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, set | frozenset):
        value = sorted(value)
    if isinstance(value, list | tuple):
        value = ", ".join(map(_text, value))
    return " ".join(str(value).split())


def _cell(text: str, width: int) -> str:
    return (text if len(text) <= width else text[: width - 1] + "…").ljust(width)
