"""What is different on Windows."""

import os
import re

_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[1-9¹²³])\s*(\..*)?", re.IGNORECASE)


def on_windows() -> bool:
    """Whether this is Windows. Code asks here, so that tests can simulate it."""
    return os.name == "nt"


def is_file_name(name: str) -> bool:
    """Whether Windows would store a file under exactly this name, and not take it for a device or change it.

    Examples
    --------
    >>> [is_file_name(name) for name in ("table.csv", "AUX.csv", "table.", "a:b", "console.csv")]
    [True, False, False, False, True]
    """
    return not _DEVICES.fullmatch(name) and name == name.rstrip(". ") and not set(name) & set('<>:"|?*\\/')
