"""A list or a menu whose options may change while the user is choosing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from repsim_nb.widgets.picker import STYLE


class Choice(anywidget.AnyWidget):
    """A list of `rows` lines, or a menu of one.

    The lists of ipywidgets send Python the position of the chosen option. If the list has changed in the meantime, as
    with every letter of a search, that is silently another option or none. This one sends the value itself.

    Attributes
    ----------
    options
        Trait: values, or pairs (text, value); a value is a str, int or None.
    value
        Trait: what is chosen, with `multiple` a list. Not checked against the options.
    description, tooltip
        Traits: the label and the tooltip.
    """

    _esm = Path(__file__).with_name("choice.js")
    _css = STYLE
    options = traitlets.List(traitlets.Any()).tag(sync=True)
    value = traitlets.Any(None, allow_none=True).tag(sync=True)
    description = traitlets.Unicode().tag(sync=True)
    rows = traitlets.Int(1).tag(sync=True)
    multiple = traitlets.Bool(False).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        # Servers drop updates when many come at once, as when a page opens, so it is told again what to show.
        self.on_msg(lambda *_: self.send_state(("options", "value", "description")))
