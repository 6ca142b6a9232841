"""Mean, standard deviation and skewness of linear CKA over all permutations of documents, in closed form.

Let V = sum_a X_a'Y_s(a), where document a is paired with document s(a). Then |V|^2 minus its linear part is the cross
term of CKA (see `alignment`). Within a stratum (documents of m rows), V is its mean plus W = sum_a X~_a'Y~_s(a), with
X~_a centred over documents at each of the m places, so that all sums over documents vanish and only patterns of equal
documents remain: |W|^2 = sum_ab <A_ab, B_s(a)s(b)> with blocks A_ab = X~_a X~_b'. Its first two moments follow from
sums over documents of products of entries of A alone and of B alone: every layer is summed once, and a pair of layers
is an inner product. With one row per document they equal those of Kazi-Aoual et al. (1995) for the RV coefficient.

Mean and variance are exact. The third moment is that of a Gaussian W, 8 tr(S^3) with covariance S, whose spectrum is
approximated by that of the Kronecker product of its two partial traces (exact for one row per document).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.uncertainty.alignment import LayersOfSide, LinearCKA
from repsim_nb.uncertainty.null import LEVEL, Null

MAX_TABLE_SIZE = 2**27  # numbers in the largest table of a layer (1 GB in float64)


class NullMoments(NamedTuple):
    """Moments of each cell over all permutations of the documents of y; all arrays are (len(xs), len(ys))."""

    mean: np.ndarray
    deviation: np.ndarray
    skewness: np.ndarray


class Stratum(NamedTuple):
    """Sums of one layer over the documents of one size m; float64, flattened.

    Attributes
    ----------
    scale
        Sum of A_aa, (m^2).
    patterns
        Sums of A^pq A^p'q' over pairs of blocks a != b with both, one and no document in common, 3 x (m^4).
    linear
        Products, summed over documents, of all terms that are linear in the permutation, (e^2).
    mixed
        The rows of `linear` that belong to A_aa, (m^2 e).
    """

    scale: Tensor
    patterns: list[Tensor]
    linear: Tensor
    mixed: Tensor


class LayerStatistics(NamedTuple):
    """Statistics of one layer.

    Attributes
    ----------
    strata
        Sums for strata with at least two documents.
    corrections
        For every stratum, what CKA subtracts, summed over documents, (entries,).
    covariance
        S^pp' = sum_a x_ap x_ap' for all strata, (sum of m^2, d, d).
    products
        <S^pp', S^qq'> for all pairs of strata, each divided by the root of documents - 1; flattened.
    own_products
        The part of `products` for each stratum with itself.
    """

    strata: list[Stratum]
    corrections: list[Tensor]
    covariance: Tensor
    products: Tensor
    own_products: Tensor


def permutation_moments(cka: LinearCKA) -> NullMoments:
    """Compute the moments of every cell.

    Raises
    ------
    InputError
        If documents have so many rows, or so many different sizes, that the tables would be too large.
    """
    strata = list(cka.documents.strata)
    _check_size(cka, strata)
    means = [_means(side.rows, strata) for side in (cka.xs, cka.ys)]
    xs = _layers(cka, cka.xs, strata, means[0], left=True)
    ys = _layers(cka, cka.ys, strata, means[1], left=False)
    counts = [len(rows) for rows in strata if len(rows) > 1]
    mean = cka.xs.layer.T @ (means[0].T @ means[1]).double().square_() @ cka.ys.layer
    for s, rows in enumerate(strata):
        mean += _inner([x.corrections[s] for x in xs], [y.corrections[s] for y in ys]) / len(rows)
    variance = torch.zeros_like(mean)
    for s, g in enumerate(counts):
        of_mean, of_variance = _stratum_moments([x.strata[s] for x in xs], [y.strata[s] for y in ys], g)
        mean += of_mean
        variance += of_variance
    square = _inner([x.products for x in xs], [y.products for y in ys])  # tr(S^2), S the covariance of V
    own = _inner([x.own_products for x in xs], [y.own_products for y in ys])
    variance += 2 * (square - own)  # two strata s, t: 4 tr(S_s S_t)
    cube = square**1.5 * _shape(xs, ys, counts)
    skewness = 8 * cube / torch.maximum(variance, 2 * square) ** 1.5
    size = cka.normaliser.to(mean.device)
    deviation = variance.clamp_(min=0).sqrt_() / size
    return NullMoments(*(m.numpy(force=True) for m in (mean / size, deviation, skewness)))


def _inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(left)) @ torch.stack(list(right)).T


def _stratum_moments(xs: Sequence[Stratum], ys: Sequence[Stratum], g: int) -> tuple[Tensor, Tensor]:
    """Mean of |W|^2 and variance of all terms that depend on the permutation of g documents, (len(xs), len(ys))."""
    scale = _inner([x.scale for x in xs], [y.scale for y in ys])
    pairs = g * (g - 1)
    # sum over a != b of <A_ab, B_s(a)s(b)>: for two terms, the number of ordered documents and of ways
    variance = -((scale / pairs) ** 2)
    for pattern, (ordered, ways) in enumerate(((pairs, 2), (pairs * (g - 2), 4), (pairs * (g - 2) * (g - 3), 1))):
        if ordered:
            products = _inner([x.patterns[pattern] for x in xs], [y.patterns[pattern] for y in ys])
            variance += ways * products / ordered
    # sum over a of the linear terms, alone and combined with the sum above
    variance += _inner([x.linear for x in xs], [y.linear for y in ys]) / (g - 1)
    mixed = _inner([x.mixed for x in xs], [y.mixed for y in ys])
    variance += 2 * mixed * (2 / ((g - 1) * (g - 2)) if g > 2 else 1.0)
    return scale / (g - 1), variance


def closed_form(observed: np.ndarray, cka: LinearCKA) -> Null:
    """Compute the null of a grid of linear CKA without permutations, from a Pearson III distribution.

    Parameters
    ----------
    observed
        The observed grid.
    cka
        The same representations and documents.

    Returns
    -------
    Null
        Mean, levels and family-wise p-value of every cell.

    Notes
    -----
    p-values are family-wise by Sidak's formula, which assumes independent cells. Neighbouring layers are correlated,
    so p-values are rather too large than too small. Tails are approximate: for very small p-values use permutations.

    References
    ----------
    Josse, Pages and Husson 2008, "Testing the significance of the RV coefficient".
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
        high_most=_most(mean, deviation, skewness),
    )


