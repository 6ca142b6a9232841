"""What Windows does otherwise."""

import os
import re

_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[1-9¹²³])\s*(\..*)?", re.IGNORECASE)


def on_windows() -> bool:
    """Whether this is Windows; tests say so elsewhere, which is why code asks here."""
    return os.name == "nt"


def is_file_name(name: str) -> bool:
    """Whether Windows keeps the last part of a path as it is, rather than for a device or under another name.

    >>> [is_file_name(name) for name in ("table.csv", "AUX.csv", "table.", "a:b", "console.csv")]
    [True, False, False, False, True]
    """
    return not _DEVICES.fullmatch(name) and name == name.rstrip(". ") and not set(name) & set('<>:"|?*\\/')
