"""matplotlib figures as part of the page, in its font and colours, light or dark."""

from __future__ import annotations

import re
from html import escape
from io import StringIO
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": None}
_SAVING = Lock()  # rcParams are global: only these two are reset, so that settings made by a cell meanwhile are kept


def empty(width: float, height: float) -> Axes:
    """New Axes, in a figure that neither a window nor a notebook shows by itself."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure.add_subplot()


def inline_svg(ax: Axes, label: str) -> str:
    """The figure of `ax` as SVG for a page, with `label` as its name; black becomes the colour of text."""
    import matplotlib as mpl

    settings: Any = mpl.rcParams
    figure, written = ax.get_figure(root=True), StringIO()
    assert figure is not None
    with _SAVING:
        before = {name: settings[name] for name in SETTINGS}
        settings.update(SETTINGS)
        try:
            figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
        finally:
            settings.update(before)
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<[^>]+>", lambda tag: tag[0].replace("#000000", "currentColor"), svg)  # in tags only, not in text
    svg = re.sub(r'<g id="[a-z]+(?:\\.[a-z]+)*_\d+"', "<g", svg)  # the same in every figure of a page
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    named = f'role="img" aria-label="{escape(label)}"'
    svg = re.sub(r'^<svg[^>]*?(viewBox="[^"]+")[^>]*>', lambda found: f"<svg {found[1]} {named}>", svg)
    return f'<div class="repsim-picture">{svg}</div>'
