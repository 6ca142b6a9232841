"""The native format of TransformerLens, used by the GeLU and SoLU models: its network in plain torch, run in parts.

TransformerLens' own network is not used because it materialises attention patterns, which halves the speed. Parameter
names are the same, and logits are equal (tested). `model.bridge` gives the original network.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from repsim_nb.errors import InputError, needs, unknown
from repsim_nb.models.batch import Batch
from repsim_nb.models.causal_blocks import CausalBlocks
from repsim_nb.models.model import Hidden, Logits, Tap

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase
else:
    TransformerBridge = PreTrainedTokenizerBase = Any  # see model.py

ARCHITECTURE = "TransformerLensNative"
BUFFERS = (".mask", ".IGNORE")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "solu_ln": lambda x: x * x.softmax(-1),  # Elhage et al. 2022; the LayerNorm that follows is in the MLP
}


@dataclass(frozen=True)
class NativeConfig:
    """A config.json of this format: sequential pre-norm blocks, learned positions, untied embeddings.

    With attn_only, blocks have no MLP.
    """

    d_model: int
    n_layers: int
    n_heads: int
    d_head: int
    d_mlp: int
    n_ctx: int
    d_vocab: int
    act_fn: str
    eps: float = 1e-5
    attn_only: bool = False

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> NativeConfig:
        """Read a parsed config.json, in the current format or that of the older toy models.

        Raises
        ------
        InputError
            If a key is missing, or the network is not supported.
        """
        if config.get("attn_only") is True:
            config = {**config, "d_mlp": 1, "act_fn": "gelu"}  # placeholders, since there is no MLP
        missing = [key for key in cls.__annotations__ if key not in config and key not in ("eps", "attn_only")]
        if missing:
            raise InputError(f"the config.json of a TransformerLens model needs {', '.join(missing)}.")
        for key, kind in cls.__annotations__.items():
            if kind == "int" and not (isinstance(config[key], int) and config[key] > 0):
                raise InputError(f"its config.json has {key}={config[key]!r}; expected a positive integer.")
        if config["act_fn"] not in ACTIVATIONS:
            raise unknown("activation", config["act_fn"], ACTIVATIONS)
        for key, accepted in _accepted(config).items():
            if key in config and config[key] not in accepted:
                raise InputError(
                    f"TransformerLens models with {key}={config[key]!r} are not supported, only {accepted[0]!r}."
                )
        return cls(**{key: config[key] for key in cls.__annotations__ if key in config})

    def written(self) -> dict[str, Any]:
        """The content of config.json."""
        return {
            "architecture": ARCHITECTURE,
            **asdict(self),
            "normalization_type": "LN",
            "positional_embedding_type": "standard",
        }


def _accepted(config: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Keys that would change the network -> values that are supported, the usual one first."""
    return {
        "architecture": (ARCHITECTURE, "neel", "neel-solu-old", None),
        "normalization": ("LN",),
        "normalization_type": ("LN",),
        "positional_embedding_type": ("standard",),
        "attention_dir": ("causal",),
        "attn_only": (False, True),
        "final_rms": (False,),
        "gated_mlp": (False,),
        "shortformer_pos": (False,),
        "use_attn_scale": (True,),
        "attn_scale": (-1.0, math.sqrt(config["d_head"])),
        "attn_scores_soft_cap": (-1.0, 0.0, None),
        "output_logits_soft_cap": (-1.0, 0.0, None),
        "n_key_value_heads": (config["n_heads"], None),
        "d_vocab_out": (config["d_vocab"], -1),
    }


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, config: NativeConfig):
        super().__init__()
        self.heads, inner = config.n_heads, config.n_heads * config.d_head
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Attend to earlier tokens of every sequence."""
        batch, length, _ = x.shape
        q, k, v = (f(x).view(batch, length, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    """Two linear layers; SoLU has a LayerNorm over the hidden units."""

    def __init__(self, config: NativeConfig):
        super().__init__()
        self.fc_in, self.fc_out = nn.Linear(config.d_model, config.d_mlp), nn.Linear(config.d_mlp, config.d_model)
        self.act = ACTIVATIONS[config.act_fn]
        self.ln = nn.LayerNorm(config.d_mlp, eps=config.eps) if config.act_fn == "solu_ln" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token independently."""
        return self.fc_out(self.ln(self.act(self.fc_in(x))))


