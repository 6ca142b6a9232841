"""How well one representation predicts another, and how similar they are as predictors."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.constraints import Between
from repsim_nb.measures.features import Features, Spectrum
from repsim_nb.measures.linear import Linear
from repsim_nb.measures.registry import AFFINE, SIMILAR, Measure, register

PENALTIES = torch.logspace(-6, 3, 19, dtype=torch.float64)  # times the mean eigenvalue of y's covariance


@register
class LinearRegression(Linear):
    """R2 of x predicted linearly from y, in sample.

    Raises
    ------
    InputError
        No variance.

    Notes
    -----
        R2 = |Q_y'X|_F^2 / |X|_F^2,   Q_y an orthonormal basis of the centred columns of y

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [0, 1], not symmetric; 1 = x is
    a linear map of y.

    How the number misleads: it is fitted and evaluated on the same rows. Unrelated data gives about d_y / (n - 1), and
    1 when rows are not more than features of y (a DegenerateWarning); `ridge_predictivity` is the cross-validated
    version. A wider y always predicts more. The features of x count by their variance, so a few large directions of x
    decide the value.

    References
    ----------
    .. [1] Kornblith, Norouzi, Lee and Hinton (2019). Similarity of neural network representations revisited. ICML.
       Equation 7.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> get_measure("linear_regression")([[0.0], [1.0], [3.0]], [[0.0, 1.0], [1.0, 5.0], [3.0, 2.0]])
    1.0
    """

    name = "linear_regression"
    title = "Linear regression R² of x from y"
    direction = "similarity"
    bounds = (0.0, 1.0)
    symmetric = False
    cost = "n d^2"
    reference = "Kornblith et al. 2019"
    invariances_x, invariances_y = SIMILAR, AFFINE
    needs_rows = frozenset({"y"})

    def _compare(self, x: Spectrum, y: Spectrum, overlap: Tensor) -> float:
        share = (x.s / x.s.norm()).square()
        return (share @ overlap.square().sum(1)).item()


@register
class Gulp(Linear):
    """GULP distance of x and y: the largest difference between ridge predictions from x and from y.

    Parameters
    ----------
    regularization
        Ridge penalty, at least 0, in units of the total variance: eigenvalues of the covariance add up to 1.

    Raises
    ------
    InputError
        No variance.

    Notes
    -----
        d^2 = tr(P_x^2) + tr(P_y^2) - 2 tr(P_x P_y),   P = U diag(l_i / (l_i + regularization)) U'

    U are the left singular vectors of the centred matrix, scaled to Frobenius norm sqrt(n), and l_i the eigenvalues of
    its covariance. x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A metric in [0, inf); 0 = the
    same up to rotation, isotropic scale and shift, or with regularization=0 up to invertible linear maps.

    How the number misleads: the regularization decides which directions count, roughly those that hold more than that
    share of the variance; the order of two pairs of models can change with it. The distance grows with the number of
    such directions, so values for layers of different width or rank do not compare. With regularization=0 it is 0 for
    any data when rows are not more than features (a DegenerateWarning).

    Public code returns d^2, which is not a metric.

    References
    ----------
    .. [1] Boix-Adsera, Lawrence, Stepaniants and Rigollet (2022). GULP: a prediction-based metric between
       representations. NeurIPS. Proposition 2.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x, y = [[0.0], [1.0], [2.0], [4.0]], [[1.0], [0.0], [3.0], [4.0]]
    >>> round(get_measure("gulp", regularization=0)(x, y), 6)
    0.7329
    """

    name = "gulp"
    title = "GULP distance"
    direction = "dissimilarity"
    bounds = (0.0, math.inf)
    metric = True
    cost = "n d^2"
    reference = "Boix-Adsera et al. 2022"
    needs_rows = frozenset({"x", "y"})

    regularization: Annotated[float, Between(0)] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self.invariances_x = self.invariances_y = SIMILAR if self.regularization else AFFINE

    def _compare(self, x: Spectrum, y: Spectrum, overlap: Tensor) -> float:
        weights_x, weights_y = (self._shrinkage(side.s) for side in (x, y))
        common = weights_x @ overlap.square() @ weights_y
        return math.sqrt(max(0.0, (weights_x.square().sum() + weights_y.square().sum() - 2 * common).item()))

    def _shrinkage(self, s: Tensor) -> Tensor:
        eigenvalues = (s / s.norm()).square()
        return eigenvalues / (eigenvalues + self.regularization)


class Folded:
    """Rows of one representation in folds, with the second moments that ridge regression on them needs."""

    def __init__(self, features: Features, folds: list[np.ndarray]) -> None:
        rows = features.rows(dtype=torch.float64)
        self.parts = [rows[torch.from_numpy(fold)] for fold in folds]
        self.counts = [len(fold) for fold in folds]
        self.sums = torch.stack([part.sum(0) for part in self.parts])
        self.squares = [part.square().sum().item() for part in self.parts]
        self._spectra: dict[frozenset[int], tuple[Tensor, Tensor]] = {}

    def training(self, left_out: frozenset[int]) -> list[int]:
        """The folds that remain."""
        return [f for f in range(len(self.parts)) if f not in left_out]

    def mean(self, left_out: frozenset[int]) -> Tensor:
        """Mean over the remaining folds."""
        kept = self.training(left_out)
        return self.sums[kept].sum(0) / sum(self.counts[f] for f in kept)

    @cached_property
    def moments(self) -> list[Tensor]:
        """Y_f'Y_f of every fold."""
        return [part.T @ part for part in self.parts]

    def spectrum(self, left_out: frozenset[int]) -> tuple[Tensor, Tensor]:
        """Eigenvalues and eigenvectors of the centred second moment of the remaining folds."""
        if left_out not in self._spectra:
            kept = self.training(left_out)
            total = torch.stack([self.moments[f] for f in kept]).sum(0)
            mean = self.mean(left_out)
            total -= sum(self.counts[f] for f in kept) * torch.outer(mean, mean)
            values, vectors = torch.linalg.eigh(total)
            self._spectra[left_out] = values.clamp(min=0), vectors
        return self._spectra[left_out]


