"""The map of models, to point at, click, or walk through with the arrow keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

from repsim_nb.figures.points import in_plane
from repsim_nb.widgets.picker import STYLE
from repsim_nb.widgets.population.colours import Colours
from repsim_nb.widgets.population.over_steps import Moment

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT, MARGIN = 480, 400, 28  # of the viewBox in crowd.js
SCRIPT = Path(__file__).with_name("crowd.js")
LETTER, LINE, BESIDE, MARK = 5.8, 13, 14, 5  # of names and points, in units of the viewBox


class Crowd(anywidget.AnyWidget):
    """Models as points in the plane by classical scaling of their dissimilarities.

    Attributes
    ----------
    chosen
        Trait: places of at most two models, from 0.
    view
        Trait: everything that is shown.
    """

    _esm = SCRIPT
    _css = STYLE
    view = traitlets.Dict().tag(sync=True)
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)


def view_of(table: pd.DataFrame, title: str, colours: Colours, series: Sequence[Sequence[str]] = ()) -> dict[str, Any]:
    """The map of a symmetric model x model table.

    Parameters
    ----------
    table
        Dissimilarities, indexed by model.
    title
        The measure and what else is shown, in words.
    colours
        Colour and shape of each model.
    series
        Models to join with a line, such as checkpoints in order.
    """
    points, held, stress = in_plane(table)
    span = np.ptp(points, axis=0).max() or 1.0
    scale = min(WIDTH, HEIGHT) - 2 * MARGIN
    middle = (points.max(0) + points.min(0)) / 2
    placed = (points - middle) / span * scale * [1, -1] + [WIDTH / 2, HEIGHT / 2]
    at = {name: [round(float(v), 1) for v in place] for name, place in zip(table.index, placed, strict=True)}
    named = _sides({name: (*place, name.rsplit("/", 1)[-1]) for name, place in at.items()}, list(at))
    return {
        "title": title,
        "label": f"Map of {len(table)} models by {title}",
        "hint": "Point at a model for its name. Choose two, by click or with arrow keys and Enter, to compare layers.",
        "points": [
            {
                "name": name,
                "short": name.rsplit("/", 1)[-1],
                "words": f"{name}: {colours.words(name)}" if colours.words(name) else name,
                "x": at[name][0],
                "y": at[name][1],
                "colour": colours.colour(name),
                "shape": colours.shape(name),
                "named": named.get(name, ""),
            }
            for name in table.index
        ],
        "lines": [[at[name] for name in each if name in at] for each in series],
        "legend": colours.legend,
        "note": f"Distances in the plane are approximate: it holds {held:.0%} of the squared ones, stress {stress:.2f} "
        "(0.05 is good, 0.2 poor).",
    }


def at_moment(whole: dict[str, Any], moment: Moment, series: Sequence[Sequence[str]] = ()) -> dict[str, Any]:
    """What `view_of` returned with the models of a moment alone, each where it is among all; earlier ones are pale."""
    points = whole["points"]
    now = {p["name"]: p for p in points if moment.shows(p["name"])}
    places = {name: (p["x"], p["y"], p["short"]) for name, p in now.items()}
    named = _sides(places, [name for name in now if not moment.is_past(name)])
    shown = [
        {**p, "here": p["name"] in now, "past": moment.is_past(p["name"]), "named": named.get(p["name"], "")}
        for p in points
    ]
    lines = [[[now[name]["x"], now[name]["y"]] for name in each if name in now] for each in series]
    return whole | {"points": shown, "lines": lines, "title": whole["title"] + moment.words()}


def _sides(points: dict[str, tuple[Any, ...]], names: Sequence[str]) -> dict[str, str]:
    """Model -> side of its point, "right" or "left", where its name covers no other name and no other point.

    `points` are (x, y, text); `names` are those to be named if they can be.
    """
    marks = {name: (x - MARK, x + MARK, y - MARK, y + MARK) for name, (x, y, _) in points.items()}
    boxes: list[tuple[float, float, float, float]] = []
    sides = {}
    for name in names:
        x, y, text = points[name]
        long, top, bottom = LETTER * len(text), y - LINE / 2, y + LINE / 2
        taken = [*boxes, *(mark for other, mark in marks.items() if other != name)]
        for side, left in {"right": x + BESIDE, "left": x - BESIDE - long}.items():
            right = left + long
            covers = (left < to and at < right and top < low and high < bottom for at, to, high, low in taken)
            if left >= 0 and right <= WIDTH and not any(covers):
                boxes.append((left, right, top, bottom))
                sides[name] = side
                break
    return sides
