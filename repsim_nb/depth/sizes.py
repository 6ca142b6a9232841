"""Models of a family by size: similarity of two sizes relative to seeds of one size, and distances between models."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from repsim_nb.depth.distance import Maps, equal_depth, pairs_at_depth
from repsim_nb.depth.seeds import SeedVariance, interval, over_documents
from repsim_nb.errors import InputError
from repsim_nb.system.shipped import data_dir

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("same depth", "same width", "both differ")
Size = tuple[Hashable, Hashable]


def by_size(maps: Maps, sizes: Mapping[str, Size], replicates: Maps | None = None, level: float = 0.95) -> pd.DataFrame:
    """Compare the similarity between two sizes with the similarity between seeds of one size.

    Parameters
    ----------
    maps
        (model, other model) -> map, as `compare_all` returns; maps of a model with itself are ignored.
    sizes
        Model -> (width, depth). Models of the same size count as independent seeds.
    replicates
        The same maps with groups of documents left out, as `comparison.replicates` returns; None leaves the choice of
        documents out of the intervals.
    level
        Coverage of each interval by itself.

    Returns
    -------
    pandas.DataFrame
        Indexed by (one, other), each pair of sizes once; `one` has several models. Columns: kind ("same depth", "same
        width" or "both differ"), similarity (mean over relative depths and pairs of models), ceiling (the same between
        seeds of one size, at the same depths; the mean of both sizes where both have several), seeded (how many of the
        two sizes have several), difference (similarity - ceiling; negative if size reduces similarity) and its interval
        low, high over models and, with replicates, documents.

    Raises
    ------
    InputError
        If a model has no size, a pair has no map, or no size has two models next to another size.

    Notes
    -----
    Pairs of sizes without a second seed of either have no ceiling and are left out: their similarity says nothing
    about the effect of size. Where only one of the two has several seeds, its one model stands for a size and the
    interval is three times as wide.

    The variance over seeds is pooled over all sizes that have several: similarities vary by model and, beyond that, by
    pair (`seeds.SeedVariance`). If both sizes have several seeds, what a model does to all its similarities cancels. If
    seeds of some sizes vary three times as much as those of others, intervals cover 0.93 instead of 0.95
    (docs/simulations.csv).
    """
    return _table(_Sizes.of(maps, sizes, replicates), level, by_kind=False)


def by_kind(maps: Maps, sizes: Mapping[str, Size], replicates: Maps | None = None, level: float = 0.95) -> pd.DataFrame:
    """Compute the mean difference of `by_size` over all pairs of sizes of the same depth, same width, or neither.

    Parameters
    ----------
    maps, sizes, replicates, level
        As in `by_size`.

    Returns
    -------
    pandas.DataFrame
        Indexed by kind; the columns of `by_size` but `kind`, averaged over pairs of sizes, and `pairs`, their number.

    Raises
    ------
    InputError
        As in `by_size`.
    """
    return _table(_Sizes.of(maps, sizes, replicates), level, by_kind=True)


def shipped_sizes(name: str) -> pd.DataFrame:
    """Load what `by_size` found for models that are too large to ship, from data/tables.

    Parameters
    ----------
    name
        File name without suffix: "equal-loss".

    Returns
    -------
    pandas.DataFrame
        Indexed by (arm, one, other), with the columns of `by_size`. attrs["models"] has, by arm, the step of every
        model, its held-out loss in nats per token and the hash of its weights; attrs["recipe"] says how to make them
        again.

    Raises
    ------
    FileNotFoundError
        If there is no table with this name.

    Examples
    --------
    >>> shipped_sizes("equal-loss").index.unique("arm").tolist()
    ['equal tokens', 'equal loss']
    """
    import xarray as xr

    table = xr.load_dataset(data_dir() / "tables" / f"{name}.nc", engine="h5netcdf")
    found = table.to_dataframe().set_index(["arm", "one", "other"])
    found.attrs = {"models": json.loads(table.attrs["models"]), "recipe": table.attrs["recipe"]}
    return found


class _Contrast(NamedTuple):
    """One pair of sizes: its similarity and ceiling (all documents, then without each group), and weights of pairs."""

    one: Size
    other: Size
    similarity: np.ndarray
    ceiling: np.ndarray
    seeded: int
    weights: np.ndarray

    @property
    def kind(self) -> str:
        return KINDS[(self.one[0] != self.other[0]) + 2 * (self.one[1] != self.other[1]) - 1]


@dataclass(frozen=True)
class _Sizes:
    """All pairs of models by size, as contrasts with the pairs of one size."""

    variance: SeedVariance | None
    contrasts: list[_Contrast]

    @classmethod
    def of(cls, maps: Maps, sizes: Mapping[str, Size], replicates: Maps | None) -> _Sizes:
        pairs = pairs_at_depth(maps, replicates)
        names = list(dict.fromkeys(name for pair in pairs for name in pair))
        size = [size_of(sizes, name) for name in names]
        members = {s: [i for i, of in enumerate(size) if of == s] for s in dict.fromkeys(size)}
        seeded_first = sorted(members, key=lambda s: len(members[s]) == 1)
        contrasts = [
            _contrast(pairs, names, (one, members[one]), (other, members[other]))
            for one, other in combinations(seeded_first, 2)
            if len(members[one]) > 1
        ]
        if not contrasts:
            raise InputError("by_size needs two models of one size and at least one of another size.")
        means = np.zeros((len(names),) * 2)
        for i, j in combinations(range(len(names)), 2):
            means[i, j] = means[j, i] = np.mean([found[0] for found in _of(pairs, names[i], names[j]).values()])
        return cls(SeedVariance.of_pairs(means, size), contrasts)


def _contrast(
    pairs: Mapping[tuple[str, str], Mapping[float, np.ndarray]],
    names: Sequence[str],
    first: tuple[Size, list[int]],
    second: tuple[Size, list[int]],
) -> _Contrast:
    (one, a), (other, b) = first, second
    between = list(product(a, b))
    depths = _of(pairs, names[a[0]], names[b[0]]).keys()
    within = [list(combinations(members, 2)) for members in (a, b) if len(members) > 1]

    def mean(which: Sequence[tuple[int, int]]) -> np.ndarray:
        return np.mean([_of(pairs, names[i], names[j])[d] for i, j in which for d in depths], axis=0)

    weights = np.zeros((len(names),) * 2)
    for sign, group in [(1.0, between), *((-1 / len(within), group) for group in within)]:
        for i, j in group:
            weights[i, j] = weights[j, i] = sign / len(group)
    ceiling = np.mean([mean(group) for group in within], axis=0)
    return _Contrast(one, other, mean(between), ceiling, len(within), weights)


def _table(sizes: _Sizes, level: float, by_kind: bool) -> pd.DataFrame:
    import pandas as pd

    key = (lambda c: c.kind) if by_kind else (lambda c: (str(c.one), str(c.other)))
    groups: dict[Any, list[_Contrast]] = {}
    for contrast in sizes.contrasts:
        groups.setdefault(key(contrast), []).append(contrast)
    lines = []
    for name, found in groups.items():
        similarity, ceiling, weights = (
            np.mean([getattr(c, of) for c in found], axis=0) for of in ("similarity", "ceiling", "weights")
        )
        difference = similarity - ceiling
        parts = sizes.variance.of_mean(weights) if sizes.variance else []
        if parts and len(difference) > 1:
            parts.append(over_documents(difference[1:]))
        value, low, high = interval(difference[0], parts, level)
        seeded = np.mean([c.seeded for c in found])
        head = (name, len(found)) if by_kind else (*name, found[0].kind)
        lines.append((*head, similarity[0], ceiling[0], seeded, value, low, high))
    index = ["kind", "pairs"] if by_kind else ["one", "other", "kind"]
    columns = [*index, "similarity", "ceiling", "seeded", "difference", "low", "high"]
    return pd.DataFrame(lines, columns=columns).set_index(index[:1] if by_kind else index[:2])


def _of(pairs: Mapping[tuple[str, str], Mapping[float, np.ndarray]], a: str, b: str) -> Mapping[float, np.ndarray]:
    found = pairs.get((a, b), pairs.get((b, a)))
    if found is None:
        raise InputError(f"by_size needs a map for every pair of models; there is none for {a} and {b}.")
    return found


def size_of(sizes: Mapping[str, Size], model: str) -> Size:
    """The size of a model."""
    if model not in sizes:
        raise InputError(f"sizes has no entry for {model}; it has {', '.join(sizes) or 'none'}.")
    return sizes[model]


def model_distances(maps: Maps) -> pd.DataFrame:
    """Distance between every pair of models: the root of the summed squared arccos of CKA.

        d(f, g)^2 = sum over relative depths of arccos(CKA(f at that depth, g at that depth))^2

    Parameters
    ----------
    maps
        Maps of all pairs of models, as `compare_all` returns; maps of a model with itself are ignored.

    Returns
    -------
    pandas.DataFrame
        Distances in radians, model x model, 0 on the diagonal; `figures.model_map` draws it.

    Raises
    ------
    InputError
        If a pair has no map, or the measure is not a similarity with upper bound 1.

    Notes
    -----
    The sum runs over the relative depths that all models share: for models of equal depth these are all layers, as in
    the paper. Adding a model of another depth can therefore change all distances. With biased CKA this is a metric;
    debiased values below 0 count as 0 (a right angle), and values above 1 by rounding as 1.

    Examples
    --------
    >>> import xarray as xr
    >>> about = {"direction": "similarity", "upper_bound": 1.0}
    >>> half = xr.DataArray(np.full((2, 2), 0.5), dims=("layer_a", "layer_b"), attrs=about)
    >>> model_distances({("a", "b"): half}).round(3).loc["a", "b"].item()
    1.481

    References
    ----------
    Brown et al. 2023, eq. 2; Williams et al. 2021 on the angle.
    """
    import pandas as pd

    names = list(dict.fromkeys(name for pair in maps for name in pair))
    found: dict[tuple[str, str], pd.Series] = {}
    for a, b in combinations(names, 2):
        result = maps.get((a, b), maps.get((b, a)))
        if result is None:
            raise InputError(f"model_distances needs a map for every pair; there is none for {a} and {b}.")
        if result.attrs.get("direction") != "similarity" or result.attrs.get("upper_bound") != 1:
            raise InputError(f"model_distances needs a similarity with upper bound 1, got {result.name}.")
        found[a, b] = equal_depth(result)
    shared = set.intersection(*(set(np.round(s.index, 9)) for s in found.values())) if found else set()
    distances = pd.DataFrame(0.0, index=names, columns=names)
    for (a, b), series in found.items():
        values = series[[d in shared for d in np.round(series.index, 9)]].to_numpy()
        distances.loc[a, b] = distances.loc[b, a] = np.linalg.norm(np.arccos(np.clip(values, 0, 1)))
    return distances
