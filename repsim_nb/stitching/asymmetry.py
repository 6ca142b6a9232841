"""Test whether one kind of model stitches into another as well as the other way round.

Pairs share models: five seeds of each kind are ten independent units, not a hundred. Intervals therefore leave out
whole models and documents, and the test permutes the kinds of whole models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.stitching.assembled import document_sizes, prediction
from repsim_nb.uncertainty.leaving_out import jackknife_interval

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Members = Mapping[str, np.ndarray]  # kind -> masks of its models, bool (ways, models)


def penalties_by_kind(table: xr.Dataset, kinds: Mapping[str, str], level: float = 0.95) -> pd.DataFrame:
    """Compute mean penalties between kinds of models, leaving out stitches of a model into itself.

    Parameters
    ----------
    table
        Result of `stitching_table` with the same models as senders and receivers, or of `senders_by_run`.
    kinds
        Model -> kind, with at least two models per kind.
    level
        Coverage of each interval by itself.

    Returns
    -------
    pandas.DataFrame
        DataFrame(layer, sender, receiver, pairs, penalty, low, high, corrected, corrected_low, corrected_high) in the
        units of the table, given in attrs["units"]. `corrected` is the penalty minus that of an independent seed of
        the receiver's own kind.

    Raises
    ------
    InputError
        If senders and receivers differ, a model has no kind, a kind has only one model, or there is only one document.

    Notes
    -----
    Penalties depend on the map and on how much text it was fitted on: compare them only within one table. Intervals
    are those of `asymmetry`: infinite, for penalties within a kind and corrected ones, if a kind has two models.
    """
    import pandas as pd

    grid = _Grid(table, kinds)
    lines = []
    for a, b in [(a, b) for a in grid.members for b in grid.members]:

        def foreign(values: np.ndarray, of: Members, a: str = a, b: str = b) -> np.ndarray:
            return _mean(values, of[a], of[b])

        def less_own(values: np.ndarray, of: Members, a: str = a, b: str = b) -> np.ndarray:
            return _mean(values, of[a], of[b]) - _mean(values, of[b], of[b])

        plain = grid.interval(foreign, level)
        corrected = grid.interval(less_own, level) if a != b else np.zeros_like(plain)
        pairs = grid.members[a].sum() * (grid.members[b].sum() - (a == b))
        for place, layer in enumerate(table.layer.values.tolist()):
            lines.append((layer, a, b, pairs, *plain[:, place], *corrected[:, place]))
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

    Returns
    -------
    pandas.DataFrame
        DataFrame(asymmetry, low, high, p_value) indexed by layer, with a last line "all" for the mean over layers.
        p_value is two-sided, from all assignments of models to kinds. attrs["least"] is the smallest p-value that so
        many models can give: 2 / C(2n, n) for n of each kind, which is 0.1 for three.

    Raises
    ------
    InputError
        As for `penalties_by_kind`, or if a or b is not a kind.

    Notes
    -----
    p-values of single layers are not corrected for the number of layers; the line "all" is one test.

    The interval is over models and documents: the variances of a jackknife that leaves out one model of a kind at a
    time, as sender and as receiver, and of one that leaves out one document at a time add up, and Student's t has
    Welch's degrees of freedom. If models of a kind differ only at random, as senders, receivers and pairs, 95%
    intervals cover 95% to 97% with three and with five models of each kind, and more where pairs differ more than
    models do (docs/simulations.csv). A kind of two models has one pair, and none without one of the two: the interval
    of the corrected asymmetry is then infinite. The fitted maps and the layers are taken as they are.

    References
    ----------
    Arvesen 1969, "Jackknifing U-statistics", Ann. Math. Statist. 40:2076; Welch 1947.
    """
    import pandas as pd

    grid = _Grid(table, kinds)
    for name in (a, b):
        if name not in grid.members:
            raise InputError(f"Unknown kind {name!r}; expected one of {', '.join(grid.members)}.")

    def difference(values: np.ndarray, of: Members) -> np.ndarray:
        foreign = _mean(values, of[a], of[b]) - _mean(values, of[b], of[a])
        return foreign + (_mean(values, of[a], of[a]) - _mean(values, of[b], of[b]) if corrected else 0)

    value, low, high = grid.interval(difference, level)
    first, second = grid.members[a][0], grid.members[b][0]
    everyone = np.flatnonzero(first | second)
    parts = np.array(list(combinations(everyone, first.sum())))
    ways = np.zeros((len(parts), len(first)), dtype=bool)
    np.put_along_axis(ways, parts, True, axis=1)
    exchanged = difference(grid.penalty, {a: ways, b: ~ways & (first | second)})
    p_value = np.mean(np.abs(exchanged) >= np.abs(value) - 1e-12, axis=0)
    index = pd.Index([*table.layer.values.tolist(), "all"], name="layer")
    found = pd.DataFrame({"asymmetry": value, "low": low, "high": high, "p_value": p_value}, index=index)
    found.attrs["least"] = (1 + int(first.sum() == second.sum())) / len(ways)
    return found


