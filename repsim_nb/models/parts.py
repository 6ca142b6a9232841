"""Run parts of a torch module, or read inside it, without modifying the module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from repsim_nb.models.model import Tap

PLACED = ("forward", "_old_forward", "_hf_hook")  # attributes that accelerate binds to a module instance


def shallow(module: nn.Module) -> nn.Module:
    """A copy of `module` that shares parameters and submodules, and whose submodules can be replaced."""
    own = copy.copy(module)
    own._modules = dict(module._modules)
    for name in PLACED:
        own.__dict__.pop(name, None)
    return own


def with_submodule(module: nn.Module, path: str, new: nn.Module) -> nn.Module:
    """A shallow copy of `module` with the submodule at `path` replaced by `new`."""
    first, _, rest = path.partition(".")
    changed = shallow(module)
    changed._modules[first] = with_submodule(module.get_submodule(first), rest, new) if rest else new
    return changed


@contextmanager
def hidden_enters(module: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Inside this context, `module` receives `hidden` whatever its input: some architectures modify inputs_embeds."""
    handle = _register(module, lambda _: hidden)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def tapped(blocks: Sequence[nn.Module], first: int, tap: Tap | None) -> Iterator[None]:
    """Inside this context, `tap(layer, hidden)` is called with the input of every block."""
    watched = {} if tap is None else {first + index: block for index, block in enumerate(blocks)}
    with inputs_tapped(watched, tap or (lambda *_: None)):
        yield


@contextmanager
def inputs_tapped(modules: Mapping[int, nn.Module], tap: Tap) -> Iterator[None]:
    """Inside this context, `tap(layer, hidden)` is called with the input of every module."""

    def watch(position: int) -> Callable[[Tensor], None]:
        def see(hidden: Tensor) -> None:
            tap(position, hidden)

        return see

    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        handles.extend(_register(module, watch(position)) for position, module in modules.items())
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def outputs_tapped(modules: Mapping[int, nn.Module], tap: Tap) -> Iterator[None]:
    """Inside this context, `tap(layer, output)` is called with the output of every module."""

    def watch(position: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:  # a module may return several things
            tap(position, output)

        return hook

    handles = [module.register_forward_hook(watch(position)) for position, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _register(module: nn.Module, see: Callable[[Tensor], Tensor | None]) -> torch.utils.hooks.RemovableHandle:
    """Call `see` with the hidden state that enters `module`; a tensor it returns replaces that state."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            new = see(args[0])
            return ((new, *args[1:]) if new is not None else args), kwargs
        new = see(kwargs["hidden_states"])
        return args, (kwargs | {"hidden_states": new} if new is not None else kwargs)

    return module.register_forward_pre_hook(hook, with_kwargs=True)
