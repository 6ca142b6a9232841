"""Checks of a model's folder, which is untrusted: it must not refer to files outside, and no code in it is run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from repsim_nb.errors import InputError

ADAPTER = "adapter_config.json"
MODULES = "modules.json"
OBJECTS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json")
DISTRIBUTED = "shard-*-model-*-of-*.safetensors"  # transformers prefers these to model.safetensors
READ = (".json", ".safetensors", ".bin", ".pth", ".pt", ".model", ".txt", ".jinja")
AGAIN = "Copy or download it again."


@contextmanager
def refusing(what: str, advice: str = "") -> Iterator[None]:
    """Inside this context, any exception of a library becomes an `InputError` that begins with `what`.

    Libraries raise all kinds of errors for malformed files, including Rust panics, which are not an `Exception`.
    Running out of device memory is passed on, since it is not the file's fault.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        kind = type(error).__name__
        if kind == "OutOfMemoryError" or not (isinstance(error, Exception) or kind == "PanicException"):
            raise
        raise InputError(f"{what}: {reason(error)}{' ' + advice if advice else ''}") from error


@contextmanager
def naming(what: str, advice: str = "") -> Iterator[None]:
    """Like `refusing`, and this package's own errors also begin with `what`."""
    try:
        with refusing(what, advice):
            yield
    except InputError as error:
        raise error if str(error).startswith(what) else InputError(f"{what}: {error}") from error.__cause__


def reason(error: BaseException) -> str:
    """The message of a library in one line, without advice to run code."""
    text = str(error)
    if "trust_remote_code" in text:
        return "it needs its own code, which is never run. Load a model that transformers supports."
    lines = [" ".join(line.split()) for line in text.strip().splitlines()] or [""]
    message = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    message = message if len(message) <= 400 else f"{message[:400]}..."
    plain = isinstance(error, OSError | ValueError | RuntimeError | ImportError) and message
    message = message if plain else f"{type(error).__name__} {message}".strip()
    return message if message.endswith((".", "!", "?", "...")) else f"{message}."


def inside(folder: Path, name: object, named_in: Path) -> Path:
    """Resolve a path named in a file of a model's folder; it must lie in that folder.

    Parameters
    ----------
    folder
        The model's folder.
    name
        The relative path named in the file.
    named_in
        The file, for error messages.

    Returns
    -------
    Path
        ``folder / name``, which need not exist.

    Raises
    ------
    InputError
        If `name` is not a string, is absolute, or leaves the folder, also through a link.
    """
    if not isinstance(name, str) or "\0" in name:
        raise InputError(f"'{named_in}' names {name!r:.80} where a file in '{folder}' is expected. {AGAIN}")
    windows = PureWindowsPath(name)
    climbs = ".." in PurePosixPath(name).parts or ".." in windows.parts
    if climbs or name.startswith("/") or windows.drive or windows.root:
        raise InputError(
            f"'{named_in}' names {name!r:.200}, which lies outside '{folder}'. Files outside a model's folder are "
            "never read: copy the file into it and name it there."
        )
    path = folder / name
    _check_link(folder, path)
    return path


def check_folder(folder: Path, root: Path | None = None) -> None:
    """Check that nothing in the folder points outside it, and that transformers would load the weights checked here.

    Parameters
    ----------
    folder
        Folder with config.json and weights.
    root
        Enclosing folder in which links may point; by default the folder itself.

    Raises
    ------
    InputError
        If there is a link to a file elsewhere (except the hub's cache), an adapter, weights that transformers prefers
        to those checked here, or a tokenizer file elsewhere.
    """
    with refusing(f"'{folder}' cannot be read"):
        for entry in os.scandir(folder):
            if entry.is_symlink() and entry.name.endswith(READ):
                _check_link(root or folder, Path(entry.path))
        distributed = next(folder.glob(DISTRIBUTED), None)
    if (folder / ADAPTER).exists():
        found = "as well as a model" if (folder / "config.json").exists() else "instead of a model"
        raise InputError(
            f"'{folder}' contains an adapter ({ADAPTER}) {found}. Which model it stands for would depend on whether "
            "peft is installed. Merge it into its base model (peft's merge_and_unload, then save_pretrained), or move "
            "the adapter's files away to load the base model."
        )
    if distributed:
        raise InputError(
            f"'{folder}' contains {distributed.name}, part of a distributed checkpoint, which is not supported. Save "
            "the model with save_pretrained."
        )
    _check_objects(folder, root or folder)


def check_modules(folder: Path) -> None:
    """Check that modules.json, if there is one, is a list of modules with a type and a path inside the folder.

    Raises
    ------
    InputError
        If it is not.
    """
    file = folder / MODULES
    if not file.exists():
        return
    modules = read_json(file)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise InputError(f"'{file}' is not a list of modules with a type and a path. {AGAIN}")
    for module in modules:
        if not isinstance(module.get("type"), str):
            raise InputError(f"'{file}' has a module with type={module.get('type')!r:.80}; expected a name. {AGAIN}")
        inside(folder, module.get("path", ""), file)


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        If the file does not exist, is not JSON, or has a duplicate key with different values.
    """
    if not file.is_file():
        raise InputError(f"'{file}' is not a file. {AGAIN}")
    try:
        return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_no_duplicate_keys)
    except InputError as error:
        raise InputError(f"'{file}' {error} Keep the correct one.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{file}' is not valid JSON: {' '.join(str(error).split())}. {AGAIN}") from None


def _no_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise InputError(f"has the key {key!r:.80} twice, with {found[key]!r:.80} and {value!r:.80}.")
        found[key] = value
    return found


def _check_link(root: Path, path: Path) -> None:
    """Check a link, which may only point inside its own folder or into the hub's cache."""
    try:
        real = path.resolve()
        home = root.resolve()
    except (OSError, RuntimeError) as error:  # circular links
        raise InputError(f"'{path}' cannot be followed: {error}. {AGAIN}") from None
    cached = any(part.startswith("models--") for part in real.parts[:-1]) and "blobs" in real.parts
    if not real.is_relative_to(home) and not cached:
        raise InputError(
            f"'{path}' is a link to '{real}', outside '{root}'. Files outside a model's folder are never read: replace "
            "the link by a copy of the file."
        )


def _check_objects(folder: Path, root: Path) -> None:
    """Check the other JSON files that transformers reads: they must be objects.

    Many published tokenizer configs name files of the machine they were made on. That is harmless unless such a file
    exists on this machine.
    """
    for file in (folder / name for name in OBJECTS):
        if not file.exists():
            continue
        config = read_json(file)
        if not isinstance(config, dict):
            raise InputError(f"'{file}' is a {type(config).__name__}; expected names and values, as in {{}}. {AGAIN}")
        for key, value in config.items():
            if key.endswith("_files") and isinstance(value, list):
                for name in value:
                    inside(folder, name, file)
            elif key.endswith("_file") and isinstance(value, str) and _exists_outside(root, folder, value):
                inside(folder, value, file)


def _exists_outside(root: Path, folder: Path, name: str) -> bool:
    """Whether there is such a file elsewhere on this machine."""
    try:
        return (folder / name).exists() and not (folder / name).resolve().is_relative_to(root.resolve())
    except (OSError, ValueError):
        return False
