"""Descendants made in code: a model with rounded weights, and one with noise on them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.models import Model, load_model

CACHED = ("weights_sha256", "bridge")  # of the original's weights


def quantised(model: Model | str, bits: int = 8) -> Model:
    """A copy of a model whose matrices went to whole numbers of `bits` bits and back.

    Parameters
    ----------
    model
        A model, or anything that `load_model` takes; it stays unchanged.
    bits
        2 to 8. Every row of a matrix has a scale of its own, its largest value; vectors stay as they are.

    Returns
    -------
    Model
        With "-int8" at the end of its name, for 8 bits.

    Raises
    ------
    InputError
        If `bits` is out of range.

    Examples
    --------
    >>> quantised("tiny-neox-w32-d2").name
    'tiny-neox-w32-d2-int8'
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
        raise InputError(f"bits={bits!r}; expected a whole number from 2 to 8.")
    most = 2 ** (bits - 1) - 1

    def rounded(matrix: Tensor) -> Tensor:
        scale = matrix.abs().amax(1, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny) / most
        return (matrix / scale).round() * scale

    return _altered(load_model(model), f"int{bits}", rounded)


def noisy(model: Model | str, share: float = 0.01, seed: int = 0) -> Model:
    """A copy of a model with Gaussian noise on its matrices.

    Parameters
    ----------
    model
        A model, or anything that `load_model` takes; it stays unchanged.
    share
        Norm of the noise on each matrix, relative to that of the matrix; vectors stay as they are.
    seed
        Seed of the noise.

    Returns
    -------
    Model
        With the share and the seed at the end of its name.

    Raises
    ------
    InputError
        If `share` is not a positive number.

    Examples
    --------
    >>> noisy("tiny-neox-w32-d2", 0.05).name
    'tiny-neox-w32-d2-noise0.05-s0'
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < float("inf"):
        raise InputError(f"share={share!r}; expected a positive number, such as 0.01.")
    generator = torch.Generator().manual_seed(seed)

    def with_noise(matrix: Tensor) -> Tensor:
        noise = torch.randn(matrix.shape, generator=generator).to(matrix)
        return matrix + share * matrix.norm() / noise.norm() * noise

    return _altered(load_model(model), f"noise{share:g}-s{seed}", with_noise)


@torch.no_grad()
def _altered(model: Model, how: str, change: Callable[[Tensor], Tensor]) -> Model:
    """A copy of the model under another name, with every matrix changed."""
    own = copy.deepcopy(model)
    for name in CACHED:
        vars(own).pop(name, None)
    for parameter in own.module.parameters():
        if parameter.ndim == 2:
            parameter.copy_(change(parameter))
    own.name = f"{model.name}-{how}"
    own._source = own._source | {"altered": how}
    return own
