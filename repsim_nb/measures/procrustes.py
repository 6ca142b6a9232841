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

LEFT = 1e-13  # of a row's norm: what rounding leaves of it once the directions found are removed
TOLD = 1e-6  # of the largest singular value of a product: precision of the smaller ones


def nuclear_norm(m: Tensor) -> float:
    """Sum of the singular values of m, in float64."""
    if m.dtype is torch.float64:
        return torch.linalg.svdvals(m).sum().item()
    # squaring loses 1e-8 of the largest singular value, less than float32 products did, and is faster
    m = m.double() if m.shape[0] <= m.shape[1] else m.double().T
    small = torch.empty(len(m), len(m), dtype=m.dtype, device=m.device)
    for rows, columns in upper_blocks(len(m)):
        torch.mm(m[rows], m[columns].T, out=small[rows, columns])
    if m.device.type == "cpu":  # scipy's LAPACK takes half the time of torch's here
        values = torch.from_numpy(eigvalsh(small.numpy(), lower=False, overwrite_a=True, check_finite=False))
    else:
        values = torch.linalg.eigvalsh(small, UPLO="U")
    return values.clamp_(min=0).sqrt_().sum().item()


def shape_cosines(xs: Sequence[Layer], ys: Sequence[Layer]) -> np.ndarray:
    """max over orthogonal Q of <X_i Q, Y_j> / (|X_i| |Y_j|) for all pairs, the cosine of the angle between shapes."""
    return pairwise(xs, ys, nuclear_norm) / np.outer([x.norm for x in xs], [y.norm for y in ys])


class _Shape(Measure):
    """Base class of the orthogonal distances."""

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
        """Distances from `shape_cosines` and Frobenius norms."""
        raise NotImplementedError


@register
class Procrustes(_Shape):
    """Orthogonal Procrustes distance of x and y, both centred and scaled to unit Frobenius norm.

    Raises
    ------
    InputError
        No variance.

    Notes
    -----
        d = min_Q |X Q - Y|_F = sqrt(2 - 2 |X'Y|_*),   |.|_* the nuclear norm (sum of singular values)

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A metric in [0, sqrt 2]; 0 = the same up to
    rotation, isotropic scale and shift. Different widths compare as if the narrower were padded with zeros.

    How the number misleads: the overall scale is divided out, so two layers of very different size can be at distance
    0. Directions of large variance dominate, though less than in `cka`. With fewer rows than features unrelated data
    comes closer together the wider it is, without a warning: read the value beside its null. Near 0 the square root
    keeps only half of the digits.

    Public code also gives d^2, d^2 / 2 or 1 - |X'Y|_*^2 under this name; only d itself satisfies the triangle
    inequality.

    References
    ----------
    .. [1] Ding, Denain and Steinhardt (2021). Grounding representation similarity through statistical testing. NeurIPS.
    .. [2] Williams, Kunz, Kornblith and Linderman (2021). Generalized shape metrics on neural representations. NeurIPS.

    Examples
    --------
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
    """Orthogonal Procrustes distance of x and y, centred and not scaled.

    Raises
    ------
    InputError
        No variance.

    Notes
    -----
        d = min_Q |X Q - Y|_F = sqrt(|X|^2 + |Y|^2 - 2 |X'Y|_*)

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A metric in [0, inf), in the units of the data;
    0 = the same up to rotation and shift. This is Kendall's size-and-shape distance.

    How the number misleads: it grows with n and with the scale of the data. Layers whose activations differ in size are
    far apart even where their shapes are the same, and distances of layers with large activations are large; use
    `procrustes` to compare shapes. Near 0 the square root keeps only half of the digits.

    References
    ----------
    .. [1] Williams, Kunz, Kornblith and Linderman (2021). Generalized shape metrics on neural representations. NeurIPS.

    Examples
    --------
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
        largest = np.maximum.outer(sizes_x, sizes_y)  # squares of ratios neither overflow nor both vanish
        a, b = sizes_x[:, None] / largest, sizes_y / largest
        return largest * np.sqrt(np.maximum(0, (a - b) ** 2 + 2 * a * b * (1 - cosines)))


@register
class AngularShape(_Shape):
    """Angular shape metric of x and y, optionally after partial whitening.

    Parameters
    ----------
    alpha
        From 0 (whiten fully) to 1 (default, do not whiten).

    Raises
    ------
    InputError
        No variance.

    Notes
    -----
        d = arccos(|X'Y|_* / (|X| |Y|)),   X centred, times alpha I + (1 - alpha) (X'X)^(-1/2)

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A metric in [0, pi/2], in radians. With alpha =
    1, 0 = the same up to rotation, isotropic scale and shift; with alpha = 0, 0 = the same up to invertible linear
    maps. Directions of no variance are left out of whitening.

    How the number misleads: without whitening the directions of largest variance dominate, and unrelated data comes
    closer together the more features there are for each row, as in `procrustes`. With alpha below 1, directions that
    hold little but noise count too, and with no more rows than features the value is much the same for any data (a
    DegenerateWarning). With alpha strictly between 0 and 1, X enters in its own units (as in netrep), so the scale of
    the data matters. Near 0 the arccos keeps only half of the digits.

    References
    ----------
    .. [1] Williams, Kunz, Kornblith and Linderman (2021). Generalized shape metrics on neural representations. NeurIPS.
       Equations 5 and 8.

    Examples
    --------
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
    """U (d_x, r) and V (d_y, r) with orthonormal columns that minimise |X U - Y V|_F, for float64 rows.

    They are the singular vectors of X'Y. Products lose directions that occur only in rows far shorter than the longest
    ones, so those are searched for again once the directions already found are removed.
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
            break  # nothing left to align
        a, s, bh = torch.linalg.svd(left.div_(sizes[0]).T @ right.div_(sizes[1]))
        told = max(1, int((s > TOLD * s[0]).sum()))
        found.append((u @ a[:, :told], v @ bh[:told].T))
        u, v = u @ a[:, told:], v @ bh[told:].T
    return torch.cat([part for part, _ in found], dim=1), torch.cat([part for _, part in found], dim=1)


@register
class AlignedCosine(Measure):
    """Mean cosine of the rows of x and y after the best rotation, not centred.

    Raises
    ------
    InputError
        A row of zeros, whose direction is undefined.

    Notes
    -----
        mean_i cos(Q'x_i, y_i),   Q = argmin_Q |X Q - Y|_F orthogonal

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [-1, 1]; 1 = every row points
    the same way after one rotation. Different widths compare as if the narrower were padded with zeros.

    How the number misleads: rows of language models often lie in a narrow cone about their mean. As nothing is centred,
    rotating one mean onto the other is then enough for a value near 1, whatever the rows say. With as many features as
    rows, a rotation also brings unrelated rows close. The rotation is fitted by length and judged by angle: long rows
    decide Q, and every row counts alike in the mean.

    References
    ----------
    .. [1] Hamilton, Leskovec and Jurafsky (2016). Diachronic word embeddings reveal statistical laws of semantic
       change. ACL.

    Examples
    --------
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
