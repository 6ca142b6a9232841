"""Test whether one kind of model stitches into another as well as the other way round.

Pairs share models: five seeds of each kind are ten independent units, not a hundred. Intervals therefore resample
models and documents, and the test permutes the kinds of whole models.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.stitching.stitched import RESAMPLES, document_draws
from repsim_nb.stitching.table import document_sizes, prediction

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def penalties_by_kind(table: xr.Dataset, kinds: Mapping[str, str], level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Compute mean penalties between kinds of models, leaving out stitches of a model into itself.

    Parameters
    ----------
    table
        Result of `stitching_table` with the same models as senders and receivers.
    kinds
        Model -> kind, with at least two models per kind.
    level
        Coverage of each interval by itself.
    seed
        Seed for resampling models and documents.

    Returns
    -------
    pandas.DataFrame
        DataFrame(layer, sender, receiver, pairs, penalty, low, high, corrected, corrected_low, corrected_high) in the
        units of the table, given in attrs["units"]. `corrected` is the penalty minus that of an independent seed of
        the receiver's own kind.

    Raises
    ------
    InputError
        If senders and receivers differ, a model has no kind, or a kind has only one model.

    Notes
    -----
    Penalties depend on the map and on how much text it was fitted on: compare them only within one table. With few
    models per kind the intervals are rough, since a bootstrap of five models can only repeat those five.
    """
    import pandas as pd

    grid = _Grid(table, kinds)
    drawn = grid.resampled(seed)
    pairs_of_kinds = [(a, b) for a in grid.names for b in grid.names]
    means = {
        (a, b): np.array([_pair_mean(*sample, grid.members[a], grid.members[b]) for sample in drawn])
        for a, b in pairs_of_kinds
    }
    lines = []
    for a, b in pairs_of_kinds:
        pairs = len(grid.members[a]) * (len(grid.members[b]) - (a == b))
        for place, layer in enumerate(table.layer.values.tolist()):
            value, base = grid.mean(a, b)[place], grid.mean(b, b)[place]
            bounds = _interval(means[a, b][:, place], level)
            corrected = _interval((means[a, b] - means[b, b])[:, place], level)
            lines.append((layer, a, b, pairs, value, *bounds, value - base, *corrected))
    columns = ["layer", "sender", "receiver", "pairs", "penalty", "low", "high"]
    columns += ["corrected", "corrected_low", "corrected_high"]
    frame = pd.DataFrame(lines, columns=columns).sort_values(["layer", "sender", "receiver"], ignore_index=True)
    frame.attrs["units"] = f"nats per {prediction(table)}"
    return frame


