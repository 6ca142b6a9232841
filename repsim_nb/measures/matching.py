"""Measures that match single features (units) of one representation to those of the other."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import identity, kron, vstack
from torch import Tensor

from repsim_nb.measures.features import BUFFERS, FEW_ROWS, Features
from repsim_nb.measures.registry import Measure, register

LARGEST_COPIES = 4  # up to how many times the wider side unequal widths are matched as copies


@register
class PermutationProcrustes(Measure):
    """Distance of x (n, d_x) and y (n, d_y) after the best permutation of features, not centred, not scaled.

        d = min_P |X P - Y|_F, the narrower padded with zeros

    A metric in [0, inf); 0 = the same up to the order of features.

    Errors: all values 0. Near 0 the square root keeps half of the digits.

    Reference: Williams et al. (2021); Li et al. (2016).

    >>> from repsim_nb.measures import get_measure
    >>> get_measure("permutation_procrustes")([[1.0, 0.0], [0.0, 2.0]], [[0.0, 1.0], [2.0, 1.0]])
    1.0
    """

    name = "permutation_procrustes"
    title = "Permutation Procrustes distance"
    direction = "dissimilarity"
    bounds = (0.0, math.inf)
    metric = True
    cost = "n d^2 + d^3"
    reference = "Williams et al. 2021"
    invariances_x = invariances_y = frozenset({"permutation"})

    def _prepare(self, x: Tensor, side: str) -> Features:
        return Features(x, side, centred=False).varied(self.name)

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 32 * min(n, FEW_ROWS) * max(widths) + 24 * max(widths) ** 2 + BUFFERS

    def _score(self, p: Features, q: Features) -> float:
        unit = max(p.unit, q.unit)
        products = sum(x.T @ y for x, y in _blocks(p, q, unit))
        rows, columns = linear_sum_assignment(torch.as_tensor(products).numpy(force=True), maximize=True)
        alone = [np.setdiff1d(np.arange(side.d), matched) for side, matched in ((p, rows), (q, columns))]
        total = 0.0
        for x, y in _blocks(p, q, unit):
            # Differences, not squares minus products: exact where the two are equal.
            total += x[:, rows].sub_(y[:, columns]).square_().sum().item()
            total += sum(side[:, left].square().sum().item() for side, left in zip((x, y), alone, strict=True))
        return unit * math.sqrt(total)


def _blocks(p: Features, q: Features, unit: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The same few rows of both in float64, in one unit."""
    for start in range(0, p.n, FEW_ROWS):
        x, y = (side.rows(start, start + FEW_ROWS, torch.float64).mul_(side.unit / unit) for side in (p, q))
        yield x, y


class _Matching(Measure):
    """What measures on the correlation r_ij of feature i of x with feature j of y share."""

    direction = "similarity"
    bounds = (-1.0, 1.0)
    reference = "Li et al. 2016"
    invariances_x = invariances_y = frozenset({"permutation", "scale", "shift"})

    def _kept_bytes(self, n: int, d: int) -> int:
        return 8 * n * d

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 24 * max(widths) ** 2

    def _prepare(self, x: Tensor, side: str) -> Tensor:
        """Standardised columns; a constant feature becomes 0 and correlates 0 with everything."""
        features = Features(x, side).varied(self.name)
        rows = features.rows(dtype=torch.float64)
        norms = rows.norm(dim=0)
        rounding = 8 * torch.finfo(x.dtype).eps * math.sqrt(len(x)) * features.mean.abs()
        rows /= norms.clamp(min=torch.finfo(torch.float64).tiny)
        rows[:, norms <= rounding] = 0
        return rows


@register
class HardMatching(_Matching):
    """Mean correlation of features of x (n, d_x) and y (n, d_y) matched one to one.

        max over matchings of mean r_ij over the min(d_x, d_y) matched pairs

    A similarity in [-1, 1]; 1 = the features of the narrower are among those of the wider. A constant feature
    correlates 0 with everything (public code gives NaN).

    Errors: no variance.

    Reference: Li et al. (2016).

    >>> from repsim_nb.measures import get_measure
    >>> get_measure("hard_matching")([[0.0, 1.0], [1.0, 1.0], [2.0, 4.0]], [[1.0, 0.0], [1.0, 1.0], [4.0, 2.0]])
    1.0
    """

    name = "hard_matching"
    title = "One-to-one matching of features"
    cost = "n d^2 + d^3"

    def _score(self, p: Tensor, q: Tensor) -> float:
        r = (p.T @ q).numpy(force=True)
        return float(r[linear_sum_assignment(r, maximize=True)].mean())


@register
class SoftMatching(_Matching):
    """Mean correlation of each feature of x (n, d_x) and y (n, d_y) with its best partner.

        (mean_i max_j r_ij + mean_j max_i r_ij) / 2

    A similarity in [-1, 1]; 1 = every feature has a perfectly correlated partner. Partners may be shared. A constant
    feature correlates 0 with everything.

    Errors: no variance.

    Reference: Li et al. (2016).

    >>> from repsim_nb.measures import get_measure
    >>> round(get_measure("soft_matching")([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], [[0.0], [1.0], [2.0]]), 6)
    1.0
    """

    name = "soft_matching"
    title = "Best-partner matching of features"
    cost = "n d^2"

    def _score(self, p: Tensor, q: Tensor) -> float:
        r = p.T @ q
        return ((r.amax(1).mean() + r.amax(0).mean()) / 2).item()


@register
class TransportMatching(_Matching):
    """Mean correlation of features of x (n, d_x) and y (n, d_y) under the best transport plan.

        max_T sum_ij T_ij r_ij,   T >= 0, rows of T sum to 1/d_x, columns to 1/d_y

    A similarity in [-1, 1]; equals hard_matching where d_x = d_y, and uses every feature of both where not. With
    standardised features the soft-matching distance is sqrt(2 - 2 s). A constant feature correlates 0 with everything.

    Errors: no variance.

    Reference: Khosla and Williams (2024), eq. 5.

    >>> from repsim_nb.measures import get_measure
    >>> round(get_measure("transport_matching")([[0.0, 3.0], [1.0, 3.0], [2.0, 3.0]], [[0.0], [1.0], [2.0]]), 6)
    0.5
    """

    name = "transport_matching"
    title = "Optimal-transport matching of features"
    cost = "n d^2 + d^3"
    reference = "Khosla & Williams 2024"

    def _score(self, p: Tensor, q: Tensor) -> float:
        return best_transport((p.T @ q).numpy(force=True))


def best_transport(r: np.ndarray) -> float:
    """max_T sum T_ij r_ij over plans with uniform marginals.

    Widths with a small common multiple are matched one to one as copies (an extreme plan is of that form, by
    Birkhoff's theorem), others by linear programming.
    """
    rows, columns = r.shape
    size = math.lcm(rows, columns)
    if size <= LARGEST_COPIES * max(rows, columns):
        copies = r.repeat(size // rows, axis=0).repeat(size // columns, axis=1)
        return float(copies[linear_sum_assignment(copies, maximize=True)].mean())
    sums = vstack([kron(identity(rows), np.ones((1, columns))), kron(np.ones((1, rows)), identity(columns))])
    marginals = np.concatenate([np.full(rows, 1 / rows), np.full(columns, 1 / columns)])
    solution = linprog(-r.ravel(), A_eq=sums, b_eq=marginals, method="highs")
    return float(-solution.fun)
