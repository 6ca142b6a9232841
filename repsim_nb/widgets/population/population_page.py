"""The page that a population saves: the map and the matrix of models, what was found, and the layers of a pair."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.comparison.described import in_words
from repsim_nb.widgets import html_page
from repsim_nb.widgets.population.crowd import SCRIPT
from repsim_nb.widgets.population.map_and_matrix import MapAndMatrix, TwoModels
from repsim_nb.widgets.population.over_steps import Moment
from repsim_nb.widgets.saved_page import DRAWINGS, LayersOnPage, as_text, layers_section, provenances
from repsim_nb.widgets.step_slider import stand_in

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.widgets.explorer import Explorer

NO_MAPS: dict[str, Any] = {"maps": [], "selected": []}


def write_page(
    result: xr.Dataset,
    views: MapAndMatrix,
    moment: Moment,
    findings: str,
    pair: TwoModels | None,
    explorer: Explorer | None,
    path: str | os.PathLike[str],
    *,
    code: str,
    closeups: bool,
    max_bytes: int,
) -> Path:
    """Write what a population shows, with the layers of its pair as far as they were compared."""
    file = html_page.file_for(path)
    of_pair = LayersOnPage() if explorer is None else explorer.on_page(closeups)
    panels = of_pair.panels
    layers, data = layers_section(of_pair) if of_pair.results else ("", NO_MAPS)
    steps = [each.step for each in moment.every if each.step is not None]
    over = stand_in(steps, moment.step, "training step") if moment.step is not None else None
    data = data | {"population": {"each": views.on_page(moment.every), "steps": over, "pair": pair or []}}
    title = f"{result.sizes['model_a']} models: {in_words(result)[0]}"
    body = f"""{html_page.in_paragraph(in_words(result))}
<h2 class="repsim-h2">Map and matrix of models</h2>
<div class="repsim-page-models-steps"></div>
<div class="repsim-maps">
<div class="repsim-page-crowd"></div>
<div class="repsim-page-matrix"></div>
</div>
<p class="repsim-lead repsim-page-two" aria-live="polite"></p>
<p class="repsim-note repsim-page-no-layers"></p>
<div class="repsim-findings">{findings}</div>
{layers}"""
    folded = [("Python code", code), ("Provenance of the population", as_text(result)), *provenances(of_pair.results)]
    drawings = DRAWINGS | {"crowd": SCRIPT}
    made = html_page.document(title, body, folded, len(panels), data, drawings)
    return html_page.write(made, file, ["".join(parts) for parts in panels.values()], max_bytes)
