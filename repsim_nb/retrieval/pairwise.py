"""Every two of several models: how much their lists agree, as tables of models against models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError, named_arguments
from repsim_nb.retrieval.agreement import TITLES, agreement_of, measure_names
from repsim_nb.retrieval.lists import aligned_pair, read_k, read_lists
from repsim_nb.retrieval.query_means import summary

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.retrieval.lists import Source

ENDS = {"": "mean", "_low": "low", "_high": "high"}  # of the name of a variable -> column of `summary`


@named_arguments()
def pairwise(
    lists: Mapping[str, Source],
    k: int | Sequence[int] = 10,
    measures: str | Sequence[str] = "overlap",
    *,
    p: float = 0.9,
    queries: str = "same",
    level: float = 0.95,
) -> xr.Dataset:
    """Compute the mean agreement of the lists of every two models, with an interval over queries.

    Parameters
    ----------
    lists
        Model -> its lists, as for `overlap`; at least two models.
    k, measures, p, queries
        As in `overlap`.
    level
        Coverage of each interval by itself.

    Returns
    -------
    xarray.Dataset
        Dims model_a x model_b x k, symmetric, 1 on the diagonal. For each measure its mean over queries, and the ends
        of its interval as "<measure>_low" and "<measure>_high". `result["overlap"].sel(k=10)` is a table for
        `groups.mantel`, `groups.family_test`, `groups.outliers` and `figures.model_matrix`.

    Raises
    ------
    InputError
        As for `overlap` and `summary`, or if there are fewer than two models.

    Notes
    -----
    How the table misleads: its pairs are not independent, since each model is in many of them; tests that respect this
    are in `groups`. Intervals are over queries and hold the models fixed.

    Examples
    --------
    >>> lists = {"a": {1: [4, 8], 2: [5, 3]}, "b": {1: [8, 4], 2: [5, 6]}, "c": {1: [7, 6], 2: [1, 2]}}
    >>> pairwise(lists, k=2)["overlap"].sel(k=2).values.tolist()
    [[1.0, 0.75, 0.0], [0.75, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    import xarray as xr

    if not isinstance(lists, Mapping) or len(lists) < 2:
        raise InputError(f"Expected a mapping model -> lists with at least two models, got {lists!r:.60}.")
    read = {name: read_lists(of, name) for name, of in lists.items()}
    longest = max(int(of.lengths.max()) for of in read.values())
    models, names, cut = list(read), measure_names(measures), read_k(k, longest)
    read, depths = {name: of.down_to(int(cut.max())) for name, of in read.items()}, cut.tolist()
    values = {f"{name}{end}": np.ones((len(models), len(models), len(depths))) for name in names for end in ENDS}
    for j, b in enumerate(models):
        for i, a in enumerate(models[:j]):
            first, second = aligned_pair(read[a], read[b], (a, b), queries)
            scores = agreement_of(first, second, cut, names, p)
            table = summary(
                xr.Dataset({name: (("query", "k"), each) for name, each in scores.items()}, {"k": cut}), level
            )
            for name in names:
                for end, column in ENDS.items():
                    values[name + end][i, j] = values[name + end][j, i] = table.loc[name][column].loc[depths]
    about = {"direction": "similarity", "lower_bound": 0.0, "upper_bound": 1.0}
    titles = {f"{name}{end}": TITLES[name] for name in names for end in ENDS}
    dims = ("model_a", "model_b", "k")
    return xr.Dataset(
        {name: (dims, each, about | {"long_name": titles[name]}) for name, each in values.items()},
        coords={"model_a": models, "model_b": models, "k": depths},
        attrs={"p": p, "level": level},
    )
