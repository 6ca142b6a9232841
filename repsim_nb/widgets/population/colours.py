"""The colours of models by a column of the catalogue or of the user's table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.widgets.model_picker import described

if TYPE_CHECKING:
    import pandas as pd

SHAPES = ("circle", "square", "diamond", "up", "down", "cross")
COLUMNS = ("family", "kind", "source", "activation", "n_layers", "d_model", "n_parameters", "accuracy", "loss", "step")
GREY = "#8a8a8a"
MOST_KINDS = 18  # categories that shapes and colours tell apart


def columns_of(models: Sequence[str], table: pd.DataFrame | None) -> dict[str, dict[str, Any]]:
    """Column -> model -> value, of what tells the models apart: from the user's table, then from the catalogue.

    `step` is that of checkpoints. Columns with one value for all models are left out.
    """
    found: dict[str, dict[str, Any]] = {}
    if table is not None:
        for column in table.columns:
            found[str(column)] = {name: table[column].get(name) for name in models}
    about = {name: described(name) for name in models}
    for column in COLUMNS:
        own = {name: _step(name) if column == "step" else about[name].get(column) for name in models}
        found.setdefault(column, own)
    known = {name: {m: v for m, v in values.items() if v is not None and v == v} for name, values in found.items()}
    return {name: values for name, values in known.items() if len(set(map(str, values.values()))) > 1}


def _step(name: str) -> int | None:
    revision = name.partition("@")[2]
    return int(revision.removeprefix("step")) if revision.removeprefix("step").isdecimal() else None


class Colours:
    """Colour and shape of each model by one column.

    Parameters
    ----------
    column
        Name of the column; None for one colour.
    values
        Model -> value. Numbers get a continuous scale; anything else a colour and a shape each.
    """

    def __init__(self, column: str | None = None, values: dict[str, Any] | None = None):
        import matplotlib as mpl
        import seaborn as sns
        from matplotlib.colors import to_hex

        self.column, self.values = column, values or {}
        self.kinds = list(dict.fromkeys(map(str, self.values.values())))
        numbers = [v for v in self.values.values() if isinstance(v, int | float | np.number)]
        self.continuous = bool(numbers) and len(numbers) == len(self.values) and len(self.kinds) > 4
        if self.continuous:
            low, high = min(numbers), max(numbers)
            paint = mpl.colormaps["viridis"]
            self._colour = {m: to_hex(paint((v - low) / (high - low))) for m, v in self.values.items()}
            self._shape = dict.fromkeys(self.values, "circle")
            self.legend = [
                {"text": f"{column} {value:,.4g}", "colour": to_hex(paint(place)), "shape": "circle"}
                for place, value in ((0.0, low), (0.5, (low + high) / 2), (1.0, high))
            ]
            return
        palette = [to_hex(c) for c in sns.color_palette("colorblind")]
        styles = dict(zip(self.kinds, zip(cycle(palette), cycle(SHAPES), strict=False), strict=False))
        self._colour = {m: styles[str(v)][0] for m, v in self.values.items()}
        self._shape = {m: styles[str(v)][1] for m, v in self.values.items()}
        self.legend = [{"text": kind, "colour": c, "shape": s} for kind, (c, s) in styles.items()][:MOST_KINDS]

    @property
    def groups(self) -> dict[str, str]:
        """Model -> group, if the column has few kinds; empty for a continuous one."""
        return {} if self.continuous else {model: str(value) for model, value in self.values.items()}

    def colour(self, model: str) -> str:
        """Its colour, as hex; grey for a model without a value."""
        return self._colour.get(model, GREY)

    def shape(self, model: str) -> str:
        """Its shape, one of `SHAPES`."""
        return self._shape.get(model, "circle")

    def words(self, model: str) -> str:
        """Its value in words; "" if there is none."""
        value = self.values.get(model)
        return "" if value is None else f"{self.column} {value:,.4g}" if self.continuous else str(value)
