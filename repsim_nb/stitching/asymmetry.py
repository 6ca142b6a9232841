"""Whether one kind of model stitches into another as well as the other way round, and how sure that is.

Pairs share models, so that five seeds of each kind are ten independent things and not a hundred: intervals resample
senders, receivers and documents, each on their own, and the test exchanges the kinds of whole models.
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
    """Mean penalties between kinds of models, a model into itself left out.

    Parameters
    ----------
    table
        Of `stitching_table`, every model both sender and receiver.
    kinds
        Model -> its kind, of at least two models each.

    Returns
    -------
    pandas.DataFrame
        DataFrame(layer, sender, receiver, pairs, penalty, low, high, corrected, corrected_low, corrected_high) in the
        table's units, which attrs["units"] names; corrected is the penalty less that of an independent seed of the
        receiver's own kind.

    Raises
    ------
    InputError
        Senders that are not the receivers, a model without a kind, one model alone in its kind.
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
    """Penalty of a into b less that of b into a; above 0 where a is the poorer sender.

    Parameters
    ----------
    corrected
        Take from each the penalty of an independent seed of the receiver's own kind. What a receiver loses to any
        foreign sender is no fault of this one.

    Returns
    -------
    pandas.DataFrame
        DataFrame(layer, asymmetry, low, high, p_value), a last line with layer "all" for the mean over layers. p_value
        is two-sided, from all ways to say which models are of which kind.

    Raises
    ------
    InputError
        As `penalties_by_kind`; a or b is no kind.
    """
    import pandas as pd

    grid = _Grid(table, kinds)
    for name in (a, b):
        if name not in grid.members:
            raise InputError(f"There is no kind {name!r}; expected one of {', '.join(grid.names)}.")
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
    """Penalties (models, models, layers) and how to draw them anew."""

    def __init__(self, table: xr.Dataset, kinds: Mapping[str, str]) -> None:
        self.models = table.sender.values.tolist()
        if table.receiver.values.tolist() != self.models:
            raise InputError("Expected a table whose senders are its receivers, in the same order.")
        missing = [m for m in self.models if m not in kinds]
        if missing:
            raise InputError(f"kinds names no kind for {', '.join(missing)}.")
        self.names = list(dict.fromkeys(kinds[m] for m in self.models))
        self.members = {n: [i for i, m in enumerate(self.models) if kinds[m] == n] for n in self.names}
        alone = [n for n, members in self.members.items() if len(members) < 2]
        if alone:
            raise InputError(f"There is one model of kind {alone[0]!r}; at least two independent seeds are needed.")
        own = table.document_receiver_loss.values[None, :, None]
        self._excess = table.document_loss.values.astype(np.float64) - own
        self._sizes = document_sizes(table)
        self.penalty = self._excess.sum(-1) / self._sizes.sum()

    def mean(self, a: str, b: str) -> np.ndarray:
        """Mean penalty of a into b by layer, a model into itself left out."""
        return _pair_mean(self.penalty, np.ones(self.penalty.shape[:2]), self.members[a], self.members[b])

    def resampled(self, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Penalties with documents drawn anew, and weights of pairs with models drawn anew within their kind.

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
    """Weighted mean by layer; NaN where the draw has no pair of different models."""
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
