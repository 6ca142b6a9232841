"""Initialisation of the GeLU and SoLU models."""

from __future__ import annotations

import math

import torch

from repsim_nb.models.native import Native, NativeConfig


@torch.no_grad()
def initialised(config: NativeConfig, seed: int) -> Native:
    """Initialise like the GPT-NeoX models: small weights, and smaller ones into the residual stream."""
    model = Native(config)
    generator = torch.Generator().manual_seed(seed)
    small, wang = math.sqrt(2 / (5 * config.d_model)), 2 / (config.n_layers * math.sqrt(config.d_model))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            into_residual = name.endswith(("attn.o.weight", "fc_out.weight"))
            parameter.normal_(0, wang if into_residual else small, generator=generator)
        elif "ln" not in name:
            parameter.zero_()
    return model
