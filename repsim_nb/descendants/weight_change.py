"""How much the weights of every part changed, and whether the change has a structure that noise has not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repsim_nb.descendants.kinship import Kin, parameters_by_part
from repsim_nb.errors import InputError
from repsim_nb.system.progress import steps

FLIPS = 39  # random signs per matrix: the smallest p-value is 1 / 40


@dataclass(frozen=True)
class WeightChange:
    """One number per part, in the order of `Kin.parts`.

    Attributes
    ----------
    relative
        Norm of the change relative to that of the base's parameters (Frobenius).
    correlation
        Of the matrices' entries, each matrix centred; NaN for parts without a matrix.
    structure
        Concentration of the change, sum of the fourth powers of its singular values over the square of the sum of
        their squares, relative to its mean over random signs; NaN where no matrix changed.
    p_value
        Share of random signs whose most concentrated part exceeds this one, family-wise over the parts; NaN as above.
    entries
        Number of entries in matrices.
    """

    relative: np.ndarray
    correlation: np.ndarray
    structure: np.ndarray
    p_value: np.ndarray
    entries: np.ndarray


def weight_change(kin: Kin, seed: int = 0, flips: int = FLIPS) -> WeightChange:
    """Compare the parameters of two models part by part.

    The null of `structure` gives every entry of the change a random sign, which keeps its size wherever it is large and
    takes away what rows and columns have in common. Rounding errors and noise are such already; gradients are not.
    """
    ours, theirs = (parameters_by_part(model) for model in (kin.base, kin.tuned))
    generator = torch.Generator().manual_seed(seed)
    relative, correlation, entries, concentrations = [], [], [], []
    for part in steps(kin.parts, "weights", "part"):
        pairs = list(_pairs(ours[part], theirs[part]))
        changed, whole = (sum(float(x.square().sum()) for x in side) for side in _sides(pairs))
        relative.append((changed / whole) ** 0.5 if whole else 0.0)
        matrices = [(a, b) for a, b in pairs if a.ndim == 2]
        entries.append(sum(a.numel() for a, _ in matrices))
        correlation.append(_correlation(matrices))
        changes = [b - a for a, b in matrices if not torch.equal(a, b)]
        concentrations.append(_concentrations(changes, flips, generator))
    structure, p_value = _judged(np.array(concentrations))
    return WeightChange(np.array(relative), np.array(correlation), structure, p_value, np.array(entries))


def _pairs(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    if {name: x.shape for name, x in ours.items()} != {name: x.shape for name, x in theirs.items()}:
        odd = sorted({*ours} ^ {*theirs})
        which = odd[0] if odd else next(name for name in ours if ours[name].shape != theirs[name].shape)
        raise InputError(f"The two models do not have the same parameters: {which} differs. Expected one architecture.")
    return [(x.detach().double(), theirs[name].detach().double().to(x.device)) for name, x in ours.items()]


def _sides(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [b - a for a, b in pairs], [a for a, _ in pairs]


def _correlation(matrices: list[tuple[Tensor, Tensor]]) -> float:
    """Of all entries, after each matrix has lost its mean."""
    both = one = other = 0.0
    for a, b in matrices:
        a, b = a - a.mean(), b - b.mean()
        both, one, other = both + float((a * b).sum()), one + float(a.square().sum()), other + float(b.square().sum())
    return both / (one * other) ** 0.5 if one and other else float("nan")


def _concentrations(changes: list[Tensor], flips: int, generator: torch.Generator) -> list[float]:
    """Mean over matrices of the concentration of the change, as it is and with random signs."""
    found = np.zeros(1 + flips)
    for change in changes:
        thin = (change if change.shape[0] >= change.shape[1] else change.T).float()
        for flip in range(1 + flips):
            if flip:
                signs = torch.randint(0, 2, thin.shape, generator=generator, dtype=torch.int8).to(thin.device)
                found[flip] += _concentration(thin * (2 * signs - 1))
            else:
                found[0] += _concentration(thin)
    return list(found / len(changes)) if changes else [float("nan")] * (1 + flips)


def _concentration(matrix: Tensor) -> float:
    gram = matrix.T @ matrix
    return float(gram.square().sum() / gram.trace() ** 2)


def _judged(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concentration relative to random signs, and its p-value by the largest part of every set of signs."""
    structure, p_value = np.full((2, len(found)), np.nan)
    there = np.isfinite(found[:, 0])
    if there.any():
        logs = np.log(found[there])
        structure[there] = np.exp(logs[:, 0] - logs[:, 1:].mean(1))
        spread = logs.std(1, keepdims=True)
        scores = (logs - logs.mean(1, keepdims=True)) / np.where(spread > 0, spread, 1)
        p_value[there] = (scores[:, :1] <= scores.max(0)).mean(1)
    return structure, p_value
