"""A page of its own: maps, curves and close-ups in one HTML file that needs no kernel and no network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.comparison.described import in_words, provenance_of
from repsim_nb.errors import InputError
from repsim_nb.figures.scales import check
from repsim_nb.widgets import html_page
from repsim_nb.widgets.details import closeup_as_html
from repsim_nb.widgets.map import view_of
from repsim_nb.widgets.step_slider import SLIDER, stand_in
from repsim_nb.widgets.views import Pair, curves_as_html, on_map, shared_limits

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from repsim_nb.comparison.closeup import SharedAxes

MAX_BYTES = 20_000_000
Panels = Mapping[tuple[str, Pair], list[str]]  # (name of a map, layers) -> HTML of the panels of a close-up
NOT_SEEN = "No close-up of this pair of layers is in this page."
MAP = Path(__file__).with_name("map.js")
DRAWINGS = {"maps": MAP, "steps": SLIDER}


@dataclass(frozen=True)
class LayersOnPage:
    """Maps of layers in a page.

    Attributes
    ----------
    results
        Name -> result of every map; over training those of the first step come first, and so on.
    panels
        The close-ups.
    selected
        The chosen cell, by the name of its map.
    steps, step
        The training steps, if there are some, and the one that is shown first.
    """

    results: Mapping[str, xr.DataArray] = field(default_factory=dict)
    panels: Panels = field(default_factory=dict)
    selected: tuple[str, Pair] | None = None
    steps: Sequence[int] = ()
    step: int | None = None

    @property
    def shown(self) -> list[xr.DataArray]:
        """The results that the page shows first."""
        each = len(self.results) // max(1, len(self.steps))
        first = each * self.steps.index(self.step) if self.step is not None else 0
        return [*self.results.values()][first : first + each]


def map_name(b: str, step: int | None) -> str:
    """The name of the map of a model B, which over training has one at every step."""
    return b if step is None else f"{b}, step {step}"


def save_html(
    results: xr.DataArray | Mapping[str, xr.DataArray],
    path: str | os.PathLike[str],
    closeups: Mapping[tuple[str, Pair], tuple[SharedAxes, pd.DataFrame]] | None = None,
    *,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Write results of `compare` as one HTML file with maps to point at and click, for readers without Python.

    Parameters
    ----------
    results
        One result, or several by name, all of the same measure; they are drawn on one colour scale.
    path
        A file that ends in .html. It is replaced if it exists.
    closeups
        By (name of the result, (layer of a, layer of b)): what `rs.closeup.shared_axes` and `rs.closeup.most_different`
        return for these layers. The name of a single result is its model b.
    max_bytes
        The largest size of the file.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        No results or no results of `compare`, results of different measures, a close-up of a cell that is not on its
        map, another suffix, a file that cannot be written, or one that would be larger than `max_bytes`.

    Notes
    -----
    The file asks for nothing over the network and may be mailed or put on a web server. It shows texts around the
    tokens of close-ups, and the full provenance, which may hold names of folders. A map of 13 x 13 layers takes 30 kB,
    a close-up of 1000 rows 140 kB.

    Examples
    --------
    >>> import numpy as np, tempfile, repsim_nb as rs
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> file = save_html(rs.compare({0: x, 1: x**3}), f"{tempfile.mkdtemp()}/map.html")
    >>> file.read_text(encoding="utf-8")[:15]
    '<!DOCTYPE html>'
    """
    by_name = results if isinstance(results, Mapping) else {str(results.attrs.get("model_b", "b")): results}
    panels = {}
    for (name, pair), (axes, tokens) in (closeups or {}).items():
        if name not in by_name or not on_map(by_name[name], pair):
            raise InputError(f"There is a close-up of {name!r}, layers {pair}, but no such cell. Maps: {[*by_name]}.")
        about, made = by_name[name].attrs, (provenance_of(by_name[name]) or {}).get("a")
        rows = made.get("rows", "tokens") if isinstance(made, dict) else "documents"
        labels = f"{about['model_a']}, layer {pair[0]}", f"{about['model_b']}, layer {pair[1]}"
        panels[name, pair] = closeup_as_html(labels, rows, axes, tokens)
    return write_page(LayersOnPage(by_name, panels), path, max_bytes=max_bytes)


