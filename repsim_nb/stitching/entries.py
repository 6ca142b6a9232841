"""Fit one cut of a sender into several entries of a receiver, in a race where one is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repsim_nb.stitching.fitting import Descent, Method, Seam, descend, least_squares
from repsim_nb.stitching.ground import CHEAPER, Ground
from repsim_nb.stitching.maps import Map
from repsim_nb.system.progress import steps


@dataclass(frozen=True)
class Fitted:
    """A fitted map, its learning curve, and whether a race stopped it."""

    map: Map
    history: pd.DataFrame
    raced: bool = False


def fit_entries(ground: Ground, seams: Sequence[Seam], method: Method, race: float | None = None) -> Iterator[Fitted]:
    """Fit a map for each seam; they differ in the entry alone.

    Least squares takes all of them from the same moments. Gradient descents follow one after the other, or side by
    side if `race` says how many nats above the best a fit stops.
    """
    maps = [method.new_map(seam) for seam in seams]
    if method.fits:
        least_squares(maps, seams, ground)
    if not method.descends:
        history = pd.DataFrame({"step": [0], "fit_loss": [np.nan], "stop_loss": [np.nan]})
        yield from (Fitted(map_, history) for map_ in maps)
    elif race is None:
        yield from (Fitted(m, descend(m, seam, ground, method)) for m, seam in zip(maps, seams, strict=True))
    else:
        descents = [Descent(m, seam, ground, method) for m, seam in zip(maps, seams, strict=True)]
        stopped = _raced(descents, race, method.steps)
        yield from (Fitted(d.map, d.settled(), place in stopped) for place, d in enumerate(descents))


def _raced(descents: Sequence[Descent], margin: float, most: int) -> set[int]:
    """Descend side by side; return the places of those that were stopped.

    After every evaluation a descent stops whose lowest early-stopping loss is more than `margin` above the lowest of
    all. A descent that goes on takes the steps it would take alone.
    """
    running = {place: descent.stepwise() for place, descent in enumerate(descents)}
    stopped: set[int] = set()

    def laps() -> Iterator[None]:
        while running:
            for each in running.values():
                while not next(each, True):
                    yield
                yield
            best = min(descent.best for descent in descents)
            for place in list(running):
                if descents[place].ended:
                    del running[place]
                elif descents[place].best > best + margin:
                    del running[place]
                    stopped.add(place)

    for _ in steps(laps(), "fitting maps in a race", "step", total=most * len(descents), cheaper=CHEAPER):
        pass
    return stopped
