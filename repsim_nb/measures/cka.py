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
    """Raise for a bandwidth of a kernel that has none."""
    if measure.kernel == "linear":
        why = "it is of kernel='rbf'. Set that, or leave bandwidth out."
        check_effect(type(measure), {"bandwidth": measure.bandwidth}, why)


def _normaliser(n: int, debiased: bool) -> int:
    return n * (n - 3) if debiased else (n - 1) ** 2


@register
class CKA(Measure):
    """Centred kernel alignment of x (n, d_x) and y (n, d_y).

        CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),   K = XX' and L = YY' (linear)

    A similarity: 1 = the same up to rotation, isotropic scale and shift. Debiased (default) it lies in [-1, 1] and is
    about 0 for unrelated data of any n; biased it lies in [0, 1] and tends to 1 for any data when n < d.

    kernel: "linear" or "rbf", K_ij = exp(-|x_i - x_j|^2 / (2 s^2)).
    debiased: the unbiased HSIC1 of Song et al. (2012) in all three places, which leaves out the pairs i = j. Public
        code that clamps it to [0, 1] or adds a constant to the denominator gives other values; this does neither.
    groups: one label per row (the document a token comes from); pairs of rows of one group are left out too. Tokens
        of one document are alike in any two models, which debiasing alone takes for similarity.
    bandwidth: s in units of the median distance between different rows of the same representation. Some public code
        takes the median over the zero diagonal as well, which makes s smaller by about 1 part in n.
    batch: compute HSIC1 inside consecutive batches of at most so many rows and add up (minibatch CKA, Nguyen et al.
        2021): constant memory for any n. Batches are as equal as possible; row order matters.

    fast: estimate the linear kernel's value from a random sample of pairs of rows, several times faster; `compare` then
        adds the standard error of sampling.
    partners: with fast, how many others each row is paired with, a multiple of 32; the error falls with the square root
        of n times partners.
    seed: with fast, of the choice of pairs.

    Errors: fewer than 4 rows (debiased), no variance, parameters that exclude each other; with fast, rows far beyond
    all others, which a sample would miss.

    Reference: Kornblith et al. (2019), eq. 4; debiased: Song et al. (2012), eq. 5.

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
            raise InputError(f"{self.name}: groups and batch are for the debiased estimator: set debiased=True.")
        if self.groups is not None and self.batch is not None:
            raise InputError(f"{self.name}: groups and batch exclude each other: give one of them.")
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
            why = "they are of fast=True. Set that, or leave them out."
            check_effect(type(self), {"partners": self.partners, "seed": self.seed}, why)
        elif self.kernel != "linear" or self.groups is not None or self.batch is not None:
            raise InputError(f"{self.name}: fast=True is for the linear kernel without groups and batch; leave it out.")
        elif self.partners % PARTS:
            raise InputError(f"{self.name}: partners={self.partners}; expected a multiple of {PARTS}.")

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
            # Each batch has its own power of two; count all in that of the first.
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
        """An empty accumulator: of second moments, or with `batch` of HSIC1 inside batches, in constant memory."""
        if self.batch is None:
            return super().accumulator(layers_a, layers_b, dtype)
        return BatchSums(layers_a, layers_b, self.batch, self.kernel, self.bandwidth, dtype or torch.float32)

    def grid_with_errors(self, xs: Sequence[Prepared], ys: Sequence[Prepared]) -> tuple[np.ndarray, np.ndarray | None]:
        """`grid` and, with fast=True, its standard errors: how far the value of all pairs of these rows may be.

        They say nothing of other rows. They are 0 where all pairs were used.
        """
        if not self.fast:
            return super().grid_with_errors(xs, ys)
        self._check(xs, ys)
        values, errors = self._sampled([p.state for p in xs], [q.state for q in ys])
        return self._bounded(values), errors

    def _sampled(self, ps: Sequence[list[Gram]], qs: Sequence[list[Gram]]) -> tuple[np.ndarray, np.ndarray]:
        """The values of all pairs of layers and their standard errors, from a random sample of pairs of rows.

        Where there are not twice as many rows as partners, or where it costs no more, all pairs of rows are used.
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
    """Hilbert-Schmidt independence criterion of x (n, d_x) and y (n, d_y), what CKA normalises.

    A similarity without upper bound, in the units of the data (for the linear kernel); about 0 for unrelated data.
    debiased (default): HSIC1 of Song et al. (2012), can be negative; else Gretton's <HKH, HLH> / (n - 1)^2, at least 0.
    `dissimilarity` is hsic(x, x) + hsic(y, y) - 2 hsic(x, y), the squared distance between the centred Grams.
    kernel, bandwidth: see cka.

    Errors: fewer than 4 rows (debiased), no variance.

    Reference: Gretton et al. (2005); Song et al. (2012), eq. 5.

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
