"""Whether models fall into their groups by themselves: clusters of models, made without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError, unknown
from repsim_nb.groups.pairs import read_groups, read_pairs
from repsim_nb.groups.permutations import ROUNDING, assignments, p_values, standardised

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

METHODS = ("ward", "average", "complete", "single")
LEVEL = 0.05  # of null_high


def cluster(dissimilarity: xr.DataArray, n_groups: int = 2, method: str = "ward") -> pd.DataFrame:
    """Hierarchical clusters of models, layer by layer.

    Parameters
    ----------
    dissimilarity
        Layer x model x model, see `repsim_nb.groups`; below 0 counts as 0.
    n_groups
        Clusters to cut the tree into. Ties may leave fewer, and models all equally far apart are one.
    method
        How far two clusters are apart: "ward" (made for Euclidean distances), "average", "complete", "single".

    Returns
    -------
    pandas.DataFrame
        DataFrame layer x model of int, models in the order of `dissimilarity`; 0 is the cluster of the first model, 1
        that of the first model not in it, and so on. Numbers of different layers have nothing to do with each other.

    Raises
    ------
    InputError
        An array that is not of layers and twice the same models or lacks a value, an unknown method, `n_groups` that is
        not 1 to the number of models.

    References
    ----------
    Ward 1963; Murtagh and Legendre 2014 on dissimilarities that are not Euclidean.
    """
    import pandas as pd

    pairs = read_pairs(dissimilarity)
    side = next(d for d in dissimilarity.dims if d != "layer")
    models = dissimilarity[side].values.tolist()
    place = [pairs.models.index(m) for m in models]
    labels = [pd.factorize(line[place])[0] for line in _clusters(pairs.values, n_groups, method)]
    return pd.DataFrame(
        np.array(labels, dtype=int), index=pd.Index(pairs.layers, name="layer"), columns=pd.Index(models, name="model")
    )


def grouping(
    dissimilarity: xr.DataArray,
    groups: Mapping[str, str] | pd.Series,
    method: str = "ward",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """How well two clusters of models, made without labels, agree with two known groups, layer by layer.

    Parameters
    ----------
    dissimilarity
        Layer x model x model, see `repsim_nb.groups`.
    groups
        Model -> group, two groups of at least two models each; other models are left out before clustering.
    method
        As in `cluster`.
    n_permutations
        Arrangements of the groups' labels to try; all are where there are no more than that.
    seed
        Seed of the permutations.

    Returns
    -------
    pandas.DataFrame
        DataFrame by layer and a last line "all", for the mean of dissimilarities over layers, each first divided by its
        mean over pairs (layers where that is not above 0 are left out): adjusted_rand, at most 1 (the same groups) and
        0 by chance; null_mean and null_high, the mean of permuted labels and what they exceed in at most 5% of cases;
        p_value in (0, 1] one-sided, of the line alone; p_adjusted, family-wise over layers by the largest standardised
        index. "all" is one test by itself, its p_adjusted is its p_value.

    Raises
    ------
    InputError
        As `group_test` and `cluster`.

    References
    ----------
    Hubert and Arabie 1985, "Comparing partitions", J. Classification 2:193.
    """
    import pandas as pd

    pairs, two = read_groups(dissimilarity, groups, least=2)
    labels = _clusters(np.vstack([pairs.values, _scaled_mean(pairs.values)]), 2, method)
    ways = assignments(two.first, n_permutations, np.random.default_rng(seed))
    index = np.stack([_rand_of_ways(ways, line) for line in labels], axis=1)
    scores = standardised(index, np.ones(len(labels)))
    p_value, _ = p_values(scores)
    _, p_adjusted = p_values(scores[:, :-1])
    return pd.DataFrame(
        {
            "adjusted_rand": index[0],
            "null_mean": index.mean(0),
            "null_high": np.quantile(index, 1 - LEVEL, axis=0, method="higher"),
            "p_value": p_value,
            "p_adjusted": [*p_adjusted, p_value[-1]],
        },
        index=pd.Index([*pairs.layers, "all"], name="layer"),
    )


def adjusted_rand(a: Sequence[Any] | np.ndarray, b: Sequence[Any] | np.ndarray) -> float:
    """Agreement of two partitions of the same things, labels of each: 1 the same, 0 by chance.

    Reference: Hubert and Arabie 1985.

    >>> round(adjusted_rand([0, 0, 1, 1], ["x", "x", "y", "z"]), 3)
    0.571
    """
    places = [np.unique(np.asarray(side), return_inverse=True)[1] for side in (a, b)]
    counts = np.zeros([p.max() + 1 for p in places])
    np.add.at(counts, tuple(places), 1)
    return float(_rand(counts))


def _rand(counts: np.ndarray) -> np.ndarray:
    """Adjusted Rand indices of contingency tables (..., groups, clusters)."""

    def pairs(n: np.ndarray) -> np.ndarray:
        return n * (n - 1) / 2

    both = pairs(counts).sum((-2, -1))
    a, b = (pairs(counts.sum(axis)).sum(-1) for axis in (-1, -2))
    chance = a * b / np.maximum(pairs(counts.sum((-2, -1))), 1)
    most = (a + b) / 2
    same = most == chance  # both all in one, or both each by itself
    return np.where(same, 1.0, (both - chance) / np.where(same, 1, most - chance))


def _rand_of_ways(ways: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Adjusted Rand index of labels (models,) with each of the groups (ways, models) of bool."""
    member = labels[:, None] == np.unique(labels)
    first = ways.astype(np.float64) @ member
    return _rand(np.stack([first, member.sum(0) - first], axis=1))


def _clusters(values: np.ndarray, n_groups: int, method: str) -> np.ndarray:
    """Cluster of each model by layer, (layers, models), any numbers."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if method not in METHODS:
        raise unknown("clustering method", method, METHODS)
    if not 1 <= n_groups <= values.shape[1]:
        raise InputError(f"{values.shape[1]} models cannot be cut into {n_groups} clusters.")
    # ties go by the order of models, which must not be that of their names: names often tell the group
    order = np.random.default_rng(0).permutation(values.shape[1])
    distances = [squareform(value, checks=False) for value in np.clip(values, 0, None)[:, order][:, :, order]]
    labels = np.ones(values.shape[:2], dtype=int)
    for line, distance in zip(labels, distances, strict=True):
        if np.ptp(distance) > ROUNDING * distance.max():  # else all are equally far apart: one cluster
            line[order] = fcluster(linkage(distance, method), n_groups, "maxclust")
    return labels


def _scaled_mean(values: np.ndarray) -> np.ndarray:
    """Mean over layers, each of mean 1 over pairs, (1, models, models); of 0 where no layer has a mean above 0."""
    n = values.shape[1]
    values = np.clip(values, 0, None)  # as for clusters; a mean over both signs may be next to nothing
    means = values.sum((1, 2)) / (n * (n - 1))
    kept = means > 0
    if not kept.any():
        return np.zeros((1, n, n))
    return (values[kept] / means[kept, None, None]).mean(0, keepdims=True)
