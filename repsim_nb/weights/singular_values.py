"""The singular values of one matrix, and the numbers that describe them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.arrays import as_matrix
from repsim_nb.measures.single import effective_count

PRECISE = torch.finfo(torch.float64).eps


def spectrum_of(matrix: Any, dimension: int | None = None) -> dict[str, float]:
    """Ranks, norms and inequality of the singular values of one matrix, which is not centred.

    Parameters
    ----------
    matrix
        (rows, columns), a tensor or array of finite numbers.
    dimension
        Number of singular values that there can be. None is min(rows, columns). For a product through a narrower space,
        such as W_O W_V of one head, it is the width of that space.

    Returns
    -------
    dict
        With s the `dimension` singular values, largest first:

        - effective_rank: exp of the entropy of s / sum(s), from 1 to `dimension`.
        - proportional_effective_rank: effective_rank / `dimension`, at most 1.
        - stable_rank: squared Frobenius norm over squared spectral norm, from 1 to `dimension`.
        - condition_number: s[0] / s[-1]; infinite if s[-1] is not larger than rounding.
        - frobenius_norm, spectral_norm: the square root of sum(s**2), and s[0].
        - gini: Gini coefficient of s, 0 if all are equal, (dimension - 1) / dimension if all but one are 0.

    Raises
    ------
    InputError
        If the matrix has anything but finite numbers or is all 0, so that its ranks are undefined; if it has singular
        values beyond the first `dimension`, which would be left out.

    Notes
    -----
    How the number misleads: all but the norms ignore the scale of the matrix. A matrix of independent normal entries
    has a proportional effective rank of only 0.81 if it is square, and of 0.97 if it is four times as long as wide, so
    compare with a matrix of the same shape, such as the same one at initialisation. Singular values enter the effective
    rank as they are, not squared.

    References
    ----------
    .. [1] Roy and Vetterli (2007). The effective rank: a measure of effective dimensionality. EUSIPCO.
    .. [2] Diehl Martinez, Lesci and Buttery (2024). Tending towards stability: convergence challenges in small language
       models. Findings of EMNLP. (The proportional effective rank.)
    .. [3] Rudelson and Vershynin (2007). Sampling from large matrices: an approach through geometric functional
       analysis. Journal of the ACM 54. (The stable rank.)

    Examples
    --------
    >>> numbers = spectrum_of([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> {name: round(value, 3) for name, value in numbers.items()}  # doctest: +NORMALIZE_WHITESPACE
    {'effective_rank': 1.755, 'proportional_effective_rank': 0.877, 'stable_rank': 1.111, 'condition_number': 3.0,
     'frobenius_norm': 3.162, 'spectral_norm': 3.0, 'gini': 0.25}
    """
    x = as_matrix(matrix, "matrix")
    s = singular_values(x.double())
    if dimension is not None:
        s = _first(s, dimension, x)
    if not s[0] > 0:
        raise InputError("The matrix is all 0, so its ranks are undefined. Leave it out.")
    return numbers(s, rounding(x.shape, PRECISE))


def singular_values(*factors: Tensor) -> Tensor:
    """Singular values of a matrix in float64, or of a product left @ right, largest first.

    As many as the shapes allow: min(rows, columns), and no more than the width that a product goes through, since the
    others are 0 but for rounding.
    """
    if len(factors) == 1:
        return torch.linalg.svdvals(factors[0])
    left, right = factors
    if left.shape[1] < min(len(left), right.shape[1]):  # the small core has the same singular values
        left, right = torch.linalg.qr(left).R, torch.linalg.qr(right.T).R.T
    return torch.linalg.svdvals(left @ right)


def rounding(shape: tuple[int, ...], precision: float) -> float:
    """Singular values below this share of the largest one may be rounding, as in numpy.linalg.matrix_rank."""
    return max(shape) * precision


def numbers(s: Tensor, least: float) -> dict[str, float]:
    """The numbers of `spectrum_of` from singular values, largest first, of which the first is not 0.

    A smallest one of at most `least` times the largest counts as 0 for the condition number.
    """
    n, largest = len(s), s[0].item()
    share = s / largest  # of numbers near 1, as squares of very small or large ones would be lost
    squares = share.square().sum().item()
    smallest = share[-1].item()
    rank = effective_count(share)
    ascending = torch.arange(1 - n, n, 2, dtype=s.dtype, device=s.device) @ share.flip(0)
    return {
        "effective_rank": rank,
        "proportional_effective_rank": rank / n,
        "stable_rank": squares,
        "condition_number": 1 / smallest if smallest > least else float("inf"),
        "frobenius_norm": largest * squares**0.5,
        "spectral_norm": largest,
        "gini": ascending.item() / (n * share.sum().item()),
    }


def _first(s: Tensor, dimension: int, x: Tensor) -> Tensor:
    if isinstance(dimension, bool) or not isinstance(dimension, int) or not 1 <= dimension <= len(s):
        raise InputError(f"dimension={dimension!r}; expected a whole number from 1 to min(rows, columns) = {len(s)}.")
    beyond = int((s[dimension:] > s[0] * rounding(x.shape, torch.finfo(x.dtype).eps)).sum())
    if beyond:
        raise InputError(
            f"dimension={dimension} would leave out {beyond} singular values of this matrix that are not 0, and its "
            "ranks would be those of another matrix. Leave dimension out."
        )
    return s[:dimension]
