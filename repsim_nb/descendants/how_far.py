"""How far activations moved from base to descendant, layer by layer: in place, and as a similarity of geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.layers import compare_activations
from repsim_nb.measures import Measure
from repsim_nb.system.progress import steps
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty, calibrated
from repsim_nb.uncertainty.documents import Documents

if TYPE_CHECKING:
    from repsim_nb.activations import Activations

RESAMPLES = 1000
FIELDS = ("low", "high", "p_value", "calibrated", "null_high")


@dataclass(frozen=True)
class Moved:
    """Share of activations that moved, per layer, with a percentile bootstrap over documents.

    Attributes
    ----------
    share, low, high
        Squared distance between the two models' activations, relative to the squares around both means: 0 where
        nothing moved, 1 for activations that have nothing in common, 2 for opposite ones; (layers,).
    rows
        Distance of every row at the last layer, relative to the base's root mean square distance from its mean,
        (n_rows,).
    """

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rows: np.ndarray


def moved(base: Activations, tuned: Activations, documents: Documents, level: float, seed: int) -> Moved:
    """Measure how far rows moved, in the basis that base and descendant share."""
    drawn = draws_of(len(documents), seed)
    found = []
    for layer in base:
        x, y = base[layer].double(), tuned[layer].double()
        gone = (x - y).square().sum(1).numpy()
        around = np.sum([(side - side.mean(0)).square().sum(1).numpy() for side in (x, y)], axis=0)
        by_document = [np.bincount(documents.codes, weights=values) for values in (gone, around)]
        value = gone.sum() / around.sum() if around.sum() else 0.0
        resampled = ratios(drawn, *by_document)
        found.append((value, *np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])))
    share, low, high = np.array(found).T
    last = [side[[*base][-1]].double() for side in (base, tuned)]
    spread = (last[0] - last[0].mean(0)).square().sum(1).mean().sqrt()
    rows = (last[1] - last[0]).norm(dim=1) / spread.clamp_min(torch.finfo(torch.float64).tiny)
    return Moved(share, low, high, rows.numpy())


def draws_of(documents: int, seed: int) -> np.ndarray:
    """How often each document is drawn in each resample, (resamples, documents)."""
    rng = np.random.default_rng([seed, 5])
    return rng.multinomial(documents, np.full(documents, 1 / documents), RESAMPLES)


def ratios(drawn: np.ndarray, above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Ratio of sums in every resample; 0 where there is nothing below."""
    total = drawn @ below
    return np.divide(drawn @ above, total, out=np.zeros(len(drawn)), where=total > 0)


def similarity(
    base: Mapping[int, Tensor],
    tuned: Mapping[int, Tensor],
    measure: Measure,
    uncertainty: Uncertainty,
    resources: Resources,
) -> dict[str, np.ndarray]:
    """Every layer with itself: "value", and of "low", "high", "p_value", "calibrated" those that were asked for.

    With null and interval also "calibrated_low" and "calibrated_high", the ends of the interval calibrated.
    """
    lines = []
    for layer in steps(list(base), f"{measure.name} by layer", "layer"):
        sides: Sequence[Any] = [side_of(base, layer), side_of(tuned, layer)]
        one = compare_activations(sides, measure, uncertainty, Controls(), resources)
        line = {"value": one.item()} | {name: one[name].item() for name in FIELDS if name in one.coords}
        if {"low", "calibrated"} <= line.keys():
            ends = np.array([line["low"], line["high"]])
            low, high = calibrated(ends, line["null_high"], measure.bounds[1])
            line |= {"calibrated_low": low, "calibrated_high": high}
        lines.append(line)
    return {name: np.array([line[name] for line in lines]) for name in lines[0] if name != "null_high"}


def side_of(acts: Mapping[int, Tensor], layer: int) -> Mapping[int, Tensor]:
    """One layer of activations, with their rows."""
    from repsim_nb.comparison.sides import layers_of

    return layers_of(acts, [layer])
