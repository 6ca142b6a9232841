"""The packages that numbers depend on."""

from functools import cache
from importlib.metadata import version

PACKAGES = ("repsim-nb", "torch", "transformers", "numpy")


@cache
def versions() -> dict[str, str]:
    """Package -> its version, for provenance and the keys of what is stored."""
    return {package: version(package) for package in PACKAGES}
