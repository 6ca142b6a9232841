"""The corpus `python-docs`: English prose and code that comes with every installation.

Sources, read as text (nothing is imported): the language reference in `pydoc_data.topics`, docstrings of the standard
library and of the scientific packages this project depends on, and the standard library's source without docstrings.
The split of a document depends only on its module and qualified name, so that a docstring edited in another version
stays in its split. Near-duplicates are dropped across all splits.
"""

from __future__ import annotations

import ast
import getpass
import hashlib
import inspect
import json
import os
import platform
import re
import sysconfig
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import platformdirs

from repsim_nb.system.atomic import OutputError, atomic

NAME = "python-docs"
RECIPE = 1  # increase when a change here changes the documents
FORMAT = 2  # of the cache file: a line with the hash of the rest, then the documents
MIN_CHARACTERS = 300
HELD_OUT_PERCENT = 5  # of names, for each of validation and test

# Subpackages are listed if the whole package is large and repetitive.
PACKAGES: dict[str, tuple[str, ...]] = {
    "numpy": ("",),
    "scipy": ("",),
    "pandas": ("",),
    "matplotlib": ("",),
    "networkx": ("",),
    "xarray": ("",),
    "torch": ("nn", "optim", "distributions", "autograd", "utils/data", "linalg", "fft", "special", "_torch_docs.py"),
    "transformers": ("generation", "utils", "pipelines", "trainer.py", "modeling_utils.py", "training_args.py"),
}
ABSENT = "not installed"
SKIPPED_FOLDERS = {"test", "tests", "testing", "_testing", "site-packages", "idlelib", "lib2to3", "__pycache__"}


class Record(NamedTuple):
    """One document: qualified name ("prose:numpy.linalg.svd"), split and text."""

    name: str
    split: str
    text: str


Row = TypeVar("Row", bound=tuple)


