"""TransformerLens' native transformer in plain torch, with its parameter names: the design of the GeLU and SoLU models.

Pre-norm blocks in sequence, learned positions, untied embeddings. SoLU is x softmax(x) over the hidden units of the
MLP, followed by a LayerNorm over them (Elhage et al. 2022), as in the models it stands for.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (f(x).view(batch, length, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    """Two layers, four times the width inside, with GeLU or with SoLU and its LayerNorm."""

    def __init__(self, width: int, activation: str):
        super().__init__()
        self.fc_in, self.fc_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.ln = nn.LayerNorm(4 * width) if activation == "solu_ln" else None

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc_in(x)
        if self.ln is None:
            return self.fc_out(F.gelu(hidden))
        return self.fc_out(self.ln(hidden * hidden.softmax(-1)))


class Layer(nn.Module):
    """Attention, then MLP, each behind its own LayerNorm."""

    def __init__(self, width: int, heads: int, activation: str):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads), MLP(width, activation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Native(nn.Module):
    """Token ids (batch, length) -> logits (batch, length, vocabulary)."""

    def __init__(
        self, vocabulary: int, width: int, depth: int, heads: int, activation: str, context: int, seed: int
    ) -> None:
        super().__init__()
        self.tok_embed, self.pos = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.layers = nn.ModuleList(Layer(width, heads, activation) for _ in range(depth))
        self.ln_out = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self._initialise(depth, width, seed)

    @torch.no_grad()
    def _initialise(self, depth: int, width: int, seed: int) -> None:
        """As in the GPT-NeoX models: small, and smaller still into the residual stream."""
        generator = torch.Generator().manual_seed(seed)
        small, wang = math.sqrt(2 / (5 * width)), 2 / (depth * math.sqrt(width))
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_residual = name.endswith(("attn.o.weight", "fc_out.weight"))
                parameter.normal_(0, wang if into_residual else small, generator=generator)
            elif "ln" not in name:
                parameter.zero_()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tok_embed(ids) + self.pos.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.ln_out(x))
