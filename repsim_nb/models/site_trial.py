"""Tell where the sites of a model are, from a short text that runs through it; see `models.sites`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from repsim_nb.models.batch import Batch
from repsim_nb.models.model import Model, Tap
from repsim_nb.models.parts import inputs_tapped, outputs_tapped
from repsim_nb.models.sites import (
    BY_HEAD,
    PRE_RESIDUAL,
    Inside,
    Layout,
    by_name,
    group_by_group,
    matrix_of,
    plain_matrix,
    separate,
    shaped,
    stacked,
    unwrapped,
)
from repsim_nb.models.trial import LENGTH, batch_of, distance, random_ids, refusing, tolerance

ATTENTIONS = ("self_attn", "attn", "attention", "self_attention", "attn.attention")
OUTPUTS = tuple(f"{a}.{o}" for a in ATTENTIONS for o in ("o_proj", "out_proj", "dense", "c_proj", "o"))
VALUES = ("v_proj", "v", "c_attn", "query_key_value", "qkv_proj", "Wqkv")  # next to the output matrix
MLPS = ("mlp", "ffn", "block_sparse_moe", "feed_forward")
LASTS = (*(f"{m}.{o}" for m in MLPS for o in ("down_proj", "c_proj", "dense_4h_to_h", "fc_out", "fc2", "out")), "fc2")
NORMS = {  # of what is added
    "attn_out": ("post_attention_layernorm", "post_self_attn_layernorm"),
    "mlp_out": ("post_feedforward_layernorm", "post_mlp_layernorm"),
}
HEAD_SIZES = ("head_dim", "head_size")  # attributes of an attention
Through = Callable[[Batch, int], Any]
ROUNDING = 4  # units of the last place, of everything that is added


@torch.no_grad()
def tell(model: Model, blocks: Sequence[nn.Module], heads: int, through: Through) -> Inside:
    """Find the sites in the blocks of a model by reading a short text at every candidate.

    `through(batch, layer)` runs every block up to that layer once.

    Raises
    ------
    InputError
        If the model cannot run the text.
    """
    with refusing(model):
        seen = _Passage(model, blocks, through)
        found: dict[str, Any] = {"added": _added(seen)}
        refused = {"pre_residual": PRE_RESIDUAL}
        for sites, find in ((("mlp_act",), _activations), (BY_HEAD, _heads)):
            try:
                found |= find(seen, heads, found["added"])
            except _UntoldError as why:
                refused |= dict.fromkeys(sites, str(why))
        for site in NORMS:
            if site not in found["added"]:
                refused[site] = _not_added(seen, site)
    return Inside(heads, **found, refused=refused)


class _UntoldError(Exception):
    """Why a part of a block cannot be told."""


class _Passage:
    """What enters and leaves every candidate in every block, and the residual stream, for one short text."""

    def __init__(self, model: Model, blocks: Sequence[nn.Module], through: Through):
        self.model, self.blocks = model, blocks
        self.modules = [by_name(block) for block in blocks]
        parents = [path.rpartition(".")[0] for path in OUTPUTS]
        values = [f"{parent}.{value}" for parent in dict.fromkeys(parents) for value in VALUES]
        paths = [*OUTPUTS, *values, *MLPS, *LASTS, *(norm for norms in NORMS.values() for norm in norms)]
        self.paths = [path for path in paths if all(path in own for own in self.modules)]
        self.residual: dict[int, Tensor] = {}
        self._entering: dict[str, dict[int, list[Tensor]]] = {path: {} for path in self.paths}
        self._leaving: dict[str, dict[int, list[Tensor]]] = {path: {} for path in self.paths}
        batch = batch_of(model, random_ids(model, min(LENGTH, model.context)))
        model.residuals(batch, range(model.n_layers + 1), lambda at, value: self.residual.update({at: value.clone()}))
        with ExitStack() as stack:
            for path in self.paths:
                watched = {layer: own[path] for layer, own in enumerate(self.modules, 1)}
                stack.enter_context(outputs_tapped(watched, _keep(self._leaving[path], batch)))
                if path in (*OUTPUTS, *LASTS):
                    stack.enter_context(inputs_tapped(watched, _keep(self._entering[path], batch)))
            through(batch, model.n_layers)

    def among(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths that ran once in every block."""
        once = (p for p in paths if p in self.paths)
        return [p for p in once if [len(self._leaving[p].get(layer, ())) for layer in self.layers] == [1] * self.depth]

    @property
    def depth(self) -> int:
        return len(self.modules)

    @property
    def layers(self) -> range:
        return range(1, self.depth + 1)

    def entering(self, path: str, layer: int) -> Tensor:
        return self._entering[path][layer][0]

    def leaving(self, path: str, layer: int) -> Tensor:
        return self._leaving[path][layer][0]

    def adds_up(self, paths: Sequence[str]) -> bool:
        """Whether in every block the outputs of these modules are all that is added, within rounding of each entry."""
        eps = torch.finfo(self.model.dtype).eps
        for layer in self.layers:
            before, after = (self.residual[at].double().cpu() for at in (layer - 1, layer))
            terms = [before, *(self.leaving(path, layer).double().cpu() for path in paths)]
            if any(term.shape != after.shape for term in terms):
                return False
            size = sum((term.abs() for term in terms), torch.zeros_like(after))
            if not ((after - sum(terms)).abs() <= ROUNDING * eps * size).all():
                return False
        return True

    def same(self, path: str, other: str) -> bool:
        """Whether two modules have the same output in every block."""
        return all(
            self.leaving(path, layer).shape == self.leaving(other, layer).shape
            and distance(self.leaving(path, layer), self.leaving(other, layer)) < tolerance(self.model)
            for layer in self.layers
        )


