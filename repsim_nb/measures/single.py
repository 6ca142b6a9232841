"""Statistics of one representation (n, d): how many dimensions it uses, and how its rows point."""

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
    """exp of the entropy of the normalised singular values of centred x; from 1 to min(n - 1, d).

    Reference: Roy and Vetterli (2007). Some authors normalise squared singular values instead.

    >>> round(effective_rank([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), 6)
    2.0
    """
    s = _spectrum(x, "effective_rank")
    share = s / s.sum()
    return torch.exp(-(share * share.log()).sum()).item()


def participation_ratio(x: Any) -> float:
    """(sum l)^2 / sum l^2 of the eigenvalues l of the covariance of x; from 1 to min(n - 1, d).

    Reference: Gao et al. (2017).

    >>> round(participation_ratio([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), 6)
    2.0
    """
    eigenvalues = _spectrum(x, "participation_ratio").square()
    return (eigenvalues.sum() ** 2 / eigenvalues.square().sum()).item()


def anisotropy(x: Any) -> float:
    """Mean cosine of two different rows of x, not centred; from -1 / (n - 1) to 1, about 0 if rows point everywhere.

    Raises for a row of zeros or fewer than 2 rows.

    Reference: Ethayarajh (2019).

    >>> round(anisotropy([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), 6)
    0.471405
    """
    matrix = as_matrix(x, "x")
    n = len(matrix)
    if n < 2:
        raise InputError("anisotropy needs at least 2 rows, x has 1: give more rows.")
    rows = Features(matrix, "x", centred=False).rows(dtype=torch.float64)
    total = (rows / row_norms(rows, "anisotropy", "x")[:, None]).sum(0).square().sum().item()
    return (total - n) / (n * (n - 1))


def intrinsic_dimension(x: Any, discard: float = 0.1) -> float:
    """Two-NN estimate of the dimension of the manifold that the rows of x lie on.

    The ratio m of the distances to the second and first neighbour has P(m > u) = u^-dimension where density is locally
    constant; the slope of -log(1 - rank / n) on log m through 0, the `discard` largest ratios left out, estimates it.
    Rows equal to an earlier one are dropped: their ratio is undefined.

    Raises for fewer than 10 different rows, or where all ratios are 1.

    Reference: Facco et al. (2017).

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
            "intrinsic_dimension is undefined: every row is as far from its second neighbour as its first."
        )
    probability = -np.log1p(-np.arange(1, len(log_ratio) + 1) / (n + 1))
    return float(log_ratio @ probability / (log_ratio @ log_ratio))