@register
class RidgePredictivity(Measure):
    """Cross-validated R2 of x predicted from y by ridge regression.

    Parameters
    ----------
    folds
        Number of folds, at least 3.
    groups
        One label per row, such as the document; rows with the same label stay in one fold. None: folds are contiguous
        blocks of rows.

    Raises
    ------
    InputError
        No variance; fewer groups than folds; fewer than two rows per fold.

    Notes
    -----
        R2 = 1 - sum_f |X_f - prediction_f|^2 / sum_f |X_f - training mean|^2,   f the folds

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in (-inf, 1], not symmetric; 0 =
    no better than the mean, 1 = perfect. The penalty is chosen from 19 values (1e-6 to 1e3 times the mean eigenvalue of
    y's covariance) inside the training folds, each of which validates once.

    How the number misleads: without `groups`, a document that straddles two folds is in training and test at once,
    which raises the value. It asks only what y holds of x: a y that contains x and much else gets 1, so compare both
    directions. A wider y predicts more, and the largest directions of x count most.

    References
    ----------
    .. [1] Schrimpf et al. (2018). Brain-Score: which artificial neural network for object recognition is most
       brain-like? bioRxiv. There with Pearson r on partial least squares.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x = [[float(i)] for i in range(20)]
    >>> y = [[float(i), float(i % 3)] for i in range(20)]
    >>> round(get_measure("ridge_predictivity")(x, y), 6)
    1.0
    """

    name = "ridge_predictivity"
    title = "Ridge predictivity: cross-validated R² of x from y"
    direction = "similarity"
    bounds = (-math.inf, 1.0)
    symmetric = False
    cost = "n d^2 + 25 d^3"
    reference = "Schrimpf et al. 2018"
    invariances_x = invariances_y = SIMILAR

    folds: Annotated[int, Between(3)] = 5
    groups: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.min_rows = 2 * self.folds

    def _kept_bytes(self, n: int, d: int) -> int:
        return 8 * n * d

    def memory(self, n: int, widths_x: Sequence[int], widths_y: Sequence[int] | None = None) -> int:
        """As `Measure.memory`; only the predicting side keeps its moments and their eigenvectors."""
        kept = 2 * self.folds + self.folds * (self.folds - 1) // 2
        return super().memory(n, widths_x, widths_y) + 8 * kept * sum(d * d for d in widths_y or widths_x)

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 8 * n * max(widths) + 8 * (self.folds + 8) * max(widths) ** 2

    def _prepare(self, x: Tensor, side: str) -> Folded:
        return Folded(Features(x, side).varied(self.name), self._folds(len(x)))

    def _folds(self, n: int) -> list[np.ndarray]:
        if self.groups is None:
            return np.array_split(np.arange(n), self.folds)
        values, codes = np.unique(np.asarray(self.groups), return_inverse=True)
        if codes.shape != (n,) or len(values) < self.folds:
            raise InputError(
                f"ridge_predictivity: groups has shape {codes.shape} and names {len(values)} groups; expected one "
                f"label for each of the {n} rows and at least {self.folds} groups (folds={self.folds})."
            )
        return [np.flatnonzero(np.isin(codes, part)) for part in np.array_split(np.arange(len(values)), self.folds)]

    def _score(self, p: Folded, q: Folded) -> float:
        cross = [b.T @ a for a, b in zip(p.parts, q.parts, strict=True)]  # Y_f'X_f
        error = total = 0.0
        for fold in range(self.folds):
            outer = frozenset({fold})
            inner = sum(_errors(p, q, cross, outer | {f}, f)[0] for f in p.training(outer))
            errors, baseline = _errors(p, q, cross, outer, fold)
            error += errors[int(torch.as_tensor(inner).argmin())].item()
            total += baseline
        return 1 - error / total


