"""Linear CKA from a balanced sample of pairs of rows, with the standard error of having sampled.

Exact CKA needs the sum of K_ij L_ij over all pairs i != j; everything else follows from the norms of rows. Put the rows
in random order on a ring and compare each with the next h. Every row is then in exactly 2h pairs, so the contribution
of single rows is counted in full and only the deviation of pairs is sampled, which is why few partners are enough. Each
distance along the ring, 1 to h, is such a balanced sample by itself; how much they differ gives the error.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.kernels import Gram

ROWS = 128  # processed at a time
PARTS = 32  # samples whose spread gives the error
HEAVY = 0.05  # largest share of the sum over all pairs that one pair may hold


def sampled_products(grams: Sequence[Gram], partners: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Estimates (PARTS, grams, grams) of what `kept_products` gives for all pairs, and the share of pairs used.

    Raises
    ------
    InputError
        A layer in which a few pairs of rows may hold so much that a sample could miss it.
    """
    n = grams[0].n
    ring = torch.from_numpy(rng.permutation(n))
    width = partners // PARTS
    sums = torch.zeros(PARTS, len(grams), len(grams), dtype=torch.float64, device=grams[0].features.x.device)
    for start in range(0, n, ROWS):
        rows = min(ROWS, n - start)
        near = ring[torch.arange(start, start + rows + partners) % n]
        band = torch.stack([_band(gram, near, rows) for gram in grams])  # (grams, rows, partners)
        parts = band.view(len(grams), rows, PARTS, width).permute(2, 0, 1, 3).reshape(PARTS, len(grams), -1)
        sums += parts @ parts.mT
    sampled = sums.numpy(force=True) * (n - 1) * PARTS / partners
    same = [[(p.features.squared_rows @ q.features.squared_rows).item() for q in grams] for p in grams]
    taken = [[p.correction(q) for q in grams] for p in grams]
    kept = sampled + same - np.array(taken)
    for k, gram in enumerate(grams):
        # no pair weighs more than the two longest rows could: K_ij^2 <= |x_i|^2 |x_j|^2
        heaviest = 2 * gram.features.squared_rows.topk(2).values.prod().item()
        if kept[:, k, k].mean() <= 0 or heaviest > HEAVY * sampled[:, k, k].mean():
            raise InputError(
                f"{gram.features.side}: a few pairs of rows far from all others may hold so much of HSIC that a sample "
                "of pairs would miss it. Use fast=False, which compares all pairs."
            )
    return kept, 2 * partners / (n - 1)


def _band(gram: Gram, near: Tensor, rows: int) -> Tensor:
    """K between each of the first `rows` of the rows `near` and the rows that follow it, (rows, partners)."""
    features = gram.features.take(near)
    product = features[:rows] @ features.T
    reach = product.shape[1]
    return product.as_strided((rows, reach - rows), (reach + 1, 1), 1)


def ratio_with_error(
    cross: np.ndarray, self_x: np.ndarray, self_y: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """CKA (x, y) and its standard error, from samples of <K, L> (parts, x, y), <K, K> (parts, x), <L, L> (parts, y)."""
    c, a, b = (part.mean(0) for part in (cross, self_x, self_y))
    scale = np.sqrt(np.outer(a, b))
    value = c / scale
    relative = self_x[:, :, None] / a[:, None] + self_y[:, None] / b
    deviations = (cross - c) / scale - value * (relative - 2) / 2  # to first order
    return value, deviations.std(0, ddof=1) * np.sqrt((1 - share) / len(cross))
