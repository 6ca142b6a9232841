"""Restrict assignments to widgets of this package to what they declare; anything else raises."""

from __future__ import annotations

import reprlib
from typing import Any, NoReturn

import ipywidgets as widgets
import traitlets

from repsim_nb.errors import InputError, unknown


class _Closing(type(widgets.VBox)):  # type: ignore[misc]
    """Closes a widget once it is made: only what its `__init__` and those of subclasses assigned is declared."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        made._closed = True
        return made


class Parts(widgets.VBox, metaclass=_Closing):
    """A box whose public parts cannot be replaced or added to by mistake.

    Traits and settable properties work as usual. Assigning to anything else would change the object but not what it
    shows, so it raises an InputError that says what to assign to instead.
    """

    _closed = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self._closed and not name.startswith("_") and not self._settable(name):
            self._refuse(name, value)
        try:
            super().__setattr__(name, value)
        except traitlets.TraitError as error:
            raise InputError(str(error)) from None

    def _settable(self, name: str) -> bool:
        if self.has_trait(name):
            return not self.traits()[name].read_only
        found = getattr(type(self), name, None)
        return isinstance(found, property) and found.fset is not None

    def _refuse(self, name: str, value: Any) -> NoReturn:
        kind = type(self).__name__
        if not hasattr(self, name):
            raise unknown(f"attribute of {kind}", name, filter(self._own, dir(self)))
        part = getattr(self, name)
        if isinstance(part, widgets.Widget) and part.has_trait("value") and not isinstance(part, widgets.HTML):
            given = getattr(value, "value", value) if isinstance(value, widgets.Widget) else value
            raise InputError(f"{kind}.{name} is a control. Set its value: .{name}.value = {reprlib.repr(given)}")
        which = ", ".join(filter(self._settable, filter(self._own, dir(self))))
        raise InputError(f"{kind}.{name} is read-only. What can be set: {which}.")

    @staticmethod
    def _own(name: str) -> bool:
        """Whether an attribute is from this package; boxes of ipywidgets have dozens more."""
        return not name.startswith("_") and name not in dir(widgets.VBox)
