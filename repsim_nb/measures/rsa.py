"""Measures between the n x n (dis)similarity matrices of the rows."""

import math
from typing import Literal

import numpy as np
import torch
from scipy.spatial.distance import squareform
from scipy.stats import kendalltau, rankdata
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.features import Features, row_norms, squared_distances
from repsim_nb.measures.registry import EUCLIDEAN, SIMILAR, Measure, register

Inner = Literal["correlation", "euclidean", "cosine"]


def upper_triangle(matrix: Tensor) -> np.ndarray:
    """Entries i < j of a symmetric matrix, as a vector."""
    return squareform(matrix.numpy(force=True), checks=False)


def _similarities(x: Tensor, inner: Inner, side: str) -> np.ndarray:
    """How alike every two rows of x are: Pearson r, cosine, or minus the euclidean distance."""
    if inner == "euclidean":
        return -np.sqrt(upper_triangle(squared_distances(Features(x, side).varied("rsa"))))
    rows = Features(x, side, centred=False).rows(dtype=torch.float64)
    if inner == "correlation":
        low, high = rows.aminmax(dim=1)
        if (low == high).any():
            first = int((low == high).nonzero()[0])
            raise InputError(
                f"rsa(inner='correlation') is undefined: row {first} of {side} has the same value in all its "
                f"{x.shape[1]} features. Use inner='euclidean' or 'cosine', or drop that row on both sides."
            )
        rows = rows - rows.mean(1, keepdim=True)
    rows = rows / row_norms(rows, "rsa", side)[:, None]
    return upper_triangle(rows @ rows.T)


@register
class RSA(Measure):
    """Representational similarity analysis of x (n, d_x) and y (n, d_y): do the same pairs of rows lie close?

        corr(S_x, S_y) over pairs i < j,   S_ij how alike rows i and j of one representation are

    A similarity in [-1, 1]; 1 = the same order (or proportion) of all pairs.

    inner: "correlation" (Pearson r of two rows), "euclidean" (distance) or "cosine". Whether S or 1 - S is used makes
        no difference, as it is the same on both sides.
    outer: "spearman", "pearson" or "kendall" (tau-b).

    Errors: a row with no variance (correlation) or of zeros (cosine); all pairs equally alike.

    Reference: Kriegeskorte et al. (2008).

    >>> from repsim_nb.measures import get_measure
    >>> x, y = [[0.0], [1.0], [3.0], [7.0]], [[0.0], [1.0], [2.0], [7.0]]
    >>> round(get_measure("rsa", inner="euclidean")(x, y), 6)
    0.985611
    """

    name = "rsa"
    title = "Representational similarity analysis (RSA)"
    direction = "similarity"
    bounds = (-1.0, 1.0)
    min_rows = 3
    cost = "n^2 d + n^2 log n"
    reference = "Kriegeskorte et al. 2008"

    inner: Inner = "correlation"
    outer: Literal["spearman", "pearson", "kendall"] = "spearman"

    def __post_init__(self) -> None:
        super().__post_init__()
        rotations = frozenset({"permutation", "orthogonal", "scale"})
        kept = {"correlation": rotations - {"orthogonal"}, "cosine": rotations, "euclidean": SIMILAR}[self.inner]
        self.invariances_x = self.invariances_y = kept

    def _prepare(self, x: Tensor, side: str) -> np.ndarray:
        values = _similarities(x, self.inner, side)
        if np.ptp(values) <= 1e-12 * np.abs(values).max():
            raise InputError(f"rsa is undefined: all pairs of rows of {side} are equally alike. Give more varied rows.")
        if self.outer == "kendall":
            return values
        if self.outer == "spearman":
            values = rankdata(values)
        values = values - values.mean()
        return values / np.linalg.norm(values)

    def _score(self, p: np.ndarray, q: np.ndarray) -> float:
        return float(kendalltau(p, q).statistic if self.outer == "kendall" else p @ q)


@register
class RSMNormDifference(Measure):
    """Difference between the euclidean distance matrices of x (n, d_x) and y (n, d_y).

        sqrt(sum_{i<j} (|x_i - x_j| - |y_i - y_j|)^2)

    A metric in [0, inf); 0 = the same up to rotation and shift. It grows with n and scale. Some public code takes the
    spectral norm of the difference matrix instead, by accident; this is the norm over the upper triangle.

    Reference: Yin and Shen (2018).

    >>> from repsim_nb.measures import get_measure
    >>> get_measure("rsm_norm_difference")([[0.0], [1.0]], [[0.0], [3.0]])
    2.0
    """

    name = "rsm_norm_difference"
    title = "Difference of distance matrices"
    direction = "dissimilarity"
    bounds = (0.0, math.inf)
    metric = True
    cost = "n^2 d"
    reference = "Yin & Shen 2018"
    invariances_x = invariances_y = EUCLIDEAN

    def _prepare(self, x: Tensor, side: str) -> np.ndarray:
        features = Features(x, side)
        if not features.varies:
            return np.zeros(len(x) * (len(x) - 1) // 2)
        return np.sqrt(upper_triangle(squared_distances(features))) * features.unit

    def _score(self, p: np.ndarray, q: np.ndarray) -> float:
        return math.dist(p, q)  # scales inside, so that squares do not overflow


@register
class DistanceCorrelation(Measure):
    """Distance correlation of x (n, d_x) and y (n, d_y).

        sqrt(<A, B> / (|A| |B|)),   A and B the doubly centred euclidean distance matrices

    A similarity in [0, 1]; 1 = the same up to rotation, isotropic scale and shift. This is the V-statistic: like biased
    CKA it is high for any data when rows are fewer than features, and warns.

    Errors: no variance.

    Reference: Szekely et al. (2007), definition 3.

    >>> from repsim_nb.measures import get_measure
    >>> x, y = [[0.0], [1.0], [3.0], [7.0]], [[0.0], [1.0], [2.0], [7.0]]
    >>> round(get_measure("distance_correlation")(x, y), 6)
    0.986042
    """

    name = "distance_correlation"
    title = "Distance correlation"
    direction = "similarity"
    bounds = (0.0, 1.0)
    cost = "n^2 d"
    reference = "Székely et al. 2007"
    invariances_x = invariances_y = SIMILAR
    needs_rows = frozenset({"x", "y"})

    def _prepare(self, x: Tensor, side: str) -> Tensor:
        distances = squared_distances(Features(x, side).varied(self.name)).sqrt_()
        means = distances.mean(0)
        centred = distances - means - means[:, None] + means.mean()
        return centred / centred.norm()

    def _score(self, p: Tensor, q: Tensor) -> float:
        return math.sqrt(max(0.0, p.flatten().dot(q.flatten()).item()))
