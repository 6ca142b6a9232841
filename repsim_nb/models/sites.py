"""Sites inside the blocks of causal models: what each one reads, and the trial that shows that it does.

A causal block adds two things to the residual stream: attn_out, from its attention, and mlp_out, from its MLP. Every
other site is made of what enters or leaves one module of these two:

site        | what it is
attn_out    | what attention adds to the residual stream, with the bias of the output matrix
mlp_out     | what the MLP adds to the residual stream
mlp_act     | MLP activations: what enters the MLP's last matrix, after nonlinearity, gate and norm; its own width
head_out    | the mixed values of all heads (what enters the output matrix) times the output matrix, without its bias
head_out.3  | the share of head 3; the shares of all heads sum to head_out, and head_out plus bias is attn_out
ov          | the same for the values of every token before attention mixes them: each token's own contribution
ov.3        | of head 3; with grouped keys and values a head uses the values of its group

Modules are found by the names that architectures give them, but a name is only a candidate. When a model is first asked
for a site, `tell` reads a short text at all candidates and keeps those for which, in every block,

- the residual stream plus attn_out and mlp_out is the next residual stream, within rounding. Blocks may be sequential
  or parallel, and may norm what they add (Gemma 2, OLMo 2); what is scaled before it is added (Granite) is refused;
- the heads sum, with the bias, to attn_out;
- what each head holds at the first token is that token's values, since there is nothing else to attend to, and at the
  second token a weighted mean of the values of both, with one weight per head. This tells how queries, keys and values
  are packed in one matrix (GPT-2 stacks them, GPT-NeoX packs them head by head), and that heads are counted right.

pre_residual is refused: it is what a post-norm block adds last. In these blocks that is mlp_out, or in a parallel block
the sum of both, so ask for those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models.batch import Batch
from repsim_nb.models.positions import MLP_ACTIVATIONS

BY_HEAD = ("head_out", "ov")
INSIDE = ("attn_out", "mlp_out", MLP_ACTIVATIONS, *BY_HEAD)
PRE_RESIDUAL = (
    "it is what a post-norm block adds last. What these blocks add last is mlp_out, in a parallel block together with "
    "attn_out"
)

Layout = Callable[[Tensor, int, int], Tensor]


def separate(values: Tensor, heads: int, size: int) -> Tensor:
    """A matrix of values alone."""
    return values.unflatten(-1, (-1, size))


def stacked(packed: Tensor, heads: int, size: int) -> Tensor:
    """The values of a matrix that holds all queries, then all keys, then all values."""
    groups = (packed.shape[-1] // size - heads) // 2
    return packed[..., -groups * size :].unflatten(-1, (groups, size))


def group_by_group(packed: Tensor, heads: int, size: int) -> Tensor:
    """The values of a matrix that holds for each group its queries, its key and its values; a group may be one head."""
    groups = (packed.shape[-1] // size - heads) // 2
    return packed.unflatten(-1, (groups, heads // groups + 2, size))[..., -1, :]


@dataclass(frozen=True)
class Inside:
    """Where the sites are in every block of a model, as `tell` found them.

    Attributes
    ----------
    heads
        Number of query heads.
    added
        attn_out and mlp_out: path in a block of the module whose output it is.
    last
        Path of the MLP's last matrix, which the activations enter.
    output, values, layout
        Path of attention's output matrix, path of the matrix that makes values, and how values are packed there.
    d_mlp
        Number of MLP activations.
    refused
        Site -> why it cannot be read.
    """

    heads: int
    added: Mapping[str, str] = field(default_factory=dict)
    last: str = ""
    d_mlp: int = 0
    output: str = ""
    values: str = ""
    layout: Layout = separate
    refused: Mapping[str, str] = field(default_factory=dict)

    def where(self, site: str) -> tuple[str, bool]:
        """The path of the module that is watched, and whether what enters it counts, or what leaves it."""
        if site in self.added:
            return self.added[site], False
        return {MLP_ACTIVATIONS: (self.last, True), "head_out": (self.output, True), "ov": (self.values, False)}[site]

    def made(self, modules: Mapping[str, nn.Module], value: Tensor, site: str, head: int | None) -> Tensor:
        """The site, from what enters or leaves the watched module of a block with these modules."""
        if site not in BY_HEAD:
            return value.clone()  # Falcon adds in place
        matrix = matrix_of(modules[self.output])
        value = value.to(matrix.device)
        size = len(matrix) // self.heads
        if site == "ov":
            value = self.of_each_head(value, size)
        if head is None:
            return value @ matrix
        mine = slice(head * size, (head + 1) * size)
        return value[..., mine] @ matrix[mine]

    def of_each_head(self, value: Tensor, size: int) -> Tensor:
        """Values of all query heads, (..., heads * size), each those of its group."""
        groups = self.layout(value, self.heads, size)
        return groups.repeat_interleave(self.heads // groups.shape[-2], -2).flatten(-2)


def by_name(block: nn.Module) -> dict[str, nn.Module]:
    """Modules of a block by path; a TransformerLens bridge stands for the module that it wraps."""
    named: dict[str, nn.Module] = {}
    for path, module in block.named_modules():
        named.setdefault(".".join(part for part in path.split(".") if part != "_original_component"), module)
    return named


def shaped(value: Any, batch: Batch) -> Tensor:
    """What enters or leaves a module: the first of several, and (sequences, length, width) where OPT flattens both."""
    first: Tensor = value[0] if isinstance(value, tuple) else value
    return first.unflatten(0, batch.ids.shape) if first.dim() == 2 and len(first) == batch.ids.numel() else first


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside a TransformerLens bridge."""
    while (inner := module._modules.get("_original_component")) is not None:
        module = inner
    return module


def plain_matrix(module: nn.Module) -> Tensor | None:
    """The matrix (inputs, outputs) of a linear module; None for others, such as quantised ones."""
    own = unwrapped(module)
    transposed = type(own).__name__ == "Conv1D"
    if not (transposed or isinstance(own, nn.Linear)):
        return None
    weight: Any = own.weight
    if weight.is_meta or not weight.is_floating_point():
        return None
    return weight if transposed else weight.T


def matrix_of(module: nn.Module) -> Tensor:
    """The same.

    Raises
    ------
    InputError
        If there is none, because the module was changed after the trial.
    """
    matrix = plain_matrix(module)
    if matrix is None:
        raise InputError(f"The output matrix of attention is now a {type(module).__name__}; load the model again.")
    return matrix
