"""Activations on disk: one safetensors file for each extraction, named by the hash of all that its values depend on.

Nothing in a file is ever changed. It appears whole or not at all, so that any number of processes may share a store,
and a process that is killed leaves it as it was. Others read the files without this package:

    tensors = safetensors.torch.load_file(file)   # layer_0, layer_1, ...: float32 (n_rows, d_model)
                                                  # row_document, row_sequence, row_position, row_char_end: (n_rows,)
    with safetensors.safe_open(file, "pt") as opened:
        about = opened.metadata()                 # provenance, key, documents (names, by row_document), checksums: JSON

What is read is checked against its checksum, at 0.3 to 1 GB a second: 0.2 to 0.6 s for 13 layers of 4,096 rows of 768
numbers. An entry that fails is removed, and as good as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import repsim_nb
from repsim_nb.activations.sampling import Sampling
from repsim_nb.activations.selection import Selection
from repsim_nb.errors import InputError
from repsim_nb.models import Model
from repsim_nb.models.identity import UntraceableError
from repsim_nb.system.atomic import OutputError, atomic, make_folder, writable
from repsim_nb.system.memory import readable_size
from repsim_nb.system.versions import versions

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "2"
DIGITS = 32  # of an entry's name
LIMIT = 20 * 10**9  # bytes of a store
LEFT_OVER = 3600.0  # seconds after which a file that nobody goes on writing is what a killed process left
PLACES = ("sequence", "position", "char_end")  # columns of rows that are numbers
PLACE_OF_CODE = ("models", "activations")  # packages whose code the values depend on


class StoreWarning(UserWarning):
    """Activations were not stored; they are in memory, and all goes on."""


class Store:
    """A folder of activations that were extracted before, the least recently used of which make room for new ones.

    Parameters
    ----------
    folder
        Made when first needed; None is the user's cache folder.
    limit
        Bytes that its files may take together.

    Raises
    ------
    InputError
        A folder that cannot be written, or a limit that is no positive number.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, limit: int = LIMIT):
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
            raise InputError(f"limit={limit!r}; expected a positive number of bytes, such as 20e9.")
        self.folder = make_folder(_cache() if folder is None else folder)
        writable(self.folder / "probe.safetensors")
        self.limit = int(limit)
        self._complained = False

    def __repr__(self) -> str:
        files = self._files()
        size = readable_size(sum(size for _, size, _ in files))
        return f"Store({str(self.folder)!r}, {len(files)} entries, {size} of {readable_size(self.limit)})"

    def find(self, key: Mapping[str, Any]) -> dict[int, Tensor] | None:
        """Layer -> float32 (n_rows, d_model) of what was stored under `key`; None where nothing was."""
        path = self._path(key)
        try:
            with safe_open(path, "pt") as opened:
                about = opened.metadata()
                if json.loads(about["key"]) != _plain(key):
                    return None
                # Copied, because another process may remove the file while its pages are still read from disk.
                found = {layer: opened.get_tensor(f"layer_{layer}").clone() for layer in key["layers"]}
            checksums = json.loads(about["checksums"])
            if any(checksums[f"layer_{layer}"] != _checksum(values) for layer, values in found.items()):
                raise ValueError("not what was stored")
        except (SafetensorError, KeyError, TypeError, ValueError):  # broken by something else: as good as absent
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        except OSError:  # absent, or another user's who lets nobody read it: it may well be whole
            return None
        with suppress(OSError):  # another user's, whose times are not ours to set
            os.utime(path)  # when it was last used
        return found

    def keep(
        self, key: Mapping[str, Any], layers: Mapping[int, Tensor], rows: pd.DataFrame, provenance: Mapping[str, Any]
    ) -> None:
        """Store the activations of `layers` at `rows` under `key`; a StoreWarning, once, where that fails."""
        codes, names = rows["document"].factorize()
        tensors = {f"layer_{layer}": values.contiguous() for layer, values in layers.items()}
        tensors["row_document"] = torch.from_numpy(codes.astype(np.int64))
        tensors |= {f"row_{place}": torch.from_numpy(rows[place].to_numpy(np.int64, copy=True)) for place in PLACES}
        about = {
            "provenance": provenance,
            "key": key,
            "documents": [str(name) for name in names],
            "checksums": {name: _checksum(tensor) for name, tensor in tensors.items()},
        }
        size = sum(tensor.nbytes for tensor in tensors.values())
        try:
            if size > self.limit:
                raise OutputError(f"they take {readable_size(size)}, and its limit is {readable_size(self.limit)}")
            self._make_room(size)
            with atomic(self._path(key)) as path:
                path.touch()  # with the rights that any new file gets; save_file then leaves 0600 behind
                rights = path.stat().st_mode
                save_file(tensors, path, {"format": "pt", **{name: json.dumps(value) for name, value in about.items()}})
                with suppress(OSError):  # file systems without rights
                    path.chmod(rights)
        except (OSError, SafetensorError, OutputError) as error:
            self._complain(error)

    def entries(self) -> pd.DataFrame:
        """What is stored, the last used first: model, corpus, site, rows, n_rows, layers, dtype, bytes, used, file."""
        import pandas as pd

        lines = []
        for used, size, path in sorted(self._files(), reverse=True):
            try:
                with safe_open(path, "pt") as opened:
                    about = {name: json.loads(opened.metadata()[name]) for name in ("provenance", "key")}
            except (OSError, SafetensorError, KeyError, TypeError, ValueError):  # removed meanwhile, or broken
                continue
            made, key = about["provenance"], about["key"]
            lines.append(
                {
                    "model": made["model"]["model"],
                    "corpus": made["corpus"]["corpus"],
                    **{name: made[name] for name in ("site", "rows", "n_rows")},
                    **{name: key[name] for name in ("layers", "dtype")},
                    "bytes": size,
                    "used": pd.Timestamp(used, unit="s").floor("s"),
                    "file": str(path),
                }
            )
        return pd.DataFrame(
            lines, columns=["model", "corpus", "site", "rows", "n_rows", "layers", "dtype", "bytes", "used", "file"]
        )

    def clear(self) -> int:
        """Remove all entries, and what killed processes left; how many entries there were."""
        files = self._files()
        for _, _, path in files:
            path.unlink(missing_ok=True)
        self._remove_left_over()
        return len(files)

    def _path(self, key: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:DIGITS]}.safetensors"

    def _files(self) -> list[tuple[float, int, Path]]:
        """(last use, bytes, path) of every entry."""
        found = []
        for path in self.folder.glob(f"{'[0-9a-f]' * DIGITS}.safetensors"):  # files of others stay out of it
            try:
                about = path.stat()
            except FileNotFoundError:  # another process made room
                continue
            found.append((about.st_mtime, about.st_size, path))
        return found

    def _make_room(self, size: int) -> None:
        self._remove_left_over()
        files = sorted(self._files())
        total = sum(bytes_ for _, bytes_, _ in files)
        for _, bytes_, path in files:
            if total + size <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= bytes_

    def _remove_left_over(self) -> None:
        for path in self.folder.glob(".*.partial.safetensors"):
            try:
                if time.time() - path.stat().st_mtime > LEFT_OVER:
                    path.unlink()
            except FileNotFoundError:
                continue

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            why = str(error).removesuffix(".")
            warnings.warn(f"Activations could not be stored in {self.folder}: {why}.", StoreWarning, stacklevel=4)


