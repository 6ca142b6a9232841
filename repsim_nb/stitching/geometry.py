"""Similarity of the layers that a stitch joins, beside its penalty: does geometry predict function?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import extract_aligned
from repsim_nb.comparison import compare
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure
from repsim_nb.stitching.planned import Planned
from repsim_nb.uncertainty import calibrated
from repsim_nb.uncertainty.leaving_out import jackknife_interval

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

ROWS = 512  # tokens of the report documents that layers are compared on
EXCHANGES = 59  # of documents, for the level that calibrates
DEPTH = "difference in relative depth"


def similarities(made: Planned, measures: Sequence[Measure], seed: int) -> xr.Dataset:
    """Calibrated and raw similarity of every cut and entry, over (measure, sender, receiver, layer, into).

    Rows are tokens of the report documents. For dissimilarities the calibrated value is 1 - value / level.
    """
    import xarray as xr

    models = list(made.models.values())
    acts = dict(zip(made.models, _rows(made, models, seed), strict=True))
    pairs = dict.fromkeys((s.name, r.name) for s in made.senders for r in made.receivers)
    shape = (len(measures), len(made.senders), len(made.receivers), len(made.layers), len(made.entries or ()))
    found = {name: np.full(shape, np.nan) for name in ("similarity", "similarity_raw")}
    cuts = {
        pair: [cut for cut in made.cuts if (cut.sender, cut.receiver, cut.control) == (*pair, "")] for pair in pairs
    }
    senders, receivers = ([m.name for m in side] for side in (made.senders, made.receivers))
    for place, measure in enumerate(measures):
        results: dict[tuple[str, str], xr.DataArray] = {}
        for (sender, receiver), own in cuts.items():
            a = {cut.layer: acts[sender][cut.layer] for cut in own}
            b = {into: acts[receiver][into] for into in own[0].entries}
            turned = results.get((receiver, sender))
            if measure.symmetric and turned is not None and _covers(turned, a, b):
                result = turned.transpose()
            else:
                documents = acts[sender].rows["document"].to_numpy()
                result = compare(a, b, measure=measure, null=EXCHANGES, groups=documents, seed=seed)
            results[sender, receiver] = result
            at = np.ix_(
                [place], [senders.index(sender)], [receivers.index(receiver)],
                [made.layers.index(k) for k in a], [(made.entries or []).index(k) for k in b],
            )  # fmt: skip
            found["similarity"][at] = _calibrated(result)
            found["similarity_raw"][at] = result.values
    dims = ("measure", "sender", "receiver", "layer", "into")
    about = {"rows": ROWS, "exchanges": EXCHANGES}
    named = {"measure": [m.name for m in measures]}
    return xr.Dataset({name: (dims, values, about) for name, values in found.items()}, coords=named)


def _covers(turned: xr.DataArray, a: Mapping[int, Any], b: Mapping[int, Any]) -> bool:
    """Whether a result of the other direction has these layers."""
    return [*a] == turned.layer_b.values.tolist() and [*b] == turned.layer_a.values.tolist()


def _rows(made: Planned, models: Sequence[Any], seed: int) -> Sequence[Any]:
    """Activations of all models at the same tokens, all layers that are cut or entered."""
    needed: dict[str, set[int]] = {model.name: set() for model in models}
    for cut in made.cuts:
        needed[cut.sender].add(cut.layer)
        needed[cut.receiver].update(cut.entries)
    layers = [sorted(needed[model.name]) for model in models]
    return extract_aligned(models, made.ground.corpora["report"], layers, n_rows=ROWS, seed=seed)


def _calibrated(result: xr.DataArray) -> np.ndarray:
    if "calibrated" in result.coords:
        return result.calibrated.values
    if result.attrs["direction"] == "dissimilarity":
        return calibrated(-result.values, -result.null_high.values, 0.0)
    raise InputError(f"{result.name} is a similarity without an upper bound, which cannot be calibrated. Leave it out.")


def geometry_predicts(table: xr.Dataset, level: float = 0.95) -> pd.DataFrame:
    """Rank-correlate the penalty with the dissimilarity of the layers that are joined, by measure.

    Parameters
    ----------
    table
        Result of `stitching_table` with `into` and `measures`.
    level
        Coverage of each interval by itself.

    Returns
    -------
    pandas.DataFrame
        Indexed by measure, and last the naive predictor, the difference in relative depth (layer / layers of the
        model): spearman, low, high; beyond_depth, beyond_low, beyond_high, which is the correlation minus that of the
        naive predictor; pairs of models, and cells. A correlation of 1 says that the less similar the layers are, the
        higher is the penalty.

    Raises
    ------
    InputError
        If the table has no similarities, no pair of different models, or fewer than three cells of one pair.

    Notes
    -----
    The correlation is taken over the cells of one pair of models, and averaged over pairs, so that what a receiver
    loses to any sender does not count. Models into themselves are left out. The interval is a jackknife that leaves out
    one model at a time, as sender and as receiver, with Student's t; its ends are clipped to [-1, 1], those of
    differences to [-2, 2]. Where leaving out a model leaves no pair, as with two models, nothing is known of others,
    and the interval is the whole range. A correlation over cells says nothing about cause, and both fall with depth:
    read `beyond_depth`.

    Examples
    --------
    >>> from repsim_nb.stitching import stitching_table
    >>> names = ["tiny-neox-w32-d2", "tiny-neox-w64-d2"]
    >>> how = {"fit": "least_squares", "n_fit": 16, "n_report": 4}
    >>> table = stitching_table(names, names, into="all", measures="cka", **how)
    >>> geometry_predicts(table).index.tolist()
    ['cka', 'difference in relative depth']
    """
    import pandas as pd

    if "similarity" not in table:
        raise InputError("The table has no similarities. Give measures= and into= to stitching_table.")
    names = [*table.measure.values.tolist(), DEPTH]
    pairs = _correlations(table)
    if not pairs:
        raise InputError("The table has no pair of different models; need at least one sender and another receiver.")
    rows = np.array([pairs[pair] for pair in pairs])
    value, low, high = _over_models(list(pairs), rows, level)
    beyond = _over_models(list(pairs), rows - rows[:, -1:], level)
    columns = {"spearman": value, "low": np.clip(low, -1, 1), "high": np.clip(high, -1, 1), "beyond_depth": beyond[0]}
    columns |= {"beyond_low": np.clip(beyond[1], -2, 2), "beyond_high": np.clip(beyond[2], -2, 2)}
    cells = sum(int(np.isfinite(table.penalty.sel(sender=s, receiver=r)).sum()) for s, r in pairs)
    return pd.DataFrame(columns, index=pd.Index(names, name="measure")).assign(pairs=len(pairs), cells=cells)


def _correlations(table: xr.Dataset) -> Mapping[tuple[str, str], list[float]]:
    """(sender, receiver) -> rank correlations of the penalty with dissimilarities and the difference in depth."""
    from scipy.stats import spearmanr

    found = {}
    for sender in table.sender.values.tolist():
        for receiver in table.receiver.values.tolist():
            if sender == receiver:
                continue
            one = table.sel(sender=sender, receiver=receiver).transpose("measure", ..., "layer", "into")
            penalty = one.penalty.values
            there = np.isfinite(penalty)
            if there.sum() < 3:
                raise InputError(f"{sender} into {receiver} has {there.sum()} cells; a rank correlation needs three.")
            depth = np.abs(
                np.subtract.outer(one.layer.values / int(one.sender_layers), one.into.values / int(one.receiver_layers))
            )
            predictors = [*(1 - one.similarity.values), depth]
            found[sender, receiver] = [
                0.0 if np.ptp(x[there]) == 0 else float(spearmanr(x[there], penalty[there]).statistic)
                for x in predictors
            ]
    return found


def _over_models(
    pairs: Sequence[tuple[str, str]], rows: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over pairs, and its interval over models."""
    value = rows.mean(0)
    names = dict.fromkeys(name for pair in pairs for name in pair)
    without = [rows[[name not in pair for pair in pairs]] for name in names]
    if not all(len(rest) for rest in without):
        return value, np.full_like(value, -np.inf), np.full_like(value, np.inf)
    low, high = jackknife_interval(value, [np.array([rest.mean(0) for rest in without])], level)
    return value, low, high