def _most(mean: np.ndarray, deviation: np.ndarray, skewness: np.ndarray) -> float:
    """Value that the largest of independent cells reaches with probability LEVEL."""
    from scipy.optimize import brentq
    from scipy.stats import pearson3

    def excess(value: float) -> float:
        return -np.expm1(np.log1p(-pearson3.sf((value - mean) / deviation, skewness)).sum()) - LEVEL

    ends = (mean + deviation * pearson3.isf(level, skewness) for level in (LEVEL, LEVEL / (2 * mean.size)))
    low, high = (float(end.max()) for end in ends)
    return brentq(excess, low, high) if excess(low) > 0 > excess(high) else low


def _check_size(cka: LinearCKA, strata: Sequence[np.ndarray]) -> None:
    places = sum(rows.shape[1] for rows in strata)
    moving = [rows.shape[1] for rows in strata if len(rows) > 1]
    squares = sum(m**2 for m in moving)
    widest = max(int(side.layer.sum(0).max()) for side in (cka.xs, cka.ys))
    linear = max(2 * m**2 + m * (places + 1) for m in moving) ** 2
    if max(squares * widest**2, squares**2, linear) > MAX_TABLE_SIZE:
        raise InputError(
            f"The closed-form null needs tables that grow with the rows per document, here {min(moving)} to "
            f'{max(moving)} in {len(strata)} sizes. Use fewer rows per document, or null="permutation".'
        )


def _means(rows: Tensor, strata: Sequence[np.ndarray]) -> Tensor:
    """Mean over the documents of each stratum at each place, times the square root of their number, (places, width)."""
    means = []
    for places in strata:
        whole = torch.stack([rows[torch.from_numpy(place).to(rows.device)].double().mean(0) for place in places.T])
        means.append(whole * len(places) ** 0.5)
    return torch.cat(means).to(rows.dtype)


def _layers(
    cka: LinearCKA, side: LayersOfSide, strata: Sequence[np.ndarray], means: Tensor, left: bool
) -> list[LayerStatistics]:
    widths = side.layer.sum(0).int().tolist()
    columns = zip(range(len(widths)), side.rows.split(widths, 1), means.split(widths, 1), strict=True)
    return [_layer(cka, side, index, rows, mean, strata, left) for index, rows, mean in columns]


def _layer(
    cka: LinearCKA, side: LayersOfSide, index: int, rows: Tensor, mean: Tensor, strata: Sequence[np.ndarray], left: bool
) -> LayerStatistics:
    corrections = [_correction(cka, side, index, places, left) for places in strata]
    moving = [s for s, places in enumerate(strata) if len(places) > 1]
    centred = [rows[torch.from_numpy(strata[s]).to(rows.device)] for s in moving]
    centred = [x - x.mean(0) for x in centred]
    covariance = torch.cat([_covariance(x) for x in centred])
    products = _products(covariance, [x.shape[1] for x in centred])
    sizes = [x.shape[1] ** 2 for x in centred]
    summed = [
        _stratum(x, mean, own, corrections[s], left)
        for x, own, s in zip(centred, _diagonal_blocks(products, sizes), moving, strict=True)
    ]
    root = torch.cat([products.new_full((k,), (len(x) - 1) ** -0.5) for k, x in zip(sizes, centred, strict=True)])
    products *= torch.outer(root, root)
    own_products = torch.cat([own.flatten() for own in _diagonal_blocks(products, sizes)])
    return LayerStatistics(summed, [c.sum(0) for c in corrections], covariance, products.flatten(), own_products)


