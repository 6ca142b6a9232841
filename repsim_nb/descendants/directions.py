"""The directions in which activations moved, how well they hold in other documents, and what they promote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from repsim_nb.models import Batch, Model
from repsim_nb.uncertainty.documents import Documents
from repsim_nb.uncertainty.jackknife import BLOCKS, jackknife_grid

if TYPE_CHECKING:
    from repsim_nb.activations import Activations

DIRECTIONS = 3
TOKENS = 5  # promoted, and as many demoted
SPLITS = 10  # of the documents into halves


@dataclass(frozen=True)
class Directions:
    """Principal directions of the difference of activations at every layer, without centring.

    Attributes
    ----------
    vectors
        (layers, directions, d_model), of length 1, turned so that the mean difference points along them.
    share, low, high
        Share of the squared difference along each, with a jackknife interval over documents; (layers, directions).
    agreement
        Mean absolute cosine of each with its counterpart from the other half of the documents, (layers, directions).
    mean_share
        Share of the squared difference that is the same for all rows, (layers,).
    size
        Root mean square of the difference along each, (layers, directions).
    """

    vectors: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    agreement: np.ndarray
    mean_share: np.ndarray
    size: np.ndarray

    @property
    def chance(self) -> float:
        """Mean absolute cosine of two random directions."""
        return float(np.sqrt(2 / (np.pi * self.vectors.shape[-1])))


def directions(
    base: Activations, tuned: Activations, documents: Documents, level: float, seed: int, k: int = DIRECTIONS
) -> Directions:
    """Find the leading eigenvectors of the difference's second moments.

    Split halves and the jackknife take whole documents. Noise on weights moves activations in stable directions too,
    since activations themselves fill few of them: a direction that agrees between halves is real, but not yet learned.
    """
    k = min(k, next(iter(base.values())).shape[1])
    found = [_of_layer(tuned[layer].double() - base[layer].double(), documents, k, level, seed) for layer in base]
    return Directions(*(np.stack(values) for values in zip(*found, strict=True)))


def _of_layer(difference: Tensor, documents: Documents, k: int, level: float, seed: int) -> tuple[np.ndarray, ...]:
    blocks = torch.from_numpy(documents.blocks(BLOCKS, seed))
    sums = torch.stack([_moments(difference[blocks == block]) for block in range(int(blocks.max()) + 1)])
    whole = sums.sum(0)
    vectors, share = _leading(whole, k)
    without = [_leading(whole - part, k)[1] for part in sums]
    interval = jackknife_grid(share, without, (0.0, 1.0), level)
    mean = difference.mean(0)
    signs = np.sign(vectors @ mean.numpy())
    vectors = vectors * np.where(signs == 0, 1, signs)[:, None]
    total = float(whole.trace())
    size = np.sqrt(share * total / len(difference))
    mean_share = len(difference) * float(mean.square().sum()) / total if total else 0.0
    agreement = _agreement(sums, k, seed)
    return vectors, share, interval.low, interval.high, agreement, np.array(mean_share), size


def _moments(rows: Tensor) -> Tensor:
    return rows.T @ rows


def _leading(moments: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k leading eigenvectors as rows, and their shares of the trace."""
    values, vectors = torch.linalg.eigh(moments)
    total = float(moments.trace())
    share = values.flip(0)[:k].clamp_min(0) / total if total > 0 else torch.zeros(k, dtype=moments.dtype)
    return vectors.flip(1)[:, :k].T.numpy(), share.numpy()


def _agreement(sums: Tensor, k: int, seed: int) -> np.ndarray:
    """Mean absolute cosine of each direction between random halves of the blocks of documents."""
    rng, found = np.random.default_rng([seed, 6]), []
    for _ in range(SPLITS):
        order = rng.permutation(len(sums))
        halves = [_leading(sums[part].sum(0), k)[0] for part in np.array_split(order, 2)]
        found.append(np.abs((halves[0] * halves[1]).sum(1)))
    return np.mean(found, axis=0)


@torch.no_grad()
def promoted(
    model: Model, vectors: np.ndarray, sizes: np.ndarray, mean: Tensor, batch: Batch, tokens: int = TOKENS
) -> tuple[list[list[str]], list[list[str]]]:
    """The tokens whose logits rise most, and fall most, from one side of the mean state to the other along a direction.

    Parameters
    ----------
    model
        A causal model, whose final norm and unembedding read the states.
    vectors, sizes
        (directions, d_model) and (directions,): the states are the mean plus and minus size times vector.
    mean
        Mean state, (d_model,).
    batch
        Any batch of the model, for its shape.
    tokens
        How many of each.

    Returns
    -------
    tuple of two lists
        Per direction, the tokens promoted and those demoted.
    """
    up, down = [], []
    for vector, size in zip(vectors, sizes, strict=True):
        step = torch.from_numpy(size * vector).to(mean)
        hidden = torch.zeros(*batch.ids.shape, model.d_model, dtype=model.dtype, device=model.device)
        hidden[0, 0], hidden[0, 1] = (mean + step).to(hidden), (mean - step).to(hidden)
        logits = model.head(hidden, batch)[0, :2].double().cpu()
        order = (logits[0] - logits[1]).argsort(descending=True).tolist()
        up.append([_shown(model, token) for token in order[:tokens]])
        down.append([_shown(model, token) for token in order[: -tokens - 1 : -1]])
    return up, down


def _shown(model: Model, token: int) -> str:
    if token >= len(model.tokenizer):  # rows of the unembedding that pad it
        return f"<{token}>"
    return str(model.tokenizer.decode([token]))
