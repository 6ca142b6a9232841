"""From texts, or pairs of texts, to token ids: windows of the model's context, and padded batches of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
else:
    PreTrainedTokenizerBase = Any  # see model.py

Texts = Sequence[str | Sequence[str]]  # each a text, or a pair of them


@dataclass(frozen=True)
class Window:
    """A stretch of one text, or a whole pair of texts, that fits the model's context, special tokens included.

    Attributes:
        text: index of the text or pair it comes from.
        ids: token ids, (length,).
        offsets: characters of the whole text that each token covers, (length, 2); (-1, -1) for special tokens. In a
            pair, characters are counted on behind the first text and a line break.
        types: 0 or 1, which of a pair's texts the tokenizer counts each token to, (length,); None is all 0.
    """

    text: int
    ids: np.ndarray
    offsets: np.ndarray
    types: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def truncated(self, length: int) -> Window:
        """Its first `length` tokens."""
        types = None if self.types is None else self.types[:length]
        return replace(self, ids=self.ids[:length], offsets=self.offsets[:length], types=types)


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

    def __call__(self, texts: Texts, length: int | None = None) -> list[Window]:
        """All windows of all texts, in order, at most `length` (default: the context) tokens each.

        Raises:
            InputError: one string instead of a sequence, texts among pairs, or a pair that is longer than a window.
        """
        if isinstance(texts, str):
            raise InputError("Expected a sequence of texts; received one string. Put it into a list: [text].")
        if not texts:
            return []
        kinds = {isinstance(text, str) for text in texts}
        if len(kinds) > 1:
            raise InputError("Expected texts or pairs of texts; received some of both. Give them apart.")
        longest = min(length or self.context, self.context)
        return self._texts(cast(Sequence[str], texts), longest) if kinds == {True} else self._pairs(texts, longest)

    def _texts(self, texts: Sequence[str], length: int) -> list[Window]:
        before, after = self._frame
        inner = length - len(before) - len(after)
        if inner < 1:
            raise InputError(f"Windows of {length} tokens leave no room for text beside the special tokens.")
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        outside = np.full((len(before), 2), -1), np.full((len(after), 2), -1)
        windows = []
        for text, (ids, offsets) in enumerate(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)):
            for start in range(0, len(ids), inner):
                part = slice(start, start + inner)
                windows.append(
                    Window(
                        text,
                        np.array([*before, *ids[part], *after], dtype=np.int64),
                        np.concatenate([outside[0], np.array(offsets[part], dtype=np.int64), outside[1]]),
                    )
                )
        return windows

    def _pairs(self, pairs: Sequence[Any], length: int) -> list[Window]:
        wrong = next((p for p in pairs if len(p) != 2 or not all(isinstance(text, str) for text in p)), None)
        if wrong is not None:
            raise InputError(f"Expected texts or pairs of texts; received {wrong!r:.80}.")
        first, second = map(list, zip(*pairs, strict=True))
        encoded = self.tokenizer(first, second, return_offsets_mapping=True, return_attention_mask=False)
        types = encoded.get("token_type_ids")  # given by the tokenizers whose models ask for them
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
            windows.append(Window(text, ids, offsets, np.array(types[text], dtype=np.int64) if types else None))
        return windows
