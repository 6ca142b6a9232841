"""GPT-NeoX in plain torch on one page: the design of Pythia at toy size, with Hugging Face's parameter names.

Parallel attention and MLP, rotary positions on a share of each head, untied embeddings, small and Wang initialisation
as in GPT-NeoX-20B (Black et al. 2022). Plain torch trains faster on a CPU than the Hugging Face module. Names and
layouts are equal, so export is a copy and equality of logits can be asserted.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NeoXAttention(nn.Module):
    """Causal self-attention with rotary positions on the first `rotary` dimensions of each head."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, heads: int, rotary: int, context: int):
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.query_key_value = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)
        frequencies = 1.0 / 10_000 ** (torch.arange(0, rotary, 2).float() / rotary)
        angles = torch.outer(torch.arange(context).float(), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def _rotate(self, x: Tensor) -> Tensor:
        turned, passed = x[..., : self.rotary], x[..., self.rotary :]
        first, second = turned.chunk(2, dim=-1)
        length = x.shape[-2]
        turned = turned * self.cos[:length] + torch.cat((-second, first), dim=-1) * self.sin[:length]
        return torch.cat((turned, passed), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.query_key_value(x).view(batch, length, self.heads, -1).transpose(1, 2).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(self._rotate(q), self._rotate(k), v, is_causal=True)
        return self.dense(y.transpose(1, 2).reshape(batch, length, width))


class NeoXMLP(nn.Module):
    """Two layers with GeLU, four times the width inside."""

    def __init__(self, width: int):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(width, 4 * width)
        self.dense_4h_to_h = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(x)))


class NeoXLayer(nn.Module):
    """NeoXAttention and NeoXMLP in parallel, each after its own LayerNorm."""

    def __init__(self, width: int, heads: int, rotary: int, context: int):
        super().__init__()
        self.input_layernorm = nn.LayerNorm(width)
        self.post_attention_layernorm = nn.LayerNorm(width)
        self.attention = NeoXAttention(width, heads, rotary, context)
        self.mlp = NeoXMLP(width)

    def forward(self, x: Tensor) -> Tensor:
        attended = self.attention(self.input_layernorm(x))
        return self.mlp(self.post_attention_layernorm(x)) + attended + x  # order of transformers, for equal rounding


class NeoX(nn.Module):
    """Token ids (batch, length) -> logits (batch, length, vocabulary)."""

    def __init__(
        self, vocabulary: int, width: int, depth: int, heads: int, rotary: int, context: int, seed: int
    ) -> None:
        super().__init__()
        self.gpt_neox = nn.ModuleDict(
            {
                "embed_in": nn.Embedding(vocabulary, width),
                "layers": nn.Sequential(*(NeoXLayer(width, heads, rotary, context) for _ in range(depth))),
                "final_layer_norm": nn.LayerNorm(width),
            }
        )
        self.embed_out = nn.Linear(width, vocabulary, bias=False)
        self._initialise(depth, width, seed)

    @torch.no_grad()
    def _initialise(self, depth: int, width: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        small, wang = math.sqrt(2 / (5 * width)), 2 / (depth * math.sqrt(width))
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_residual = name.endswith(("attention.dense.weight", "dense_4h_to_h.weight"))
                parameter.normal_(0, wang if into_residual else small, generator=generator)
            elif "norm" not in name:
                parameter.zero_()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.gpt_neox["embed_in"](ids)
        return self.embed_out(self.gpt_neox["final_layer_norm"](self.gpt_neox["layers"](x)))
