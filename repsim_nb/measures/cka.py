"""Centred kernel alignment and the independence criterion it normalises."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError, check_effect
from repsim_nb.measures.accumulation import Accumulator, Layers
from repsim_nb.measures.constraints import Between, Positive
from repsim_nb.measures.features import Features
from repsim_nb.measures.kernels import Gram, Groups, Kernel, kept_products, kept_products_of_moments, work_bytes
from repsim_nb.measures.minibatch import BatchSums
from repsim_nb.measures.registry import EUCLIDEAN, SIMILAR, Measure, Prepared, register
from repsim_nb.measures.sampled_pairs import PARTS, ROWS, ratio_with_error, sampled_products


def check_bandwidth(measure: Any) -> None:
    """Raise for a bandwidth without an RBF kernel."""
    if measure.kernel == "linear":
        why = "it belongs to kernel='rbf'. Set that, or leave bandwidth out."
        check_effect(type(measure), {"bandwidth": measure.bandwidth}, why)


def _normaliser(n: int, debiased: bool) -> int:
    return n * (n - 3) if debiased else (n - 1) ** 2


@register
class CKA(Measure):
    """Centred kernel alignment of x and y.

    Parameters
    ----------
    kernel
        "linear", or "rbf": K_ij = exp(-|x_i - x_j|^2 / (2 s^2)).
    debiased
        True (default) uses the unbiased HSIC1 of Song et al. in all three places, which leaves out the pairs i = j.
        False uses Gretton's biased HSIC.
    groups
        One label per row, such as the document that a token comes from; at least 4 different ones. Pairs of rows with
        the same label are left out too. For the debiased estimator only.
    bandwidth
        For kernel="rbf": s in units of the median distance between different rows of the same representation; greater
        than 0.
    batch
        Compute HSIC1 within consecutive batches of at most this many rows (8 or more) and add up (minibatch CKA, Nguyen
        et al.): constant memory for any n. Batches are as equal as possible.
    fast
        Estimate the linear kernel's value from a random sample of pairs of rows, several times faster; `compare` then
        adds the standard error of sampling.
    partners
        With fast: the number of other rows that each row is paired with, a multiple of 32. The error falls with the
        square root of n times partners.
    seed
        With fast: seed of the choice of pairs.

    Raises
    ------
    InputError
        Fewer than 4 rows (2 if debiased=False), no variance, or parameters that exclude each other; with fast, rows so
        far beyond all others that a sample would miss them.

    Notes
    -----
        CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),   K = XX' and L = YY' (linear)

    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity; 1 = the same up to rotation,
    isotropic scale and shift. The debiased value lies in [-1, 1] and is about 0 for unrelated data of any n. The biased
    value lies in [0, 1] and tends to 1 for any data when n < d, which gives a DegenerateWarning.

    How the number misleads:

    - The directions of largest variance decide it, as eigenvalues enter through products. Two representations that
      share one dominant direction, such as a massive feature, score near 1 whatever else they hold; differences in
      directions of little variance go unseen.

    - Tokens of one document are alike in any two models, and debiasing takes that for similarity: unrelated models then
      score well above 0. Use `groups` (or between_documents=True in `compare`).

    - With `batch`, the value depends on the order of the rows. With `fast`, the standard error is that of sampling
      pairs of these rows; it says nothing about other rows.

    Public code that clamps the debiased value to [0, 1], or adds a constant to the denominator, gives other values.
    Some of it takes the median of distances over the zero diagonal as well, which makes s smaller by about 1 part in n.

    References
    ----------
    .. [1] Kornblith, Norouzi, Lee and Hinton (2019). Similarity of neural network representations revisited. ICML.
       Equation 4.
    .. [2] Song, Smola, Gretton, Bedo and Borgwardt (2012). Feature selection via dependence maximization. JMLR 13.
       Equation 5.
    .. [3] Nguyen, Raghu and Kornblith (2021). Do wide and deep networks learn the same things? ICLR.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> x = [[0.0], [1.0], [2.0], [3.0], [5.0]]
    >>> y = [[0.0], [1.0], [4.0], [9.0], [25.0]]
    >>> round(get_measure("cka")(x, y), 6), round(get_measure("cka", debiased=False)(x, y), 6)
    (0.963087, 0.912362)
    """

    name = "cka"
    title = "Centred kernel alignment (CKA)"
    direction = "similarity"
    cost = "n d^2 or n^2 d, the smaller (n^2 d for rbf)"
    reference = "Kornblith et al. 2019"
    invariances_x = invariances_y = SIMILAR

    kernel: Kernel = "linear"
    debiased: bool = True
    groups: Any = None
    bandwidth: Positive = 1.0
    batch: Annotated[int, Between(8)] | None = None
    fast: bool = False
    partners: Annotated[int, Between(PARTS)] = 256
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.debiased and (self.groups is not None or self.batch is not None):
            raise InputError(f"{self.name}: groups and batch need the debiased estimator. Set debiased=True.")
        if self.groups is not None and self.batch is not None:
            raise InputError(f"{self.name}: groups and batch exclude each other. Give one of them.")
        check_bandwidth(self)
        self._check_sampling()
        self.bounds = (-1.0, 1.0) if self.debiased else (0.0, 1.0)
        self.min_rows = 4 if self.debiased else 2
        if not self.debiased:
            self.needs_rows = frozenset({"x", "y"})
        if self.batch is not None:
            self.title = "Minibatch CKA"
        if self.batch is not None or (self.kernel == "linear" and self.groups is None and not self.fast):
            self.moment_dtype = torch.float32

    def _check_sampling(self) -> None:
        if not self.fast:
            why = "they belong to fast=True. Set that, or leave them out."
            check_effect(type(self), {"partners": self.partners, "seed": self.seed}, why)
        elif self.kernel != "linear" or self.groups is not None or self.batch is not None:
            raise InputError(f"{self.name}: fast=True needs the linear kernel without groups and batch. Leave it out.")
        elif self.partners % PARTS:
            raise InputError(f"{self.name}: partners must be a multiple of {PARTS}, got {self.partners}.")

    def _kept_bytes(self, n: int, d: int) -> int:
        kept = 16 * n + (8 * n * d if self.kernel == "rbf" else 0)
        if self.groups is not None and self.debiased:
            sizes = np.unique(np.asarray(self.groups), return_counts=True)[1]
            kept += int(16 * (sizes**2).sum() * n / sizes.sum())
        return kept

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        rows = n if self.batch is None else min(n, self.batch)
        blocks = 0 if self.groups is None else 8 * n * max(widths)
        return max(blocks, work_bytes(rows, widths, *wide, self.kernel))

    def _prepare(self, x: Tensor, side: str) -> list[Gram]:
        groups = None if self.groups is None else Groups(self.groups, len(x))
        parts = 1 if self.batch is None else math.ceil(len(x) / self.batch)
        features = (Features(part, side).varied(self.name) for part in x.tensor_split(parts))
        return [Gram(f, self.kernel, self.debiased, groups, self.bandwidth) for f in features]

    def _score(self, p: list[Gram], q: list[Gram]) -> float:
        return self._grid([p], [q])[0, 0]

    def _grid(self, ps: Sequence[list[Gram]], qs: Sequence[list[Gram]]) -> np.ndarray:
        return self._sampled(ps, qs)[0] if self.fast else self._all_pairs(ps, qs)

    def _all_pairs(self, ps: Sequence[list[Gram]], qs: Sequence[list[Gram]]) -> np.ndarray:
        total = np.zeros((len(ps), len(qs))), np.zeros(len(ps)), np.zeros(len(qs))
        for part in range(len(ps[0])):
            grams = [p[part] for p in ps], [q[part] for q in qs]
            # each batch is scaled by its own power of two; express all in that of the first
            unit_p, unit_q = (np.array([s[part].unit / s[0].unit for s in side]) for side in (ps, qs))
            units = np.outer(unit_p, unit_q) ** 2, unit_p**4, unit_q**4
            pairs = _normaliser(grams[0][0].n, self.debiased)
            for sum_, product, unit in zip(total, kept_products(*grams), units, strict=True):
                sum_ += product * unit / pairs
        cross, self_p, self_q = total
        return cross / np.sqrt(np.outer(self_p, self_q))

    def accumulator(
        self, layers_a: Layers, layers_b: Layers | None = None, dtype: torch.dtype | None = None
    ) -> Accumulator:
        """Return an empty accumulator: of second moments, or with `batch` of HSIC1 within batches."""
        if self.batch is None:
            return super().accumulator(layers_a, layers_b, dtype)
        return BatchSums(layers_a, layers_b, self.batch, self.kernel, self.bandwidth, dtype or torch.float32)

    def grid_with_errors(self, xs: Sequence[Prepared], ys: Sequence[Prepared]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return `grid` and, with fast=True, standard errors: how far off the value of all pairs may be.

        They say nothing about other rows, and are 0 where all pairs were used.
        """
        if not self.fast:
            return super().grid_with_errors(xs, ys)
        self._check(xs, ys)
        values, errors = self._sampled([p.state for p in xs], [q.state for q in ys])
        return self._bounded(values), errors

    def _sampled(self, ps: Sequence[list[Gram]], qs: Sequence[list[Gram]]) -> tuple[np.ndarray, np.ndarray]:
        """Values of all pairs of layers and their standard errors, from a random sample of pairs of rows.

        With fewer than twice as many rows as partners, or where it costs no more, all pairs of rows are used.
        """
        wide_p, wide_q = (sum(s[0].features.d for s in side) for side in (ps, qs))
        least = 2 * self.partners + 2
        if ps[0][0].n < least or wide_p * wide_q <= (self.partners + ROWS) * (wide_p + wide_q):
            values = self._all_pairs(ps, qs)
            return values, np.zeros_like(values)
        distinct = list({id(s[0]): s[0] for s in [*ps, *qs]}.values())
        place = {id(gram): k for k, gram in enumerate(distinct)}
        at_p, at_q = ([place[id(s[0])] for s in side] for side in (ps, qs))
        products, share = sampled_products(distinct, self.partners, np.random.default_rng(self.seed))
        alone = np.diagonal(products, axis1=1, axis2=2)
        cross = products[:, at_p][:, :, at_q]
        values, errors = ratio_with_error(cross, alone[:, at_p], alone[:, at_q], share)
        return np.clip(values, *self.bounds), errors

    def _from_accumulator(self, moments: Any) -> np.ndarray:
        batches = isinstance(moments, BatchSums)
        products = moments.totals() if batches else kept_products_of_moments(moments, self.debiased, self.name)
        cross, self_p, self_q = products
        return cross / np.sqrt(np.outer(self_p, self_q))


