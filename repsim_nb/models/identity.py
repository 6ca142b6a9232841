"""What makes a network's values besides its parameters, as one hash: in every process the same for equal networks."""

from __future__ import annotations

import enum
import functools
import hashlib
import types
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

KNOWN = ("torch", "transformers", "repsim_nb", "builtins", "collections")  # whose versions stand beside the hash
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
RECORDERS = "transformers.utils.output_capturing"  # its hooks stay after output_hidden_states=True, and only take note
MACHINERY = frozenset(vars(nn.Module()))  # of torch; of it, what makes values is looked at by name
UNTRACED = frozenset(  # names, how a file was read, what is for generation alone, and what running writes down
    (
        "_name_or_path",
        "name_or_path",
        "_commit_hash",
        "transformers_version",
        "_weight_conversions",
        "generation_config",
        "warnings_issued",
        "_output_capturing_hooks_installed",
    )
)
PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)


class UntraceableError(Exception):
    """Something that values may depend on and that no hash can hold; the message says what, and where."""


def network_sha256(network: nn.Module, *settings: Any) -> str:
    """Hash of all that makes the values of a network but its parameters, and of settings.

    That is, of every part its class, its buffers (in the checkpoint or not) and its attributes with whatever they hold:
    the epsilon of a norm, the frequencies of rotary positions, the scale of attention, the config as it is now.

    Raises
    ------
    UntraceableError
        Training mode, hooks, code of unknown origin, or an object of a kind that is not known here.
    """
    walk = _Walk()
    attention = getattr(getattr(network, "config", None), "_attn_implementation", None)
    return walk.digest([network, _registered(attention), *settings], type(network).__name__).hex()


class _Walk:
    """Digests of values, each object looked at once."""

    def __init__(self) -> None:
        self._met: dict[int, tuple[Any, bytes]] = {}  # with the object: while it lives, no other has its id

    def digest(self, value: Any, where: str) -> bytes:
        if isinstance(value, PLAIN):
            return _sha(type(value).__name__, repr(value))
        if id(value) not in self._met:
            self._met[id(value)] = value, b"inside itself"
            self._met[id(value)] = value, _sha(*self._told(value, where))
        return self._met[id(value)][1]

    def _told(self, value: Any, where: str) -> Iterable[bytes | str]:
        match value:
            case nn.Module():
                return self._module(value, where)
            case Tensor():
                return str(value.dtype), str(tuple(value.shape)), _bytes(value, where)
            case np.ndarray() | np.generic():
                return str(value.dtype), str(value.shape), value.tobytes()
            case enum.Enum():
                return _name(type(value), where), value.name
            case Mapping():
                return "mapping", *self._entries(value, where)
            case list() | tuple():
                return _name(type(value), where), *(self.digest(item, where) for item in value)
            case Set():
                return "set", *sorted(self.digest(item, where) for item in value)
            case type():
                return "class", _name(value, where)
            case functools.partial():
                return "partial", self.digest([value.func, value.args, value.keywords], where)
            case types.MethodType():
                return "method", self.digest([value.__func__, value.__self__], where)
            case types.FunctionType() | types.BuiltinFunctionType():
                cells = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
                given = [cells, getattr(value, "__defaults__", None), getattr(value, "__kwdefaults__", None)]
                return "function", _name(value, where), self.digest(given, where)
        return _name(type(value), where), *self._entries(_attributes(value, where), where)

    def _module(self, part: nn.Module, where: str) -> Iterable[bytes | str]:
        _check(part)
        yield _name(type(part), where)
        for name, parameter in part._parameters.items():
            yield from ("parameter", name, repr(parameter if parameter is None else (parameter.dtype, parameter.shape)))
        for name, buffer in part._buffers.items():
            yield from ("buffer", name, self.digest(buffer, f"{where}.{name}"))
        own = {name: value for name, value in vars(part).items() if name not in MACHINERY}
        yield from self._entries(own, where)
        for name, child in part._modules.items():
            yield from ("part", name, self.digest(child, f"{where}.{name}"))

    def _entries(self, entries: Mapping[Any, Any], where: str) -> Iterable[bytes]:
        for name in sorted(entries.keys() - UNTRACED, key=repr):
            yield self.digest(name, where)
            yield self.digest(entries[name], f"{where}.{name}")


def _check(part: nn.Module) -> None:
    kind = type(part).__name__
    _name(type(part), kind)
    hooks = [hook for kind_of in HOOKS for hook in getattr(part, kind_of).values()]
    if any(getattr(hook, "__module__", None) != RECORDERS for hook in hooks) or "forward" in vars(part):
        raise UntraceableError(f"its {kind} has hooks or a forward of its own")
    home = type(part).forward.__module__
    if not _known(home):
        raise UntraceableError(f"the forward of its {kind} is one of {home}")
    if part.training and not isinstance(part, nn.Identity):
        raise UntraceableError(f"its {kind} is in training mode, where values may be drawn at random")
    if part._compiled_call_impl is not None:
        raise UntraceableError(f"its {kind} is compiled")


def _known(home: str) -> bool:
    return home.partition(".")[0] in KNOWN


def _name(what: Any, where: str) -> str:
    """Where a class or function is from, which must be code that a version stands for."""
    home = what.__module__ or "builtins"
    if not _known(home):
        raise UntraceableError(f"it holds a {what.__qualname__} of {home.partition('.')[0]} ({where})")
    return f"{home}.{what.__qualname__}"


def _attributes(value: Any, where: str) -> Mapping[str, Any]:
    if not hasattr(value, "__dict__"):
        raise UntraceableError(f"it holds a {type(value).__name__}, which does not show what is in it ({where})")
    return vars(value)


def _bytes(tensor: Tensor, where: str) -> bytes:
    try:
        return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError, TypeError):
        raise UntraceableError(f"it holds a tensor whose values cannot be read ({where})") from None


def _registered(attention: Any) -> Any:
    """The function that stands for a kind of attention now: anyone can register one."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ALL_ATTENTION_FUNCTIONS.get(attention) if isinstance(attention, str) else None


def _sha(*parts: bytes | str) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
