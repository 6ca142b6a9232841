"""Measures of shape, from neighbourhood graphs and loops."""

import math
from typing import Annotated

import numpy as np
import torch
from scipy.linalg import eigvalsh
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.constraints import Between, Count
from repsim_nb.measures.features import BUFFERS, Features, squared_distances
from repsim_nb.measures.neighbours import BLOCK, nearest
from repsim_nb.measures.registry import SIMILAR, Measure, register

TEMPERATURES = torch.logspace(-1, 1, 256, dtype=torch.float64)


@register
class IMD(Measure):
    """Intrinsic multi-scale distance of x and y.

    Parameters
    ----------
    k
        Number of nearest neighbours in the graph, at least 1.

    Raises
    ------
    InputError
        No variance; fewer than k + 2 rows.

    Notes
    -----
        max_t exp(-2 (t + 1/t)) |h_x(t) - h_y(t)|,   h(t) = mean_i exp(-t l_i)

    l_i are the eigenvalues of the normalised Laplacian of the k-nearest-neighbour graph (euclidean, i and j linked if
    either is a neighbour of the other), and t takes 256 values from 0.1 to 10. x is (n, d_x) and y is (n, d_y). A
    dissimilarity in [0, exp(-4)]; 0 = graphs with the same spectrum.

    How the number misleads: rows need not correspond, so x and its shuffled rows are at distance 0. Different graphs
    can have the same spectrum, and only the graph counts, not how far apart its neighbours are. At most exp(-4) =
    0.018, every value looks small. It depends on k and n.

    The original estimates h with random vectors, whose noise exceeds the signal for similar inputs, and multiplies by
    1e6. Here h is exact and repeatable, at a cost of n^3.

    References
    ----------
    .. [1] Tsitsulin et al. (2020). The shape of data: intrinsic distance for data distributions. ICLR. Equation 2.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> get_measure("imd", k=1)([[0.0], [1.0], [5.0], [6.0]], [[0.0], [2.0], [4.5], [6.0]])
    0.0
    """

    name = "imd"
    title = "Intrinsic multi-scale distance (IMD)"
    direction = "dissimilarity"
    bounds = (0.0, math.exp(-4))
    cost = "n^3"
    reference = "Tsitsulin et al. 2020"
    invariances_x = invariances_y = SIMILAR

    k: Count = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.min_rows = self.k + 2

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 8 * n * n + 8 * n * max(widths) + 8 * BLOCK * n + BUFFERS

    def _prepare(self, x: Tensor, side: str) -> Tensor:
        rows = Features(x, side).varied(self.name).rows(dtype=torch.float64)
        links = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=x.device)
        near = nearest(rows, self.k).indices
        row = torch.arange(len(rows), device=x.device)[:, None].expand_as(near)
        links[row, near] = links[near, row] = 1.0
        root = links.sum(1).rsqrt()
        links.mul_(root[:, None]).mul_(root)
        if x.device.type == "cpu":  # scipy's works in place, on the transpose of a symmetric matrix
            eigenvalues = 1 - torch.from_numpy(eigvalsh(links.numpy().T, overwrite_a=True, check_finite=False))
        else:
            eigenvalues = 1 - torch.linalg.eigvalsh(links)
        return torch.exp(-TEMPERATURES.to(x.device)[:, None] * eigenvalues).mean(1)

    def _score(self, p: Tensor, q: Tensor) -> float:
        t = TEMPERATURES.to(p.device)
        return (torch.exp(-2 * (t + 1 / t)) * (p - q).abs()).max().item()


@register
class RTD(Measure):
    """Representation topology divergence of x and y: loops that only one of them closes.

    Parameters
    ----------
    points
        Use at most this many rows, the same ones on both sides.
    seed
        Seed of the choice of rows, at least 0.

    Raises
    ------
    InputError
        No variance; so many equal rows that the 0.9 quantile of distances is 0; gudhi is missing.

    Notes
    -----
        [sum of bars(x, y) + sum of bars(y, x)] / 2

    bars(x, y) are the lengths of the H1 bars of the Rips filtration on two copies of the rows: distances 0 within the
    first copy, min(d_x, d_y) within the second, d_x between them, each divided by its 0.9 quantile. x is (n, d_x) and y
    is (n, d_y); row i of both is the same stimulus. A dissimilarity in [0, inf); 0 = clusters merge at the same scales.

    How the number misleads: with more rows than `points` it depends on the sample, and differences between seeds can
    exceed those between layers; average over several. The sum grows with the number of points. 0 does not mean the same
    geometry: distances that close no loop may differ.

    Needs gudhi: pip install "repsim-nb[topology]".

    References
    ----------
    .. [1] Barannikov, Trofimov, Balabin and Burnaev (2022). Representation topology divergence: a method for comparing
       neural network representations. ICML. Definition 1.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> get_measure("rtd")([[0.0], [1.0], [2.0], [3.0]], [[0.0], [2.0], [4.0], [6.0]])
    0.0
    """

    name = "rtd"
    title = "Representation topology divergence (RTD)"
    direction = "dissimilarity"
    bounds = (0.0, math.inf)
    cost = "points^3"
    reference = "Barannikov et al. 2022"
    invariances_x = invariances_y = SIMILAR

    points: Count = 100
    seed: Annotated[int, Between(0)] = 0

    def _kept_bytes(self, n: int, d: int) -> int:
        return 8 * min(n, self.points) ** 2

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 1600 * min(n, self.points) ** 2  # of the complex, measured

    def _prepare(self, x: Tensor, side: str) -> np.ndarray:
        if len(x) > self.points:
            chosen = np.random.default_rng(self.seed).choice(len(x), self.points, replace=False)
            x = x[torch.from_numpy(np.sort(chosen)).to(x.device)]
        rows = Features(x, side).varied(self.name).rows(dtype=torch.float64)
        distances = squared_distances(rows).sqrt_().numpy(force=True)
        unit = np.quantile(distances, 0.9)
        if unit == 0:
            raise InputError(f"rtd is undefined: 90% of all distances in {side} are 0. Drop duplicate rows.")
        return distances / unit

    def _score(self, p: np.ndarray, q: np.ndarray) -> float:
        return (_cross_bars(p, q) + _cross_bars(q, p)) / 2


def _cross_bars(a: np.ndarray, b: np.ndarray) -> float:
    """Total length of the H1 bars between the graph with distances a and the one with min(a, b)."""
    try:
        from gudhi import SimplexTree
    except ImportError as error:
        raise InputError('rtd needs gudhi: pip install "repsim-nb[topology]"') from error
    between = np.where(np.tri(len(a), dtype=bool), a, np.inf)
    doubled = np.block([[np.zeros_like(a), between.T], [between, np.minimum(a, b)]])
    # beyond this radius one vertex is linked to all others, so no loop is left
    tree = SimplexTree.create_from_array(doubled, max_filtration=doubled.max(1).min())
    tree.collapse_edges()
    tree.expansion(2)
    tree.compute_persistence()
    bars = tree.persistence_intervals_in_dimension(1)
    return float(np.diff(bars).sum()) if len(bars) else 0.0
