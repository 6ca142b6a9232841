"""Turn texts or pairs of texts into token ids: windows of the model's context, and padded batches of windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.tokenizing import Tokenizing, Tokens, check_text, state
from repsim_nb.models.window import Window as Window
from repsim_nb.models.window import WindowTable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
else:
    PreTrainedTokenizerBase = Any  # see model.py

Texts = Sequence[str | Sequence[str]]  # each a text or a pair of texts
PACKINGS = ("documents", "packed")
ENCODED = 64  # pairs at once, since the tokenizer's output is much larger than the token ids


@dataclass(frozen=True)
class Packing:
    """How documents become windows.

    Attributes
    ----------
    kind
        "documents": every window comes from one document, and long documents have several. "packed": documents are
        joined with the tokenizer's end-of-text token and cut into windows of exactly `length` tokens, as in training.
        A token then also attends to earlier documents in its window, and an incomplete last window is dropped.
    length
        Window length in tokens, special tokens included; a maximum for kind "documents". None means the shortest
        context of the models.
    bos
        Whether a window begins with the tokenizer's beginning-of-text token. None leaves it to the tokenizer: GPT-2's
        adds none, Llama's does. Many models treat the first token of a window unlike all others, whichever it is.

    Raises
    ------
    InputError
        If the kind is unknown, or the length is not a positive whole number.
    """

    kind: str = "documents"
    length: int | None = None
    bos: bool | None = None

    def __post_init__(self) -> None:
        if self.kind not in PACKINGS:
            raise unknown("packing", self.kind, PACKINGS)
        whole = isinstance(self.length, Integral) and not isinstance(self.length, bool)
        if self.length is not None and not (whole and self.length > 0):
            raise InputError(f"length={self.length!r}; expected a positive whole number of tokens, or None.")

        if self.length is not None:  # a plain int, for JSON
            object.__setattr__(self, "length", int(self.length))

    @classmethod
    def of(cls, given: str | Packing) -> Packing:
        """Convert the name of a kind to a Packing; return a Packing unchanged."""
        return given if isinstance(given, cls) else cls(given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Batch:
    """Windows padded on the right to equal length.

    Attributes
    ----------
    ids
        Token ids, int64 (sequences, length).
    mask
        True at real tokens, special ones included, bool (sequences, length).
    offsets
        Characters of the text that each token covers, int64 (sequences, length, 2); (-1, -1) at special tokens and
        padding.
    texts
        Index of the text or pair of each sequence, int64 (sequences,); texts longer than the context have several.
    types
        Token types for the texts of a pair, int64 (sequences, length); None means all 0.
    """

    ids: Int64[Tensor, "sequences length"]
    mask: Bool[Tensor, "sequences length"]
    offsets: Int64[Tensor, "sequences length 2"]
    texts: Int64[Tensor, " sequences"]
    types: Int64[Tensor, "sequences length"] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def carries_text(self) -> Bool[Tensor, "sequences length"]:
        """True at tokens that stand for characters of the text, bool (sequences, length)."""
        return self.offsets[..., 1] > self.offsets[..., 0]

    def to(self, device: str | torch.device) -> Batch:
        """The same batch with ids, mask and types on `device`."""
        types = None if self.types is None else self.types.to(device)
        return replace(self, ids=self.ids.to(device), mask=self.mask.to(device), types=types)

    def take(self, rows: list[int]) -> Batch:
        """Only the sequences at `rows`, in that order."""
        types = None if self.types is None else self.types[rows]
        return Batch(self.ids[rows], self.mask[rows], self.offsets[rows], self.texts[rows], types)


def collate(windows: Sequence[Window], pad: int = 0, length: int = 0) -> Batch:
    """Pad windows on the right, to at least `length`, and stack them."""
    shape = (len(windows), max(length, *(len(w) for w in windows)))
    ids = np.full(shape, pad, dtype=np.int64)
    mask = np.zeros(shape, dtype=bool)
    offsets = np.full((*shape, 2), -1, dtype=np.int64)
    types = np.zeros(shape, dtype=np.int64)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = window.ids
        mask[row, : len(window)] = True
        offsets[row, : len(window)] = window.offsets
        types[row, : len(window)] = 0 if window.types is None else window.types
    texts = torch.tensor([w.text for w in windows])
    pairs = torch.from_numpy(types) if types.any() else None
    return Batch(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(offsets), texts, pairs)


class Windows:
    """Splits texts into windows of at most `context` tokens, each framed by the tokenizer's special tokens.

    A pair of texts is one window, joined by the tokenizer.

    Parameters
    ----------
    tokenizer
        A fast tokenizer. Later edits to it take effect.
    context
        Maximum window length in tokens, special tokens included.
    vocabulary
        Number of rows of the token embedding; None if unknown.

    Raises
    ------
    InputError
        If the tokenizer is not fast.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int, vocabulary: int | None = None):
        if not tokenizer.is_fast:
            raise InputError(
                f"The tokenizer {type(tokenizer).__name__} provides no character offsets, which are needed to align "
                "rows. Load the model with its fast tokenizer."
            )
        self.tokenizer = tokenizer
        self.context = context
        self.vocabulary = vocabulary
        self._state: tuple[Any, ...] | None = None

    @property
    def _now(self) -> Tokenizing:
        """The tokenizer as it is now."""
        now = state(self.tokenizer)
        if now != self._state:
            self._tokenizing, self._state = Tokenizing(self.tokenizer), now
        return self._tokenizing

    @property
    def key(self) -> str:
        """A key that is equal for tokenizers with the same windows for every text and packing."""
        return self._now.key

    @property
    def text_key(self) -> str:
        """A key that is equal for tokenizers with the same windows for every text without packing; see `key_for`."""
        return self._now.text_key

    def key_for(self, packing: Packing) -> str:
        """A key that is equal for tokenizers with the same windows for every text under this packing.

        A base model and a chat model often differ only in their end-of-text token; their windows are equal unless the
        packing uses that token.
        """
        return self.text_key if packing.kind == "documents" and packing.bos is None else self.key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Windows) and (self.key, self.context) == (other.key, other.context)

    def __hash__(self) -> int:
        return hash((self.key, self.context))

    def __call__(
        self,
        texts: Texts,
        length: int | None = None,
        packing: Packing | None = None,
        memory_limit: int | None = None,
    ) -> WindowTable:
        """All windows of all texts in order, with at most `length` tokens each (default: the context).

        Memory for tokenizing is checked first; see `tokenizing.check_text`.

        Raises
        ------
        InputError
            If a string is given instead of a sequence, texts are mixed with pairs, a pair is longer than a window or
            to be packed, the packing needs a special token that the tokenizer lacks, the model has no embedding for a
            token, or there is not enough memory.
        """
        if isinstance(texts, str):
            raise InputError("Expected a sequence of texts, got a single string. Put it in a list: [text].")
        kinds = {isinstance(text, str) for text in texts}
        if len(kinds) > 1:
            raise InputError("Expected either texts or pairs of texts, got both. Pass them separately.")
        packing = packing or Packing()
        longest = min(packing.length or length or self.context, length or self.context, self.context)
        if kinds == {False}:
            if packing != Packing():
                raise InputError("Pairs of texts cannot be packed; leave packing out.")
            windows = self._pairs(texts, longest, memory_limit)
        else:
            check_text(texts, memory_limit)
            windows = self._texts(cast(Sequence[str], texts), longest, packing)
        self.check(windows)
        return windows

    def check(self, windows: WindowTable) -> None:
        """Check that the model has an embedding for every token of these windows.

        Raises
        ------
        InputError
            If it does not.
        """
        if self.vocabulary is None or not len(windows):
            return
        beyond = [i for i in (*windows.before, *windows.after) if i >= self.vocabulary]
        worst = int(windows.ids.max(initial=0))
        if beyond or worst >= self.vocabulary:
            raise self.beyond(beyond[0] if beyond else worst)

    def beyond(self, token: int) -> InputError:
        """The error for a token without an embedding."""
        return InputError(
            f"The token {self.tokenizer.convert_ids_to_tokens(token)!r} has the id {token}, but the model's embedding "
            f"has {self.vocabulary:,} rows. Load the model with the tokenizer it was trained with, or enlarge its "
            "embedding with resize_token_embeddings and train it."
        )

    def tokens(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ids (length,) and offsets (length, 2) of every whole text, without special tokens.

        A token ends after everything that belongs to its last character. Tokenizers that compose characters (an e and
        an accent) report an end before the accent, although they have read it.
        """
        for part in self._now.tokens(texts):
            yield from part

    def frame(self, bos: bool | None = None) -> tuple[list[int], list[int]]:
        """Special tokens before and after the text of a window.

        Raises
        ------
        InputError
            If bos=True and the tokenizer has no beginning-of-text token.
        """
        before, after = self._now.before, self._now.after
        token = self.tokenizer.bos_token_id
        if bos and token is None:
            raise InputError(
                f"bos=True needs a beginning-of-text token, and the tokenizer {type(self.tokenizer).__name__} has "
                "none. Leave bos out."
            )
        has = token is not None and before[:1] == [token]
        if bos is None or bos == has:
            return before, after
        return ([token, *before], after) if bos else (before[1:], after)

    def framed(self, text: int, ids: np.ndarray, offsets: np.ndarray, bos: bool | None = None) -> Window:
        """A window of these tokens, framed by special tokens."""
        return WindowTable(ids, offsets, np.array([len(ids)]), np.array([text]), *self.frame(bos))[0]

    def room(self, length: int, bos: bool | None = None) -> int:
        """Number of text tokens that fit in a window of `length` tokens.

        Raises
        ------
        InputError
            If there is no room for any.
        """
        inner = length - sum(map(len, self.frame(bos)))
        if inner < 1:
            raise InputError(f"Windows of {length} tokens leave no room for text next to the special tokens.")
        return inner

    def _texts(self, texts: Sequence[str], length: int, packing: Packing) -> WindowTable:
        inner = self.room(length, packing.bos)
        frame = self.frame(packing.bos)
        tokens = Tokens.joined(list(self._now.tokens(texts)))
        if packing.kind == "packed":
            return self._packed(tokens, inner, frame)
        pieces = -(-tokens.counts // inner)  # windows of each text
        text = np.repeat(np.arange(len(texts)), pieces)
        first = np.repeat(np.cumsum(pieces) - pieces, pieces)
        done = (np.arange(len(text)) - first) * inner  # tokens of its text before each window
        ends = np.cumsum(np.minimum(inner, tokens.counts[text] - done))
        return WindowTable(tokens.ids, tokens.offsets, ends, text, *frame)

    def _packed(self, tokens: Tokens, inner: int, frame: tuple[list[int], list[int]]) -> WindowTable:
        between = self.tokenizer.eos_token_id
        if between is None:
            raise InputError(
                f'packing="packed" needs an end-of-text token, and {type(self.tokenizer).__name__} has none. Use '
                'packing="documents".'
            )
        texts = np.repeat(np.arange(len(tokens.counts)), tokens.counts + 1)[:-1]
        if len(texts) < inner:
            raise InputError(
                f"The corpus has {len(texts):,} tokens, fewer than the {inner:,} of one packed window. Use a shorter "
                'length, more text, or packing="documents".'
            )
        place = np.arange(len(tokens.ids)) + np.repeat(np.arange(len(tokens.counts)), tokens.counts)
        ids = np.full(len(texts), between, dtype=np.int32)
        offsets = np.full((len(texts), 2), -1, dtype=np.int32)
        ids[place], offsets[place] = tokens.ids, tokens.offsets
        ends = np.arange(inner, len(ids) + 1, inner)
        full = slice(ends[-1])  # drop the incomplete last window
        return WindowTable(
            ids[full], offsets[full], ends, texts[ends - inner], *frame, texts=texts[full].astype(np.int32)
        )

    def _pairs(self, pairs: Sequence[Any], length: int, memory_limit: int | None) -> WindowTable:
        wrong = next((p for p in pairs if len(p) != 2 or not all(isinstance(text, str) for text in p)), None)
        if wrong is not None:
            raise InputError(f"Expected texts or pairs of texts, got {wrong!r:.80}.")
        check_text(pairs, memory_limit)
        # Request types even if this model needs none, since windows are shared with models that do.
        asked = {"return_offsets_mapping": True, "return_attention_mask": False, "return_token_type_ids": True}
        columns: list[list[np.ndarray]] = [[], [], []]
        for start in range(0, len(pairs), ENCODED):
            part = pairs[start : start + ENCODED]
            encoded = self.tokenizer([a for a, _ in part], [b for _, b in part], **asked)
            for number, (a, b) in enumerate(part):
                ids = np.array(encoded["input_ids"][number], dtype=np.int32)
                if len(ids) > length:
                    raise InputError(
                        f"Pair number {start + number} has {len(ids)} tokens, more than the {length} that fit, and "
                        f"pairs are not split: {a!r:.40}, {b!r:.40}. Shorten it or leave it out."
                    )
                of = np.array([-1 if which is None else which for which in encoded.sequence_ids(number)])
                offsets = np.array(encoded["offset_mapping"][number], dtype=np.int32)
                offsets[of == 1] += len(a) + 1
                offsets[of == -1] = -1
                for column, values in zip(columns, (ids, offsets, encoded["token_type_ids"][number]), strict=True):
                    column.append(np.array(values, dtype=np.int32))
        ids, offsets, types = map(np.concatenate, columns)
        ends = np.cumsum([len(own) for own in columns[0]])
        return WindowTable(ids, offsets, ends, np.arange(len(pairs)), types=types)
