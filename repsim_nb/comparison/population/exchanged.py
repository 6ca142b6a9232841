"""The null of pairs of models: their dissimilarity once documents of one side are exchanged for others."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures import DegenerateWarning, Measure
from repsim_nb.measures.registry import Prepared
from repsim_nb.system.p_value import LEVEL
from repsim_nb.uncertainty import Documents, LinearCKA, calibrated
from repsim_nb.uncertainty.null import ROUNDING


@dataclass(frozen=True)
class Exchange:
    """How documents are exchanged: which rows are of one document, how often, and the seed."""

    documents: Documents
    count: int
    seed: int

    def grids(self, xs: Sequence[Prepared], ys: Sequence[Prepared], rows: Sequence[Tensor]) -> Iterator[np.ndarray]:
        """Yield dissimilarities (xs, ys) with the documents of `ys` exchanged; `rows` are those that `ys` were made of.

        Where `ys` is `xs`, a symmetric measure is computed once for each pair.
        """
        measure = xs[0].measure
        arrangements = self.documents.arrangements(self.count, self.seed)
        if LinearCKA.suits(xs, ys, self.documents):
            for grid in LinearCKA(xs, ys, self.documents).permuted(arrangements):
                yield measure.bounds[1] - grid
            return
        with warnings.catch_warnings():  # already warned for the pairs as they are
            warnings.simplefilter("ignore", DegenerateWarning)
            for arrangement in arrangements:
                order = torch.from_numpy(self.documents.order(arrangement))
                moved = [measure.prepare(y[order.to(y.device)], "y") for y in rows]
                if ys is xs and measure.symmetric:
                    yield _halved(measure, xs, moved)
                else:
                    yield measure.dissimilarities(xs, moved)


def _halved(measure: Measure, xs: Sequence[Prepared], ys: Sequence[Prepared]) -> np.ndarray:
    """Dissimilarities of a symmetric measure, computed for i <= j and mirrored."""
    values = np.zeros((len(xs), len(ys)))
    for i, x in enumerate(xs):
        values[i, i:] = values[i:, i] = measure.dissimilarities([x], ys[i:])[0]
    return values


def against(observed: np.ndarray, exchanged: Iterable[np.ndarray], measure: Measure) -> dict[str, np.ndarray]:
    """Null of each value by itself: null_mean, null_high, p_value and calibrated, in the shape of `observed`.

    All are about dissimilarities: `null_high` is what 5% of exchanges fall to or below, and `calibrated` is
    max(1 - observed / null_high, 0): 0 at the level of the null, 1 for identity.

    Raises
    ------
    InputError
        If there are fewer than 19 exchanges, or they do not change the measure.
    """
    null = np.stack(list(exchanged))
    passing = int(LEVEL * (len(null) + 1) + 1e-9)  # exchanges that may be as extreme as a significant value
    if passing < 1:
        raise InputError(f"{len(null)} permutations cannot give a p-value of 0.05; use at least 19.")
    rounding = ROUNDING * np.maximum(np.abs(null).max(0), np.abs(observed))
    if (np.ptp(np.concatenate([observed[None], null]), axis=0) <= rounding).all():
        raise InputError(
            f"{measure.name} does not change when the documents of one side are permuted, because it ignores which "
            "rows belong together. It has no such null; leave null out, or the measure."
        )
    high = np.sort(null, axis=0)[passing - 1]
    return {
        "null_mean": null.mean(0),
        "null_high": high,
        "p_value": (1 + (null <= observed + rounding).sum(0)) / (len(null) + 1),
        "calibrated": calibrated(-observed, -high, 0.0),
    }
