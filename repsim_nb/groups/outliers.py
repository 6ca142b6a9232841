"""Which models are farther from all others than the rest are from each other?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.groups.model_tables import read_distances
from repsim_nb.groups.permutations import FEWEST, ROUNDING

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

NORMAL = 1.4826  # standard deviation of a normal distribution in units of its median absolute deviation
FEWEST_MODELS = 5


def outliers(
    dissimilarity: pd.DataFrame | xr.DataArray,
    models: Iterable[Any] | None = None,
    n_draws: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank models by how far they are from all others, with a test for outliers.

    Parameters
    ----------
    dissimilarity
        Model x model table as for `mantel`. A similarity, said by attrs["direction"] or by its diagonal, is turned.
    models
        Models to use, at least five; None uses all of the table.
    n_draws
        Number of populations without outliers that are drawn for the p-values.
    seed
        Seed for these.

    Returns
    -------
    pandas.DataFrame
        Indexed by model, the farthest first. Columns: mean, of the model's values against all others, in the table's
        own units and direction; z, how much farther that is than the median model, in robust standard deviations
        (1.4826 times the median absolute deviation); p_value for each model by itself, one-sided; and p_adjusted,
        family-wise over models, by the largest z.

    Raises
    ------
    InputError
        As for `mantel`, if the direction of the table is not known, there are fewer than five models, or fewer than 19
        draws.

    Notes
    -----
    The null is that the models' means are exchangeable and normal, whatever their correlation (each pair of models is
    in both their means): z has the same distribution as among independent normal numbers, from which it is drawn. No
    permutation of models can tell, because some model is always the farthest. Median and median absolute deviation are
    not moved by a few outliers, which therefore do not hide each other. If more than half of the models have one mean,
    z is infinite for those above it.

    How the number misleads: an outlier is far from *these* models. In a population of one large family and single
    others, every single one is an outlier; and a family as large as half the population hides that it is one.

    References
    ----------
    Iglewicz and Hoaglin 1993, "How to detect and handle outliers"; Klabunde et al. 2023, "Towards measuring
    representational similarity of large language models", arXiv 2312.02730, whose outlier is StableLM-alpha.

    Examples
    --------
    >>> import pandas as pd
    >>> points = np.random.default_rng(0).normal(size=(8, 20))
    >>> points[7] += 4  # far from all others
    >>> distance = np.linalg.norm(points[:, None] - points, axis=-1)
    >>> table = outliers(pd.DataFrame(distance, list("abcdefgh"), list("abcdefgh")))
    >>> table.index[0], bool(table.p_adjusted.iloc[0] < 0.01), bool(table.p_adjusted.iloc[1] > 0.05)
    ('h', True, True)
    """
    import pandas as pd

    if n_draws < FEWEST:
        raise InputError(f"{n_draws} draws cannot give a p-value of 0.05; use at least {FEWEST}.")
    chosen, values, sign = read_distances(dissimilarity, models, FEWEST_MODELS)
    means = values.sum(1) / (len(chosen) - 1)
    z = robust_z(means[None])[0]
    null = robust_z(np.random.default_rng(seed).standard_normal((n_draws, len(chosen))))
    p_value, p_adjusted = _share_above(null.ravel(), z, n_draws), _share_above(null.max(1), z, n_draws)
    table = pd.DataFrame(
        {"mean": sign * means, "z": z, "p_value": p_value, "p_adjusted": p_adjusted},
        index=pd.Index(chosen, name="model"),
    )
    return table.sort_values("z", ascending=False, kind="stable")


def robust_z(means: np.ndarray) -> np.ndarray:
    """Distance from the median, (draws, models), in robust standard deviations; 0 if equal up to rounding."""
    above = means - np.median(means, axis=1, keepdims=True)
    above[np.abs(above) <= ROUNDING * np.abs(means).max(1, keepdims=True)] = 0
    spread = NORMAL * np.median(np.abs(above), axis=1, keepdims=True)
    infinite = np.where(above == 0, 0, np.copysign(np.inf, above))
    return np.divide(above, spread, out=infinite, where=spread > 0)


def _share_above(null: np.ndarray, z: np.ndarray, n_draws: int) -> np.ndarray:
    """Share of null values that reach each z, with the observed draw counted."""
    reached = 1 - np.searchsorted(np.sort(null), z - ROUNDING, side="left") / len(null)
    return (reached * n_draws + 1) / (n_draws + 1)