def _errors(p: Folded, q: Folded, cross: list[Tensor], left_out: frozenset[int], fold: int) -> tuple[Tensor, float]:
    """Squared errors on `fold` of ridge trained without `left_out`, for every penalty, and of the training mean.

    In the eigenbasis of y's training moment a penalty changes only a diagonal, so all cost little more than one.
    """
    kept = p.training(left_out)
    n, n_fold = sum(p.counts[f] for f in kept), p.counts[fold]
    mean_x, mean_y = p.mean(left_out), q.mean(left_out)
    values, vectors = q.spectrum(left_out)
    trained = vectors.T @ (torch.stack([cross[f] for f in kept]).sum(0) - n * torch.outer(mean_y, mean_x))

    # second moments of the fold about the training means
    sum_x, sum_y = p.sums[fold], q.sums[fold]
    baseline = (p.squares[fold] - 2 * mean_x @ sum_x + n_fold * mean_x @ mean_x).item()
    yx = cross[fold] - torch.outer(mean_y, sum_x) - torch.outer(sum_y, mean_x) + n_fold * torch.outer(mean_y, mean_x)
    shift = torch.outer(mean_y, sum_y - n_fold * mean_y / 2)
    yy = q.moments[fold] - shift - shift.T

    unit = values.mean().clamp(min=torch.finfo(torch.float64).tiny)
    shrunk = 1 / (values + PENALTIES.to(values.device)[:, None] * unit)  # (penalties, d_y)
    linear = shrunk @ (trained * (vectors.T @ yx)).sum(1)
    quadratic = ((shrunk @ ((vectors.T @ yy @ vectors) * (trained @ trained.T))) * shrunk).sum(1)
    return baseline - 2 * linear + quadratic, baseline
