"""Versions of the packages that results depend on."""

from functools import cache
from importlib.metadata import version

PACKAGES = ("repsim-nb", "torch", "transformers", "numpy")


@cache
def versions() -> dict[str, str]:
    """Package name -> version, for provenance and cache keys."""
    return {package: version(package) for package in PACKAGES}
