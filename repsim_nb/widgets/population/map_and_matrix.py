"""The map and the matrix of a population, which always show the same pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import pandas as pd

from repsim_nb.widgets.population import crowd, matrix
from repsim_nb.widgets.population.colours import Colours
from repsim_nb.widgets.population.over_steps import Moment
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
        self._every: list[str] = []  # in that of the matrix
        self._ordered: list[str] = []  # those that have a row in it
        self._whole: dict[str, Any] = {}  # views of all models
        self._series: list[list[str]] = []
        self._marking = False
        super().__init__([self.crowd, self.matrix])
        self.add_class("repsim-maps")
        self.crowd.observe(self._on_map, "chosen")
        self.matrix.observe(self._on_matrix, "selected")

    def show(
        self, table: xr.DataArray, title: str, colours: Colours, series: list[list[str]], calibrated: bool
    ) -> None:
        """Take a model x model table of dissimilarities, for `turn`; the matrix shows calibrated scores if asked to."""
        apart = both_ways(table)
        self._names, self._every, self._series = list(apart.index), matrix.ordered(apart), series
        self.crowd.layout.display = "" if len(apart) >= FEWEST else "none"
        self._whole = {"crowd": crowd.view_of(apart, title, colours, series) if len(apart) >= FEWEST else {}}
        shown = table.calibrated if calibrated else table
        square = pd.DataFrame(shown.values, self._names, self._names)
        names = self._every
        title = f"calibrated {title} (1 = same, 0 = unrelated)" if calibrated else title
        words = _words(table).loc[names, names].to_numpy().tolist()
        self._whole["matrix"] = matrix.view_of(square.loc[names, names], title, words, alike=calibrated)

    def turn(self, moment: Moment, pair: TwoModels | None) -> None:
        """Show a moment of the table that was taken, all models in their places, and mark a pair."""
        self.mark(None)  # of which a row may be gone
        view, self._ordered = matrix.at_moment(self._whole["matrix"], self._every, moment)
        self.matrix.view = view
        if self._whole["crowd"]:
            self.crowd.view = crowd.at_moment(self._whole["crowd"], moment, self._series)
        self.mark(pair)

    def mark(self, pair: TwoModels | None) -> None:
        """Show which pair is chosen."""
        self._marking = True
        try:
            two = pair or ()
            self.crowd.chosen = [self._names.index(name) for name in dict.fromkeys(two)]
            has_row = all(name in self._ordered for name in two)
            self.matrix.selected = [self._ordered.index(name) for name in two] if has_row else []
        finally:
            self._marking = False

    def on_page(self, moments: Sequence[Moment]) -> list[dict[str, Any]]:
        """What the script of a saved page needs of both at each moment."""
        found = []
        for moment in moments:
            view, names = matrix.at_moment(self._whole["matrix"], self._every, moment)
            points = self._whole["crowd"] and crowd.at_moment(self._whole["crowd"], moment, self._series)
            found.append({"crowd": points or None, "matrix": view, "names": names})
        return found

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
