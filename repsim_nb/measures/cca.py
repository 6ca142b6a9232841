"""Canonical correlations and related measures: how much two column spaces have in common."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from repsim_nb.errors import InputError, check_effect
from repsim_nb.measures.constraints import Between, Count
from repsim_nb.measures.features import Spectrum
from repsim_nb.measures.linear import Linear
from repsim_nb.measures.registry import AFFINE, SIMILAR, register


class _Subspaces(Linear):
    """Base class of measures that compare column spaces."""

    direction = "similarity"
    bounds = (0.0, 1.0)
    cost = "n d^2"
    needs_rows = frozenset({"x", "y"})


def canonical_correlations(overlap: Tensor) -> Tensor:
    """Cosines of the principal angles between orthonormal bases U and V, given U'V; largest first."""
    return torch.linalg.svdvals(overlap).clamp_(max=1)


@register
class CCA(_Subspaces):
    """Mean canonical correlation of x and y.

    Parameters
    ----------
    summary
        "mean" averages the canonical correlations rho_i, "mean_square" their squares (Yanai's R2).

    Raises
    ------
    InputError
        No variance.

    Notes
    -----
        mean_i rho_i   or   mean_i rho_i^2,   i <= min(rank x, rank y)

    rho_i are the singular values of Q_x'Q_y, where Q are orthonormal bases of the centred columns. x is (n, d_x) and y
    is (n, d_y); row i of both is the same stimulus. A similarity in [0, 1]; 1 = one column space contains the other.

    How the number misleads: all directions count alike, however little variance they have, so noise in many small
    directions hides a shared large one. The value grows with the number of features: as soon as d_x + d_y exceeds n -
    1, some rho are 1 for any data, and with no more rows than features all are (a DegenerateWarning). Use many times
    more rows than features, or `svcca` or `cka`.

    Directions below the rounding of the data count neither in Q nor in the mean. Some public code averages only the top
    of the list, which gives more.

    References
    ----------
    .. [1] Raghu, Gilmer, Yosinski and Sohl-Dickstein (2017). SVCCA: singular vector canonical correlation analysis for
       deep learning dynamics and interpretability. NeurIPS.
    .. [2] Kornblith, Norouzi, Lee and Hinton (2019). Similarity of neural network representations revisited. ICML.
       Equation 8 (mean_square).

    Examples
    --------
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
    """Mean canonical correlation of the leading principal components of x and y.

    Parameters
    ----------
    variance
        Share of the variance, in [0, 1]. Each side keeps the fewest components that hold it.
    components
        Keep exactly this many components on each side instead.

    Raises
    ------
    InputError
        No variance; more components than the rank of a side; both parameters given.

    Notes
    -----
    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [0, 1]; 1 = one kept subspace
    contains the other.

    How the number misleads: the threshold decides the answer. Where one massive feature holds 99% of the variance, a
    single component is kept and the value is about that feature alone; where variance is spread out, hundreds are kept,
    and with n not far above their number the value is high for any data, as in `cca`. The two sides, and two layers,
    may keep different numbers of components. A DegenerateWarning is given when rows are not more than features.

    Public code that sums singular values instead of their squares, or compares a share with a total, keeps other
    components.

    References
    ----------
    .. [1] Raghu, Gilmer, Yosinski and Sohl-Dickstein (2017). SVCCA: singular vector canonical correlation analysis for
       deep learning dynamics and interpretability. NeurIPS.

    Examples
    --------
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
                type(self), {"variance": self.variance}, "components sets how many are kept. Give one of the two."
            )

    def _compare(self, x: Spectrum, y: Spectrum, overlap: Tensor) -> float:
        return canonical_correlations(overlap[: self._kept(x.s, "x"), : self._kept(y.s, "y")]).mean().item()

    def _kept(self, s: Tensor, side: str) -> int:
        """How many components are kept."""
        if self.components is None:
            share = s.square().cumsum(0) / s.square().sum()
            return 1 + int((share < self.variance - 1e-12).sum())
        if self.components > len(s):
            raise InputError(f"svcca: {side} has rank {len(s)}, fewer than components={self.components}.")
        return self.components


@register
class PWCCA(_Subspaces):
    """Mean canonical correlation of x and y, weighted by how much of x each canonical variate accounts for.

    Raises
    ------
    InputError
        No variance.

    Notes
    -----
        sum_i a_i rho_i / sum_i a_i,   a_i = sum_j |<h_i, x_j>|,   i <= min(rank x, rank y)

    h_i is the i-th canonical variate of x, and x_j are the centred columns of x. x is (n, d_x) and y is (n, d_y); row i
    of both is the same stimulus. A similarity in [0, 1], not symmetric: the weights come from x.

    How the number misleads: swapping x and y gives another number. The sum of absolute values depends on the axes of x,
    so a rotation of x changes it. With no more rows than features every rho, and so the value, is 1 for any data (a
    DegenerateWarning); before that it is biased upwards as `cca` is.

    The weights are those of the paper. Public code that forms h without whitening, or from orthonormalised
    coefficients, gives other numbers.

    References
    ----------
    .. [1] Morcos, Raghu and Bengio (2018). Insights on representational similarity in neural networks with canonical
       correlation. NeurIPS. Section 2.2.

    Examples
    --------
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
        weights = (a.T @ (x.s[:, None] * x.vh)).abs().sum(1)  # a.T s V' is the variates times x
        return (weights @ rho.clamp(max=1) / weights.sum()).item()


@register
class EigenspaceOverlap(_Subspaces):
    """Overlap of the column spaces of x and y, which are not centred.

    Raises
    ------
    InputError
        All values are 0.

    Notes
    -----
        |U'V|_F^2 / max(rank x, rank y),   U and V the left singular vectors

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity in [0, 1]; 1 = the same column
    space.

    How the number misleads: singular values do not enter, so a direction just above rounding counts as much as the
    largest. Unrelated data gives about min(rank x, rank y) / n, not 0, and every column space is everything when rows
    are not more than features (a DegenerateWarning). Sides of different ranks cannot reach 1. As nothing is centred, a
    mean far from 0 on both sides counts as a shared direction.

    References
    ----------
    .. [1] May, Zhang, Dao and Ré (2019). On the downstream performance of compressed word embeddings. NeurIPS.
       Definition 1.

    Examples
    --------
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