@register
class HSIC(Measure):
    """Hilbert-Schmidt independence criterion of x and y, the quantity that CKA normalises.

    Parameters
    ----------
    kernel
        "linear" or "rbf", as in `CKA`.
    debiased
        True (default) is the unbiased HSIC1 of Song et al.; False is Gretton's <HKH, HLH> / (n - 1)^2.
    bandwidth
        For kernel="rbf", as in `CKA`; greater than 0.

    Raises
    ------
    InputError
        Fewer than 4 rows (2 if debiased=False), no variance, or a bandwidth with kernel="linear".

    Notes
    -----
    x is (n, d_x) and y is (n, d_y); row i of both is the same stimulus. A similarity without an upper bound; about 0
    for unrelated data. The debiased value can be negative, the biased one is at least 0. `dissimilarity` is hsic(x, x)
    + hsic(y, y) - 2 hsic(x, y), the squared distance between the centred Gram matrices.

    How the number misleads: with the linear kernel it is in the units of the data, to the fourth power for x with
    itself. A layer with larger activations gets a larger value, so values of different layers or models do not compare;
    `CKA` divides this out. Like CKA it is decided by the directions of largest variance.

    References
    ----------
    .. [1] Gretton, Bousquet, Smola and Schölkopf (2005). Measuring statistical dependence with Hilbert-Schmidt norms.
       ALT.
    .. [2] Song, Smola, Gretton, Bedo and Borgwardt (2012). Feature selection via dependence maximization. JMLR 13.
       Equation 5.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> get_measure("hsic", debiased=False)([[0.0], [2.0]], [[0.0], [2.0]])
    4.0
    """

    name = "hsic"
    title = "Hilbert-Schmidt independence criterion (HSIC)"
    direction = "similarity"
    cost = CKA.cost
    reference = "Gretton et al. 2005"

    kernel: Kernel = "linear"
    debiased: bool = True
    bandwidth: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bandwidth(self)
        self.bounds = (-math.inf if self.debiased else 0.0, math.inf)
        self.min_rows = 4 if self.debiased else 2
        self.invariances_x = self.invariances_y = EUCLIDEAN if self.kernel == "linear" else SIMILAR
        self.moment_dtype = torch.float32 if self.kernel == "linear" else None

    def _kept_bytes(self, n: int, d: int) -> int:
        return 16 * n + (8 * n * d if self.kernel == "rbf" else 0)

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return work_bytes(n, widths, *wide, self.kernel)

    def _prepare(self, x: Tensor, side: str) -> Gram:
        return Gram(Features(x, side).varied(self.name), self.kernel, self.debiased, None, self.bandwidth)

    def _products(self, ps: Sequence[Gram], qs: Sequence[Gram]) -> list[np.ndarray]:
        pairs = _normaliser(ps[0].n, self.debiased)
        unit_p, unit_q = (np.array([g.unit for g in side]) for side in (ps, qs))
        with np.errstate(over="ignore"):  # an infinite HSIC is reported as such
            units = np.outer(unit_p, unit_q) ** 2, unit_p**4, unit_q**4
        return [h * unit / pairs for h, unit in zip(kept_products(ps, qs), units, strict=True)]

    def _score(self, p: Gram, q: Gram) -> float:
        return self._grid([p], [q])[0, 0]

    def _grid(self, ps: Sequence[Gram], qs: Sequence[Gram]) -> np.ndarray:
        return self._products(ps, qs)[0]

    def _from_accumulator(self, moments: Any) -> np.ndarray:
        return kept_products_of_moments(moments, self.debiased, self.name)[0] / _normaliser(moments.n, self.debiased)

    def _dissimilarity(self, p: Gram, q: Gram) -> float:
        cross, self_p, self_q = self._products([p], [q])
        return max(0.0, (self_p + self_q - 2 * cross).item())
