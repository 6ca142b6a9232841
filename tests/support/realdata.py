"""Real weights and data that others published, and that are no part of this project."""

import os
from pathlib import Path

FOLDER = "REPSIM_NB_REALDATA"  # the environment variable that names a folder with them


def realdata(name):
    """The path of a file or folder there, even if it does not exist. Without the variable, beside the checkout."""
    above = [parent / "shared" / "realdata" for parent in Path(__file__).parents]
    folders = [Path(os.environ[FOLDER])] if os.environ.get(FOLDER) else above
    return next((folder / name for folder in folders if (folder / name).exists()), folders[0] / name)
