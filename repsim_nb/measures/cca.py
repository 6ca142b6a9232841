"""Canonical correlations and their relatives: how two column spaces lie to each other."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from repsim_nb.errors import InputError, check_effect
from repsim_nb.measures.constraints import Between, Count
from repsim_nb.measures.features import Spectrum
from repsim_nb.measures.linear import Linear
from repsim_nb.measures.registry import AFFINE, SIMILAR, register


class _Subspaces(Linear):
    """What measures between column spaces share."""

    direction = "similarity"
    bounds = (0.0, 1.0)
    cost = "n d^2"
    needs_rows = frozenset({"x", "y"})


def canonical_correlations(overlap: Tensor) -> Tensor:
    """Cosines of the principal angles between two orthonormal bases U and V, from U'V, largest first."""
    return torch.linalg.svdvals(overlap).clamp_(max=1)


@register
class CCA(_Subspaces):
    """Mean canonical correlation of x (n, d_x) and y (n, d_y).

        mean_i rho_i (summary="mean") or mean_i rho_i^2 (summary="mean_square", Yanai's R2),  i <= min(rank x, rank y)

    rho_i are the singular values of Q_x'Q_y, Q orthonormal bases of the centred columns. A similarity in [0, 1]; 1 =
    one column space contains the other. Directions below rounding count neither in Q nor in the mean. Some public code
    averages the top of the list only, which is higher.

    Errors: no variance. Warns when rows are not more than features: then every rho is 1.

    Reference: Raghu et al. (2017); mean_square: Kornblith et al. (2019), eq. 8.

    >>> from repsim_nb.measures import get_measure
    >>> x, y = [[0.0], [1.0], [2.0], [4.0]], [[1.0], [0.0], [3.0], [4.0]]
    >>> rho = get_measure("cca")(x, y)
    >>> round(rho, 6), round(get_measure("cca", summary="mean_square")(x, y) - rho**2, 6)
    (0.855236, 0.0)
    """

    name = "cca"
    title = "Canonical correlation (CCA)"
    reference = "Raghu et al. 2017"
    invariances_x = invariances_y = AFFINE

    summary: Literal["mean", "mean_square"] = "mean"

    def _compare(self, x: Spectrum, y: Spectrum, overlap: Tensor) -> float:
        rho = canonical_correlations(overlap)
        return (rho if self.summary == "mean" else rho.square()).mean().item()


@register
class SVCCA(_Subspaces):
    """Mean canonical correlation of the leading principal components of x (n, d_x) and y (n, d_y).

    Each side keeps the fewest components that hold `variance` of its variance, or, when given, exactly `components`.
    A similarity in [0, 1]; 1 = one kept subspace contains the other. Public code that sums singular values instead of
    their squares, or compares a share with a total, keeps other components.

    Errors: no variance; more components than the rank of a side. Warns when rows are not more than features.

    Reference: Raghu et al. (2017).

    >>> from repsim_nb.measures import get_measure
    >>> x = [[9.0, 1.0], [-9.0, 1.0], [3.0, -1.0], [-3.0, -1.0]]
    >>> y = [[9.0, 0.0], [-9.0, 0.0], [3.0, 1.0], [-3.0, -1.0]]
    >>> round(get_measure("svcca", components=1)(x, y), 6)
    0.999994
    """

    name = "svcca"
    title = "Canonical correlation of principal components (SVCCA)"
    reference = "Raghu et al. 2017"
    invariances_x = invariances_y = SIMILAR

    variance: Annotated[float, Between(0, 1)] = 0.99
    components: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.components is not None:
            check_effect(
                type(self), {"variance": self.variance}, "components says how many are kept. Give one of both."
            )

    def _compare(self, x: Spectrum, y: Spectrum, overlap: Tensor) -> float:
        return canonical_correlations(overlap[: self._kept(x.s, "x"), : self._kept(y.s, "y")]).mean().item()

    def _kept(self, s: Tensor, side: str) -> int:
        """How many components stay."""
        if self.components is None:
            share = s.square().cumsum(0) / s.square().sum()
            return 1 + int((share < self.variance - 1e-12).sum())
        if self.components > len(s):
            raise InputError(f"svcca: {side} has rank {len(s)}, fewer than components={self.components}.")
        return self.components


@register
class PWCCA(_Subspaces):
    """Canonical correlation of x (n, d_x) and y (n, d_y), weighted by how much each variate accounts for of x.

        sum_i a_i rho_i / sum_i a_i,   a_i = sum_j |<h_i, x_j>|,   i <= min(rank x, rank y)

    h_i is the i-th canonical variate of x, x_j the centred columns of x. A similarity in [0, 1], not symmetric: weights
    come from x. These are the paper's weights; public code that forms h without whitening, or from
    orthonormalised coefficients, gives other numbers. The sum of absolute values depends on the axes of x.

    Errors: no variance. Warns when rows are not more than features.

    Reference: Morcos et al. (2018), section 2.2.

    >>> from repsim_nb.measures import get_measure
    >>> x = [[9.0, 1.0], [-9.0, 1.0], [3.0, -1.0], [-3.0, -1.0]]
    >>> y = [[9.0, 0.0], [-9.0, 0.0], [3.0, 1.0], [-3.0, -1.0]]
    >>> round(get_measure("pwcca")(x, y), 6), round(get_measure("pwcca")(y, x), 6)
    (0.870268, 0.911765)
    """

    name = "pwcca"
    title = "Projection-weighted canonical correlation (PWCCA)"
    reference = "Morcos et al. 2018"
    symmetric = False
    invariances_x = frozenset({"permutation", "scale", "shift"})
    invariances_y = AFFINE

    def _compare(self, x: Spectrum, y: Spectrum, overlap: Tensor) -> float:
        a, rho, _ = torch.linalg.svd(overlap, full_matrices=False)
        weights = (a.T @ (x.s[:, None] * x.vh)).abs().sum(1)  # a.T s V' = the variates times x
        return (weights @ rho.clamp(max=1) / weights.sum()).item()


@register
class EigenspaceOverlap(_Subspaces):
    """Overlap of the column spaces of x (n, d_x) and y (n, d_y), not centred.

        |U'V|_F^2 / max(rank x, rank y),   U and V the left singular vectors

    A similarity in [0, 1]; 1 = the same column space.

    Errors: all values 0. Warns when rows are not more than features: then every column space is everything.

    Reference: May et al. (2019), definition 1.

    >>> from repsim_nb.measures import get_measure
    >>> get_measure("eigenspace_overlap")([[1.0], [0.0], [0.0]], [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    0.5
    """

    name = "eigenspace_overlap"
    title = "Eigenspace overlap"
    reference = "May et al. 2019"
    invariances_x = invariances_y = AFFINE - {"shift"}
    centred = False
    moment_dtype = None  # type: ignore[assignment]  # moments are of centred rows

    def _compare(self, x: Spectrum, y: Spectrum, overlap: Tensor) -> float:
        return (overlap.square().sum() / max(overlap.shape)).item()
