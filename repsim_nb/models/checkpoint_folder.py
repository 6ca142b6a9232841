"""A model's folder, which may come from anybody: nothing that it names may lie outside it, nothing in it is run."""

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
DISTRIBUTED = "shard-*-model-*-of-*.safetensors"  # transformers takes these in place of model.safetensors
READ = (".json", ".safetensors", ".bin", ".pth", ".pt", ".model", ".txt", ".jinja")
AGAIN = "Copy or download it again."


@contextmanager
def refusing(what: str, advice: str = "") -> Iterator[None]:
    """Inside, whatever a file makes a library raise becomes one `InputError` that begins with `what`.

    A library that meets a file it was not made for raises anything, down to the panics of Rust, which are no
    `Exception`. A device that is full is not the file's fault.
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
    """Inside, as in `refusing`; this package's own errors begin with `what` as well."""
    try:
        with refusing(what, advice):
            yield
    except InputError as error:
        raise error if str(error).startswith(what) else InputError(f"{what}: {error}") from error.__cause__


def reason(error: BaseException) -> str:
    """What a library says, in one line, without advice to run code."""
    text = str(error)
    if "trust_remote_code" in text:
        return "it comes with code of its own, which is never run. Load a model that transformers knows."
    lines = [" ".join(line.split()) for line in text.strip().splitlines()] or [""]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    said = said if len(said) <= 400 else f"{said[:400]}..."
    plain = isinstance(error, OSError | ValueError | RuntimeError | ImportError) and said
    said = said if plain else f"{type(error).__name__} {said}".strip()
    return said if said.endswith((".", "!", "?", "...")) else f"{said}."


def inside(folder: Path, name: object, named_in: Path) -> Path:
    """The path of what a file of a folder names, which must lie in that folder.

    Parameters
    ----------
    folder
        The model's folder.
    name
        A path relative to it, as the file has it.
    named_in
        The file, for the message.

    Returns
    -------
    Path
        ``folder / name``, which need not exist.

    Raises
    ------
    InputError
        No text, an absolute path, one that climbs out of the folder, or a link that leads out of it.
    """
    if not isinstance(name, str) or "\0" in name:
        raise InputError(f"'{named_in}' names {name!r:.80} where a file in '{folder}' is expected. {AGAIN}")
    windows = PureWindowsPath(name)
    climbs = ".." in PurePosixPath(name).parts or ".." in windows.parts
    if climbs or name.startswith("/") or windows.drive or windows.root:
        raise InputError(
            f"'{named_in}' names {name!r:.200}, which lies outside '{folder}'. Nothing outside a model's folder is "
            "read: copy the file into it and name it there."
        )
    path = folder / name
    _check_link(folder, path)
    return path


def check_folder(folder: Path, root: Path | None = None) -> None:
    """Nothing that would be read may lead out of the folder or be another model than its weights say.

    Parameters
    ----------
    folder
        With config.json and weights.
    root
        The folder that it is a part of, in which links may lead; itself where it is none.

    Raises
    ------
    InputError
        A link to a file elsewhere (those of the hub's cache aside), an adapter, weights that transformers would take
        instead of those that are checked, or a tokenizer's file elsewhere.
    """
    with refusing(f"'{folder}' cannot be read"):
        for entry in os.scandir(folder):
            if entry.is_symlink() and entry.name.endswith(READ):
                _check_link(root or folder, Path(entry.path))
        distributed = next(folder.glob(DISTRIBUTED), None)
    if (folder / ADAPTER).exists():
        beside = "beside" if (folder / "config.json").exists() else "and no config.json, not"
        raise InputError(
            f"'{folder}' holds an adapter ({ADAPTER}) {beside} a model's own weights. Which model it stands for would "
            "depend on whether peft is installed. Merge it into its base model (peft's merge_and_unload, then "
            "save_pretrained), or move the adapter's files away to load the base model."
        )
    if distributed:
        raise InputError(
            f"'{folder}' holds {distributed.name}, a part of a distributed checkpoint, which is not read. Save the "
            "model with save_pretrained."
        )
    _check_objects(folder, root or folder)


def check_modules(folder: Path) -> None:
    """A modules.json, where there is one, must be a list of modules with a type and a path inside the folder.

    Raises
    ------
    InputError
        It is not.
    """
    file = folder / MODULES
    if not file.exists():
        return
    modules = read_json(file)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise InputError(f"'{file}' is no list of modules, each with a type and a path. {AGAIN}")
    for module in modules:
        if not isinstance(module.get("type"), str):
            raise InputError(
                f"'{file}' has a module whose type is {module.get('type')!r:.80}; expected a name. {AGAIN}"
            )
        inside(folder, module.get("path", ""), file)


def read_json(file: Path) -> Any:
    """What a JSON file says.

    Raises
    ------
    InputError
        No such file, no JSON, or one that says two things under one name.
    """
    if not file.is_file():
        raise InputError(f"'{file}' is no file. {AGAIN}")
    try:
        return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_of_one_meaning)
    except InputError as error:
        raise InputError(f"'{file}' {error} Keep the one that is meant.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{file}' is not valid JSON: {' '.join(str(error).split())}. {AGAIN}") from None


def _of_one_meaning(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise InputError(f"says {key!r:.80} twice, {found[key]!r:.80} and {value!r:.80}.")
        found[key] = value
    return found


def _check_link(root: Path, path: Path) -> None:
    """A link may lead anywhere in its own folder, and into the cache that the hub's files are kept in."""
    try:
        real = path.resolve()
        home = root.resolve()
    except (OSError, RuntimeError) as error:  # links that lead in a circle
        raise InputError(f"'{path}' cannot be followed: {error}. {AGAIN}") from None
    cached = any(part.startswith("models--") for part in real.parts[:-1]) and "blobs" in real.parts
    if not real.is_relative_to(home) and not cached:
        raise InputError(
            f"'{path}' is a link to '{real}', outside '{root}'. Nothing outside a model's folder is read: copy the "
            "file into it in place of the link."
        )


def _check_objects(folder: Path, root: Path) -> None:
    """What transformers reads beside config.json must be names and values.

    Many published configs of tokenizers name files of the machine that they were made on; none may name one of this
    machine.
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
            elif key.endswith("_file") and isinstance(value, str) and _lies_outside(root, folder, value):
                inside(folder, value, file)


def _lies_outside(root: Path, folder: Path, name: str) -> bool:
    """Whether there is such a file, elsewhere on this machine."""
    try:
        return (folder / name).exists() and not (folder / name).resolve().is_relative_to(root.resolve())
    except (OSError, ValueError):
        return False