def as_store(given: Store | str | os.PathLike[str] | bool | None) -> Store | None:
    """None and False are none, True is the user's cache folder, a path a store there.

    Raises
    ------
    InputError
        Anything else, or a folder that cannot be written.
    """
    if given is None or given is False:
        return None
    if isinstance(given, Store):
        return given
    if given is not True and not isinstance(given, str | os.PathLike):
        raise InputError(f"store={given!r}; expected None, True, the path of a folder, or a Store.")
    return Store(None if given is True else given)


def key_of(model: Model, selection: Selection, layers: list[int], sampling: Sampling) -> dict[str, Any] | None:
    """Everything that the values of an extraction depend on; None, with a StoreWarning, where that cannot be told.

    The number of rows and the seed are not in it: they decide which rows these are, and the rows are. Neither is the
    batch size, which changes values within rounding.
    """
    try:
        computation = model.computation()
    except UntraceableError as strange:
        warnings.warn(
            f"The activations of {model.name} are not stored: {strange}, and what that does is not in any hash.",
            StoreWarning,
            stacklevel=5,
        )
        return None
    return {
        "format": FORMAT,
        "weights": model.weights_sha256,
        "computation": computation,
        "network": type(model.module).__name__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "precision": _precision(model.device.type),
        "corpus": sampling.text.sha256,
        "rows": sampling.rows,
        "where": _rows_sha256(selection),
        "site": sampling.site,
        "layers": layers,
        "versions": versions(),
        "code": _code(),
    }


def _cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("repsim-nb")) / "activations"


def _checksum(tensor: Tensor) -> str:
    """Of the numbers and how they are laid out."""
    layout = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    return hashlib.blake2b(tensor.numpy().data, key=hashlib.blake2b(layout).digest(), digest_size=16).hexdigest()


def _plain(key: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(key))


def _precision(device: str) -> list[str]:
    """How torch is told to compute, beside the precision of the weights."""
    cast = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else "none"
    return [torch.get_float32_matmul_precision(), cast, str(torch.backends.cuda.matmul.allow_tf32)]


def _rows_sha256(selection: Selection) -> str:
    """Of the rows, and of all tokens that the windows they are in hold."""
    digest = hashlib.sha256()

    def add(values: Any) -> None:
        digest.update(np.ascontiguousarray(values, dtype=np.int64).data)

    for column in (selection.document, selection.char_end, selection.window, selection.position):
        add(column)
    for number in np.unique(selection.window).tolist():
        window = selection.windows[number]
        add([number, len(window), window.types is not None])
        for tokens in (window.ids, window.offsets, window.types):
            if tokens is not None:
                add(tokens)
    return digest.hexdigest()


@cache
def _code() -> str:
    """Of the code in this package that makes the values: in a checkout it changes while the version does not."""
    digest = hashlib.sha256()
    top = Path(repsim_nb.__file__).parent
    for path in sorted(path for folder in PLACE_OF_CODE for path in (top / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
