"""Changing what runs inside a torch module without changing the module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models.batch import Batch
from repsim_nb.models.model import Model, Tap, not_finite

PLACED = ("forward", "_old_forward", "_hf_hook")  # what accelerate puts on a module, bound to that very one


def shallow(module: nn.Module) -> nn.Module:
    """A copy of `module` with the same parameters and submodules, whose submodules can be exchanged."""
    own = copy.copy(module)
    own._modules = dict(module._modules)
    for name in PLACED:
        own.__dict__.pop(name, None)
    return own


def with_submodule(module: nn.Module, path: str, new: nn.Module) -> nn.Module:
    """A shallow copy of `module` in which the submodule at `path` is `new`."""
    first, _, rest = path.partition(".")
    changed = shallow(module)
    changed._modules[first] = with_submodule(module.get_submodule(first), rest, new) if rest else new
    return changed


@torch.no_grad()
def check_parts(model: Model, whole: Callable[[Batch], Tensor]) -> None:
    """Parts that are joined again must give what `whole` does: logits, or whatever else the head gives.

    Raises:
        InputError: they do not: this architecture does more between embedding and head than run its blocks.
    """
    batch = model.collate(model.windows.probe([min(16, model.context), min(8, model.context)]))
    middle = model.n_layers // 2
    refused = f"{model.name} ({type(model.module).__name__}) cannot be run part by part: %s. It is not supported."
    try:
        lower = model.run(model.embed(batch), 0, middle, batch)
        joined = model.head(model.run(lower, middle, model.n_layers, batch), batch).float()
        expected = whole(batch).float().to(joined.device)
        real = batch.mask if joined.dim() == 3 else slice(None)  # behind padding, anything may come out
        off = (joined - expected)[real].abs().max() / expected[real].abs().max()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever comes of running an architecture in a way that it was not made for
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(refused % f"{why:.200}") from error
    if off.isnan():
        raise not_finite(model, "at its last layer")
    if not off < (1e-4 if model.dtype == torch.float32 else 1e-2):
        raise InputError(refused % f"joined parts differ from the whole by {off:.0e} of its largest value")


@contextmanager
def hidden_enters(module: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Inside, `module` receives `hidden` whatever it is called with: some architectures change inputs_embeds first."""
    handle = _register(module, lambda _: hidden)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def tapped(blocks: list[nn.Module], first: int, tap: Tap | None) -> Iterator[None]:
    """Inside, `tap(position, hidden)` is called with the input of every block."""
    if tap is None:
        yield
        return
    handles = []

    def watch(position: int) -> Callable[[Tensor], None]:
        return lambda hidden: tap(position, hidden)

    try:
        for index, block in enumerate(blocks):
            handles.append(_register(block, watch(first + index)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def outputs_tapped(modules: Mapping[int, nn.Module], tap: Tap) -> Iterator[None]:
    """Inside, `tap(position, output)` is called with what each module gives."""

    def watch(position: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            tap(position, output)

        return hook

    handles = [module.register_forward_hook(watch(position)) for position, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _register(module: nn.Module, see: Callable[[Tensor], Tensor | None]) -> torch.utils.hooks.RemovableHandle:
    """Show `see` the hidden state entering `module`; a tensor it returns takes its place."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            new = see(args[0])
            return ((new, *args[1:]) if new is not None else args), kwargs
        new = see(kwargs["hidden_states"])
        return args, (kwargs | {"hidden_states": new} if new is not None else kwargs)

    return module.register_forward_pre_hook(hook, with_kwargs=True)