def senders_by_run(table: xr.Dataset, runs: Mapping[str, str] | None = None) -> xr.Dataset:
    """Name the senders of a table after the receivers of the same training run.

    Checkpoints can be senders for final models, such as checkpoints chosen for their loss. `asymmetry` and
    `penalties_by_kind` of the result then leave out stitches of a checkpoint into the end of its own run, as they
    leave out those of a model into itself, and leave out whole runs for their intervals.

    Parameters
    ----------
    table
        Result of `stitching_table` with one sender for every receiver.
    runs
        Sender -> receiver of the same run; None means the sender's name up to "@".

    Returns
    -------
    xarray.Dataset
        The table with the names of the receivers as senders, in the order of the receivers. The names of the senders
        are kept in the coordinate `checkpoint`.

    Raises
    ------
    InputError
        If `runs` lacks a sender, or senders and receivers are not paired one to one.

    Notes
    -----
    With senders of equal loss on both sides, the corrected asymmetry is that of senders alone: the penalties of a
    minus those of b as senders into receivers of kind b, plus the same into receivers of kind a.

    Examples
    --------
    >>> from repsim_nb.stitching import stitching_table
    >>> run = "tiny-neox-w32-d8"
    >>> made = stitching_table([f"{run}@step500"], [run], 1, fit="least_squares", n_fit=16, n_report=4)
    >>> senders_by_run(made).sender.values.tolist()
    ['tiny-neox-w32-d8']
    """
    senders, receivers = table.sender.values.tolist(), table.receiver.values.tolist()
    if runs is not None and (missing := [s for s in senders if s not in runs]):
        raise InputError(f"runs has no entry for {', '.join(missing)}.")
    of = {s: s.split("@")[0] if runs is None else runs[s] for s in senders}
    if sorted(of.values()) != sorted(receivers):
        raise InputError(
            f"Expected one sender for each receiver ({', '.join(receivers)}); the senders are of the runs "
            f"{', '.join(of.values())}. Give runs={{sender: receiver}}."
        )
    named = table.assign_coords(checkpoint=("sender", senders), sender=list(of.values()))
    return named.sel(sender=receivers)


class _Grid:
    """Penalties of all pairs of different models, and contrasts of their means over kinds, with intervals.

    Layers are those of the table and, last, the mean of all.
    """

    def __init__(self, table: xr.Dataset, kinds: Mapping[str, str]) -> None:
        models = table.sender.values.tolist()
        if table.receiver.values.tolist() != models:
            raise InputError("Expected a table with the same models as senders and receivers, in the same order.")
        missing = [m for m in models if m not in kinds]
        if missing:
            raise InputError(f"kinds has no entry for {', '.join(missing)}.")
        names = dict.fromkeys(kinds[m] for m in models)
        self.members = {name: np.array([[kinds[m] == name for m in models]]) for name in names}
        alone = [name for name, members in self.members.items() if members.sum() < 2]
        if alone:
            raise InputError(f"Kind {alone[0]!r} has only one model; need at least two independent seeds.")
        self._sizes = document_sizes(table)
        if len(self._sizes) < 2:
            raise InputError("The table has one document; an interval over documents needs at least two.")
        excess = table.document_loss.values.astype(np.float64) - table.document_receiver_loss.values[None, :, None]
        excess[np.eye(len(models), dtype=bool)] = 0  # never counted
        self._excess = np.concatenate([excess, excess.mean(2, keepdims=True)], 2)
        self.penalty = self._excess.sum(-1) / self._sizes.sum()

    def interval(self, contrast: Callable[[np.ndarray, Members], np.ndarray], level: float) -> np.ndarray:
        """Value, low and high of a contrast by layer, (3, layers + 1), over models and documents."""
        value = contrast(self.penalty, self.members)[0]
        flat = self._excess.reshape(*self.penalty.shape[:2], -1)
        nats = contrast(flat, self.members).reshape(len(value), -1).T
        documents = (nats.sum(0) - nats) / (self._sizes.sum() - self._sizes)[:, None]
        others = ~np.eye(len(self.penalty), dtype=bool)
        models = [
            contrast(self.penalty, {name: of & others[members[0]] for name, of in self.members.items()})
            for members in self.members.values()
        ]
        low, high = jackknife_interval(value, [*models, documents], level)
        return np.stack([value, np.nan_to_num(low, nan=-np.inf), np.nan_to_num(high, nan=np.inf)])


def _mean(values: np.ndarray, senders: np.ndarray, receivers: np.ndarray) -> np.ndarray:
    """Mean over pairs of different models, (ways, columns), of values (models, models, columns); NaN without a pair.

    The values of a model with itself are zero.
    """
    senders, receivers = (np.asarray(of, dtype=np.float64) for of in (senders, receivers))
    pairs = senders.sum(1) * receivers.sum(1) - (senders * receivers).sum(1)
    received = np.tensordot(senders, values, 1)  # (ways, receivers, columns)
    return np.einsum("wrk,wr->wk", received, receivers) / np.where(pairs == 0, np.nan, pairs)[:, None]
