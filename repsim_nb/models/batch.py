"""From texts, or pairs of texts, to token ids: windows of the model's context, and padded batches of them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from repsim_nb.errors import InputError, unknown

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase
else:
    PreTrainedTokenizerBase = Tokenizer = Any  # see model.py

Texts = Sequence[str | Sequence[str]]  # each a text, or a pair of them
PACKINGS = ("documents", "packed")
ENCODED = 64  # texts at once: what the tokenizer returns of a token takes many times the place of its numbers


@dataclass(frozen=True)
class Packing:
    """How documents become windows.

    Attributes:
        kind: "documents": every window is of one document, a long document has several. "packed": all documents in
            order, the tokenizer's end-of-text token between them, cut into windows of exactly `length` tokens, as
            models are trained; a token then also sees the documents before its own in the window, and what is left
            at the end and fills no window is left out.
        length: of a window in tokens, special ones included (at most, where documents are not packed); None is the
            shortest context of the models.
        bos: whether a window begins with the tokenizer's beginning-of-text token. None leaves it to the tokenizer: that
            of GPT-2 puts none, that of Llama does. Many models treat the first token of a window unlike all others,
            whichever it is.

    Raises:
        InputError: an unknown kind, or a length that is no positive whole number.
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

        if self.length is not None:  # as JSON, too
            object.__setattr__(self, "length", int(self.length))

    @classmethod
    def of(cls, given: str | Packing) -> Packing:
        """A kind by its name, or a Packing as it is."""
        return given if isinstance(given, cls) else cls(given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Window:
    """A stretch of one text, or a whole pair of texts, that fits the model's context, special tokens included.

    Attributes:
        text: index of the text or pair it comes from.
        ids: token ids, (length,).
        offsets: characters of the whole text that each token covers, (length, 2); (-1, -1) for special tokens. In a
            pair, characters are counted on behind the first text and a line break.
        types: 0 or 1, which of a pair's texts the tokenizer counts each token to, (length,); None is all 0.
        texts: index of the text that each token is of, (length,), where several are packed; None is `text` for all.
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
        """Index of the text that each token is of, (length,)."""
        return np.full(len(self), self.text) if self.texts is None else self.texts

    def truncated(self, length: int) -> Window:
        """Its first `length` tokens."""
        types, texts = (None if x is None else x[:length] for x in (self.types, self.texts))
        return replace(self, ids=self.ids[:length], offsets=self.offsets[:length], types=types, texts=texts)


@dataclass(frozen=True)
class Batch:
    """Windows padded on the right to one length.

    Attributes:
        ids: token ids, int64 (sequences, length).
        mask: True at real tokens, special ones included, bool (sequences, length).
        offsets: characters of its text that each token covers, int64 (sequences, length, 2); (-1, -1) at special tokens
            and padding.
        texts: which text or pair each sequence is from, int64 (sequences,); a text longer than the context has several.
        types: which of a pair's texts each token counts to, int64 (sequences, length); None is 0 everywhere.
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
        """The sequences at `rows` alone, in that order."""
        types = None if self.types is None else self.types[rows]
        return Batch(self.ids[rows], self.mask[rows], self.offsets[rows], self.texts[rows], types)


def collate(windows: Sequence[Window], pad: int = 0, length: int = 0) -> Batch:
    """Pad windows on the right, to `length` where they are all shorter, and stack them."""
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
    """Cuts texts into windows of at most `context` tokens, each wrapped in the tokenizer's own special tokens.

    A pair of texts is one window, as the tokenizer joins them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int):
        if not tokenizer.is_fast:
            raise InputError(
                f"The tokenizer {type(tokenizer).__name__} gives no character offsets, which rows are aligned by. "
                "Load the model with its fast tokenizer."
            )
        self.tokenizer = tokenizer
        self.context = context

    @cached_property
    def key(self) -> str:
        """Equal for tokenizers that cut every text alike."""
        state = json.loads(self.tokenizer.backend_tokenizer.to_str())
        return json.dumps({k: v for k, v in state.items() if k not in ("padding", "truncation")})  # of the last call

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Windows) and (self.key, self.context) == (other.key, other.context)

    def __hash__(self) -> int:
        return hash((self.key, self.context))

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """Special tokens that the tokenizer puts before and after a text."""
        probe = self.tokenizer("a", return_special_tokens_mask=True)
        special = probe["special_tokens_mask"]
        before = special.index(0) if 0 in special else len(special)
        after = special[::-1].index(0) if 0 in special else 0
        ids = probe["input_ids"]
        return ids[:before], ids[len(ids) - after :]

    def __call__(self, texts: Texts, length: int | None = None, packing: Packing | None = None) -> list[Window]:
        """All windows of all texts, in order, at most `length` (default: the context) tokens each.

        Raises:
            InputError: one string instead of a sequence, texts among pairs, a pair that is longer than a window, pairs
                to be packed, or packing with a special token that the tokenizer does not have.
        """
        if isinstance(texts, str):
            raise InputError("Expected a sequence of texts; received one string. Put it into a list: [text].")
        if not texts:
            return []
        kinds = {isinstance(text, str) for text in texts}
        if len(kinds) > 1:
            raise InputError("Expected texts or pairs of texts; received some of both. Give them apart.")
        packing = packing or Packing()
        longest = min(packing.length or length or self.context, length or self.context, self.context)
        if kinds == {True}:
            return self._texts(cast(Sequence[str], texts), longest, packing)
        if packing != Packing():
            raise InputError("Pairs of texts are windows of their own; leave packing out.")
        return self._pairs(texts, longest)

    def tokens(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ids (length,) and offsets (length, 2) of every text as a whole, without special tokens.

        A token ends behind all that belongs to its last character: a tokenizer that composes characters (e and an
        accent into one) says it ends before the accent, which it has read.
        """
        found = []
        for start in range(0, len(texts), ENCODED):
            part = list(texts[start : start + ENCODED])
            for text, e in zip(part, self._plain.encode_batch(part, add_special_tokens=False), strict=True):
                offsets = np.array(e.offsets, dtype=np.int64).reshape(-1, 2)
                found.append((np.array(e.ids, dtype=np.int64), _whole(text, offsets)))
        return found

    @cached_property
    def _plain(self) -> Tokenizer:
        """The tokenizer without its post-processor, which trims white space from offsets: such tokens would be none."""
        from tokenizers import Tokenizer

        own = self.tokenizer.backend_tokenizer
        plain = Tokenizer.from_str(own.to_str())
        plain.post_processor = None
        plain.no_padding()
        plain.no_truncation()
        plain.encode_special_tokens = own.encode_special_tokens
        return plain

    def frame(self, bos: bool | None = None) -> tuple[list[int], list[int]]:
        """Special tokens before and after the text of a window.

        Raises:
            InputError: bos=True of a tokenizer without a beginning-of-text token.
        """
        before, after = self._frame
        token = self.tokenizer.bos_token_id
        if bos and token is None:
            raise InputError(
                f"bos=True was asked of the tokenizer {type(self.tokenizer).__name__}, which has no beginning-of-text "
                "token. Leave bos out."
            )
        has = token is not None and before[:1] == [token]
        if bos is None or bos == has:
            return before, after
        return ([token, *before], after) if bos else (before[1:], after)

    def framed(self, text: int, ids: np.ndarray, offsets: np.ndarray, bos: bool | None = None) -> Window:
        """A window of these tokens with the special tokens around them."""
        before, after = self.frame(bos)
        return Window(
            text,
            np.concatenate([np.array(before, dtype=np.int64), ids, np.array(after, dtype=np.int64)]),
            np.pad(offsets, ((len(before), len(after)), (0, 0)), constant_values=-1),
        )

    def room(self, length: int, bos: bool | None = None) -> int:
        """How many tokens of text a window of `length` tokens holds.

        Raises:
            InputError: none.
        """
        inner = length - sum(map(len, self.frame(bos)))
        if inner < 1:
            raise InputError(f"Windows of {length} tokens leave no room for text beside the special tokens.")
        return inner

    def _texts(self, texts: Sequence[str], length: int, packing: Packing) -> list[Window]:
        inner = self.room(length, packing.bos)
        tokens = self.tokens(texts)
        if packing.kind == "packed":
            return self._packed(tokens, inner, packing.bos)
        return [
            self.framed(text, ids[start : start + inner], offsets[start : start + inner], packing.bos)
            for text, (ids, offsets) in enumerate(tokens)
            for start in range(0, len(ids), inner)
        ]

    def _packed(self, tokens: list[tuple[np.ndarray, np.ndarray]], inner: int, bos: bool | None) -> list[Window]:
        between = self.tokenizer.eos_token_id
        if between is None:
            raise InputError(
                f'packing="packed" joins documents by an end-of-text token, which {type(self.tokenizer).__name__} does '
                'not have. Use packing="documents".'
            )
        joined = [
            (np.append(ids, between), np.pad(offsets, ((0, 1), (0, 0)), constant_values=-1)) for ids, offsets in tokens
        ]
        ids, offsets = (np.concatenate(column)[:-1] for column in zip(*joined, strict=True))
        texts = np.repeat(np.arange(len(joined)), [len(i) for i, _ in joined])[:-1]
        if len(ids) < inner:
            raise InputError(
                f"The corpus has {len(ids):,} tokens, fewer than the {inner:,} of one packed window. Give a shorter "
                'length or more text, or use packing="documents".'
            )
        before, after = map(len, self.frame(bos))
        windows = []
        for start in range(0, len(ids) - inner + 1, inner):
            part = slice(start, start + inner)
            window = self.framed(int(texts[start]), ids[part], offsets[part], bos)
            windows.append(replace(window, texts=np.pad(texts[part], (before, after), mode="edge")))
        return windows

    def _pairs(self, pairs: Sequence[Any], length: int) -> list[Window]:
        wrong = next((p for p in pairs if len(p) != 2 or not all(isinstance(text, str) for text in p)), None)
        if wrong is not None:
            raise InputError(f"Expected texts or pairs of texts; received {wrong!r:.80}.")
        first, second = map(list, zip(*pairs, strict=True))
        # Types even where this tokenizer's model asks for none: windows are shared with models that do.
        asked = {"return_offsets_mapping": True, "return_attention_mask": False, "return_token_type_ids": True}
        encoded = self.tokenizer(first, second, **asked)
        types = encoded["token_type_ids"]
        windows = []
        for text, (a, b) in enumerate(pairs):
            ids = np.array(encoded["input_ids"][text], dtype=np.int64)
            if len(ids) > length:
                raise InputError(
                    f"Pair number {text} has {len(ids)} tokens, more than the {length} that fit; pairs are not cut: "
                    f"{a!r:.40}, {b!r:.40}. Shorten it or leave it out."
                )
            of = np.array([-1 if which is None else which for which in encoded.sequence_ids(text)])
            offsets = np.array(encoded["offset_mapping"][text], dtype=np.int64)
            offsets[of == 1] += len(a) + 1
            offsets[of == -1] = -1
            windows.append(Window(text, ids, offsets, np.array(types[text], dtype=np.int64)))
        return windows


def _whole(text: str, offsets: np.ndarray) -> np.ndarray:
    """Offsets with ends behind combining marks, and behind characters that no token covers and that are no space."""
    if text.isascii():
        return offsets
    offsets = offsets.copy()
    following = len(text)  # where the next token starts
    for i in range(len(offsets) - 1, -1, -1):
        start, end = offsets[i]
        if start == end:
            continue
        while end < len(text) and (unicodedata.combining(text[end]) or (end < following and not text[end].isspace())):
            end += 1
        offsets[i, 1], following = end, min(following, start)
    return offsets
