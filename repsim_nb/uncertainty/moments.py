"""Mean, spread and skewness of linear CKA over all exchanges of documents, in closed form.

Let V = sum_a X_a'Y_s(a), documents a meeting documents s(a). Then |V|^2 less its linear part is the cross term of CKA
(see `alignment`). Within a stratum (documents of m rows), V is its mean plus W = sum_a X~_a'Y~_s(a), with X~_a centred
over documents at each of the m places, so that all sums over documents vanish and only patterns of equal documents
remain: |W|^2 = sum_ab <A_ab, B_s(a)s(b)> with blocks A_ab = X~_a X~_b'. Its first two moments follow from sums over
documents of products of entries of A alone and of B alone: every layer is summed up once, a pair of layers is an inner
product. With one row per document they are those of Kazi-Aoual et al. (1995) for the RV coefficient.

Mean and variance are exact. The skewness is that of a Gaussian W, 8 tr(S^3) with S its covariance, whose spectrum is
taken to be that of the Kronecker product of its two partial traces (exact for one row per document, up to 1 / documents).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.uncertainty.alignment import LinearCKA, Side
from repsim_nb.uncertainty.null import LEVEL, Null

MOST_PRODUCTS = 2**27  # numbers in the largest table of a layer (1 GB in float64)


class Moments(NamedTuple):
    """Of each cell over all arrangements of the documents of y; all arrays (len(xs), len(ys))."""

    mean: np.ndarray
    deviation: np.ndarray
    skewness: np.ndarray


class Stratum(NamedTuple):
    """What one layer is summed up to over the documents of one size m; float64, flattened.

    Attributes:
        scale: rows of documents sum up to this: sum of A_aa, (m m).
        patterns: sums of A^pq A^p'q' over pairs of documents with two, one and no document in common, 3 x (m^4).
        linear: inner products of the documents' parts of all that is linear in the arrangement, (e e).
        cubic: of these the rows that belong to A_aa, (m m e).
        alone: sum over documents of the parts of the linear correction of CKA.
    """

    scale: Tensor
    patterns: list[Tensor]
    linear: Tensor
    mixed: Tensor
    alone: Tensor


class Layer(NamedTuple):
    """One layer: its strata of at least two documents, and what is summed over all of them."""

    strata: list[Stratum]
    alone: list[Tensor]
    covariance: Tensor  # S^pp' of all strata, (sum of m^2, d, d)
    products: Tensor  # <S^pp', S^qq'> / (documents - 1) of all strata, flattened


def permutation_moments(cka: LinearCKA) -> Moments:
    """The moments of every cell.

    Raises:
        InputError: documents so long, or of so many sizes, that the tables would not fit.
    """
    strata = [rows for rows in cka.documents.strata]
    _check_size(cka, strata)
    means = [_means(side.rows, strata) for side in (cka.xs, cka.ys)]
    xs = _layers(cka, cka.xs, strata, means[0], left=True)
    ys = _layers(cka, cka.ys, strata, means[1], left=False)
    counts = [len(rows) for rows in strata if len(rows) > 1]

    def inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(left)) @ torch.stack(list(right)).T

    fixed = cka.xs.layer.T @ (means[0].T @ means[1]).double().square_() @ cka.ys.layer
    linear = sum(
        inner([x.alone[s] for x in xs], [y.alone[s] for y in ys]) / len(rows) for s, rows in enumerate(strata)
    )
    mean = fixed + linear
    variance = torch.zeros_like(mean)
    for s, g in enumerate(counts):
        a, b = [x.strata[s] for x in xs], [y.strata[s] for y in ys]
        scale = inner([p.scale for p in a], [q.scale for q in b])
        mean += scale / (g - 1)
        # sum over a != b of <A_ab, B_s(a)s(b)>: two, one or no document in common between two of its terms
        orders = g * (g - 1), g * (g - 1) * (g - 2), g * (g - 1) * (g - 2) * (g - 3)
        for order, ways, pattern in zip(orders, (2, 4, 1), range(3), strict=True):
            if order:
                products = inner([p.patterns[pattern] for p in a], [q.patterns[pattern] for q in b])
                variance += ways * products / order
        variance -= (scale / orders[0]) ** 2
        variance += inner([p.linear for p in a], [q.linear for q in b]) / (g - 1)
        mixed = inner([p.mixed for p in a], [q.mixed for q in b])
        variance += 2 * mixed * (2 / ((g - 1) * (g - 2)) if g > 2 else 1.0)
    own = [len(rows[0]) ** 2 for rows in strata if len(rows) > 1]
    whole = inner([x.products for x in xs], [y.products for y in ys])
    within = inner([_own(x.products, own) for x in xs], [_own(y.products, own) for y in ys])
    variance += 2 * (whole - within)  # 4 tr(S_s S_t) over pairs of strata s < t
    deviation = variance.clamp_(min=0).sqrt()
    skewness = 8 * whole**1.5 * _shape(xs, ys, counts) / torch.maximum(variance, 2 * whole) ** 1.5
    size = cka.normaliser.to(mean.device)
    return Moments(*(m.numpy(force=True) for m in (mean / size, deviation / size, skewness)))


def closed_form(observed: np.ndarray, cka: LinearCKA) -> Null:
    """The null of a grid of linear CKA without permutations: tails of a Pearson III distribution of those moments.

    p-values are family-wise by Sidak's formula, which takes cells for independent; that of neighbouring layers is
    therefore too large rather than too small.

    Args:
        observed: the grid.
        cka: of the same representations and documents.

    Reference: Josse, Pages and Husson 2008, "Testing the significance of the RV coefficient".
    """
    from scipy.stats import pearson3

    mean, deviation, skewness = permutation_moments(cka)
    p_value = pearson3.sf((observed - mean) / deviation, skewness)
    cells = observed.size
    family = -np.expm1(np.log1p(-LEVEL) / cells)
    return Null(
        mean=mean,
        high=mean + deviation * pearson3.isf(LEVEL, skewness),
        high_family=mean + deviation * pearson3.isf(family, skewness),
        p_value=-np.expm1(cells * np.log1p(-np.minimum(p_value, 1 - 1e-16))),
    )


def _check_size(cka: LinearCKA, strata: Sequence[np.ndarray]) -> None:
    places = sum(rows.shape[1] for rows in strata)
    moving = [rows.shape[1] for rows in strata if len(rows) > 1]
    squares = sum(m**2 for m in moving)
    widest = max(int(side.layer.sum(0).max()) for side in (cka.xs, cka.ys))
    linear = max(2 * m**2 + m * (places + 1) for m in moving) ** 2
    if max(squares * widest**2, squares**2, linear) > MOST_PRODUCTS:
        raise InputError(
            f"The closed-form null needs tables that grow with the rows per document, here {min(moving)} to "
            f'{max(moving)} in {len(strata)} sizes: take fewer rows per document, or null="permutation".'
        )


def _means(rows: Tensor, strata: Sequence[np.ndarray]) -> Tensor:
    """Mean over the documents of each stratum at each place, times the root of their number, (places, width)."""
    means = []
    for places in strata:
        whole = torch.stack([rows[torch.from_numpy(place).to(rows.device)].double().mean(0) for place in places.T])
        means.append(whole * len(places) ** 0.5)
    return torch.cat(means).to(rows.dtype)


def _layers(cka: LinearCKA, side: Side, strata: Sequence[np.ndarray], means: Tensor, left: bool) -> list[Layer]:
    widths = side.layer.sum(0).int().tolist()
    layers = []
    for index, (rows, mean) in enumerate(zip(side.rows.split(widths, 1), means.split(widths, 1), strict=True)):
        moving, alone, covariances, roots = [], [], [], []
        for places in strata:
            at = torch.from_numpy(places).to(rows.device)
            entries = torch.from_numpy(cka.entries_of(places)).to(rows.device)
            parts = [side.left_out[entries, index], side.offsets[at, index], side.row_sums[at, index]]
            out, offsets, sums = (part.flatten(1) for part in parts)
            correction = torch.cat([-out, -2 * offsets] if left else [out, sums], dim=1)
            alone.append(correction.sum(0))
            if len(places) > 1:
                x = rows[at] - rows[at].mean(0)
                covariance = _covariance(x)
                moving.append(_stratum(x, mean, covariance, correction, left))
                covariances.append(covariance)
                roots.append(covariance.new_full((len(covariance),), (len(places) - 1) ** -0.5))
        covariance, root = torch.cat(covariances), torch.cat(roots)
        weighted = covariance.flatten(1) * root[:, None]
        products = (weighted @ weighted.T).double().flatten()
        layers.append(Layer(moving, alone, covariance, products))
    return layers


def _covariance(x: Tensor) -> Tensor:
    """S^pp' = sum_a x_ap x_ap', for centred x (documents, m, d): (m m, d, d)."""
    g, m, d = x.shape
    flat = x.reshape(g, m * d)
    return (flat.T @ flat).view(m, d, m, d).permute(0, 2, 1, 3).reshape(m * m, d, d)


def _stratum(x: Tensor, mean: Tensor, covariance: Tensor, correction: Tensor, left: bool) -> Stratum:
    """See `Stratum`; x (documents, m, d) is centred over documents."""
    g, m, _ = x.shape
    blocks = (x @ x.mT).double()  # A_aa
    flat = blocks.flatten(1)
    of_mean = (x @ mean.T).double().flatten(1)
    parts = torch.cat([flat, 2 * of_mean if left else of_mean, correction], dim=1)
    parts = parts - parts.mean(0)
    linear = parts.T @ parts
    scale = flat.sum(0)
    s = covariance.flatten(1)
    everywhere = (s @ s.T).double().view(m, m, m, m).permute(0, 2, 1, 3)  # [p, q, p', q']
    own = (flat.T @ flat).view(m, m, m, m)
    two = everywhere - own
    one = own - two  # sum over b != a of A_ab is -A_aa
    swapped = one.transpose(2, 3)
    both = torch.outer(scale, scale).view(m, m, m, m)
    none = both - two - two.transpose(2, 3) - one - swapped
    none = none - one.transpose(0, 1).transpose(2, 3) - one.transpose(0, 1)
    patterns = [t.flatten() for t in (two, one, none)]
    return Stratum(scale, patterns, linear.flatten(), linear[: m * m].flatten(), correction.sum(0))


def _own(products: Tensor, sizes: Sequence[int]) -> Tensor:
    """Of the products of all strata with all, those of each with itself."""
    whole = products.view(sum(sizes), sum(sizes))
    starts = np.cumsum(sizes) - sizes
    return torch.cat([whole[i : i + k, i : i + k].flatten() for i, k in zip(starts, sizes, strict=True)])


def _shape(xs: Sequence[Layer], ys: Sequence[Layer], counts: Sequence[int]) -> Tensor:
    """tr(S^3) / tr(S^2)^1.5 of the Kronecker product of the partial traces of S, (len(xs), len(ys))."""
    scales = [
        [torch.cat([p.scale / (g - 1) for p, g in zip(layer.strata, counts, strict=True)]) for layer in side]
        for side in (xs, ys)
    ]
    total = torch.ones(len(xs), len(ys), dtype=torch.float64, device=xs[0].products.device)
    for i, x in enumerate(xs):
        total[i] *= torch.stack([_peakedness(x.covariance, scale) for scale in scales[1]])
    for j, y in enumerate(ys):
        total[:, j] *= torch.stack([_peakedness(y.covariance, scale) for scale in scales[0]])
    return total


def _peakedness(covariance: Tensor, weights: Tensor) -> Tensor:
    """tr(M^3) / tr(M^2)^1.5 of M = sum of weighted covariances."""
    m = torch.einsum("k,kij->ij", weights.to(covariance.dtype), covariance).double()
    m = (m + m.T) / 2
    square = m @ m
    return (square * m).sum() / square.trace() ** 1.5
