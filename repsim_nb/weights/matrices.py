"""Which parameters of a block are its queries, keys, values, outputs and MLP, and how heads are packed in them.

Every matrix is turned so that it acts on column vectors: (outputs, inputs), as in torch's Linear. A wrong slice looks
like a right one, so a block is refused if its matrices have other names than those below, if it has any more of them,
or if the slices do not give the values that its heads pass on when it runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models import Model
from repsim_nb.models.trial import batch_of, random_ids

Read = Callable[[nn.Parameter], Tensor]  # what is to be read of a parameter: its values, or its gradient
MLP_PARTS = ("mlp_in", "mlp_gate", "mlp_out")

SEPARATE = (  # paths in a block of query, key, value and output
    *(
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", f"self_attn.{output}")
        for output in ("o_proj", "out_proj", "dense")  # Llama and its kin; OPT; Phi
    ),
    ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj"),  # GPT-J
    ("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj", "attn.attention.out_proj"),  # GPT-Neo
    ("attn.q", "attn.k", "attn.v", "attn.o"),  # TransformerLens' native format
    ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),  # BERT
    ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),  # DistilBERT
    ("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"),  # MPNet
)
PACKED = {  # type of model -> path of query, key and value in one, path of the output, order of the rows of the former
    "gpt_neox": ("attention.query_key_value", "attention.dense", "by head"),
    "gpt2": ("attn.c_attn", "attn.c_proj", "by part"),
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


class BlockPlan:
    """Where the matrices of one block are, layer 1 to n_layers.

    Raises
    ------
    InputError
        If the architecture is not known, or its weights are quantised, adapted or not in memory.
    """

    def __init__(self, model: Model, layer: int) -> None:
        self.model, self.layer = model, layer
        module: Any = model.module
        stacks = (part for part in module.modules() if isinstance(part, nn.ModuleList) and len(part) == model.n_layers)
        stack = next(stacks, [nn.Identity()] * layer)
        self.block = stack[layer - 1]
        self.modules = dict(self.block.named_modules())
        config: Any = getattr(module, "config", None)
        self.config = config.get_text_config() if hasattr(config, "get_text_config") else config
        self.attention_paths, self.order = self._attention()
        self.mlp_paths = self._mlp()
        self._check_complete()

    def read(self, read: Read) -> BlockMatrices:
        """The matrices, with what `read` makes of every parameter."""
        *inner, output = (self._oriented(path, read) for path in self.attention_paths)
        heads = self._number("num_attention_heads", "n_heads")
        shared = heads if self.order else self._number("num_key_value_heads", default=heads)
        width, rest = divmod(output.shape[1], heads)
        sizes = [3 * heads * width] if self.order else [heads * width, shared * width, shared * width]
        if rest or heads % shared or [len(matrix) for matrix in inner] != sizes:
            rows = " and ".join(str(len(matrix)) for matrix in inner)
            raise self.refusal(f"{heads} heads, {shared} of keys and values, do not fit projections of {rows} rows")
        if self.order == "by head":
            query, key, value = inner[0].unflatten(0, (heads, 3, width)).unbind(1)
        elif self.order:
            query, key, value = inner[0].unflatten(0, (3, heads, width)).unbind(0)
        else:
            query, key, value = (matrix.unflatten(0, (-1, width)) for matrix in inner)
        mlp = {part: self._oriented(path, read) for part, path in self.mlp_paths.items()}
        return BlockMatrices(query, key, value, output.unflatten(1, (heads, width)).transpose(0, 1), mlp)

    def _attention(self) -> tuple[tuple[str, ...], str]:
        """Paths of query, key, value and output, or of all but the last in one and of the last; order of its rows."""
        *paths, order = PACKED.get(getattr(self.config, "model_type", ""), ("", ""))
        if order and all(path in self.modules for path in paths):
            return tuple(paths), order
        found = next((paths for paths in SEPARATE if all(path in self.modules for path in paths)), None)
        if found is None:
            raise self.refusal("its block has no query, key, value and output matrix by a known name")
        return found, ""

    def _mlp(self) -> dict[str, str]:
        if self.block._modules.get("mlp", self.block) is None:
            return {}  # attention only
        paths = next((paths for paths in MLPS if all(path in self.modules for path in paths if path)), None)
        if paths is None:
            raise self.refusal("its block has no MLP whose matrices have known names")
        return {part: path for part, path in zip(MLP_PARTS, paths, strict=True) if path}

    def _check_complete(self) -> None:
        known = {f"{path}.weight" for path in (*self.attention_paths, *self.mlp_paths.values())}
        for name, parameter in self.block.named_parameters():
            if parameter.dim() > 1 and name not in known:
                raise self.refusal(f"its block also has {name}, whose part is not known")

    def _oriented(self, path: str, read: Read) -> Tensor:
        """What `read` makes of the weight of a linear map, as (outputs, inputs)."""
        module = self.modules[path]
        kind = type(module).__name__
        weight = getattr(module, "weight", None)
        if type(module) is not nn.Linear and kind != "Conv1D":  # a derived class may be quantised or adapted
            raise self.refusal(f"{path} is of class {kind}, expected a plain linear map")
        if not (isinstance(weight, nn.Parameter) and weight.dim() == 2 and weight.is_floating_point()):
            raise self.refusal(f"the weight of {path} is not one matrix of plain numbers")
        if weight.is_meta:
            raise self.refusal(f"the weight of {path} is offloaded; load the model without device_map")
        value = read(weight)
        return value.T if kind == "Conv1D" else value

    def _number(self, *names: str, default: int | None = None) -> int:
        found = next((value for name in names if (value := getattr(self.config, name, None)) is not None), default)
        if isinstance(found, bool) or not isinstance(found, int) or found < 1:
            raise self.refusal(f"its config has no number {names[0]} that holds for all blocks")
        return found

    @torch.no_grad()
    def check(self) -> None:
        """Check by running the block that what reaches its output matrix are the values of each head, side by side.

        A sequence of one token attends to itself alone, so nothing else can reach it. The difference of two such
        sequences is free of biases.

        Raises
        ------
        InputError
            If it is anything else: heads are packed in another way, or normalised, mixed or gated before.
        """
        model, seen = self.model, defaultdict[str, list[Tensor]](list)
        value_path, output_path = self.attention_paths[-2], self.attention_paths[-1]
        states = torch.randn(2, 1, 1, model.d_model, generator=torch.Generator().manual_seed(0))
        with ExitStack() as hooks:
            for path in (value_path, output_path):
                handle = self.modules[path].register_forward_pre_hook(
                    lambda _, given, path=path: seen[path].append(exact(given[0]).flatten())
                )
                hooks.callback(handle.remove)
            for hidden, ids in zip(states.to(model.device, model.dtype), random_ids(model, 2), strict=True):
                model.run(hidden, self.layer - 1, self.layer, batch_of(model, np.array([ids])))
        if any(len(seen[path]) != 2 for path in (value_path, output_path)):
            raise self.refusal(f"{value_path} and {output_path} do not run once for each text")
        x, passed = (seen[path][1] - seen[path][0] for path in (value_path, output_path))
        expected = (self.read(exact).values @ x).flatten()
        if passed.shape != expected.shape or (passed - expected).norm() > self._tolerance * expected.norm():
            raise self.refusal(f"what reaches {output_path} are not the values of each head, side by side")

    @property
    def _tolerance(self) -> float:
        return 0.01 if torch.finfo(self.model.dtype).eps < 1e-6 else 0.1

    def refusal(self, why: str) -> InputError:
        """The error for a block whose matrices are not known."""
        kind = type(self.model.module).__name__
        return InputError(
            f"The matrices of {self.model.name} ({kind}) cannot be told apart at layer {self.layer}: {why}. Known are "
            "GPT-NeoX, GPT-2, OPT, GPT-J, GPT-Neo, Phi, Llama, Mistral, Qwen and others that name their parts as Llama "
            "does, TransformerLens' native format, BERT, RoBERTa, DistilBERT and MPNet."
        )


def exact(values: Tensor) -> Tensor:
    """The values in float64, in which sums and products of them are exact but for rounding; MPS has none."""
    values = values.detach()
    return (values.cpu() if values.is_mps else values).double()


def plans(model: Model, layers: Sequence[int]) -> dict[int, BlockPlan]:
    """Layer -> where its matrices are, each checked by running the block.

    Raises
    ------
    InputError
        If the matrices of one of them cannot be told apart.
    """
    found = {}
    for layer in layers:
        found[layer] = BlockPlan(model, layer)
        found[layer].check()
    return found


def parameters_of(blocks: Mapping[int, BlockPlan]) -> list[nn.Parameter]:
    """All parameters that the matrices of these blocks are read from."""
    found: dict[int, nn.Parameter] = {}

    def read(parameter: nn.Parameter) -> Tensor:
        found[id(parameter)] = parameter
        return parameter.detach()

    for block in blocks.values():
        block.read(read)
    return list(found.values())