def asymmetry(
    table: xr.Dataset,
    kinds: Mapping[str, str],
    a: str,
    b: str,
    corrected: bool = True,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute the penalty of a into b minus that of b into a. Positive values mean that a is the worse sender.

    Parameters
    ----------
    table, kinds
        As in `penalties_by_kind`.
    a, b
        The two kinds to compare.
    corrected
        Subtract from each penalty that of an independent seed of the receiver's own kind, since what a receiver loses
        to any other sender is not specific to this one.
    level
        Coverage of each interval by itself.
    seed
        Seed for resampling models and documents.

    Returns
    -------
    pandas.DataFrame
        DataFrame(asymmetry, low, high, p_value) indexed by layer, with a last line "all" for the mean over layers.
        p_value is two-sided, from all assignments of models to kinds.

    Raises
    ------
    InputError
        As for `penalties_by_kind`, or if a or b is not a kind.

    Notes
    -----
    p-values of single layers are not corrected for the number of layers; the line "all" is one test. With n models of
    each kind no p-value is below 2 / C(2n, n): 0.1 for three seeds each.
    """
    import pandas as pd

    grid = _Grid(table, kinds)
    for name in (a, b):
        if name not in grid.members:
            raise InputError(f"Unknown kind {name!r}; expected one of {', '.join(grid.names)}.")
    first, second = grid.members[a], grid.members[b]
    weight = np.ones((len(grid.models),) * 2)
    value = _difference(grid.penalty, weight, first, second, corrected)
    drawn = np.array([_difference(p, w, first, second, corrected) for p, w in grid.resampled(seed)])
    everyone = sorted([*first, *second])
    exchanged = np.array(
        [
            _difference(grid.penalty, weight, list(part), [m for m in everyone if m not in part], corrected)
            for part in combinations(everyone, len(first))
        ]
    )
    lines = []
    for place, layer in enumerate([*table.layer.values.tolist(), "all"]):
        which = slice(None) if layer == "all" else [place]
        here, others = value[which].mean(), exchanged[:, which].mean(1)
        low, high = _interval(drawn[:, which].mean(1), level)
        p_value = np.mean(np.abs(others) >= abs(here) - 1e-12)
        lines.append((layer, here, low, high, p_value))
    return pd.DataFrame(lines, columns=["layer", "asymmetry", "low", "high", "p_value"]).set_index("layer")


class _Grid:
    """Penalties (models, models, layers), with resampling."""

    def __init__(self, table: xr.Dataset, kinds: Mapping[str, str]) -> None:
        self.models = table.sender.values.tolist()
        if table.receiver.values.tolist() != self.models:
            raise InputError("Expected a table with the same models as senders and receivers, in the same order.")
        missing = [m for m in self.models if m not in kinds]
        if missing:
            raise InputError(f"kinds has no entry for {', '.join(missing)}.")
        self.names = list(dict.fromkeys(kinds[m] for m in self.models))
        self.members = {n: [i for i, m in enumerate(self.models) if kinds[m] == n] for n in self.names}
        alone = [n for n, members in self.members.items() if len(members) < 2]
        if alone:
            raise InputError(f"Kind {alone[0]!r} has only one model; need at least two independent seeds.")
        own = table.document_receiver_loss.values[None, :, None]
        self._excess = table.document_loss.values.astype(np.float64) - own
        self._sizes = document_sizes(table)
        self.penalty = self._excess.sum(-1) / self._sizes.sum()

    def mean(self, a: str, b: str) -> np.ndarray:
        """Mean penalty of a into b by layer, without stitches of a model into itself."""
        return _pair_mean(self.penalty, np.ones(self.penalty.shape[:2]), self.members[a], self.members[b])

    def resampled(self, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Penalties with resampled documents, and weights of pairs with models resampled within their kind.

        Senders and receivers are drawn apart.
        """
        rng = np.random.default_rng(seed)
        documents = document_draws(len(self._sizes), rng, RESAMPLES)
        penalties = np.tensordot(documents / (documents @ self._sizes)[:, None], self._excess, (1, 3))
        return [(p, np.outer(self._counts(rng), self._counts(rng))) for p in penalties]

    def _counts(self, rng: np.random.Generator) -> np.ndarray:
        counts = np.zeros(len(self.models))
        for members in self.members.values():
            counts[members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)))
        return counts


def _pair_mean(penalty: np.ndarray, weight: np.ndarray, senders: list[int], receivers: list[int]) -> np.ndarray:
    """Weighted mean by layer; NaN if the draw has no pair of different models."""
    pairs = weight[np.ix_(senders, receivers)] * (np.array(senders)[:, None] != np.array(receivers))
    return np.einsum("srl,sr->l", penalty[np.ix_(senders, receivers)], pairs) / (pairs.sum() or np.nan)


def _difference(penalty: np.ndarray, weight: np.ndarray, a: list[int], b: list[int], corrected: bool) -> np.ndarray:
    difference = _pair_mean(penalty, weight, a, b) - _pair_mean(penalty, weight, b, a)
    if corrected:
        difference += _pair_mean(penalty, weight, a, a) - _pair_mean(penalty, weight, b, b)
    return difference


def _interval(values: list[float] | np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
