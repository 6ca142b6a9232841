"""The way down from a pair of models: the explorer of its layers, and of the tokens behind them."""

from __future__ import annotations

from html import escape
from typing import Any

import ipywidgets as widgets

from repsim_nb.widgets.explorer import Explorer
from repsim_nb.widgets.model_picker import depth_of
from repsim_nb.widgets.population.asked import Asked
from repsim_nb.widgets.question import changed


class Walk(widgets.VBox):
    """The map of layers of a pair of models in an `Explorer`; empty until `show`.

    Attributes
    ----------
    explorer
        The explorer shown, or None.
    """

    def __init__(self) -> None:
        self.heading = widgets.HTML()
        self.explorer: Explorer | None = None
        super().__init__([self.heading])
        self.add_class("repsim-walk")
        self.layout.display = "none"

    def show(self, asked: Asked, pair: tuple[str, str], measure: str, corpus: str | None, resources: Any) -> None:
        """Compare the layers of a pair in the background."""
        self.clear()
        a, b = pair
        options = changed(asked.sampling, asked.uncertainty, asked.controls, resources)
        options |= {"n_rows": asked.sampling.n_rows}
        for side, name in {"a": a, "b": b}.items():
            depth = depth_of(name)
            if asked.sampling.rows == "cls" and depth:  # one token everywhere, so all rows of layer 0 are equal
                options[f"layers_{side}"] = range(1, depth + 1)
        configured = next(m for m in asked.configured if m.name == measure)
        self.explorer = Explorer(a, b, corpus, configured, **options)
        self.heading.value = (
            f'<div class="repsim-h2">{escape(a)} <span class="repsim-and">and</span> {escape(b)}, layer by layer</div>'
        )
        self.children = [self.heading, self.explorer]
        self.layout.display = ""
        self.explorer.start()

    def clear(self) -> None:
        """Show nothing, and stop what is running."""
        self.layout.display = "none"
        self.children = [self.heading]
        if self.explorer is not None:
            self.explorer.cancel()
            self.explorer.close()
            self.explorer = None
