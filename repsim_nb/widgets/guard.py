"""Show every error raised by a control's callback next to the control, in the same way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape, unescape

import ipywidgets as widgets

from repsim_nb.runs.failures import ALERT  # the class by which errors in executed notebooks are found


class Alert(widgets.HTML):
    """Says what went wrong and what to do; empty if nothing did. `.error` is the exception shown."""

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
        """Show an exception: bad input by its message, anything unexpected with its type and a request to report it."""
        self.error = error
        message = str(error) or type(error).__name__
        if isinstance(error, MemoryError):
            message = f"Out of memory ({message}). Choose fewer rows, fewer layers or a smaller model."
        elif not isinstance(error, ValueError | OSError):
            message = f"{type(error).__name__}: {message}. This should not happen: please report it."
        self.value = f'<div role="alert">{escape(message)}</div>'
        self.layout.display = ""

    def clear(self) -> None:
        """Remove the message."""
        self.error = None
        self.value = ""
        self.layout.display = "none"

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Show whatever is raised inside. Every callback of a control runs in here."""
        try:
            yield
        except Exception as error:
            self.show(error)
