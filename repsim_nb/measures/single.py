"""Statistics of one representation (n, d): how many dimensions it uses, and how its rows are spread."""

from typing import Any

import numpy as np
import torch

from repsim_nb.errors import InputError
from repsim_nb.measures.arrays import as_matrix
from repsim_nb.measures.features import Features, row_norms
from repsim_nb.measures.neighbours import nearest


def _spectrum(x: Any, statistic: str) -> torch.Tensor:
    return Features(as_matrix(x, "x"), "x").varied(statistic).svd[1]


def effective_rank(x: Any) -> float:
    """Effective rank of x: exp of the entropy of its normalised singular values.

    Parameters
    ----------
    x
        (n, d), a tensor or array of finite numbers.

    Returns
    -------
    float
        From 1 to min(n - 1, d).

    Raises
    ------
    InputError
        x is no matrix of finite numbers, or has no variance.

    Notes
    -----
    x is centred first. How the number misleads: it cannot exceed n - 1, so with few rows it grows with n rather than
    saying anything about the data. Singular values enter as they are, not squared, so many directions of little
    variance (noise) raise it more than they raise `participation_ratio`; some authors normalise squared singular values
    instead.

    References
    ----------
    .. [1] Roy and Vetterli (2007). The effective rank: a measure of effective dimensionality. EUSIPCO.

    Examples
    --------
    >>> round(effective_rank([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), 6)
    2.0
    """
    return effective_count(_spectrum(x, "effective_rank"))


def effective_count(values: torch.Tensor) -> float:
    """Exp of the entropy of `values` (none negative, not all 0) as shares of their sum: as many equal values give it.

    >>> round(effective_count(torch.tensor([2.0, 2.0, 2.0, 0.0])), 6)
    3.0
    """
    return torch.special.entr(values / values.sum()).sum().exp().item()


def participation_ratio(x: Any) -> float:
    """Participation ratio of x: how many directions its variance is spread over.

    Parameters
    ----------
    x
        (n, d), a tensor or array of finite numbers.

    Returns
    -------
    float
        From 1 to min(n - 1, d).

    Raises
    ------
    InputError
        x is no matrix of finite numbers, or has no variance.

    Notes
    -----
        (sum_i l_i)^2 / sum_i l_i^2,   l_i the eigenvalues of the covariance of x

    How the number misleads: one massive feature brings it close to 1, however rich the other directions are. With few
    rows it is too low, as it cannot exceed n - 1.

    References
    ----------
    .. [1] Gao, Trautmann, Yu et al. (2017). A theory of multineuronal dimensionality, dynamics and measurement.
       bioRxiv.

    Examples
    --------
    >>> round(participation_ratio([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), 6)
    2.0
    """
    eigenvalues = _spectrum(x, "participation_ratio").square()
    return (eigenvalues.sum() ** 2 / eigenvalues.square().sum()).item()


def anisotropy(x: Any) -> float:
    """Mean cosine of two different rows of x, which is not centred.

    Parameters
    ----------
    x
        (n, d), a tensor or array of finite numbers.

    Returns
    -------
    float
        From -1 / (n - 1) to 1; about 0 if rows point everywhere.

    Raises
    ------
    InputError
        x is no matrix of finite numbers, has fewer than 2 rows, or has a row of zeros.

    Notes
    -----
    How the number misleads: a mean far from 0, or one massive feature of constant sign, brings it close to 1, although
    the rows may differ in all other directions.

    References
    ----------
    .. [1] Ethayarajh (2019). How contextual are contextualized word representations? EMNLP.

    Examples
    --------
    >>> round(anisotropy([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), 6)
    0.471405
    """
    matrix = as_matrix(x, "x")
    n = len(matrix)
    if n < 2:
        raise InputError("anisotropy needs at least 2 rows, x has 1. Give more rows.")
    rows = Features(matrix, "x", centred=False).rows(dtype=torch.float64)
    total = (rows / row_norms(rows, "anisotropy", "x")[:, None]).sum(0).square().sum().item()
    return (total - n) / (n * (n - 1))


def intrinsic_dimension(x: Any, discard: float = 0.1) -> float:
    """Two-NN estimate of the dimension of the manifold that the rows of x lie on.

    Parameters
    ----------
    x
        (n, d), a tensor or array of finite numbers.
    discard
        Share of the rows, those with the largest ratios, to leave out; at least 0 and below 1.

    Returns
    -------
    float
        Greater than 0; not bounded by d.

    Raises
    ------
    InputError
        x is no matrix of finite numbers, has fewer than 10 different rows, or every row is as far from its second
        neighbour as from its first; `discard` out of range.

    Notes
    -----
    The ratio m of the distances to the second and to the first neighbour has P(m > u) = u^-dimension where density is
    locally constant. The slope of -log(1 - rank / n) on log m through 0 estimates the dimension. Rows equal to an
    earlier one are dropped, since their ratio is undefined.

    How the number misleads: it is the dimension at the scale of nearest neighbours, which shrinks as n grows, and noise
    at that scale raises it. Above about 20 dimensions it is too low for any realistic n: 500 rows of 50 independent
    normal features give 29.

    References
    ----------
    .. [1] Facco, d'Errico, Rodriguez and Laio (2017). Estimating the intrinsic dimension of datasets by a minimal
       neighborhood information. Scientific Reports 7.

    Examples
    --------
    >>> grid = [[float(i), float(i) ** 2 / 50] for i in range(50)]
    >>> 0.5 < intrinsic_dimension(np.sqrt(np.abs(np.sin(np.array(grid) * 12.9898)))) < 2.5
    True
    """
    matrix = torch.unique(as_matrix(x, "x"), dim=0)
    n = len(matrix)
    if n < 10 or not 0 <= discard < 1:
        raise InputError(f"intrinsic_dimension needs 10 different rows and 0 <= discard < 1, got {n} and {discard}.")
    rows = Features(matrix, "x").rows(dtype=torch.float64)
    first, second = ((rows - rows[near]).norm(dim=1) for near in nearest(rows, 2).indices.T)
    ratio = (second / first).clamp_(min=1).numpy(force=True)
    log_ratio = np.sort(np.log(ratio))[: int(n * (1 - discard))]
    if not log_ratio.any():
        raise InputError(
            "intrinsic_dimension is undefined: every row is as far from its second neighbour as from its first."
        )
    probability = -np.log1p(-np.arange(1, len(log_ratio) + 1) / (n + 1))
    return float(log_ratio @ probability / (log_ratio @ log_ratio))
