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

LARGEST_COPIES = 4  # unequal widths are matched as copies up to this many times the wider side


@register
class PermutationProcrustes(Measure):
    """Distance of x and y after the best permutation of features, not centred, not scaled.

    Raises
    ------
    InputError
        All values are 0.

    Notes
    -----
        d = min_P |X P - Y|_F, the narrower padded with zeros

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A metric in [0, inf), in the units of the data;
    0 = the same up to the order of features.

    How the number misleads: a rotation of the features, which changes nothing that a linear readout could use, looks
    like a large difference. A different mean or scale counts as well, and the value grows with n. Features of the wider
    side without a partner add their whole norm. Near 0 the square root keeps only half of the digits.

    References
    ----------
    .. [1] Williams, Kunz, Kornblith and Linderman (2021). Generalized shape metrics on neural representations. NeurIPS.
    .. [2] Li, Yosinski, Clune, Lipson and Hopcroft (2016). Convergent learning: do different neural networks learn the
       same representations? ICLR.

    Examples
    --------
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
            # differences rather than squares minus products, so that equal features give exactly 0
            total += x[:, rows].sub_(y[:, columns]).square_().sum().item()
            total += sum(side[:, left].square().sum().item() for side, left in zip((x, y), alone, strict=True))
        return unit * math.sqrt(total)


def _blocks(p: Features, q: Features, unit: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of the same rows of both, in float64 and in one unit."""
    for start in range(0, p.n, FEW_ROWS):
        x, y = (side.rows(start, start + FEW_ROWS, torch.float64).mul_(side.unit / unit) for side in (p, q))
        yield x, y


class _Matching(Measure):
    """Base class of measures on the correlations r_ij of feature i of x with feature j of y."""

    direction = "similarity"
    bounds = (-1.0, 1.0)
    reference = "Li et al. 2016"
    invariances_x = invariances_y = frozenset({"permutation", "scale", "shift"})

    def _kept_bytes(self, n: int, d: int) -> int:
        return 8 * n * d

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 24 * max(widths) ** 2

    def _prepare(self, x: Tensor, side: str) -> Tensor:
        """Standardised columns; a constant feature becomes 0 and so correlates 0 with everything."""
        features = Features(x, side).varied(self.name)
        rows = features.rows(dtype=torch.float64)
        norms = rows.norm(dim=0)
        rounding = 8 * torch.finfo(x.dtype).eps * math.sqrt(len(x)) * features.mean.abs()
        rows /= norms.clamp(min=torch.finfo(torch.float64).tiny)
        rows[:, norms <= rounding] = 0
        return rows


@register
class HardMatching(_Matching):
    """Mean correlation of the features of x and y, matched one to one.

    Raises
    ------
    InputError
        No variance.

    Notes
    -----
        max over matchings of mean r_ij over the min(d_x, d_y) matched pairs

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [-1, 1]; 1 = the features of
    the narrower are among those of the wider. A constant feature correlates 0 with everything (public code gives NaN).

    How the number misleads: features are the unit of comparison, so rotating x makes the same information look
    different. The matching picks the best of many correlations: unrelated data gives more than 0, the more so the fewer
    rows and the more features there are. Features of the wider side without a partner do not count.

    References
    ----------
    .. [1] Li, Yosinski, Clune, Lipson and Hopcroft (2016). Convergent learning: do different neural networks learn the
       same representations? ICLR.

    Examples
    --------
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
    """Mean correlation of each feature of x and y with its best partner.

    Raises
    ------
    InputError
        No variance.

    Notes
    -----
        (mean_i max_j r_ij + mean_j max_i r_ij) / 2

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [-1, 1]; 1 = every feature has
    a perfectly correlated partner. A constant feature correlates 0 with everything.

    How the number misleads: partners may be shared, so a representation whose features all copy one feature of the
    other gets a high value. It is a mean of maxima: unrelated data gives more than 0, the more so the fewer rows and
    the more features there are. Rotating x makes the same information look different. A strong negative correlation is
    no match.

    References
    ----------
    .. [1] Li, Yosinski, Clune, Lipson and Hopcroft (2016). Convergent learning: do different neural networks learn the
       same representations? ICLR.

    Examples
    --------
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
    """Mean correlation of the features of x and y under the best transport plan.

    Raises
    ------
    InputError
        No variance.

    Notes
    -----
        max_T sum_ij T_ij r_ij,   T >= 0, rows of T sum to 1/d_x, columns to 1/d_y

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [-1, 1]; the same as
    `hard_matching` where d_x = d_y, and uses every feature of both where not. With standardised features the
    soft-matching distance is sqrt(2 - 2 s). A constant feature correlates 0 with everything.

    How the number misleads: rotating x makes the same information look different. The plan picks the best of many
    correlations, so unrelated data gives more than 0 when rows are few. With different widths some mass must go to a
    second choice, so a representation compared with itself plus further features gets less than 1.

    References
    ----------
    .. [1] Khosla and Williams (2024). Soft matching distance: a metric on neural representations that captures
       single-neuron tuning. UniReps. Equation 5.

    Examples
    --------
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
