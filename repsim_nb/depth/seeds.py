"""How much numbers about models vary from seed to seed, pooled over all sizes that come in several seeds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from repsim_nb.uncertainty.jackknife import Interval


class Part(NamedTuple):
    """One part of a variance: what it contributes, and its degrees of freedom."""

    variance: float
    freedom: float


@dataclass(frozen=True)
class SeedVariance:
    """Variance over seeds of numbers about models, or about pairs of models.

    A number about models i and j is the mean of their two sizes + u_i + u_j + e_ij, with independent u and e; a number
    about one model i is the mean of its size + u_i.

    Attributes
    ----------
    model
        Mean square of models within their size: var(u) + `share` * var(e).
    pair
        Mean square of what is left of pairs: var(e). Its variance is 0 for numbers about one model.
    share
        Part of var(e) that `model` contains.
    """

    model: Part
    pair: Part
    share: float

    @classmethod
    def of_models(cls, values: np.ndarray, sizes: Sequence[Hashable]) -> SeedVariance | None:
        """From one number for each model, (models,); None if no size has two models."""
        model = _within([values[members] for members in _members(sizes)])
        return cls(model, Part(0.0, np.inf), 0.0) if model.freedom else None

    @classmethod
    def of_pairs(cls, values: np.ndarray, sizes: Sequence[Hashable]) -> SeedVariance | None:
        """From one number for each pair of models, (models, models), symmetric; None if no size has two models.

        The models of a size are compared by their means over the models of other sizes. A pair without a number is NaN.
        """
        means, shares, left = [], [], []
        for members in _members(sizes):
            others = [
                j for j in range(len(sizes)) if sizes[j] != sizes[members[0]] and np.isfinite(values[members, j]).all()
            ]
            if len(members) > 1 and others:
                block = values[np.ix_(members, others)]
                means.append(block.mean(1))
                shares.append(1 / len(others))
                residual = block - block.mean(0) - block.mean(1, keepdims=True) + block.mean()
                left.append(((residual**2).sum(), (len(members) - 1) * (len(others) - 1)))
        model = _within(means)
        if not model.freedom:
            return None
        square, freedom = np.sum(left, axis=0)
        # A pair of models of two sizes, both in several seeds, counts in two blocks.
        pair = Part(square / freedom, freedom / 2) if freedom else model
        return cls(model, pair, float(np.mean(shares)) if freedom else 0.0)

    def of_mean(self, weights: np.ndarray) -> list[Part]:
        """Parts of the variance of a weighted sum of numbers.

        `weights` are those of models, (models,), or of pairs, (models, models), symmetric with each pair's weight in
        both places and 0 on the diagonal.
        """
        if weights.ndim == 1:
            return [Part((weights**2).sum() * self.model.variance, self.model.freedom)]
        of_models, of_pairs = (weights.sum(1) ** 2).sum(), (weights**2).sum() / 2
        if self.model.variance < self.share * self.pair.variance:  # no variance of models is left
            return [Part(of_pairs * self.pair.variance, self.pair.freedom)]
        of_pairs = max(of_pairs - self.share * of_models, 0.0)
        return [Part(of_models * self.model.variance, self.model.freedom),
                Part(of_pairs * self.pair.variance, self.pair.freedom)]  # fmt: skip


def over_documents(replicates: np.ndarray) -> Part:
    """The variance over documents from the delete-a-group replicates of a number, (groups,)."""
    blocks = len(replicates)
    return Part((blocks - 1) / blocks * ((replicates - replicates.mean()) ** 2).sum(), blocks - 1)


def interval(value: float, parts: Sequence[Part], level: float) -> Interval:
    """Student's t interval for a number with these parts of variance (Satterthwaite); infinite without any part."""
    from scipy.stats import t

    if not parts:
        return Interval(value, -np.inf, np.inf)
    variance = sum(part.variance for part in parts)
    spread = sum(part.variance**2 / part.freedom for part in parts)
    freedom = variance**2 / spread if spread else 1.0
    reach = t.ppf(0.5 + level / 2, freedom) * variance**0.5
    return Interval(value, value - reach, value + reach)


def _members(sizes: Sequence[Hashable]) -> list[list[int]]:
    return [[i for i, s in enumerate(sizes) if s == size] for size in dict.fromkeys(sizes)]


def _within(groups: Sequence[Any]) -> Part:
    """Pooled variance within groups."""
    freedom = sum(len(group) - 1 for group in groups)
    square = sum(((group - np.mean(group)) ** 2).sum() for group in groups)
    return Part(square / freedom if freedom else 0.0, freedom)