class Block(nn.Module):
    """Attention, then the MLP if there is one, each after its own LayerNorm."""

    def __init__(self, config: NativeConfig):
        super().__init__()
        self.ln1 = nn.LayerNorm(config.d_model, eps=config.eps)
        self.attn = Attention(config)
        self.mlp: MLP | None = None
        if not config.attn_only:
            self.ln2 = nn.LayerNorm(config.d_model, eps=config.eps)
            self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """Go from one layer of the residual stream to the next."""
        x = x + self.attn(self.ln1(x))
        return x if self.mlp is None else x + self.mlp(self.ln2(x))


class Native(nn.Module):
    """Token ids (batch, length) -> logits (batch, length, vocabulary)."""

    def __init__(self, config: NativeConfig, head_bias: bool = False):
        super().__init__()
        self.config = config
        self.tok_embed = nn.Embedding(config.d_vocab, config.d_model)
        self.pos = nn.Embedding(config.n_ctx, config.d_model)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_out = nn.LayerNorm(config.d_model, eps=config.eps)
        self.head = nn.Linear(config.d_model, config.d_vocab, bias=head_bias)

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embedding."""
        return self.tok_embed

    def embed(self, ids: Tensor) -> Tensor:
        """Token plus position embeddings, (batch, length, d_model)."""
        return self.tok_embed(ids) + self.pos.weight[: ids.shape[1]]

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of the next token at every position."""
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.ln_out(x))


class NativeModel(CausalBlocks):
    """A causal model in TransformerLens' native format. Padding is on the right, where no token attends."""

    kind = "causal"
    module: Native

    def __init__(self, name: str, module: Native, tokenizer: PreTrainedTokenizerBase, source: dict[str, Any]) -> None:
        super().__init__(name, module, tokenizer, source)
        self.n_layers, self.d_model = module.config.n_layers, module.config.d_model
        self.context = min(module.config.n_ctx, tokenizer.model_max_length)

    @property
    def n_heads(self) -> int:
        """Number of query heads of a block."""
        return self.module.config.n_heads

    def _stack(self) -> list[nn.Module]:
        return list(self.module.layers)

    @cached_property
    def bridge(self) -> TransformerBridge:
        """The same model as a TransformerLens bridge, for hooks inside its blocks; a copy made on first access."""
        needs(f"The bridge of {self.name}", "transformer_lens")
        from transformer_lens.config import TransformerBridgeConfig
        from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
        from transformer_lens.model_bridge.sources.native import NativeModel as Network

        config = TransformerBridgeConfig.from_dict(self.module.config.written())
        network = Network(config).to(self.device, self.dtype).eval()
        network.head = copy.deepcopy(self.module.head)  # TransformerLens' own head has no bias
        network.load_state_dict(self.module.state_dict())
        return build_bridge_from_module(
            network,
            architecture=ARCHITECTURE,
            tl_config=config,
            tokenizer=self.tokenizer,
            dtype=self.dtype,
            device=self.device,
            model_name=self.name,
        )

    def embed(self, batch: Batch) -> Hidden:
        """Layer 0, (sequences, length, d_model)."""
        return self.module.embed(batch.ids)

    def _blocks(self, hidden: Hidden, k: int, m: int, batch: Batch, tap: Tap | None) -> Hidden:
        for position in range(k, m):
            if tap is not None:
                tap(position, hidden)
            hidden = self.module.layers[position](hidden)
        if tap is not None:
            tap(m, hidden)
        return hidden

    def head(self, hidden: Hidden, batch: Batch) -> Logits:
        """Logits (sequences, length, vocabulary) from layer n_layers, final norm included."""
        self._check(hidden, batch)
        return self.module.head(self.module.ln_out(hidden))