def _keep(kept: dict[int, list[Tensor]], batch: Batch) -> Tap:
    return lambda layer, value: kept.setdefault(layer, []).append(shaped(value, batch).clone())


def _candidates(seen: _Passage, site: str) -> list[str]:
    """Modules that may give what is added at a site; a norm only after a module of its own kind."""
    own = seen.among(OUTPUTS if site == "attn_out" else (*LASTS, *MLPS))
    return [*own, *seen.among(NORMS[site])] if own else []


def _added(seen: _Passage) -> dict[str, str]:
    """The modules whose outputs are what a block adds; none if there are no two that add up."""
    attention, mlp = (_candidates(seen, site) for site in NORMS)
    if not mlp:  # blocks of attention only
        return next(({"attn_out": a} for a in attention if seen.adds_up([a])), {})
    return next(({"attn_out": a, "mlp_out": m} for a, m in product(attention, mlp) if seen.adds_up([a, m])), {})


def _not_added(seen: _Passage, site: str) -> str:
    there = {own: _candidates(seen, own) for own in NORMS}
    if not there[site]:
        return _none_known(seen, "attention" if site == "attn_out" else "MLP")
    found = " and ".join(" or ".join(paths) for paths in there.values() if paths)
    return f"what its blocks add to the residual stream is not the output of {found}; it may be scaled first"


def _none_known(seen: _Passage, what: str) -> str:
    kinds = {type(block).__name__: [name for name, _ in block.named_children()] for block in seen.blocks}
    known = "; ".join(f"a {kind} has {', '.join(parts)}" for kind, parts in kinds.items())
    return f"no {what} is known that each of its blocks runs once ({known})"


def _activations(seen: _Passage, heads: int, added: Mapping[str, str]) -> dict[str, Any]:
    for last in seen.among(LASTS):
        whole = [path for path in (last.rpartition(".")[0], added.get("mlp_out", "")) if seen.among([path])]
        if any(seen.same(last, path) for path in whole):
            widths = {seen.entering(last, layer).shape[-1] for layer in seen.layers}
            if len(widths) > 1:
                raise _UntoldError(f"the MLPs of its blocks have {min(widths):,} to {max(widths):,} activations")
            return {"last": last, "d_mlp": widths.pop()}
    raise _UntoldError(_none_known(seen, "single last matrix of an MLP"))


