"""Pick the text, and the rows to compare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import traitlets

from repsim_nb.activations.sampling import KINDS
from repsim_nb.corpora import list_corpora
from repsim_nb.corpora.opening import hub_id
from repsim_nb.corpora.own_text import paragraphs
from repsim_nb.errors import InputError, unknown
from repsim_nb.widgets.bounds import contained
from repsim_nb.widgets.choice import Choice
from repsim_nb.widgets.picker import FULL, Picker

OWN, PASTED, PATH, HUB = "own", "pasted", "path", "hub"
ROWS = tuple(kind for kind in KINDS if kind != "padded")  # rows that represent text
SOURCES = [("the models' own", OWN), ("my own text", PASTED), ("a file or folder", PATH), ("hub", HUB)]


class CorpusPicker(Picker):
    """An embedded corpus, own text, a file or folder, or a dataset on the hub; choosing downloads nothing.

    Parameters
    ----------
    value
        As the attribute.
    split
        Part of a corpus that has splits; None is "test", or all of a hub dataset.
    n_rows, seed, rows
        As in `extract`.
    title
        The heading.

    Attributes
    ----------
    value
        Trait: what `load_corpus` takes: a name, a path, the id of a hub dataset or a tuple of texts. None is the corpus
        that the models were made for.
    split, n_rows, seed, rows
        Traits.

    Raises
    ------
    InputError
        An unknown corpus, split or kind of rows, empty text, numbers out of range, a path that may not be read.
    FileNotFoundError
        A path that does not exist.
    """

    value = traitlets.Any(None, allow_none=True, help="what load_corpus takes, or None")
    split = traitlets.Unicode(None, allow_none=True)
    n_rows = traitlets.Any(1000)
    seed = traitlets.Any(0)
    rows = traitlets.Unicode("tokens")

    def __init__(
        self,
        value: Any = None,
        *,
        split: str | None = None,
        n_rows: int = 1000,
        seed: int = 0,
        rows: str = "tokens",
        title: str = "Text",
    ):
        named = [(name, name) for name in list_corpora().index]
        self._source = widgets.Dropdown(
            options=[SOURCES[0], *named, *SOURCES[1:]],
            description="text",
            tooltip="Where the text comes from",
            layout=FULL,
        )
        self._pasted = widgets.Textarea(
            placeholder="Blank lines separate documents",
            description="own text",
            tooltip="Your own text; blank lines separate documents",
            continuous_update=False,
            rows=4,
            layout=FULL,
        )
        self._place = widgets.Text(continuous_update=False, layout=FULL)
        self._split = Choice(description="split", tooltip="Part of the corpus", layout=FULL)
        self._rows = widgets.Dropdown(
            options=ROWS,
            description="rows are",
            tooltip="One row per token, or per document: its last token, its mean, its first token (classifiers)",
            layout=FULL,
        )
        self._n_rows = widgets.BoundedIntText(
            n_rows, 2, 10**7, description="how many", tooltip="Most rows to compare", layout=FULL
        )
        self._seed = widgets.BoundedIntText(
            seed, 0, 2**31 - 1, description="seed", tooltip="Seed of the choice of rows", layout=FULL
        )
        self._n_rows.continuous_update = self._seed.continuous_update = False
        controls = [self._source, self._pasted, self._place, self._split, self._rows, self._n_rows, self._seed]
        super().__init__(title, "corpus", controls)
        self.value, self.split, self.n_rows, self.seed, self.rows = value, split, n_rows, seed, rows
        self._show()
        self.when(self._source, self._choose_source)
        self.when(self._pasted, lambda change: setattr(self, "value", tuple(paragraphs(change.new))))
        self.when(self._place, lambda change: setattr(self, "value", change.new.strip()))
        self.when(self._split, self._choose_split)
        self.when(self._rows, lambda change: setattr(self, "rows", change.new))
        self.when(self._n_rows, lambda change: setattr(self, "n_rows", change.new))
        self.when(self._seed, lambda change: setattr(self, "seed", change.new))

    @traitlets.validate("value")
    def _valid(self, proposal: Any) -> Any:
        given = proposal["value"]
        if given is None or (isinstance(given, str) and given in list_corpora().index):
            return given
        if isinstance(given, Path):
            given = str(given)
        if isinstance(given, str):
            given = contained(given)
            if hub_id(given) or os.path.exists(given):
                return given
            if "/" in given or Path(given).suffix:
                raise FileNotFoundError(f"No text file or folder at '{given}'. Give a path that exists.")
            raise unknown("corpus", given, list_corpora().index, "Or give the path of a text file or folder.")
        whole = hasattr(given, "keys") or not hasattr(given, "__iter__")  # a mapping or table would yield its keys
        texts = () if whole else tuple(given)
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise InputError("Your own text must be one or more strings, none of them empty. Give some text.")
        return texts

    @traitlets.validate("split")
    def _valid_split(self, proposal: Any) -> Any:
        given, choices = proposal["value"], splits(self.value)
        if given is not None and self.value is None:
            raise InputError(f"split={given!r} was given without a corpus; name the corpus too, or leave split out.")
        if given is not None and choices and given not in choices:
            raise unknown("split", given, choices)
        return given

    @traitlets.validate("rows")
    def _valid_rows(self, proposal: Any) -> str:
        if proposal["value"] not in ROWS:
            raise unknown("kind of rows", proposal["value"], ROWS)
        return proposal["value"]

    @traitlets.validate("n_rows", "seed")
    def _valid_number(self, proposal: Any) -> int:
        name, given = proposal["trait"].name, proposal["value"]
        least = 2 if name == "n_rows" else 0
        if isinstance(given, bool) or not isinstance(given, int) or given < least:
            raise InputError(f"{name}={given!r}; expected an integer of at least {least}.")
        return given

    @traitlets.observe("value")
    def _forget_split(self, change: Any) -> None:
        if self.split is not None and self.split not in splits(self.value):
            self.split = None

    @traitlets.observe("value", "split", "n_rows", "seed", "rows")
    def _show(self, change: Any = None) -> None:
        # a chosen source whose field is still empty stays chosen while other things change
        source = self._kind(self.value) if change is None or change.name == "value" else self._source.value
        with self.updating():
            self._source.value = source
            self._pasted.value = "\n\n".join(self.value) if isinstance(self.value, tuple) else self._pasted.value
            if self._kind(self.value) == source and source in (PATH, HUB):
                self._place.value = self.value
            choices = splits(self.value)
            self._split.options = [("test (default)" if "test" in choices else "all", None), *choices]
            self._split.value = self.split
            self._rows.value, self._n_rows.value, self._seed.value = self.rows, self.n_rows, self.seed
        self._show_source(source)

    @staticmethod
    def _kind(value: Any) -> str:
        """The source that a value comes from."""
        if value is None:
            return OWN
        if isinstance(value, tuple):
            return PASTED
        if value in list_corpora().index:
            return value
        return PATH if os.path.exists(value) else HUB

    def _show_source(self, source: str) -> None:
        self._pasted.layout.display = "" if source == PASTED else "none"
        self._place.layout.display = "" if source in (PATH, HUB) else "none"
        self._split.layout.display = "" if splits(self.value) and source == self.value else "none"
        self._place.description = "dataset" if source == HUB else "path"
        self._place.placeholder = "owner/name, downloaded when run" if source == HUB else "a text file, or a folder"
        self._place.tooltip = self._place.placeholder

    def _choose_source(self, change: Any) -> None:
        """Choose a named corpus at once, and other sources as soon as their field is filled in."""
        place, pasted = self._place.value.strip(), tuple(paragraphs(self._pasted.value))
        if change.new in (PATH, HUB) and (not place or self._kind(place) != change.new):
            place = ""  # a dataset is not a path
            with self.updating():
                self._place.value = ""
        self._show_source(change.new)
        if change.new == OWN:
            self.value = None
        elif change.new in list_corpora().index:
            self.value = change.new
        elif field := pasted if change.new == PASTED else place:
            self.value = field

    def _choose_split(self, change: Any) -> None:
        try:
            self.split = change.new
        finally:
            self._show()  # a refused choice is undone


def splits(corpus: Any) -> list[str]:
    """The splits of a named corpus; none for the user's own text or where they are not known in advance."""
    table = list_corpora()
    return table.splits[corpus].split(", ") if isinstance(corpus, str) and corpus in table.index else []
