"""The maps of an explorer side by side, and the curves that belong to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from repsim_nb.comparison import calibrated_map
from repsim_nb.comparison.described import interval_level
from repsim_nb.errors import InputError
from repsim_nb.figures import curves
from repsim_nb.figures.scales import limits_of
from repsim_nb.widgets.map import LayerMap, value_in_words
from repsim_nb.widgets.picture import empty, inline_svg

if TYPE_CHECKING:
    import xarray as xr

Pair = tuple[int, int]


class Maps(widgets.HBox):
    """One map for each model B, all on one scale.

    Parameters
    ----------
    chosen
        Called with (model, pair of layers) when the user clicks a cell or reaches it with the arrow keys.
    """

    def __init__(self, chosen: Callable[[str, Pair], None]):
        super().__init__()
        self.add_class("repsim-maps")
        self.by_model: dict[str, LayerMap] = {}
        self._results: Mapping[str, xr.DataArray] = {}
        self._chosen, self._marking = chosen, False
        self._shown: Iterable[LayerMap] = ()

    def take(self, results: Mapping[str, xr.DataArray], limits: tuple[float, float]) -> None:
        """Make the maps of new results; `appear` shows them."""
        self._results = results
        self.by_model = {b: LayerMap(result, limits) for b, result in results.items()}
        for b, layer_map in self.by_model.items():
            layer_map.observe(partial(self._entered, b), "selected")

    def turn(self, results: Mapping[str, xr.DataArray], views: Mapping[str, dict[str, Any]]) -> None:
        """Show other results of the same models in the same maps, where the chosen cell stays chosen."""
        self._results = results
        for b, view in views.items():
            self.by_model[b].view = view

    def appear(self) -> None:
        """Put the new maps in place of the old ones."""
        self.children = tuple(self.by_model.values())
        for old in self._shown:
            old.close()
        self._shown = self.by_model.values()

    def mark(self, against: str, pair: Pair | None) -> None:
        """Show which cell of which map is selected."""
        self._marking = True
        try:
            for b, layer_map in self.by_model.items():
                cell: list[int] = []
                if pair is not None and b == against:
                    layers = [self._results[b][f"layer_{side}"].values.tolist() for side in "ab"]
                    cell = [at.index(layer) for at, layer in zip(layers, pair, strict=True)]
                layer_map.selected = cell
        finally:
            self._marking = False

    def _entered(self, b: str, change: Any) -> None:
        if change.new and not self._marking:
            row, column = change.new
            result = self._results[b]
            self._chosen(b, (int(result.layer_a[row]), int(result.layer_b[column])))


def shared_limits(results: Iterable[xr.DataArray]) -> tuple[float, float]:
    """Limits of one colour scale for all maps."""
    every = [limits_of(result) for result in results]
    return min(low for low, _ in every), max(high for _, high in every)


def has_calibrated(results: Mapping[str, xr.DataArray]) -> bool:
    """Whether all results have calibrated scores."""
    return bool(results) and all("calibrated" in result.coords for result in results.values())


def shown(results: Mapping[str, xr.DataArray], calibrated: bool) -> dict[str, xr.DataArray]:
    """The maps to draw: calibrated if that is asked and all results can be."""
    if calibrated and has_calibrated(results):
        return {b: calibrated_map(result) for b, result in results.items()}
    return dict(results)


def on_map(result: xr.DataArray, pair: Pair) -> bool:
    """Whether the map has this cell."""
    return pair[0] in result.layer_a.values and pair[1] in result.layer_b.values


def pair_of(result: xr.DataArray | None, given: Any) -> Pair:
    """Check a value for `selected`.

    Raises
    ------
    InputError
        It is not a pair of layers on the map, or there is no map yet.
    """
    if result is None:
        raise InputError("There is no map to select from yet. Run a comparison first.")
    try:
        pair = int(given[0]), int(given[1])
    except (TypeError, ValueError, IndexError):
        raise InputError(f"selected={given!r}; expected None or (layer of a, layer of b).") from None
    if not on_map(result, pair):
        a, b = (result[f"layer_{side}"].values.tolist() for side in "ab")
        raise InputError(f"selected={given!r} is not on the map: layers of a are {a}, of b {b}.")
    return pair


def curves_as_html(
    results: Mapping[str, xr.DataArray],
    against: str,
    selected: Pair | None,
    limits: tuple[float, float] | None = None,
) -> str:
    """Curves of layers with the same number, or of the selected layer of A against all of B; "" if there are none.

    `limits` are those of the vertical axis; None leaves them to the curves.
    """
    ax = empty(3.9, 3.2)
    if selected is not None:
        curves(results[against], ax, layer_a=selected[0])
        ax.set_title("")  # the text below says it
        ax.axvline(selected[1], color="0.5", linewidth=0.8, zorder=0)
        about = f"Layer {selected[0]} of A against every layer of B; the line marks the selected one."
    else:
        shared = [r for r in results.values() if set(r.layer_a.values) & set(r.layer_b.values)]
        for result in shared:
            curves(result, ax, label=None if len(shared) == 1 else str(result.attrs["model_b"]))
        about = "Each layer of A against the layer of B with the same number."
        if not shared:
            return ""
    ax.set_ylabel(ax.get_ylabel().split("\n")[0])
    if limits is not None:
        ax.set_ylim(limits)
    return f'<h3 class="repsim-h3">Layer by layer</h3>{inline_svg(ax, about)}<p class="repsim-note">{escape(about)}</p>'


def heading(labels: tuple[str, str], cell: xr.DataArray) -> str:
    """The selected pair of layers and the value of the measure."""
    a, b = map(escape, labels)
    measure = escape(str(cell.attrs.get("long_name", cell.name)))
    return (
        f'<h2 class="repsim-h2">{a} <span class="repsim-and">against</span> {b}</h2>'
        f'<p class="repsim-lead">{measure}: {escape(value_in_words(cell, interval_level(cell)))}</p>'
    )


def box(name: str, *children: widgets.Widget) -> widgets.Box:
    """Widgets laid out under the class `name`."""
    made = widgets.Box(children)
    made.add_class(name)
    return made