def versions() -> dict[str, str]:
    """Versions of everything that the documents come from."""
    return {"recipe": str(RECIPE), "python": platform.python_version(), **{p: _version(p) for p in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ABSENT


def _warn_if_smaller() -> None:
    """Without matplotlib, which the base install lacks, the corpus has other documents and another hash."""
    missing = [package for package, found in versions().items() if found == ABSENT]
    if missing:
        warnings.warn(
            f"The corpus {NAME!r} lacks the docstrings of {', '.join(missing)}, which is not installed. Its documents, "
            'and numbers measured on them, differ from those of a full install: pip install "repsim-nb[lab]"',
            stacklevel=5,
        )


@lru_cache(maxsize=1)
def build() -> tuple[Record, ...]:
    """All documents of all splits, ordered by name. Built once per set of versions, then cached on disk."""
    _warn_if_smaller()
    return cached(NAME, versions(), Record, _records)


def _records() -> tuple[Record, ...]:
    return tuple(
        Record(name, _split(name), text) for name, text in sorted(without_near_duplicates(_documents()).items())
    )


def cached(name: str, made_of: dict[str, str], kind: type[Row], make: Callable[[], tuple[Row, ...]]) -> tuple[Row, ...]:
    """What `make` returns, read from a cache on disk if the corpus `name` was made of the same versions before."""
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    places = [folder / "corpora" / f"{name}-{key}-{FORMAT}.json" for folder in _caches()]
    for place in places:
        if rows := _read(place, kind):
            return rows
    rows = make()
    _keep(name, rows, places)
    return rows


def _caches() -> list[Path]:
    """Cache folders: the user's own and, if that is not writable, a temporary one."""
    user = getattr(os, "getuid", getpass.getuser)()
    return [Path(platformdirs.user_cache_dir("repsim-nb")), Path(tempfile.gettempdir(), f"repsim-nb-{user}")]


def _read(file: Path, kind: type[Row]) -> tuple[Row, ...] | None:
    """Read the cache; None if it is missing or corrupt."""
    try:
        digest, content = file.read_text(encoding="utf-8").split("\n", 1)
        if json.loads(digest) != _digest(content) or not _own(file):
            return None
        return tuple(kind(*fields) for fields in json.loads(content))
    except (OSError, ValueError):
        return None


def _own(file: Path) -> bool:
    """Whether the file is ours: in a shared temporary folder anybody could have put it there."""
    return not hasattr(os, "getuid") or file.stat().st_uid in (0, os.getuid())


def _keep(name: str, rows: tuple[Row, ...], places: list[Path]) -> None:
    content = json.dumps(rows, ensure_ascii=False)
    for place in places:
        try:
            with atomic(place) as path:
                path.write_text(f"{json.dumps(_digest(content))}\n{content}", encoding="utf-8")
        except (OutputError, OSError):
            continue
        if place != places[0]:
            warnings.warn(
                f"{places[0].parent} is not writable: the corpus {name!r} is cached in {place.parent}.", stacklevel=5
            )
        return
    warnings.warn(f"{places[0].parent} is not writable: the corpus {name!r} is not cached.", stacklevel=5)


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def _split(name: str) -> str:
    kind, qualified = name.split(":", 1)
    key = qualified.split("/")[0] if kind == "code" else qualified  # keeps the code of a module in one split
    percent = int.from_bytes(hashlib.sha256(f"{kind}:{key}".encode()).digest()[:4], "big") % 100
    if percent < HELD_OUT_PERCENT:
        return "test"
    return "validation" if percent < 2 * HELD_OUT_PERCENT else "train"


def _documents() -> dict[str, str]:
    """Every candidate document by name."""
    library = Path(sysconfig.get_paths()["stdlib"])
    topics = ast.parse((library / "pydoc_data" / "topics.py").read_text(encoding="utf-8"))
    assignment = next(node for node in topics.body if isinstance(node, ast.Assign))
    found = {f"prose:pydoc_data.topics.{k}": v for k, v in ast.literal_eval(assignment.value).items()}
    for file, module in _modules(library, ""):
        source, tree = _parse(file)
        if tree is not None and module != "pydoc_data.topics":
            found.update(_docstrings(tree, module))
            found.update(_code(tree, source, module))
    for package, parts in PACKAGES.items():
        home = _home(package)
        if home is None:
            continue
        for part in parts:
            root = home / part
            for file, module in _modules(root, ".".join([package, *part.removesuffix(".py").split("/")]).rstrip(".")):
                tree = _parse(file)[1]
                if tree is not None:
                    found.update(_docstrings(tree, module))
                    found.update(_added_docstrings(tree) if part == "_torch_docs.py" else ())
    return {name: text for name, text in found.items() if len(text) >= MIN_CHARACTERS}


def _home(package: str) -> Path | None:
    """The folder of a package, found without importing it; None if it is not installed."""
    spec = find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _modules(root: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Source files at or below `root` with their dotted module names; `root` itself is named `name`."""
    for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
        parts = file.relative_to(root).with_suffix("").parts if file != root else ()
        if SKIPPED_FOLDERS.isdisjoint(parts):
            yield file, ".".join(p for p in (name, *parts) if p and p != "__init__")


def _parse(file: Path) -> tuple[str, ast.Module | None]:
    try:
        source = file.read_text(encoding="utf-8")
        with warnings.catch_warnings():  # newer Pythons warn about escapes in other people's code
            warnings.simplefilter("ignore")
            return source, ast.parse(source)
    except (SyntaxError, UnicodeDecodeError):  # the standard library contains deliberately broken files
        return "", None


Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _definitions(node: Definition, name: str) -> Iterator[tuple[Definition, str]]:
    yield node, name
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for child in node.body:
            if isinstance(child, Definition):
                yield from _definitions(child, f"{name}.{child.name}")


def _docstrings(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    for node, name in _definitions(tree, module):
        text = ast.get_docstring(node)
        if text:
            yield f"prose:{name}", text


def _added_docstrings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Docstrings that torch attaches with `add_docstr(torch.name, r'''...''')`."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "add_docstr" and len(call.args) == 2:
            text = next((c.value for c in ast.walk(call.args[1]) if isinstance(c, ast.Constant)), None)
            if isinstance(text, str):
                yield f"prose:{ast.unparse(call.args[0])}", inspect.cleandoc(text)


def _code(tree: ast.Module, source: str, module: str) -> Iterator[tuple[str, str]]:
    """Source of each top-level class and function without docstrings, which are documents of their own."""
    lines = source.splitlines()
    docstring_lines: set[int] = set()
    for node, _ in _definitions(tree, module):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            docstring_lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    for top in tree.body:
        if isinstance(top, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            kept = [lines[i - 1] for i in range(top.lineno, (top.end_lineno or 0) + 1) if i not in docstring_lines]
            yield f"code:{module}/{top.name}", "\n".join(kept)


def without_near_duplicates(documents: dict[str, str], limit: float = 0.5) -> dict[str, str]:
    """Keep a document if fewer than half of its 5-word shingles occur in longer documents already kept.

    Goes from long to short, so that fragments of a document are dropped and not the document itself. The shingles seen
    are stored in a bitmap indexed by hash, which is cheap and has few false positives (a few per cent of shingles).
    """
    bits = 27
    seen = np.zeros(1 << bits, dtype=bool)
    multipliers = np.array([1, 1_000_003, 998_244_353, 2_147_483_647, 19_260_817], dtype=np.uint64)
    word_hash: dict[str, int] = {}
    kept = {}
    for name in sorted(documents, key=lambda n: (-len(documents[n]), n)):
        words = re.findall(r"\w+|[^\w\s]", documents[name].lower())
        ids = np.array([word_hash.setdefault(w, zlib.crc32(w.encode())) for w in words], dtype=np.uint64)
        if len(ids) < len(multipliers):
            continue
        windows = np.lib.stride_tricks.sliding_window_view(ids, len(multipliers))
        shingles = np.unique(
            ((windows * multipliers).sum(axis=1) * np.uint64(11400714819323198485)) >> np.uint64(64 - bits)
        )
        if seen[shingles].mean() < limit:
            kept[name] = documents[name]
            seen[shingles] = True
    return kept
