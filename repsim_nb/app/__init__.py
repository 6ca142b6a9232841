"""The explorer as a web page for users of this machine: `python -m repsim_nb.app`."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repsim_nb.widgets import Explorer

FOLDER = "REPSIM_NB_APP_FOLDER"  #: environment variable with the app's folder, for its kernels


def explorer() -> Explorer:
    """The explorer of the app's page, restricted to the app's folder, or to no files if it has none."""
    from repsim_nb.widgets import Explorer
    from repsim_nb.widgets.bounds import limit

    folder = os.environ.get(FOLDER) or None
    os.chdir(folder or _empty_folder())  # so that no name happens to be a path
    limit(folder)
    return Explorer()


def _empty_folder() -> str:
    folder = tempfile.mkdtemp(prefix="repsim-nb-app-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