def _heads(seen: _Passage, heads: int, added: Mapping[str, str]) -> dict[str, Any]:
    output = next(iter(seen.among(OUTPUTS)), None)
    if output is None:
        raise _UntoldError(_none_known(seen, "attention"))
    if "attn_out" not in added:
        raise _UntoldError(_not_added(seen, "attn_out"))
    if added["attn_out"] in NORMS["attn_out"]:
        raise _UntoldError(f"its {added['attn_out']} norms the sum of the heads, so they have no shares of attn_out")
    _check_matrices(seen, output, heads)
    if not _sums(seen, output, added["attn_out"]):
        raise _UntoldError(f"what enters {output}, times its matrix, is not what {added['attn_out']} adds")
    parent = output.rpartition(".")[0]
    names = seen.among(f"{parent}.{value}" for value in VALUES)
    for values, layout in ((v, lay) for v in names for lay in _layouts(v)):
        inside = Inside(heads, output=output, values=values, layout=layout)
        if all(_mixes(seen, inside, layer) for layer in seen.layers):
            return {"output": output, "values": values, "layout": layout}
    if not names:
        raise _UntoldError(f"its {parent} has no matrix that is known to make values")
    raise _UntoldError(
        f"its {heads} heads do not hold weighted means of what {' or '.join(names)} gives, in any known packing; "
        "there may be sinks, gates or another number of heads"
    )


def _check_matrices(seen: _Passage, output: str, heads: int) -> None:
    """Check that every block has an output matrix in memory that splits into heads of the size its attention states."""
    if not heads:
        raise _UntoldError("its config states no one number of attention heads")
    for modules in seen.modules:
        matrix = plain_matrix(modules[output])
        if matrix is None:
            kind = type(modules[output]).__name__
            raise _UntoldError(f"its {output}, a {kind}, has no plain matrix in memory: quantised or offloaded")
        attention, size = modules[output.rpartition(".")[0]], len(matrix) / heads
        if len(matrix) % heads or any(getattr(attention, stated, size) != size for stated in HEAD_SIZES):
            raise _UntoldError(f"the {len(matrix)} inputs of its {output} are not those of {heads} heads")


def _layouts(values: str) -> tuple[Layout, ...]:
    return (separate,) if values.endswith((".v", ".v_proj")) else (stacked, group_by_group)


def _sums(seen: _Passage, output: str, added: str) -> bool:
    """Whether the heads, with the bias, sum to what attention adds."""
    for layer in seen.layers:
        module, mixed = seen.modules[layer - 1][output], seen.entering(output, layer)
        matrix = matrix_of(module)
        if len(matrix) != mixed.shape[-1]:
            return False
        bias = getattr(unwrapped(module), "bias", None)
        total = mixed.to(matrix.device) @ matrix
        total = total if bias is None else total + bias
        expected = seen.leaving(added, layer)
        if total.shape != expected.shape or not distance(total, expected) < tolerance(seen.model):
            return False
    return True


def _mixes(seen: _Passage, inside: Inside, layer: int) -> bool:
    """Whether every head at the first two tokens holds a weighted mean of its values there."""
    mixed, packed = seen.entering(inside.output, layer), seen.leaving(inside.values, layer)
    size = mixed.shape[-1] // inside.heads
    try:
        values = inside.of_each_head(packed, size)
    except (RuntimeError, ZeroDivisionError):  # widths that this layout cannot have
        return False
    if values.shape != mixed.shape:
        return False
    (z, v) = (x[0, :2].unflatten(-1, (inside.heads, size)).double().cpu() for x in (mixed, values))
    within = v.abs().amax(-1).clamp(min=1e-30)  # by token and head
    ends = [((z[0] - v[0]).abs().amax(-1) / within[0]).max()]
    if len(z) > 1:
        apart = v[0] - v[1]
        weight = ((z[1] - v[1]) * apart).sum(-1) / apart.square().sum(-1).clamp(min=1e-30)
        mean = v[1] + weight.clamp(0, 1)[:, None] * apart
        ends.append(((z[1] - mean).abs().amax(-1) / within.amax(0)).max())
    return bool(max(ends) < tolerance(seen.model))
