"""Activations on disk: one safetensors file per extraction, named by the hash of everything its values depend on.

Files are written atomically and never modified, so any number of processes can share a store and a killed process
does no harm. They can be read without this package:

    tensors = safetensors.torch.load_file(file)   # layer_0, layer_1, ...: float32 (n_rows, d_model)
                                                  # row_document, row_sequence, row_position, row_char_end: (n_rows,)
    with safetensors.safe_open(file, "pt") as opened:
        about = opened.metadata()                 # provenance, key, documents (names, by row_document), checksums: JSON

Reads verify a checksum at 0.3 to 1 GB per second: 0.2 to 0.6 s for 13 layers of 4,096 rows of 768 numbers. A corrupt
entry is removed and treated as missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
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
DIGITS = 32  # length of an entry's name
LIMIT = 20 * 10**9  # default maximum bytes of a store
STALE_AFTER = 3600.0  # seconds without a change after which a partial file counts as left by a killed process
PLACES = ("sequence", "position", "char_end")  # numeric columns of rows
RESULTS = "results"  # folder of small arrays computed from entries
HASHED_PACKAGES = ("models", "activations")  # subpackages whose code the values depend on


class StoreWarning(UserWarning):
    """Activations could not be stored. They are still in memory and the computation continues."""


class Store:
    """A folder of extracted activations. The least recently used entries are evicted when it is full.

    Parameters
    ----------
    folder
        The folder, created if missing. None means the user's cache folder.
    limit
        Maximum total size of its files in bytes.

    Raises
    ------
    InputError
        If the folder cannot be written or the limit is not a positive number.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, limit: int = LIMIT):
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
            raise InputError(f"limit={limit!r}; expected a positive number of bytes, such as 20e9.")
        self.folder = make_folder(_default_folder() if folder is None else folder).absolute()  # also for workers
        writable(self.folder / "probe.safetensors")
        self.limit = int(limit)
        self._warned = False

    def __repr__(self) -> str:
        files = self._files()
        size = readable_size(sum(size for _, size, _ in files))
        return f"Store({str(self.folder)!r}, {len(files)} entries, {size} of {readable_size(self.limit)})"

    def find(self, key: Mapping[str, Any], layers: Sequence[int] | None = None) -> dict[int, Tensor] | None:
        """Look up `key`: layer -> float32 tensor (n_rows, d_model), or None if it is not stored.

        Reads only `layers`, unless that is None.
        """
        path = self._path(key)
        try:
            with safe_open(path, "pt") as opened:
                about = opened.metadata()
                if json.loads(about["key"]) != _through_json(key):
                    return None
                # Copied, because another process may remove the file while its pages are still being read.
                wanted = key["layers"] if layers is None else layers
                found = {layer: opened.get_tensor(f"layer_{layer}").clone() for layer in wanted}
            checksums = json.loads(about["checksums"])
            if any(checksums[f"layer_{layer}"] != _checksum(values) for layer, values in found.items()):
                raise ValueError("checksum mismatch")
        except (SafetensorError, KeyError, TypeError, ValueError):  # corrupt: treat as missing
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        except OSError:  # missing, or another user's unreadable file, which may be intact
            return None
        with suppress(OSError):  # another user's file
            os.utime(path)  # mark as recently used
        return found

    def keep(
        self, key: Mapping[str, Any], layers: Mapping[int, Tensor], rows: pd.DataFrame, provenance: Mapping[str, Any]
    ) -> bool:
        """Store the activations of `layers` at `rows` under `key`; return whether they are stored.

        On failure, warn once with a StoreWarning.
        """
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
                raise OutputError(f"they need {readable_size(size)} and its limit is {readable_size(self.limit)}")
            self._make_room(size)
            with atomic(self._path(key)) as path:
                path.touch()  # to learn the default permissions; save_file sets 0600
                permissions = path.stat().st_mode
                save_file(tensors, path, {"format": "pt", **{name: json.dumps(value) for name, value in about.items()}})
                with suppress(OSError):  # file systems without permissions
                    path.chmod(permissions)
        except (OSError, SafetensorError, OutputError) as error:
            self._warn_once(error)
            return False
        return True

    def entries(self) -> pd.DataFrame:
        """Entries, latest used first: model, corpus, site, rows, n_rows, layers, dtype, bytes, used, file."""
        import pandas as pd

        records = []
        for used, size, path in sorted(self._files(), reverse=True):
            try:
                with safe_open(path, "pt") as opened:
                    about = {name: json.loads(opened.metadata()[name]) for name in ("provenance", "key")}
            except (OSError, SafetensorError, KeyError, TypeError, ValueError):  # removed meanwhile, or corrupt
                continue
            made, key = about["provenance"], about["key"]
            records.append(
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
            records, columns=["model", "corpus", "site", "rows", "n_rows", "layers", "dtype", "bytes", "used", "file"]
        )

    def clear(self) -> int:
        """Remove all entries, results and stale partial files; return the number of entries removed."""
        files = self._files()
        for _, _, path in files:
            path.unlink(missing_ok=True)
        for path in (self.folder / RESULTS).glob(f"{'[0-9a-f]' * DIGITS}.npz"):
            path.unlink(missing_ok=True)
        self._remove_stale_files()
        return len(files)

    def find_result(self, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
        """Look up the arrays that `keep_result` stored under `key`; None if there are none."""
        path = self._result_path(key)
        try:
            with open(path, "rb") as file, np.load(file) as found:
                return {name: found[name] for name in found.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # corrupt: treat as missing
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None

    def keep_result(self, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Store small arrays that were computed from activations, such as one value for each pair of models.

        They do not count towards the limit and stay until `clear`. On failure, warn once with a StoreWarning.
        """
        try:
            with atomic(self._result_path(key)) as path:
                np.savez(path, **arrays)  # type: ignore[arg-type]  # its stub has a flag among the names
        except (OSError, OutputError) as error:
            self._warn_once(error)

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self.folder / f"{_digest(key)}.safetensors"

    def _result_path(self, key: Mapping[str, Any]) -> Path:
        return self.folder / RESULTS / f"{_digest(key)}.npz"

    def _files(self) -> list[tuple[float, int, Path]]:
        """(last use, bytes, path) of every entry."""
        found = []
        for path in self.folder.glob(f"{'[0-9a-f]' * DIGITS}.safetensors"):  # ignores unrelated files
            try:
                about = path.stat()
            except FileNotFoundError:  # another process evicted it
                continue
            found.append((about.st_mtime, about.st_size, path))
        return found

    def _make_room(self, size: int) -> None:
        self._remove_stale_files()
        files = sorted(self._files())
        total = sum(bytes_ for _, bytes_, _ in files)
        for _, bytes_, path in files:
            if total + size <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= bytes_

    def _remove_stale_files(self) -> None:
        for path in self.folder.glob(".*.partial.safetensors"):
            try:
                if time.time() - path.stat().st_mtime > STALE_AFTER:
                    path.unlink()
            except FileNotFoundError:
                continue

    def _warn_once(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            why = str(error).removesuffix(".")
            warnings.warn(f"Activations could not be stored in {self.folder}: {why}.", StoreWarning, stacklevel=4)


class StoredLayers(Mapping[int, Tensor]):
    """Layers of an entry, each of them read when it is asked for and not kept in memory."""

    def __init__(self, store: Store, key: Mapping[str, Any]) -> None:
        self.store, self.key = store, key

    def __getitem__(self, layer: int) -> Tensor:
        if layer not in self:
            raise KeyError(layer)
        found = self.store.find(self.key, [layer])
        if found is None:
            raise InputError(
                f"{self.store!r} no longer has activations that it had a moment ago. Give it a larger limit, and let "
                "nothing else remove its files."
            )
        return found[layer]

    def __contains__(self, layer: object) -> bool:
        return layer in self.key["layers"]

    def __iter__(self) -> Iterator[int]:
        return iter(self.key["layers"])

    def __len__(self) -> int:
        return len(self.key["layers"])


def as_store(given: Store | str | os.PathLike[str] | bool | None) -> Store | None:
    """Convert the `store` argument: None and False give None, True the user's cache folder, a path a store there.

    Raises
    ------
    InputError
        If it is anything else, or the folder cannot be written.
    """
    if given is None or given is False:
        return None
    if isinstance(given, Store):
        return given
    if given is not True and not isinstance(given, str | os.PathLike):
        raise InputError(f"store={given!r}; expected None, True, a folder path or a Store.")
    return Store(None if given is True else given)


def key_of(model: Model, selection: Selection, layers: list[int], sampling: Sampling) -> dict[str, Any] | None:
    """Everything that the values of an extraction depend on; None, with a StoreWarning, if that is unknown.

    The number of rows and the seed are left out because the key holds the rows they select. The batch size is left
    out because it changes values within rounding only.
    """
    read = {"rows": sampling.rows, "where": _rows_sha256(selection), "site": sampling.site, "layers": layers}
    return model_key(model, corpus=sampling.text.sha256, **read)


def model_key(model: Model, **read: Any) -> dict[str, Any] | None:
    """The same for whatever `read` names: the text, the place in the model and, under "layers", numbers of arrays."""
    try:
        computation = model.computation()
    except UntraceableError as strange:
        warnings.warn(
            f"The activations of {model.name} are not stored: {strange}, and no hash covers what that does.",
            StoreWarning,
            stacklevel=6,
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
        **read,
        "versions": versions(),
        "code": code_sha256(HASHED_PACKAGES),
    }


def _default_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("repsim-nb")) / "activations"


def _checksum(tensor: Tensor) -> str:
    """Hash of a tensor's values, dtype and shape."""
    layout = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    return hashlib.blake2b(tensor.numpy().data, key=hashlib.blake2b(layout).digest(), digest_size=16).hexdigest()


def _through_json(key: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(key))


def _precision(device: str) -> list[str]:
    """Torch's global precision settings, besides the dtype of the weights."""
    cast = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else "none"
    return [torch.get_float32_matmul_precision(), cast, str(torch.backends.cuda.matmul.allow_tf32)]


def _rows_sha256(selection: Selection) -> str:
    """Hash of the rows and of all tokens in their windows."""
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


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:DIGITS]


@cache
def code_sha256(packages: tuple[str, ...]) -> str:
    """Hash of the code of subpackages that computes the values: in a checkout it changes while the version does not."""
    digest = hashlib.sha256()
    top = Path(repsim_nb.__file__).parent
    for path in sorted(path for folder in packages for path in (top / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
