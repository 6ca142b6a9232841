"""Which parameters of a block are its queries, keys, values, outputs and MLP, and how heads are packed in them.

Every matrix is turned so that it acts on column vectors: (outputs, inputs), as in torch's Linear. A model that packs
its weights in a way that is not in the tables below is refused, since a wrong slice looks like a right one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models import Model

Read = Callable[[nn.Parameter], Tensor]  # what is to be read of a parameter: its values, or its gradient
ATTENTION_PARTS = ("query", "key", "value", "output", "ov")
MLP_PARTS = ("mlp_in", "mlp_gate", "mlp_out")

SEPARATE = (  # paths in a block of query, key, value and output
    *(
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", f"self_attn.{output}")
        for output in ("o_proj", "out_proj", "dense")  # Llama and its kin; OPT; Phi
    ),
    ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj"),  # GPT-J
    *(
        tuple(f"attn.attention.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")),  # GPT-Neo
        tuple(f"attn.{name}" for name in "qkvo"),  # TransformerLens' native format
        (*(f"attention.self.{name}" for name in ("query", "key", "value")), "attention.output.dense"),  # BERT
        tuple(f"attention.{name}_lin" for name in ("q", "k", "v", "out")),  # DistilBERT
        tuple(f"attention.attn.{name}" for name in "qkvo"),  # MPNet
    ),
)
PACKED = {  # type of model -> path of query, key and value in one, path of the output, what comes first in its rows
    "gpt_neox": ("attention.query_key_value", "attention.dense", "heads"),
    "bloom": ("self_attention.query_key_value", "self_attention.dense", "heads"),
    "gpt2": ("attn.c_attn", "attn.c_proj", "parts"),
}
MLPS = (  # paths in a block of input, gate ("" for none) and output
    ("mlp.up_proj", "mlp.gate_proj", "mlp.down_proj"),
    ("mlp.up_proj", "", "mlp.down_proj"),
    ("mlp.dense_h_to_4h", "", "mlp.dense_4h_to_h"),
    ("mlp.c_fc", "", "mlp.c_proj"),
    ("mlp.fc_in", "", "mlp.fc_out"),
    ("mlp.fc1", "", "mlp.fc2"),
    ("fc1", "", "fc2"),
    ("intermediate.dense", "", "output.dense"),
    ("ffn.lin1", "", "ffn.lin2"),
)


class Labelled(NamedTuple):
    """One matrix of a block, as itself or as the two factors of a product; head None is the whole."""

    part: str
    head: int | None
    factors: tuple[Tensor, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        return len(self.factors[0]), self.factors[-1].shape[1]


@dataclass(frozen=True)
class BlockMatrices:
    """The matrices of one block, or anything else that its parameters have, such as their gradients.

    Attributes
    ----------
    query
        (heads, width of a head, d_model).
    key, value
        (key heads, width of a head, d_model); fewer heads than queries where several of these share one.
    output
        (heads, d_model, width of a head).
    mlp
        Name of the part -> (outputs, inputs).
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    mlp: Mapping[str, Tensor]

    @property
    def values(self) -> Tensor:
        """The value matrix that each head reads, (heads, width of a head, d_model)."""
        return self.value.repeat_interleave(len(self.output) // len(self.value), 0)

    def whole(self) -> Iterator[Labelled]:
        """All matrices but W_O W_V, whole."""
        for part in ("query", "key", "value"):
            yield Labelled(part, None, (getattr(self, part).flatten(0, 1),))
        yield Labelled("output", None, (_side_by_side(self.output),))
        for part, matrix in self.mlp.items():
            yield Labelled(part, None, (matrix,))

    def by_head(self) -> Iterator[Labelled]:
        """All matrices of single heads but W_O W_V."""
        for part in ("query", "key", "value", "output"):
            for head, matrix in enumerate(getattr(self, part)):
                yield Labelled(part, head, (matrix,))


def labelled(weights: BlockMatrices, heads: bool) -> Iterator[Labelled]:
    """Every matrix of a block, and W_O W_V: sum over heads of the head's output matrix times the value matrix it reads.

    Where heads share a value matrix, their output matrices are summed first, which gives the same sum as a product
    through fewer dimensions.
    """
    yield from weights.whole()
    yield Labelled("ov", None, (_shared_output(weights), weights.value.flatten(0, 1)))
    if heads:
        yield from weights.by_head()
        for head, factors in enumerate(zip(weights.output, weights.values, strict=True)):
            yield Labelled("ov", head, factors)


def labelled_gradients(weights: BlockMatrices, gradients: BlockMatrices, heads: bool) -> Iterator[Labelled]:
    """Gradients of every matrix of a block, and of W_O W_V by the product rule: dW_O W_V + W_O dW_V."""
    yield from gradients.whole()
    outputs = _shared_output(gradients), _shared_output(weights)
    values = weights.value.flatten(0, 1), gradients.value.flatten(0, 1)
    yield Labelled("ov", None, (torch.cat(outputs, 1), torch.cat(values)))
    if heads:
        yield from gradients.by_head()
        each = zip(gradients.output, weights.output, weights.values, gradients.values, strict=True)
        for head, (d_output, output, value, d_value) in enumerate(each):
            yield Labelled("ov", head, (torch.cat([d_output, output], 1), torch.cat([value, d_value])))


def block_of(model: Model, layer: int, read: Read) -> BlockMatrices:
    """The matrices of block `layer` (1 to n_layers), with what `read` makes of every parameter.

    Raises
    ------
    InputError
        If the architecture is not known, or its weights are quantised, adapted or not in memory.
    """
    block = _Block(model, layer)
    return BlockMatrices(*block.attention(read), block.mlp(read))


class _Block:
    """One block, and how its model names and packs its parameters."""

    def __init__(self, model: Model, layer: int) -> None:
        self.model, self.layer = model, layer
        module: Any = model.module
        stacks = (m for m in module.modules() if isinstance(m, nn.ModuleList) and len(m) == model.n_layers)
        stack = next(stacks, None)
        self.block: nn.Module = nn.Identity() if stack is None else stack[layer - 1]
        self.config = getattr(module, "config", None)
        if hasattr(self.config, "get_text_config"):
            self.config = self.config.get_text_config()
        self.modules = dict(self.block.named_modules())

    def attention(self, read: Read) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        heads = self._number("num_attention_heads", "n_heads")
        packed = PACKED.get(getattr(self.config, "model_type", ""))
        if packed is not None and packed[0] in self.modules:
            path, output_path, first = packed
            whole, output = self._oriented(path, read), self._oriented(output_path, read)
            inner = output.shape[1]
            if len(whole) != 3 * inner or inner % heads:
                raise self._refusal(f"{path} has {len(whole)} rows for {heads} heads and outputs of {inner}")
            if first == "heads":
                parts = whole.view(heads, 3, inner // heads, -1).unbind(1)
            else:
                parts = whole.view(3, heads, inner // heads, -1).unbind(0)
            query, key, value = parts
            return query, key, value, _by_head(output, heads)
        paths = next((paths for paths in SEPARATE if all(path in self.modules for path in paths)), None)
        if paths is None:
            raise self._refusal("its block has no query, key, value and output matrix by a known name")
        query, key, value, output = (self._oriented(path, read) for path in paths)
        shared = self._number("num_key_value_heads", default=heads)
        width, rest = divmod(output.shape[1], heads)
        expected = [heads * width, shared * width, shared * width]
        if rest or heads % shared or [len(query), len(key), len(value)] != expected:
            raise self._refusal(
                f"its {heads} heads, {shared} of keys, do not fit matrices of {len(query)}, {len(key)}, {len(value)} "
                f"and {output.shape[1]} dimensions for query, key, value and output"
            )
        query, key, value = (matrix.view(-1, width, matrix.shape[1]) for matrix in (query, key, value))
        return query, key, value, _by_head(output, heads)

    def mlp(self, read: Read) -> dict[str, Tensor]:
        if "mlp" in vars(self.block)["_modules"] and getattr(self.block, "mlp", None) is None:
            return {}  # attention only
        paths = next((paths for paths in MLPS if all(path in self.modules for path in paths if path)), None)
        if paths is None:
            raise self._refusal("its block has no MLP whose matrices have known names")
        return {part: self._oriented(path, read) for part, path in zip(MLP_PARTS, paths, strict=True) if path}

    def _oriented(self, path: str, read: Read) -> Tensor:
        """What `read` makes of the weight of a linear map, as (outputs, inputs)."""
        module = self.modules[path]
        kind = type(module).__name__
        weight = getattr(module, "weight", None)
        if type(module) is not nn.Linear and kind != "Conv1D":  # a derived class may be quantised or adapted
            raise self._refusal(f"{path} is a {kind}, expected a plain linear map")
        if not (isinstance(weight, nn.Parameter) and weight.dim() == 2 and weight.is_floating_point()):
            raise self._refusal(f"the weight of {path} is not one matrix of plain numbers")
        if weight.is_meta:
            raise self._refusal(f"the weight of {path} is offloaded; load the model without device_map")
        value = read(weight)
        return value.T if kind == "Conv1D" else value

    def _number(self, *names: str, default: int | None = None) -> int:
        found = next((value for name in names if (value := getattr(self.config, name, None)) is not None), default)
        if isinstance(found, bool) or not isinstance(found, int) or found < 1:
            raise self._refusal(f"its config has no number {names[0]} that holds for all blocks")
        return found

    def _refusal(self, why: str) -> InputError:
        kind = type(self.model.module).__name__
        return InputError(
            f"The matrices of {self.model.name} ({kind}) cannot be told apart at layer {self.layer}: {why}. Known are "
            "GPT-NeoX, GPT-2, BLOOM, OPT, GPT-J, GPT-Neo, Phi, Llama and models that name their parts as it does, "
            "TransformerLens' native format, BERT, RoBERTa, DistilBERT and MPNet."
        )


def _by_head(output: Tensor, heads: int) -> Tensor:
    """(d_model, heads * width) -> (heads, d_model, width)."""
    return output.unflatten(1, (heads, -1)).transpose(0, 1)


def _side_by_side(matrices: Tensor) -> Tensor:
    """(n, rows, columns) -> (rows, n * columns)."""
    return matrices.transpose(0, 1).flatten(1)


def _shared_output(matrices: BlockMatrices) -> Tensor:
    """The output matrices, summed over heads that share a value matrix, (d_model, key heads * width of a head)."""
    return _side_by_side(matrices.output.unflatten(0, (len(matrices.value), -1)).sum(1))


def parameters_of(model: Model, layers: Sequence[int]) -> list[nn.Parameter]:
    """All parameters that the matrices of these blocks are read from."""
    found: dict[int, nn.Parameter] = {}

    def read(parameter: nn.Parameter) -> Tensor:
        found[id(parameter)] = parameter
        return parameter.detach()

    for layer in layers:
        block_of(model, layer, read)
    return list(found.values())
