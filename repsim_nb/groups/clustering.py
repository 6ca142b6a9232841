"""Cluster models without labels, and test whether the clusters recover known groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError, unknown
from repsim_nb.groups.pairs import read_groups, read_pairs, with_layers
from repsim_nb.groups.permutations import ROUNDING, assignments, p_values, standardised

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

METHODS = ("ward", "average", "complete", "single")
LEVEL = 0.05  # significance level of null_high


def cluster(dissimilarity: xr.DataArray, n_groups: int = 2, method: str = "ward") -> pd.DataFrame:
    """Cluster models hierarchically, layer by layer.

    Parameters
    ----------
    dissimilarity
        Layer x model x model, see `repsim_nb.groups`; negative values count as 0.
    n_groups
        Number of clusters. Ties can give fewer, and models that are all equally dissimilar form one cluster.
    method
        Linkage: "ward" (made for Euclidean distances), "average", "complete" or "single".

    Returns
    -------
    pandas.DataFrame
        Integer cluster labels, layer x model, with models in the order of `dissimilarity`. 0 is the cluster of the
        first model, 1 that of the first model outside it, and so on. Labels of different layers are unrelated.

    Raises
    ------
    InputError
        If the array does not have layers and the same models twice, lacks a value, the method is unknown, or
        `n_groups` is not between 1 and the number of models.

    Notes
    -----
    A hierarchical clustering always returns clusters, even for unstructured models. Test them with `grouping`.

    Examples
    --------
    >>> import xarray as xr
    >>> place = np.array([0.0, 0.1, 5.0, 5.1])
    >>> coords = {"layer": [0], "model_a": list("abcd"), "model_b": list("abcd")}
    >>> distance = xr.DataArray(np.abs(np.subtract.outer(place, place))[None], coords, ("layer", "model_a", "model_b"))
    >>> cluster(distance).loc[0].to_dict()
    {'a': 0, 'b': 0, 'c': 1, 'd': 1}

    References
    ----------
    Ward 1963; Murtagh and Legendre 2014 on dissimilarities that are not Euclidean.
    """
    import pandas as pd

    dissimilarity = with_layers(dissimilarity)
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
    """Test how well two clusters, found without labels, agree with two known groups, layer by layer.

    Parameters
    ----------
    dissimilarity
        Layer x model x model, see `repsim_nb.groups`.
    groups
        Model -> group, with two groups of at least two models each. Other models are left out before clustering.
    method
        As in `cluster`.
    n_permutations
        Number of permutations of the group labels; all of them are used if there are no more than this.
    seed
        Seed for the permutations.

    Returns
    -------
    pandas.DataFrame
        Indexed by layer, with a last line "all" for dissimilarities averaged over layers after dividing each by its
        mean (layers with mean 0 are left out). Columns: adjusted_rand (1: same groups, 0: chance level); null_mean
        and null_high (mean and 95% quantile under permuted labels); p_value, one-sided, for each line by itself; and
        p_adjusted, family-wise over layers by the maximum of the standardised index. "all" is a single test, so its
        p_adjusted equals its p_value.

    Raises
    ------
    InputError
        As for `group_test` and `cluster`.

    Notes
    -----
    A high index needs groups that are also the largest split among the models: groups can differ significantly
    (`group_test`) and still not be what the clusters show. p-values are family-wise over layers, but not over measures
    or methods.

    References
    ----------
    Hubert and Arabie 1985, "Comparing partitions", J. Classification 2:193.
    """
    import pandas as pd

    pairs, two = read_groups(dissimilarity, groups, least=2)
    ways = assignments(two.first, n_permutations, np.random.default_rng(seed))
    index = _agreements(np.vstack([pairs.values, _scaled_mean(pairs.values)]), ways, method)
    scores = standardised(index, np.ones(index.shape[1]))
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


def agreement_scores(values: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Standardised agreement of two clusters (Ward) with assignments to groups, bool (ways, models): (ways, layers)."""
    return standardised(_agreements(values, ways, "ward"), np.ones(len(values)))


def adjusted_rand(a: Sequence[Any] | np.ndarray, b: Sequence[Any] | np.ndarray) -> float:
    """Adjusted Rand index of two labelings of the same items: 1 for equal partitions, 0 at chance level.

    Reference: Hubert and Arabie 1985.

    >>> round(adjusted_rand([0, 0, 1, 1], ["x", "x", "y", "z"]), 3)
    0.571
    """
    places = [np.unique(np.asarray(side), return_inverse=True)[1] for side in (a, b)]
    counts = np.zeros([p.max() + 1 for p in places])
    np.add.at(counts, tuple(places), 1)
    return float(_adjusted_rand(counts))


def _adjusted_rand(counts: np.ndarray) -> np.ndarray:
    """Adjusted Rand indices of contingency tables (..., groups, clusters)."""

    def pairs(n: np.ndarray) -> np.ndarray:
        return n * (n - 1) / 2

    both = pairs(counts).sum((-2, -1))
    a, b = (pairs(counts.sum(axis)).sum(-1) for axis in (-1, -2))
    chance = a * b / np.maximum(pairs(counts.sum((-2, -1))), 1)
    most = (a + b) / 2
    same = most == chance  # both one cluster, or both all singletons
    return np.where(same, 1.0, (both - chance) / np.where(same, 1, most - chance))


def _agreements(values: np.ndarray, ways: np.ndarray, method: str) -> np.ndarray:
    """Adjusted Rand index of two clusters by layer with each assignment to groups, (ways, layers)."""
    labels = _clusters(values, 2, method)
    return np.stack([_adjusted_rand_of_assignments(ways, line) for line in labels], axis=1)


def _adjusted_rand_of_assignments(ways: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Adjusted Rand index of labels (models,) with each assignment to groups, bool (ways, models)."""
    member = labels[:, None] == np.unique(labels)
    first = ways.astype(np.float64) @ member
    return _adjusted_rand(np.stack([first, member.sum(0) - first], axis=1))


def _clusters(values: np.ndarray, n_groups: int, method: str) -> np.ndarray:
    """Cluster labels of each model by layer, (layers, models), arbitrary numbers."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if method not in METHODS:
        raise unknown("clustering method", method, METHODS)
    if not 1 <= n_groups <= values.shape[1]:
        raise InputError(f"{values.shape[1]} models cannot be cut into {n_groups} clusters.")
    # ties are broken by the order of models, so shuffle them: sorted names often follow the groups
    order = np.random.default_rng(0).permutation(values.shape[1])
    distances = [squareform(value, checks=False) for value in np.clip(values, 0, None)[:, order][:, :, order]]
    labels = np.ones(values.shape[:2], dtype=int)
    for line, distance in zip(labels, distances, strict=True):
        if np.ptp(distance) > ROUNDING * distance.max():  # otherwise all are equally dissimilar: one cluster
            line[order] = fcluster(linkage(distance, method), n_groups, "maxclust")
    return labels


def _scaled_mean(values: np.ndarray) -> np.ndarray:
    """Mean over layers after scaling each to mean 1, (1, models, models); all 0 if no layer has a positive mean."""
    n = values.shape[1]
    values = np.clip(values, 0, None)  # as in `_clusters`; otherwise the mean could be close to 0
    means = values.sum((1, 2)) / (n * (n - 1))
    kept = means > 0
    if not kept.any():
        return np.zeros((1, n, n))
    return (values[kept] / means[kept, None, None]).mean(0, keepdims=True)
