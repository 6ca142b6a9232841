"""The map and the matrix of a population, which always show the same pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import pandas as pd

from repsim_nb.widgets.population import crowd, matrix
from repsim_nb.widgets.population.colours import Colours
from repsim_nb.widgets.population.squares_shown import both_ways

if TYPE_CHECKING:
    import xarray as xr

TwoModels = tuple[str, str]
FEWEST = 3  # models on a map


class MapAndMatrix(widgets.HBox):
    """The map of models beside the matrix of all pairs.

    Parameters
    ----------
    chosen
        Called with two models when the user chooses a pair, with None when the user lets go of it.
    """

    def __init__(self, chosen: Callable[[TwoModels | None], None]):
        self.crowd, self.matrix, self._chosen = crowd.Crowd(), matrix.Matrix(), chosen
        self._names: list[str] = []  # in the order of the map
        self._ordered: list[str] = []  # in that of the matrix
        self._marking = False
        super().__init__([self.crowd, self.matrix])
        self.add_class("repsim-maps")
        self.crowd.observe(self._on_map, "chosen")
        self.matrix.observe(self._on_matrix, "selected")

    def show(
        self, table: xr.DataArray, title: str, colours: Colours, series: list[list[str]], calibrated: bool
    ) -> None:
        """Draw a model x model table of dissimilarities; the matrix shows calibrated scores if that is asked."""
        apart = both_ways(table)
        self._names, self._ordered = list(apart.index), matrix.ordered(apart)
        self.crowd.layout.display = "" if len(apart) >= FEWEST else "none"
        if len(apart) >= FEWEST:
            self.crowd.view = crowd.view_of(apart, title, colours, series)
        shown = table.calibrated if calibrated else table
        square = pd.DataFrame(shown.values, self._names, self._names)
        names = self._ordered
        title = f"calibrated {title} (1 = same, 0 = unrelated)" if calibrated else title
        words = _words(table).loc[names, names].to_numpy().tolist()
        self.matrix.view = matrix.view_of(square.loc[names, names], title, words, alike=calibrated)

    def mark(self, pair: TwoModels | None) -> None:
        """Show which pair is chosen."""
        self._marking = True
        try:
            self.crowd.chosen = [] if pair is None else [self._names.index(name) for name in dict.fromkeys(pair)]
            self.matrix.selected = [] if pair is None else [self._ordered.index(name) for name in pair]
        finally:
            self._marking = False

    def on_page(self, pair: TwoModels | None) -> dict[str, Any]:
        """What the script of a saved page needs of both."""
        return {
            "crowd": self.crowd.view or None,
            "matrix": self.matrix.view,
            "names": self._ordered,
            "places": [self._names.index(name) for name in self._ordered],  # on the map, by place in the matrix
            "pair": [] if pair is None else [self._ordered.index(name) for name in pair],
        }

    def _on_map(self, change: Any) -> None:
        if not self._marking:
            two = [self._names[place] for place in change.new]
            self._chosen((two[0], two[1]) if len(two) == 2 else None)

    def _on_matrix(self, change: Any) -> None:
        if change.new and not self._marking:
            a, b = (self._ordered[place] for place in change.new)
            self._chosen((a, b))


def _words(table: xr.DataArray) -> pd.DataFrame:
    """What is known of each pair beyond its value."""
    names = [str(name) for name in table.model_a.values]
    lines = [[""] * len(names) for _ in names]
    for i in range(len(names)):
        for j in range(len(names)):
            cell = table[i, j]
            parts = []
            if "p_value" in table.coords:
                parts.append(f"exchanged documents {float(cell.null_mean):.3g}, p = {float(cell.p_value):.3f}")
            if "layer_a" in table.coords:
                parts.append(f"layers {int(cell.layer_a)} and {int(cell.layer_b)}")
            lines[i][j] = "; ".join(parts)
    return pd.DataFrame(lines, names, names)
