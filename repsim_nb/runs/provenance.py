"""Provenance of a run: versions, platform, git revision."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from repsim_nb import __version__
from repsim_nb.system.shipped import checkout

_PACKAGES = (
    "torch",
    "transformers",
    "transformer-lens",
    "numpy",
    "scipy",
    "pandas",
    "xarray",
    "matplotlib",
    "papermill",
)


def provenance() -> dict[str, Any]:
    """Versions of Python and the main packages, the platform, and the git revision (None outside a checkout)."""
    versions = {"repsim-nb": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"versions": versions, "platform": platform.platform(), "revision": revision()}


def revision() -> str | None:
    """The commit of the checkout, with `+changes` if files differ from it; None without git or checkout."""
    top = checkout()
    if top is None:
        return None
    try:
        commit = _git(top, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(top, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Any, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