def write_page(
    layers: LayersOnPage, path: str | os.PathLike[str], *, code: str = "", max_bytes: int = MAX_BYTES
) -> Path:
    """`save_html` of close-ups that are HTML already, with Python code that reproduces them and a selected cell."""
    if not layers.results:
        raise InputError("There is nothing to save yet. Run a comparison first.")
    file = html_page.file_for(path)
    body, data = layers_section(layers)
    described = [in_words(result) for result in layers.shown]
    title = described[0][0] if len(described) == 1 else f"{described[0][0]}, and {len(described) - 1} more"
    words = "".join(map(html_page.in_paragraph, described))
    folded = [("Python code", code), *provenances(layers.results)]
    made = html_page.document(title, f"{words}{body}", folded, len(layers.panels), data, DRAWINGS)
    return html_page.write(made, file, ["".join(parts) for parts in layers.panels.values()], max_bytes)


def layers_section(layers: LayersOnPage) -> tuple[str, dict[str, Any]]:
    """The part of a page that shows maps of layers, and what its script needs."""
    results = layers.results
    for result in results.values():
        check(result, "save_html")
    if len({result.name for result in results.values()}) > 1:
        raise InputError("Results of several measures cannot share a colour scale. Save one page for each measure.")
    limits, names = shared_limits(results.values()), list(results)
    data: dict[str, Any] = {
        "maps": [_data(result, limits) for result in results.values()],
        "selected": [] if layers.selected is None else _place(results, names, *layers.selected),
    }
    over = ""
    if layers.step is not None:
        data["steps"] = stand_in([*layers.steps], layers.step, "training step")
        over = f" over training, {len(layers.steps)} steps on one colour scale"
    curve = "" if over else curves_as_html(results, names[0], None)  # of a step it would be wrong at the next
    body = f"""<noscript><p>The maps of this page need JavaScript; it loads nothing.</p></noscript>
<section class="repsim-page-layers">
<h2 class="repsim-h2">Maps of layers{over}</h2>
<div class="repsim-page-steps"></div>
<div class="repsim-results">
<div class="repsim-maps repsim-page-maps"></div>
<div class="repsim-curves repsim-page-curve">{curve}</div>
</div>
<div class="repsim-page-chosen" aria-live="polite">
<h2 class="repsim-h2 repsim-page-pair">Choose a cell of a map to look closer.</h2>
<p class="repsim-lead repsim-page-value"></p>
<p class="repsim-note repsim-page-unseen"></p>
</div>
{"".join(_closeup(_place(results, names, *where), parts) for where, parts in layers.panels.items())}
</section>"""
    return body, data


def provenances(results: Mapping[str, xr.DataArray]) -> list[tuple[str, str]]:
    """Titles and texts of the provenance of results."""
    return [(f"Provenance: {in_words(result)[0]}", as_text(result)) for result in results.values()]


def as_text(result: xr.DataArray | xr.Dataset) -> str:
    """The provenance of a result, to read."""
    return json.dumps(provenance_of(result), indent=1, ensure_ascii=False)


def _data(result: xr.DataArray, limits: tuple[float, float]) -> dict[str, Any]:
    """What the script needs of one map."""
    given = {"numbers": result} | {name: result[name] for name in ("low", "high") if name in result.coords}
    numbers = {name: [[float(f"{v:.6g}") for v in row] for row in given[name].values] for name in given}
    names = {side: str(result.attrs.get(f"model_{side}", side)) for side in "ab"}
    return {"view": view_of(result, limits), "limits": limits, "unseen": NOT_SEEN, **names, **numbers}


def _place(results: Mapping[str, xr.DataArray], names: list[str], name: str, pair: Pair) -> list[int]:
    """Number of the map, row and column of a pair of layers."""
    layers = [results[name][f"layer_{side}"].values.tolist() for side in "ab"]
    return [names.index(name), *(at.index(layer) for at, layer in zip(layers, pair, strict=True))]


def _closeup(place: list[int], parts: list[str]) -> str:
    inside = "".join(f"<div>{part}</div>" for part in parts)
    return f'<section class="repsim-panels" data-closeup="{" ".join(map(str, place))}" hidden>{inside}</section>'
