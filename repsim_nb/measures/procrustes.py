"""Distances after the best alignment: orthogonal Procrustes and the shape metrics."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import eigvalsh
from torch import Tensor

from repsim_nb.measures.constraints import Share
from repsim_nb.measures.features import BUFFERS, Features, Layer, pairwise, row_norms, upper_blocks
from repsim_nb.measures.kernels import product_bytes
from repsim_nb.measures.linear import svd_bytes
from repsim_nb.measures.registry import AFFINE, EUCLIDEAN, SIMILAR, Measure, register

LEFT = 1e-13  # of a row's norm: what is left of it after the directions found were taken out, by rounding alone
TOLD = 1e-6  # of the largest singular value of a product, what smaller ones are known to


def nuclear_norm(m: Tensor) -> float:
    """Sum of the singular values of m, in float64."""
    if m.dtype is torch.float64:
        return torch.linalg.svdvals(m).sum().item()
    # Squaring costs 1e-8 of the largest singular value, less than float32 products already did, and is faster.
    m = m.double() if m.shape[0] <= m.shape[1] else m.double().T
    small = torch.empty(len(m), len(m), dtype=m.dtype, device=m.device)
    for rows, columns in upper_blocks(len(m)):
        torch.mm(m[rows], m[columns].T, out=small[rows, columns])
    if m.device.type == "cpu":  # LAPACK as numpy and scipy bring it takes half the time of torch's here
        values = torch.from_numpy(eigvalsh(small.numpy(), lower=False, overwrite_a=True, check_finite=False))
    else:
        values = torch.linalg.eigvalsh(small, UPLO="U")
    return values.clamp_(min=0).sqrt_().sum().item()


def shape_cosines(xs: Sequence[Layer], ys: Sequence[Layer]) -> np.ndarray:
    """max over orthogonal Q of <X_i Q, Y_j> / (|X_i| |Y_j|) for all pairs, the cosine of the angle between shapes."""
    return pairwise(xs, ys, nuclear_norm) / np.outer([x.norm for x in xs], [y.norm for y in ys])


class _Shape(Measure):
    """What the orthogonal distances share."""

    direction = "dissimilarity"
    metric = True
    cost = "n d^2 + d^3"
    moment_dtype = torch.float32

    def _prepare(self, x: Tensor, side: str) -> Layer:
        return self._from_layer(Features(x, side))

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return product_bytes(n, *wide, max(widths), after=24 * max(widths) ** 2)

    def _from_layer(self, x: Layer) -> Layer:
        return x.varied(self.name)

    def _score(self, p: Layer, q: Layer) -> float:
        return self._grid([p], [q])[0, 0]

    def _grid(self, ps: Sequence[Layer], qs: Sequence[Layer]) -> np.ndarray:
        sizes_x, sizes_y = (np.array([f.norm * f.unit for f in side]) for side in (ps, qs))
        return self._of_cosines(shape_cosines(ps, qs), sizes_x, sizes_y)

    def _of_cosines(self, cosines: np.ndarray, sizes_x: np.ndarray, sizes_y: np.ndarray) -> np.ndarray:
        """The distances from shape_cosines and Frobenius norms."""
        raise NotImplementedError


@register
class Procrustes(_Shape):
    """Orthogonal Procrustes distance of x (n, d_x) and y (n, d_y), both centred and scaled to unit Frobenius norm.

        d = min_Q |X Q - Y|_F = sqrt(2 - 2 |X'Y|_*),   |.|_* the nuclear norm (sum of singular values)

    A metric in [0, sqrt 2]; 0 = the same up to rotation, isotropic scale and shift. Different widths compare as if
    the narrower were padded with zeros. Public code also gives d^2, d^2 / 2 or 1 - |X'Y|_*^2 under this name; only d
    itself satisfies the triangle inequality.

    Errors: no variance. Near 0 the square root keeps half of the digits.

    Reference: Ding et al. (2021); Williams et al. (2021).

    >>> from repsim_nb.measures import get_measure
    >>> x = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]
    >>> y = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    >>> round(get_measure("procrustes")(x, y), 6)
    0.276517
    """

    name = "procrustes"
    title = "Orthogonal Procrustes distance"
    bounds = (0.0, math.sqrt(2))
    reference = "Ding et al. 2021"
    invariances_x = invariances_y = SIMILAR

    def _of_cosines(self, cosines: np.ndarray, sizes_x: np.ndarray, sizes_y: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(0, 2 - 2 * cosines))


@register
class ProcrustesSizeAndShape(_Shape):
    """Orthogonal Procrustes distance of x (n, d_x) and y (n, d_y), centred and not scaled.

        d = min_Q |X Q - Y|_F = sqrt(|X|^2 + |Y|^2 - 2 |X'Y|_*)

    A metric in [0, inf); 0 = the same up to rotation and shift. It grows with n and with the scale of the data.

    Errors: no variance. Near 0 the square root keeps half of the digits.

    Reference: Kendall's size-and-shape distance, Williams et al. (2021).

    >>> from repsim_nb.measures import get_measure
    >>> round(get_measure("procrustes_size_and_shape")([[1.0], [-1.0]], [[3.0], [-3.0]]), 6)
    2.828427
    """

    name = "procrustes_size_and_shape"
    title = "Procrustes size-and-shape distance"
    bounds = (0.0, math.inf)
    reference = "Williams et al. 2021"
    invariances_x = invariances_y = EUCLIDEAN

    def _of_cosines(self, cosines: np.ndarray, sizes_x: np.ndarray, sizes_y: np.ndarray) -> np.ndarray:
        largest = np.maximum.outer(sizes_x, sizes_y)  # squares of ratios can neither overflow nor vanish together
        a, b = sizes_x[:, None] / largest, sizes_y / largest
        return largest * np.sqrt(np.maximum(0, (a - b) ** 2 + 2 * a * b * (1 - cosines)))


@register
class AngularShape(_Shape):
    """Angular shape metric between x (n, d_x) and y (n, d_y), optionally after partial whitening.

        d = arccos(|X'Y|_* / (|X| |Y|)),   X centred, times alpha I + (1 - alpha) (X'X)^(-1/2)

    A metric in [0, pi/2], in radians. alpha = 1 (default) does not whiten: 0 = the same up to rotation, isotropic
    scale and shift. alpha = 0 whitens: 0 = the same up to invertible linear maps. In between, X
    enters in its own units (as in netrep), so scale matters. Directions of no variance are left out of whitening.

    Errors: no variance. Near 0 the arccos keeps half of the digits.

    Reference: Williams et al. (2021), eq. 5 and 8.

    >>> from repsim_nb.measures import get_measure
    >>> x = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]
    >>> y = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    >>> round(get_measure("angular_shape")(x, y), 6), round(get_measure("angular_shape", alpha=0)(x, y), 6)
    (0.277406, 0.0)
    """

    name = "angular_shape"
    title = "Angular shape metric"
    bounds = (0.0, math.pi / 2)
    reference = "Williams et al. 2021"

    alpha: Share = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        kept = SIMILAR if self.alpha == 1 else AFFINE if self.alpha == 0 else EUCLIDEAN
        self.invariances_x = self.invariances_y = kept
        if self.alpha < 1:
            self.needs_rows = frozenset({"x", "y"})
            self.cost = "n d^2"
            self.moment_dtype = torch.float64

    def _from_layer(self, x: Layer) -> Layer:
        x = super()._from_layer(x)
        return x if self.alpha == 1 else x.reweighted(lambda s: self.alpha * s + 1 - self.alpha)

    def _kept_bytes(self, n: int, d: int) -> int:
        return 0 if self.alpha == 1 else 8 * n * min(n, d)

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return max(super()._work_bytes(n, widths, wide), 0 if self.alpha == 1 else svd_bytes(n, max(widths)))

    def _of_cosines(self, cosines: np.ndarray, sizes_x: np.ndarray, sizes_y: np.ndarray) -> np.ndarray:
        return np.arccos(np.clip(cosines, 0, 1))


def best_rotation(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """U (d_x, r) and V (d_y, r) with orthonormal columns that make |X U - Y V|_F least, of float64.

    They are the singular vectors of X'Y, but products lose the directions that only rows far below the longest ones
    have: those are sought again among the rows without the directions already found.
    """
    least = [LEFT * side.norm(dim=1) for side in (x, y)]
    u, v = (torch.eye(side.shape[1], dtype=side.dtype, device=side.device) for side in (x, y))
    found: list[tuple[Tensor, Tensor]] = []
    while u.shape[1] and v.shape[1]:
        left, right = x @ u, y @ v
        for side, rounding in zip((left, right), least, strict=True):
            side[side.norm(dim=1) <= rounding] = 0
        sizes = left.abs().max(), right.abs().max()
        if not sizes[0] or not sizes[1]:
            break  # nothing is left that could be turned
        a, s, bh = torch.linalg.svd(left.div_(sizes[0]).T @ right.div_(sizes[1]))
        told = max(1, int((s > TOLD * s[0]).sum()))
        found.append((u @ a[:, :told], v @ bh[:told].T))
        u, v = u @ a[:, told:], v @ bh[told:].T
    return torch.cat([part for part, _ in found], dim=1), torch.cat([part for _, part in found], dim=1)


@register
class AlignedCosine(Measure):
    """Mean cosine of rows of x (n, d_x) and y (n, d_y) after the best rotation, not centred.

        mean_i cos(Q'x_i, y_i),   Q = argmin_Q |X Q - Y|_F orthogonal

    A similarity in [-1, 1]; 1 = every row points the same way after one rotation. Different widths compare as if the
    narrower were padded with zeros.

    Errors: a row of zeros, whose direction is undefined.

    Reference: Hamilton et al. (2016).

    >>> from repsim_nb.measures import get_measure
    >>> get_measure("aligned_cosine")([[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [-3.0, 0.0]])
    1.0
    """

    name = "aligned_cosine"
    title = "Cosine of rows after rotation"
    direction = "similarity"
    bounds = (-1.0, 1.0)
    cost = "n d^2 + d^3"
    reference = "Hamilton et al. 2016"
    invariances_x = invariances_y = frozenset({"permutation", "orthogonal", "scale"})

    def _kept_bytes(self, n: int, d: int) -> int:
        return 8 * n * (d + 1)

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 16 * n * max(widths) + 64 * max(widths) ** 2 + BUFFERS

    def _prepare(self, x: Tensor, side: str) -> tuple[Tensor, Tensor]:
        rows = Features(x, side, centred=False).rows(dtype=torch.float64)
        return rows, row_norms(rows, self.name, side)

    def _score(self, p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> float:
        (x, norms_x), (y, norms_y) = p, q
        u, v = best_rotation(x, y)
        return ((x @ u).mul_(y @ v).sum(1) / (norms_x * norms_y)).mean().item()
