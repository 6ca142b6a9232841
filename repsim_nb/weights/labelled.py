"""The matrices of a block one by one, with their labels: whole, head by head, and joined as W_O W_V."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from repsim_nb.weights.matrices import BlockMatrices

ATTENTION = ("query", "key", "value", "output")


class Labelled(NamedTuple):
    """One matrix of a block, as itself or as the two factors of a product; head None is the whole."""

    part: str
    head: int | None
    factors: tuple[Tensor, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        return len(self.factors[0]), self.factors[-1].shape[1]


def labelled(weights: BlockMatrices, heads: bool) -> Iterator[Labelled]:
    """Every matrix of a block, and W_O W_V: sum over heads of the head's output matrix times the value matrix it reads.

    Where heads share a value matrix, their output matrices are summed first, which gives the same sum as a product
    through fewer dimensions.
    """
    yield from _whole(weights)
    yield Labelled("ov", None, (_shared_output(weights), weights.value.flatten(0, 1)))
    if heads:
        yield from _by_head(weights)
        for head, factors in enumerate(zip(weights.output, weights.values, strict=True)):
            yield Labelled("ov", head, factors)


def labelled_gradients(weights: BlockMatrices, gradients: BlockMatrices, heads: bool) -> Iterator[Labelled]:
    """Gradients of every matrix of a block, and of W_O W_V by the product rule: dW_O W_V + W_O dW_V."""
    yield from _whole(gradients)
    outputs = _shared_output(gradients), _shared_output(weights)
    values = weights.value.flatten(0, 1), gradients.value.flatten(0, 1)
    yield Labelled("ov", None, (torch.cat(outputs, 1), torch.cat(values)))
    if heads:
        yield from _by_head(gradients)
        each = zip(gradients.output, weights.output, weights.values, gradients.values, strict=True)
        for head, (d_output, output, value, d_value) in enumerate(each):
            yield Labelled("ov", head, (torch.cat([d_output, output], 1), torch.cat([value, d_value])))


def _whole(block: BlockMatrices) -> Iterator[Labelled]:
    """All matrices but W_O W_V, whole."""
    for part in ("query", "key", "value"):
        yield Labelled(part, None, (getattr(block, part).flatten(0, 1),))
    yield Labelled("output", None, (_side_by_side(block.output),))
    for part, matrix in block.mlp.items():
        yield Labelled(part, None, (matrix,))


def _by_head(block: BlockMatrices) -> Iterator[Labelled]:
    """All matrices of single heads but W_O W_V."""
    for part in ATTENTION:
        for head, matrix in enumerate(getattr(block, part)):
            yield Labelled(part, head, (matrix,))


def _side_by_side(matrices: Tensor) -> Tensor:
    """(n, rows, columns) -> (rows, n * columns)."""
    return matrices.transpose(0, 1).flatten(1)


def _shared_output(matrices: BlockMatrices) -> Tensor:
    """The output matrices, summed over heads that share a value matrix, (d_model, key heads * width of a head)."""
    return _side_by_side(matrices.output.unflatten(0, (len(matrices.value), -1)).sum(1))
