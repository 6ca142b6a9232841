"""One test of all measures and layers together: do two groups of models differ anywhere, or on the whole?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError, unknown
from repsim_nb.groups.clustering import agreement_scores
from repsim_nb.groups.dispersion import dispersion_scores
from repsim_nb.groups.pairs import read_groups
from repsim_nb.groups.permutations import ROUNDING, assignments
from repsim_nb.groups.separation import effect_scores

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

LEVEL = 0.05  # significance level of null_high
SCORES = {"location": effect_scores, "spread": dispersion_scores, "clusters": agreement_scores}


def joint_test(
    dissimilarities: Mapping[str, xr.DataArray],
    groups: Mapping[str, str] | pd.Series,
    alternative: str = "location",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether two groups of models differ, once for all measures and layers.

    Parameters
    ----------
    dissimilarities
        Measure -> dissimilarities, layer x model x model, see `repsim_nb.groups`. Measures may have different layers.
    groups
        Model -> group, with two groups of at least two models each (three for "spread"). Other models are left out.
    alternative
        "location": models of different groups are less similar than models of one group, as in `group_test`.
        "spread": one group is more scattered than the other, whichever, as in `dispersion_test`. "clusters": two
        clusters made without labels (Ward) agree with the groups, as in `grouping`.
    n_permutations
        Number of permutations of the group labels; all of them are used if there are no more than this.
    seed
        Seed for the permutations.

    Returns
    -------
    pandas.DataFrame
        Indexed by statistic: "maximum" and "mean" over all measures and layers. Columns: value; null_high, its 95%
        quantile under permuted labels; p_value, one-sided; least_p, the smallest p-value that these permutations can
        give; and cells, the number of measures times layers. attrs["where"] is the measure and the layer of the
        maximum. If nothing varies the value is 0 and p is 1.

    Raises
    ------
    InputError
        As for `group_test` and `dispersion_test`, if there is no measure, or the alternative is unknown.

    Notes
    -----
    Measures that look at the same models agree, so that ten significant measures are not ten pieces of evidence. Here
    every permutation relabels the models for all measures and layers at once, which keeps their correlations, and the
    observed labels count among the permutations: each p-value is valid by itself, whatever the measures and however
    many. A cell's score is its effect or adjusted Rand index, standardised by mean and standard deviation over the
    permutations, or |t| for "spread". The maximum finds a difference in few cells, the mean one that all share. Decide
    beforehand which one counts: the smaller of both p-values is not a p-value.

    The rows on which dissimilarities were computed are not permuted: with other rows the p-value is another one.

    Examples
    --------
    >>> import xarray as xr
    >>> place = np.array([0.0, 0.2, 0.5, 5.0, 5.1, 5.4])
    >>> coords = {"layer": [0], "model_a": list("abcdef"), "model_b": list("abcdef")}
    >>> distance = xr.DataArray(np.abs(np.subtract.outer(place, place))[None], coords, ("layer", "model_a", "model_b"))
    >>> table = joint_test({"distance": distance, "square": distance**2}, dict(zip("abcdef", "xxxyyy")))
    >>> table[["p_value", "least_p", "cells"]].to_dict("index")
    {'maximum': {'p_value': 0.1, 'least_p': 0.1, 'cells': 2}, 'mean': {'p_value': 0.1, 'least_p': 0.1, 'cells': 2}}

    References
    ----------
    Westfall and Young 1993, "Resampling-based multiple testing"; Pesarin 2001, "Multivariate permutation tests", on
    combining dependent tests.
    """
    import pandas as pd

    if not dissimilarities:
        raise InputError("There is no measure to test; expected the dissimilarities of at least one.")
    if alternative not in SCORES:
        raise unknown("alternative", alternative, SCORES)
    read = {
        name: read_groups(d, groups, least=3 if alternative == "spread" else 2) for name, d in dissimilarities.items()
    }
    first = next(iter(read.values()))[1].first
    ways = assignments(first, n_permutations, np.random.default_rng(seed))
    scores = np.hstack([SCORES[alternative](pairs.values, ways) for pairs, _ in read.values()])
    cells = [(name, layer) for name, (pairs, _) in read.items() for layer in pairs.layers]
    varied = ~np.isneginf(scores).all(0)
    scores = scores[:, varied] if varied.any() else np.zeros((len(ways), 1))
    both = np.column_stack([scores.max(1), scores.mean(1)])
    table = pd.DataFrame(
        {
            "value": both[0],
            "null_high": np.quantile(both, 1 - LEVEL, axis=0, method="higher"),
            "p_value": (both >= both[0] - ROUNDING).mean(0),
            "least_p": (both >= both.max(0) - ROUNDING).mean(0),
            "cells": int(varied.sum()),
        },
        index=pd.Index(["maximum", "mean"], name="statistic"),
    )
    table.attrs["where"] = cells[np.flatnonzero(varied)[scores[0].argmax()]] if varied.any() else None
    return table
