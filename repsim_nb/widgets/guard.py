"""Errors that happen behind a control are shown beside it, all of them, in one way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape, unescape

import ipywidgets as widgets

from repsim_nb.runs.failures import ALERT  # where executed notebooks are searched for errors


class Alert(widgets.HTML):
    """Says what went wrong and what to do; empty as long as all is well. `.error` is the exception that is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.add_class(ALERT)
        self.layout.display = "none"
        self.error: Exception | None = None

    @property
    def text(self) -> str:
        """What is shown, without markup."""
        return unescape(re.sub(r"<[^>]+>", "", self.value))

    def show(self, error: Exception) -> None:
        """Show an exception: bad input by its message, anything unforeseen with its kind and a request to report it."""
        self.error = error
        message = str(error) or type(error).__name__
        if isinstance(error, MemoryError):
            message = f"Memory has run out ({message}). Choose fewer rows, fewer layers or a smaller model."
        elif not isinstance(error, ValueError | OSError):
            message = f"{type(error).__name__}: {message}. This should not happen: please report it."
        self.value = f'<div role="alert">{escape(message)}</div>'
        self.layout.display = ""

    def clear(self) -> None:
        """Take the message away."""
        self.error = None
        self.value = ""
        self.layout.display = "none"

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Every callback of a control runs in here: what it raises is shown, and nothing else happens."""
        try:
            yield
        except Exception as error:
            self.show(error)
