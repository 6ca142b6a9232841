"""Untrained twins of models, as senders that have learned nothing."""

from __future__ import annotations

import copy

import torch

from repsim_nb.errors import InputError
from repsim_nb.models import Model

SPREAD = 0.02  # of weights, where the config has no initializer_range


def untrained_twin(model: Model, seed: int = 0) -> Model:
    """Make a copy of a model with weights as before training.

    Parameters
    ----------
    model
        The model, which stays as it is.
    seed
        Seed of the weights.

    Returns
    -------
    Model
        A model of the same architecture and tokenizer, named "... untrained". Matrices are normal with the standard
        deviation that the config states (`initializer_range`, else 0.02), gains of norms 1 and biases 0.

    Raises
    ------
    InputError
        If weights are not in memory but offloaded to disk.

    Notes
    -----
    Architectures that start from anything else, such as scaled output matrices, are not followed in it.

    Examples
    --------
    >>> from repsim_nb.models import load_model
    >>> untrained_twin(load_model("tiny-neox-w32-d2")).name
    'tiny-neox-w32-d2 untrained'
    """
    if any(p.is_meta for p in model.module.parameters()):
        raise InputError(
            f"{model.name} has weights on disk that are loaded only while they run, and has no untrained twin. Leave "
            "'untrained' out of controls."
        )
    twin = copy.deepcopy(model)
    for name in ("weights_sha256", "bridge"):  # cached of the trained one
        vars(twin).pop(name, None)
    twin.name = f"{model.name} untrained"
    twin._source = {**model._source, "untrained": seed}
    spread = getattr(twin.module.config, "initializer_range", None) or SPREAD
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(twin.module.named_parameters()):
            if parameter.dim() > 1:
                drawn = torch.randn(parameter.shape, generator=generator) * spread
                parameter.copy_(drawn.to(parameter.dtype))
            else:
                parameter.fill_(float(not name.endswith("bias")))
    return twin
