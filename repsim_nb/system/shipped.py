"""Locations of the files shipped with the package: notebooks/ and data/.

A checkout has them at its top level, a wheel inside the package.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def checkout() -> Path | None:
    """The top folder of the checkout this package runs from, or None if it runs from a wheel."""
    top = _PACKAGE.parent
    return top if (top / "pyproject.toml").is_file() else None


def data_dir() -> Path:
    """The folder of the embedded models and corpora.

    Raises FileNotFoundError if the installation lacks it.
    """
    return _folder("data")


def notebooks_dir() -> Path:
    """The folder of the notebooks.

    Raises FileNotFoundError if the installation lacks it.
    """
    return _folder("notebooks")


def _folder(name: str) -> Path:
    top = checkout() or _PACKAGE
    folder = top / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"This installation of repsim-nb lacks its folder {name}/ (expected at {folder}). "
            "Reinstall it from a wheel or a complete clone."
        )
    return folder