def _correction(cka: LinearCKA, side: LayersOfSide, index: int, places: np.ndarray, left: bool) -> Tensor:
    """Contribution of each document to what CKA subtracts, for one side of an inner product: (documents, entries)."""
    at = torch.from_numpy(places).to(side.rows.device)
    entries = torch.from_numpy(cka.entries_of(places)).to(side.rows.device)
    out = side.left_out[entries, index].flatten(1)
    if left:
        return torch.cat([-out, -2 * side.offsets[at, index]], dim=1)
    return torch.cat([out, side.row_sums[at, index]], dim=1)


def _products(covariance: Tensor, sizes: Sequence[int]) -> Tensor:
    """<S^pp', S^qq'> for all places of all strata, float64; computes only half, since S^p'p is S^pp' transposed."""
    flat = covariance.flatten(1)
    starts = np.cumsum([0, *(m * m for m in sizes)])
    mirrored = torch.cat([torch.arange(m * m).view(m, m).T.flatten() + i for m, i in zip(sizes, starts, strict=False)])
    upper = torch.nonzero(torch.arange(len(flat)) <= mirrored)[:, 0]
    half = (flat[upper] @ flat.T).double()
    products = half.new_empty(len(flat), len(flat))
    products[upper] = half
    products[mirrored[upper]] = half[:, mirrored]
    return products


def _diagonal_blocks(products: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The products of each stratum with itself."""
    return [columns.split(sizes)[i] for i, columns in enumerate(products.split(sizes, 1))]


def _covariance(x: Tensor) -> Tensor:
    """S^pp' = sum_a x_ap x_ap', for centred x (documents, m, d): (m m, d, d)."""
    g, m, d = x.shape
    flat = x.reshape(g, m * d)
    return (flat.T @ flat).view(m, d, m, d).permute(0, 2, 1, 3).reshape(m * m, d, d)


def _stratum(x: Tensor, mean: Tensor, products: Tensor, correction: Tensor, left: bool) -> Stratum:
    """See `Stratum`; x (documents, m, d) is centred over documents, products are <S^pp', S^qq'> (m m, m m)."""
    m = x.shape[1]
    flat = (x @ x.mT).flatten(1)  # A_aa
    of_mean = (x @ mean.T).flatten(1)
    parts = torch.cat([flat, 2 * of_mean if left else of_mean, correction.to(x.dtype)], dim=1)
    parts -= parts.mean(0)
    linear = (parts.T @ parts).double()
    scale = flat.sum(0, dtype=torch.float64)
    everywhere = products.reshape(m, m, m, m).permute(0, 2, 1, 3)  # [p, q, p', q']
    own = (flat.T @ flat).double().view(m, m, m, m)
    two = everywhere - own
    one = own - two  # sum over b != a of A_ab is -A_aa
    swapped = one.transpose(2, 3)
    both = torch.outer(scale, scale).view(m, m, m, m)
    none = both - two - two.transpose(2, 3) - one - swapped
    none = none - one.transpose(0, 1).transpose(2, 3) - one.transpose(0, 1)
    patterns = [t.flatten() for t in (two, one, none)]
    return Stratum(scale, patterns, linear.flatten(), linear[: m * m].flatten())


def _shape(xs: Sequence[LayerStatistics], ys: Sequence[LayerStatistics], counts: Sequence[int]) -> Tensor:
    """tr(S^3) / tr(S^2)^1.5 of the Kronecker product of the partial traces of S, (len(xs), len(ys))."""
    of_x, of_y = (
        torch.stack(
            [torch.cat([p.scale / (g - 1) for p, g in zip(layer.strata, counts, strict=True)]) for layer in side]
        )
        for side in (xs, ys)
    )
    by_x = torch.stack([_spectral_shape(x.covariance, of_y) for x in xs])
    by_y = torch.stack([_spectral_shape(y.covariance, of_x) for y in ys], dim=1)
    return by_x * by_y


def _spectral_shape(covariance: Tensor, weights: Tensor) -> Tensor:
    """tr(M^3) / tr(M^2)^1.5 of M = weighted sum of covariances, for each line of weights."""
    m = (weights.to(covariance.dtype) @ covariance.flatten(1)).view(-1, *covariance.shape[1:])
    m = (m + m.mT) / 2
    square = m @ m
    return (square * m).sum((1, 2), dtype=torch.float64) / (m * m).sum((1, 2), dtype=torch.float64) ** 1.5
