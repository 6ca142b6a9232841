"""Turn the rows of a table into documents: texts, labelled pairs of texts, or passages beside their queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from repsim_nb.errors import InputError, unknown

TEXT = "text"
PAIR = ("premise", "hypothesis")
LABEL = "label"
QUERY, PASSAGE = "query", "passage"
CASE = ("heuristic", "label", "subcase")  # the columns of HANS
COMPLETE = ({TEXT}, {*PAIR, LABEL}, {QUERY, PASSAGE})  # columns that suffice


@dataclass
class DocumentsRead:
    """Documents read so far.

    Attributes
    ----------
    texts
        One string per document.
    names
        One name per document, with the number of its row.
    seen
        Number of rows read.
    second_texts, labels, cases
        As in `Corpus`; empty if there are none.
    answers
        Query -> the places in `texts` of the passages that it stood beside, in order.
    places
        Passage -> its place in `texts`, for passages beside queries.
    """

    texts: list[str]
    names: list[str]
    seen: int
    second_texts: list[str]
    labels: list[str]
    cases: list[str]
    answers: dict[str, dict[int, None]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)

    @classmethod
    def none(cls) -> DocumentsRead:
        """Nothing read yet."""
        return cls([], [], 0, [], [], [])


@dataclass(frozen=True)
class Wanted:
    """The columns of a table that make a document.

    Attributes
    ----------
    column
        The column that holds the texts; None for pairs.
    columns
        All columns to read.
    label_names
        Names of the labels, for labels stored as numbers.
    """

    column: str | None
    columns: tuple[str, ...]
    label_names: Sequence[str] | None = None

    @property
    def kind(self) -> str:
        """What a row is: "text", "queries" or labelled "pairs"."""
        return "text" if self.column is not None else "queries" if PASSAGE in self.columns else "pairs"

    @classmethod
    def of(cls, there: Sequence[str], column: str | None, label_names: Sequence[str] | None = None) -> Wanted:
        """Choose the requested column, or "text", or "premise", "hypothesis" and "label", or "query" and "passage".

        Raises
        ------
        InputError
            If there is no such column; the message lists the available ones.
        """
        if column is not None:
            if column not in there:
                raise unknown("column", column, there, f"Available: {', '.join(there)}.")
            return cls(column, (column,))
        if TEXT in there:
            return cls(TEXT, (TEXT,))
        if {*PAIR, LABEL} <= {*there}:
            return cls(None, tuple(c for c in dict.fromkeys((*PAIR, *CASE)) if c in there), label_names)
        if {QUERY, PASSAGE} <= {*there}:
            return cls(None, (QUERY, PASSAGE))
        raise InputError(
            f"There is no column {TEXT!r}, nor {PAIR[0]!r} and {PAIR[1]!r} with a {LABEL!r}, nor {QUERY!r} and "
            f"{PASSAGE!r}. Available: {', '.join(there) or 'none'}. Set the column that holds the texts: column=..."
        )

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]], column: str | None) -> Wanted:
        """Like `of`, for rows that may lack columns: reads rows until the needed columns have appeared."""
        there: dict[str, None] = {}
        for row in rows:
            there |= dict.fromkeys(row)
            if column in there or (column is None and any(each <= there.keys() for each in COMPLETE)):
                break
        return cls.of(list(there), column)

    def read(self, rows: Iterable[Mapping[str, Any]], into: DocumentsRead, most: int | None, name: str) -> None:
        """Add the documents of the rows, named `name`:0, 1, ... by row, until there are `most` of them.

        Rows without text or label are skipped.

        Raises
        ------
        InputError
            If a column does not hold text, or labels are numbers without names.
        """
        for number, row in enumerate(rows):
            if most is not None and len(into.texts) >= most:
                return
            into.seen += 1
            try:
                added = self._add(row, into)
            except InputError as error:
                raise InputError(f"{error} (Row {number}.)") from None
            if added:
                into.names.append(f"{name}:{number}")

    def _add(self, row: Mapping[str, Any], into: DocumentsRead) -> bool:
        if self.column is not None:
            text = self._text(row, self.column)
            if text:
                into.texts.append(text)
            return bool(text)
        if self.kind == "queries":
            return self._add_answer(self._text(row, QUERY), self._text(row, PASSAGE), into)
        first, second = (self._text(row, column) for column in PAIR)
        label = self._label(row.get(LABEL))
        if not first or not second or label is None:
            return False
        into.texts.append(first)
        into.second_texts.append(second)
        into.labels.append(label)
        if {*CASE} <= {*self.columns}:
            into.cases.append("/".join(str(row.get(c) if c != LABEL else label) for c in CASE))
        return True

    def _add_answer(self, query: str | None, passage: str | None, into: DocumentsRead) -> bool:
        """Whether the passage is new. Equal passages are one document, equal queries one query."""
        if not query or not passage:
            return False
        place = into.places.setdefault(passage, len(into.texts))
        into.answers.setdefault(query, {})[place] = None
        if place < len(into.texts):
            return False
        into.texts.append(passage)
        return True

    def _text(self, row: Mapping[str, Any], column: str) -> str | None:
        value = row.get(column)
        if value is not None and not isinstance(value, str):
            raise InputError(
                f"The column {column!r} contains {type(value).__name__}, not text. Choose another: column=..."
            )
        return value if value and value.strip() else None

    def _label(self, label: Any) -> str | None:
        if label is None or isinstance(label, str):
            return label
        if not self.label_names:
            raise InputError("The labels are numbers without names.")
        if isinstance(label, bool) or not isinstance(label, int | np.integer) or label >= len(self.label_names):
            raise InputError(f"The label {label!r} is not one of {', '.join(self.label_names)}.")
        return self.label_names[int(label)] if label >= 0 else None  # -1 is no label
