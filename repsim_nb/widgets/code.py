"""Text to copy, shown and copied with one button."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

from repsim_nb.widgets.picker import STYLE


class CodeButton(anywidget.AnyWidget):
    """A button that shows `text` below itself and copies it; disabled while `text` is empty."""

    _esm = Path(__file__).with_name("code.js")
    _css = STYLE
    text = traitlets.Unicode("").tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    css_class = traitlets.Unicode(help="of its button").tag(sync=True)
