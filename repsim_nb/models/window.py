"""Windows: token sequences that a model reads at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import SupportsIndex, overload

import numpy as np


@dataclass(frozen=True)
class Window:
    """A part of one text, or a whole pair of texts, that fits the model's context, special tokens included.

    Attributes
    ----------
    text
        Index of its text or pair.
    ids
        Token ids, (length,).
    offsets
        Characters of the whole text that each token covers, (length, 2); (-1, -1) for special tokens. In a pair,
        offsets of the second text continue after the first text and a line break.
    types
        Token types, 0 or 1 for the texts of a pair, (length,); None means all 0.
    texts
        Index of the text of each token, (length,), for packed windows; None means `text` for all.
    """

    text: int
    ids: np.ndarray
    offsets: np.ndarray
    types: np.ndarray | None = None
    texts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def text_of(self) -> np.ndarray:
        """Index of the text of each token, (length,)."""
        return np.full(len(self), self.text) if self.texts is None else self.texts

    def truncated(self, length: int) -> Window:
        """Its first `length` tokens."""
        types, texts = (None if x is None else x[:length] for x in (self.types, self.texts))
        return replace(self, ids=self.ids[:length], offsets=self.offsets[:length], types=types, texts=texts)


@dataclass(frozen=True, eq=False)
class WindowTable(Sequence[Window]):
    """Windows stored as columns, built on access: a million short windows need little more memory than their tokens.

    Attributes
    ----------
    ids, offsets
        Ids and offsets of all tokens except the frame, window by window, (tokens,) and (tokens, 2).
    ends
        Index after the last token of each window, (windows,).
    text
        Index of the text or pair of each window, (windows,).
    before, after
        The frame: special tokens before and after the tokens of each window.
    types, texts
        As in `Window`, (tokens,).
    """

    ids: np.ndarray
    offsets: np.ndarray
    ends: np.ndarray
    text: np.ndarray
    before: Sequence[int] = ()
    after: Sequence[int] = ()
    types: np.ndarray | None = None
    texts: np.ndarray | None = None

    @property
    def starts(self) -> np.ndarray:
        """Index of the first token of each window, (windows,)."""
        return np.append(0, self.ends[:-1])[: len(self)]

    @property
    def counts(self) -> np.ndarray:
        """Number of tokens of each window without the frame, (windows,)."""
        return self.ends - self.starts

    @property
    def text_of(self) -> np.ndarray:
        """Index of the text of each token, (tokens,)."""
        return np.repeat(self.text.astype(np.int32), self.counts) if self.texts is None else self.texts

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> list[Window]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Window | list[Window]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        part = slice(self.ends[index - 1] if index else 0, self.ends[index])
        frame = len(self.before), len(self.after)
        text = int(self.text[index])
        if not any(frame):
            types, texts = (None if x is None else x[part] for x in (self.types, self.texts))
            return Window(text, self.ids[part], self.offsets[part], types, texts)
        return Window(
            text,
            np.concatenate([np.array(self.before, dtype=np.int32), self.ids[part], np.array(self.after, np.int32)]),
            np.pad(self.offsets[part], (frame, (0, 0)), constant_values=-1),
            None if self.types is None else np.pad(self.types[part], frame),
            None if self.texts is None else np.pad(self.texts[part], frame, mode="edge"),
        )
