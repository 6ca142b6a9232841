"""Hash everything besides the parameters that determines a network's values, stable across processes."""

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

VERSIONED_PACKAGES = (
    "torch",
    "transformers",
    "repsim_nb",
    "builtins",
    "collections",
)  # their versions are stored next to the hash
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
RECORDERS = "transformers.utils.output_capturing"  # leaves hooks after output_hidden_states=True that only record
MACHINERY = frozenset(vars(nn.Module()))  # torch's own attributes; those that affect values are handled by name
IGNORED_ATTRIBUTES = frozenset(  # names, how a file was read, generation settings, and records of earlier runs
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
    """Something that may affect values and cannot be hashed; the message says what and where."""


def network_sha256(network: nn.Module, *settings: Any) -> str:
    """Hash everything except the parameters that determines a network's values, and the given settings.

    For every submodule this covers its class, buffers (also those not in the checkpoint) and attributes: the epsilon
    of a norm, rotary frequencies, the attention scale, the current config.

    Raises
    ------
    UntraceableError
        If the network is in training mode, has hooks, or contains code or objects of unknown origin.
    """
    walk = _Walk()
    attention = getattr(getattr(network, "config", None), "_attn_implementation", None)
    return walk.digest([network, _registered(attention), *settings], type(network).__name__).hex()


class _Walk:
    """Digests of values; each object is visited once."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, bytes]] = {}  # holds the object too, so that its id is not reused

    def digest(self, value: Any, where: str) -> bytes:
        if isinstance(value, PLAIN):
            return _sha(type(value).__name__, repr(value))
        if id(value) not in self._seen:
            self._seen[id(value)] = value, b"inside itself"
            self._seen[id(value)] = value, _sha(*self._parts(value, where))
        return self._seen[id(value)][1]

    def _parts(self, value: Any, where: str) -> Iterable[bytes | str]:
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
        for name in sorted(entries.keys() - IGNORED_ATTRIBUTES, key=repr):
            yield self.digest(name, where)
            yield self.digest(entries[name], f"{where}.{name}")


def _check(part: nn.Module) -> None:
    kind = type(part).__name__
    _name(type(part), kind)
    hooks = [hook for kind_of in HOOKS for hook in getattr(part, kind_of).values()]
    if any(getattr(hook, "__module__", None) != RECORDERS for hook in hooks) or "forward" in vars(part):
        raise UntraceableError(f"its {kind} has hooks or a forward of its own")
    home = type(part).forward.__module__
    if not _is_versioned(home):
        raise UntraceableError(f"the forward of its {kind} comes from {home}")
    if part.training and not isinstance(part, nn.Identity):
        raise UntraceableError(f"its {kind} is in training mode, where values can be random")
    if part._compiled_call_impl is not None:
        raise UntraceableError(f"its {kind} is compiled")


def _is_versioned(home: str) -> bool:
    return home.partition(".")[0] in VERSIONED_PACKAGES


def _name(what: Any, where: str) -> str:
    """Full name of a class or function, which must come from a versioned package."""
    home = what.__module__ or "builtins"
    if not _is_versioned(home):
        raise UntraceableError(f"it contains a {what.__qualname__} from {home.partition('.')[0]} ({where})")
    return f"{home}.{what.__qualname__}"


def _attributes(value: Any, where: str) -> Mapping[str, Any]:
    if not hasattr(value, "__dict__"):
        raise UntraceableError(f"it contains a {type(value).__name__}, whose content cannot be inspected ({where})")
    return vars(value)


def _bytes(tensor: Tensor, where: str) -> bytes:
    try:
        return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError, TypeError):
        raise UntraceableError(f"it contains a tensor whose values cannot be read ({where})") from None


def _registered(attention: Any) -> Any:
    """The function currently registered for an attention implementation, since anyone can register one."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ALL_ATTENTION_FUNCTIONS.get(attention) if isinstance(attention, str) else None


def _sha(*parts: bytes | str) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