def renamed(weights: Mapping[str, Tensor], config: NativeConfig) -> dict[str, Tensor]:
    """Convert weights from TransformerLens' older names (embed.W_E, blocks.0.attn.W_Q, ...) to the names used here.

    Drops masks and an output bias of zeros.

    Raises
    ------
    InputError
        If weights are missing or unused, or their shapes do not match the config.
    """
    if "embed.W_E" not in weights:
        return dict(weights)
    rest = {key: value for key, value in _to_older_names(weights, config.n_layers).items() if not key.endswith(BUFFERS)}
    width, vocabulary = config.d_model, config.d_vocab
    new = {
        "tok_embed.weight": _taken(rest, "embed.W_E", vocabulary, width),
        "pos.weight": _taken(rest, "pos_embed.W_pos", config.n_ctx, width),
        "head.weight": _taken(rest, "unembed.W_U", width, vocabulary).T,
        **_norm(rest, "ln_final", "ln_out", width),
    }
    if "unembed.b_U" in rest and (bias := _taken(rest, "unembed.b_U", vocabulary)).any():
        new["head.bias"] = bias
    for layer in range(config.n_layers):
        new |= _block(rest, f"blocks.{layer}", f"layers.{layer}", config)
    _check_all_used(rest)
    return new


def _to_older_names(weights: Mapping[str, Tensor], n_layers: int) -> Mapping[str, Tensor]:
    """Convert the oldest files, the SoLU models trained on the Pile, to the older names.

    Their norms are named "norm". Files with up to 6 layers store transposed matrices, those with up to 8 layers
    transposed positions.
    """
    if "norm.w" not in weights:
        return weights
    named = {re.sub(r"^ln\.", "ln_final.", key.replace("norm", "ln")): value for key, value in weights.items()}

    def turned(key: str) -> bool:
        return n_layers <= 8 if key.endswith("W_pos") else "W_" in key and n_layers <= 6

    return {key: value.mT if turned(key) else value for key, value in named.items()}


def checked(weights: Mapping[str, Tensor], network: Native) -> dict[str, Tensor]:
    """The same weights.

    Raises
    ------
    InputError
        If weights are missing or unused, or their shapes differ from those of `network`.
    """
    rest = dict(weights)
    found = {name: _taken(rest, name, *own.shape) for name, own in network.state_dict().items()}
    _check_all_used(rest)
    return found


def _block(rest: dict[str, Tensor], old: str, new: str, config: NativeConfig) -> dict[str, Tensor]:
    width, heads, inner, mlp = config.d_model, config.n_heads, config.d_head, config.d_mlp
    block = {
        f"{new}.attn.o.weight": _taken(rest, f"{old}.attn.W_O", heads, inner, width).flatten(0, 1).T,
        f"{new}.attn.o.bias": _taken(rest, f"{old}.attn.b_O", width),
    }
    for x in "qkv":
        weight = _taken(rest, f"{old}.attn.W_{x.upper()}", heads, width, inner)
        block[f"{new}.attn.{x}.weight"] = weight.mT.flatten(0, 1)
        block[f"{new}.attn.{x}.bias"] = _taken(rest, f"{old}.attn.b_{x.upper()}", heads, inner).flatten()
    block |= _norm(rest, f"{old}.ln1", f"{new}.ln1", width)
    if config.attn_only:
        return block
    if config.act_fn == "solu_ln":
        block |= _norm(rest, f"{old}.mlp.ln", f"{new}.mlp.ln", mlp)
    return block | {
        **_norm(rest, f"{old}.ln2", f"{new}.ln2", width),
        f"{new}.mlp.fc_in.weight": _taken(rest, f"{old}.mlp.W_in", width, mlp).T,
        f"{new}.mlp.fc_in.bias": _taken(rest, f"{old}.mlp.b_in", mlp),
        f"{new}.mlp.fc_out.weight": _taken(rest, f"{old}.mlp.W_out", mlp, width).T,
        f"{new}.mlp.fc_out.bias": _taken(rest, f"{old}.mlp.b_out", width),
    }


def _norm(rest: dict[str, Tensor], old: str, new: str, size: int) -> dict[str, Tensor]:
    return {f"{new}.weight": _taken(rest, f"{old}.w", size), f"{new}.bias": _taken(rest, f"{old}.b", size)}


def _taken(rest: dict[str, Tensor], name: str, *shape: int) -> Tensor:
    """Take a weight out of `rest`. Checks the shape first, since a wrong number of heads would fit after reshaping."""
    if name not in rest:
        raise InputError(f"the weight {name} is missing.")
    if (found := tuple(rest[name].shape)) != shape:
        raise InputError(f"the weight {name} has shape {found}; its config.json requires {shape}.")
    return rest.pop(name)


def _check_all_used(rest: Mapping[str, Tensor]) -> None:
    if rest:
        raise InputError(f"its config.json has no place for the weight {min(rest)}.")
