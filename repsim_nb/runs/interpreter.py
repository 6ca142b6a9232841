"""Other processes of this very interpreter, and what they need to run notebooks."""

import os
import site
from pathlib import Path

import repsim_nb
from repsim_nb.errors import needs


def needs_notebooks() -> None:
    """Raise MissingExtraError where the packages that run notebooks are not installed."""
    needs("Running a notebook", "papermill", "ipykernel", "nbformat")


def same_package() -> dict[str, str]:
    """The environment in which another process of this interpreter imports this repsim_nb."""
    home = str(Path(repsim_nb.__file__).resolve().parent.parent)
    if home in site.getsitepackages():
        return {}
    return {"PYTHONPATH": os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])}
