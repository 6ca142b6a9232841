"""What blocks of layers come from: how much of them is left when something is taken out of the activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations
from repsim_nb.comparison.controls import Controls
from repsim_nb.depth.blocks import block_score
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.arrays import as_matrix
from repsim_nb.uncertainty import jackknife

if TYPE_CHECKING:
    import pandas as pd

Layers = Mapping[int, Any]


def blocks_without(
    activations: Layers,
    taken: Mapping[str, Controls],
    measure: str | Measure = "cka",
    *,
    groups: Any = None,
    n_random: int = 19,
    parts: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Take one thing at a time out of a model's activations, and measure how much of its blocks goes with it.

    Parameters
    ----------
    activations
        Activations of one model, layer -> (n_rows, d), with at least 4 layers.
    taken
        Name -> what to take out.
    measure
        A similarity; debiased linear CKA by default.
    groups
        The document of each row, for plain arrays; activations from `extract` have it.
    n_random
        Number of times that rows are drawn at random, for controls that leave out rows.
    parts
        Number of groups of documents in the jackknife.
    seed
        Seed of the groups and of the random rows.

    Returns
    -------
    pandas.DataFrame
        Indexed by name, "nothing" first: rows_out (number of rows left out), score (`Blocks.score`, the excess of
        similarity within blocks over smooth decay), drop (score of all activations minus this one), drop_low and
        drop_high (95% jackknife interval over documents); and for controls that leave out rows, random_drop, the
        largest drop when as many random rows are left out, and p_value, the share of random draws (and this one) with a
        drop as large. Both are NaN for controls that leave out no rows.

    Raises
    ------
    InputError
        If "nothing" is in `taken`, the documents are too few, or n_random is less than 1.

    Notes
    -----
    A control that takes the blocks away shows that they need what it removes. It does not show that nothing else
    could make blocks, and other rows may carry other similarities that large rows hide. The division into blocks is
    found anew for every map.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> layers = {k: rng.normal(size=(200, 8)) for k in range(6)}
    >>> for layer in (2, 3, 4):
    ...     layers[layer][:3, 1] += 80
    >>> found = blocks_without(layers, {"large rows": Controls(leave_out_norms=4.0)}, groups=np.arange(200))
    >>> found.rows_out.tolist(), bool(found.drop_low["large rows"] > 0)
    ([0, 3], True)
    """
    import pandas as pd

    if "nothing" in taken or n_random < 1:
        raise InputError(
            f'taken={list(taken)}, n_random={n_random}; expected names other than "nothing", and at least 1.'
        )
    documents, chosen = _documents(activations, groups), get_measure(measure)
    cut = {name: controls.applied(activations) for name, controls in taken.items()}
    every = np.ones(len(documents), dtype=bool)
    sides = {"nothing": (activations, every)} | {name: (side[0], kept) for name, (side, kept) in cut.items()}

    def scores(keep: np.ndarray) -> np.ndarray:
        return np.array([_score(side, keep[kept], chosen) for side, kept in sides.values()])

    drops = jackknife(lambda keep: _with_drops(scores(keep)), documents, parts, seed=seed)
    table = pd.DataFrame(
        {
            "rows_out": [int((~kept).sum()) for _, kept in sides.values()],
            "score": drops.value[0],
            "drop": drops.value[1],
            "drop_low": drops.low[1],
            "drop_high": drops.high[1],
        },
        index=pd.Index(sides, name="without"),
    )
    random = {
        count: _random_drops(activations, count, n_random, chosen, table.score["nothing"], seed)
        for count in set(table.rows_out) - {0}
    }
    table["random_drop"] = [random[count].max() if count else np.nan for count in table.rows_out]
    table["p_value"] = [
        (1 + (random[count] >= drop).sum()) / (1 + n_random) if count else np.nan
        for count, drop in zip(table.rows_out, table["drop"], strict=True)
    ]
    return table


def _documents(activations: Layers, groups: Any) -> np.ndarray:
    if groups is None and isinstance(activations, Activations):
        groups = activations.rows["document"]
    n = len(as_matrix(next(iter(activations.values())), "the first layer"))
    return np.arange(n) if groups is None else np.asarray(groups)


def _score(layers: Layers, keep: np.ndarray, measure: Measure) -> float:
    prepared = [measure.prepare(as_matrix(x, f"layer {layer}")[keep]) for layer, x in layers.items()]
    return block_score(measure.grid(prepared, prepared))


def _with_drops(scores: np.ndarray) -> np.ndarray:
    """Scores and how far each lies below the first, (2, n)."""
    return np.stack([scores, scores[0] - scores])


def _random_drops(layers: Layers, count: int, draws: int, measure: Measure, whole: float, seed: int) -> np.ndarray:
    """How far the score falls when `count` random rows are left out, (draws,)."""
    n, rng = len(as_matrix(next(iter(layers.values())), "the first layer")), np.random.default_rng(seed)
    drops = []
    for _ in range(draws):
        keep = np.ones(n, dtype=bool)
        keep[rng.choice(n, count, replace=False)] = False
        drops.append(whole - _score(layers, keep, measure))
    return np.array(drops)
