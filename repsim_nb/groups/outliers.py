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
    n_draws: int = 2000,
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
        Number of populations without outliers to draw for the p-values.
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
    No permutation of models can tell an outlier, because some model is always the farthest. The null is one Gaussian
    cloud of models with the principal axes of the table (classical scaling, whose negative axes count as 0), and the
    p-values are the shares of such clouds with a z as large. The axes matter: in few dimensions the farthest of
    ordinary models is much farther than the median one. An outlier has a part in the axes, which costs some power. In
    simulations of 8 to 18 models in 2 to 20 dimensions, p_adjusted <= 0.05 in 1% to 5% of populations without an
    outlier; of 11 models in 5 dimensions, one that is four times as far from the centre as others was found in 85%, in
    2 dimensions in 34%. The table is taken to hold distances, not their squares.

    Median and median absolute deviation are not moved by a few outliers, which therefore do not hide each other. If
    more than half of the models have one mean, z is infinite for those above it.

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
    chosen, given, distances = read_distances(dissimilarity, models, FEWEST_MODELS)
    z = robust_z(_means(distances[None]))[0]
    null = _null(distances, n_draws, np.random.default_rng(seed))
    p_value, p_adjusted = _share_above(null.ravel(), z, n_draws), _share_above(null.max(1), z, n_draws)
    np.fill_diagonal(given, 0)
    table = pd.DataFrame(
        {"mean": _means(given[None])[0], "z": z, "p_value": p_value, "p_adjusted": p_adjusted},
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


def _means(values: np.ndarray) -> np.ndarray:
    """Means against all other models, (draws, models), of values (draws, models, models) with zero diagonal."""
    return np.asarray(values.sum(2) / (values.shape[1] - 1))


def _null(distances: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Robust z of models drawn from a Gaussian cloud with the principal axes of the table, (draws, models)."""
    from scipy.spatial.distance import pdist, squareform

    n = len(distances)
    centring = np.eye(n) - 1 / n
    variances = np.linalg.eigvalsh(-centring @ np.clip(distances, 0, None) ** 2 @ centring / 2) / (n - 1)
    axes = np.sqrt(np.clip(variances, 0, None))
    clouds = (squareform(pdist(rng.standard_normal((n, n)) * axes)) for _ in range(n_draws))
    return np.vstack([robust_z(_means(cloud[None])) for cloud in clouds])


def _share_above(null: np.ndarray, z: np.ndarray, n_draws: int) -> np.ndarray:
    """Share of null values that reach each z, with the observed draw counted."""
    reached = 1 - np.searchsorted(np.sort(null), z - ROUNDING, side="left") / len(null)
    return (reached * n_draws + 1) / (n_draws + 1)
