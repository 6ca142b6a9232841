"""Text to take away: shown and copied by one button."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

from repsim_nb.widgets.picker import STYLE


class CodeButton(anywidget.AnyWidget):
    """A button that shows `text` below itself and copies it; disabled while there is none."""

    _esm = Path(__file__).with_name("code.js")
    _css = STYLE
    text = traitlets.Unicode("").tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    tooltip = traitlets.Unicode().tag(sync=True)
    name = traitlets.Unicode(help="a class for its button").tag(sync=True)
