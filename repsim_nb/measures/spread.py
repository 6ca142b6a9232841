"""Differences between single numbers that describe how the rows of a representation are spread."""

import math

import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.features import BUFFERS, Features, block_bytes, distance_blocks, row_norms
from repsim_nb.measures.registry import EUCLIDEAN, Measure, register


class _Difference(Measure):
    """|statistic of x - statistic of y|; 0 does not mean that x and y are similar in any other way."""

    direction = "dissimilarity"
    bounds = (0.0, math.inf)
    min_rows = 1
    reference = "Wang & Isola 2020; Klabunde et al. 2023"
    cost = "n d"

    def _score(self, p: float, q: float) -> float:
        return abs(p - q)


@register
class MagnitudeDifference(_Difference):
    """Difference between the norms of the mean rows of x and y.

    Notes
    -----
        | |mean x| - |mean y| |

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A dissimilarity in [0, inf), in the units of
    the data.

    How the number misleads: 0 says only that two means are equally long. They may point anywhere, and rows need not
    correspond. One massive feature often makes up most of the norm.

    References
    ----------
    .. [1] Klabunde, Schumacher, Strohmaier and Lemmerich (2023). Similarity of neural network models: a survey of
       functional and representational measures. arXiv.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> get_measure("magnitude_difference")([[3.0, 4.0]], [[2.0]])
    3.0
    """

    name = "magnitude_difference"
    title = "Difference in magnitude of the mean"
    invariances_x = invariances_y = frozenset({"permutation", "orthogonal"})

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 8 * n * max(widths)

    def _prepare(self, x: Tensor, side: str) -> float:
        features = Features(x, side, centred=False)
        return features.rows(dtype=torch.float64).mean(0).norm().item() * features.unit


@register
class ConcentricityDifference(_Difference):
    """Difference in how closely the rows of x and y point along their mean.

    Raises
    ------
    InputError
        A row of zeros; a mean that is 0 to rounding, as of centred data, which points nowhere (public code then returns
        rounding noise).

    Notes
    -----
        | mean_i cos(x_i, mean x) - mean_i cos(y_i, mean y) |

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A dissimilarity in [0, 2].

    How the number misleads: 0 says only that both lie equally closely about a mean; rows need not correspond, and
    shuffled rows give 0. One massive feature of constant sign brings both averages near 1 and the difference near 0.

    References
    ----------
    .. [1] Klabunde, Schumacher, Strohmaier and Lemmerich (2023). Similarity of neural network models: a survey of
       functional and representational measures. arXiv.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> round(get_measure("concentricity_difference")([[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]]), 6)
    0.292893
    """

    name = "concentricity_difference"
    title = "Difference in concentricity"
    bounds = (0.0, 2.0)
    invariances_x = invariances_y = frozenset({"permutation", "orthogonal", "scale"})

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 16 * n * max(widths)

    def _prepare(self, x: Tensor, side: str) -> float:
        rows = Features(x, side, centred=False).rows(dtype=torch.float64)
        norms, mean = row_norms(rows, self.name, side), rows.mean(0)
        if (mean.abs() <= 8 * torch.finfo(x.dtype).eps * rows.abs().mean(0) * math.sqrt(x.shape[1])).all():
            raise InputError(f"concentricity_difference is undefined: the mean row of {side} is 0. Do not centre it.")
        return (rows @ mean / (norms * mean.norm())).mean().item()


@register
class UniformityDifference(_Difference):
    """Difference in how uniformly the rows of x and y are spread.

    Notes
    -----
        | U(x) - U(y) |,   U = log mean_ij exp(-2 |x_i - x_j|^2), pairs i = j included

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A dissimilarity in [0, log n].

    How the number misleads: it is made for rows of about unit norm. Where all distances are well above 1, as in most
    residual streams, U = -log n for any data and the difference is 0. Rows need not correspond: shuffled rows give 0.

    References
    ----------
    .. [1] Wang and Isola (2020). Understanding contrastive representation learning through alignment and uniformity on
       the hypersphere. ICML. Equation 2.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> round(get_measure("uniformity_difference")([[0.0], [9.0]], [[0.0], [0.0]]), 6)
    0.693147
    """

    name = "uniformity_difference"
    title = "Difference in uniformity"
    cost = "n^2 d"
    invariances_x = invariances_y = EUCLIDEAN

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 8 * n * max(widths) + 2 * block_bytes(n) + BUFFERS // 2

    def _prepare(self, x: Tensor, side: str) -> float:
        features = Features(x, side)
        total: float = features.n**2
        if features.varies:
            total = features.n
            for _, block in distance_blocks(features.rows(dtype=torch.float64)):
                block.sqrt_().mul_(features.unit).square_().mul_(-2).exp_()
                total += 2 * block.triu_(1).sum().item()
        return math.log(total / features.n**2)
