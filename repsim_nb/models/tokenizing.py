"""What a fast tokenizer does to a text, read off the tokenizer itself: no text is put in to see what comes out."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.system.memory import limit_bytes, readable_size

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase
else:
    PreTrainedTokenizerBase = Tokenizer = Encoding = Any  # see model.py

AT_ONCE = 2**18  # characters: while it works, a tokenizer takes some hundred times the place of its text
# Bytes for a byte of text, while a tokenizer is at work on it: 140 to 200 were measured, of five tokenizers and two
# scripts. For a byte, and for a text, of all that are tokenized: tokens, and the places that rows are chosen from.
AT_WORK, KEPT, EACH = 180, 15, 96
ALWAYS = 10**8  # bytes that text may take whatever the limit
PIPELINE = ("normalizer", "pre_tokenizer", "post_processor")


@dataclass(frozen=True)
class Tokens:
    """Tokens of several whole texts, one text after the other, without special tokens.

    Attributes
    ----------
    ids
        Int32 (tokens,).
    offsets
        Characters of its text that each token covers, int32 (tokens, 2).
    counts
        Tokens of each text, int64 (texts,).
    """

    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    offsets: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int32))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def joined(cls, parts: Sequence[Tokens]) -> Tokens:
        """The texts of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        columns = ([getattr(part, name) for part in (cls(), *parts)] for name in ("ids", "offsets", "counts"))
        return cls(*map(np.concatenate, columns))

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ids and offsets of each text."""
        start = 0
        for end in np.cumsum(self.counts).tolist():
            yield self.ids[start:end], self.offsets[start:end]
            start = end


class Tokenizing:
    """A fast tokenizer, as it is when this is made.

    Attributes
    ----------
    before, after
        Special tokens that it puts around a text.
    text_key
        Equal for tokenizers that make the same tokens of every text and of every pair of texts.
    key
        Equal for those that also have the same beginning-of-text and end-of-text tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        from tokenizers import Tokenizer

        self._plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._plain.no_padding()
        self._plain.no_truncation()
        self.text_key = _digest(self._plain.to_str(), splits_special(tokenizer))
        self.key = _digest(self.text_key, tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.before, self.after = template(self._plain)
        self._plain.post_processor = None  # it may trim white space from offsets: such tokens would stand for no text
        self._plain.encode_special_tokens = splits_special(tokenizer)

    def tokens(self, texts: Sequence[str]) -> Iterator[Tokens]:
        """The tokens of all texts, some texts at a time.

        A token ends behind all that belongs to its last character: a tokenizer that composes characters (e and an
        accent into one) says it ends before the accent, which it has read.
        """
        for part in _by_size(texts):
            encodings = self._plain.encode_batch(part, add_special_tokens=False)[::-1]
            found = []
            for text in part:
                encoding = encodings.pop()  # let go as soon as it is read
                ids = np.array(encoding.ids, dtype=np.int32)
                found.append(Tokens(ids, whole(text, _offsets(encoding)), np.array([len(ids)])))
                del encoding
            yield Tokens.joined(found)


def text_bytes(texts: Sequence[str | Sequence[str]]) -> int:
    """Bytes that making tokens of texts, or of pairs, takes at most at any time.

    A text is tokenized as a whole, since what it is cut into may depend on all of it, and short ones together.
    """
    own = sizes(texts)
    return AT_WORK * max(max(own, default=0), min(sum(own), AT_ONCE)) + KEPT * sum(own) + EACH * len(own)


def check_text(texts: Sequence[str | Sequence[str]], memory_limit: int | None = None) -> None:
    """Whether texts can be tokenized in so many bytes; None is half of what is available now.

    Raises
    ------
    InputError
        They cannot; the message says how long a text may be, or how much text there may be.
    """
    if (needed := text_bytes(texts)) <= ALWAYS:
        return
    limit = limit_bytes(memory_limit)
    if limit is None or needed <= limit:
        return
    room, own = max(limit, ALWAYS), sizes(texts)
    longest, total = max(own), sum(own)
    rest = KEPT * total + EACH * len(own)
    if AT_WORK * AT_ONCE + rest <= room:
        why = f"text {own.index(longest)} alone has {readable_size(longest)}, and a text is tokenized as a whole"
        advice = f"Cut it into texts of at most {readable_size((room - rest) // AT_WORK)}"
    else:
        why = f"there are {readable_size(total)} of text"
        advice = f"Give at most {readable_size(int(total * (room - AT_WORK * AT_ONCE) / rest))} of it"
    raise InputError(
        f"Tokenizing takes about {readable_size(needed)}, for {why}; the limit is {readable_size(room)}. {advice}, or "
        "raise memory_limit."
    )


def sizes(texts: Sequence[str | Sequence[str]]) -> list[int]:
    """UTF-8 bytes of each text, or pair of texts."""
    return [_size(text) if isinstance(text, str) else sum(map(_size, text)) for text in texts]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def state(tokenizer: PreTrainedTokenizerBase) -> tuple[Any, ...]:
    """Changes when a tokenizer is edited; quick, where its key takes as long as its vocabulary is large.

    Raises
    ------
    InputError
        A tokenizer that cuts the same text differently each time.
    """
    backend = tokenizer.backend_tokenizer
    dropout = getattr(backend.model, "dropout", None)
    if dropout:
        raise InputError(
            f"The tokenizer {type(tokenizer).__name__} drops merges at random (dropout={dropout}), so that a text has "
            "other tokens each time. Set tokenizer.backend_tokenizer.model.dropout = None."
        )
    return (
        *(repr(getattr(backend, part)) for part in PIPELINE),
        repr(backend.get_added_tokens_decoder()),
        backend.get_vocab_size(),
        splits_special(tokenizer),
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
    )


def splits_special(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether special tokens that stand in a text are cut like any other characters."""
    own = tokenizer.backend_tokenizer.encode_special_tokens  # as the last call left it
    return bool(getattr(tokenizer, "split_special_tokens", own))


def template(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Special tokens that a tokenizer puts before and behind a text.

    What puts them there is asked with a token of another tokenizer, since no text need have one of its own.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    if tokenizer.post_processor is None:
        return [], []
    one = tokenizer.post_processor.process(Tokenizer(WordLevel({"text": 0}, unk_token="text")).encode("text"))
    at = one.special_tokens_mask.index(0)
    return one.ids[:at], one.ids[at + 1 :]


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _by_size(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts in their order, together as long as they are short; at least one."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > AT_ONCE:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text) + 64  # for what a short text takes as well
    if part:
        yield part


def _offsets(encoding: Encoding) -> np.ndarray:
    """One by one: a list of pairs of numbers takes ten times the place."""
    pair = np.dtype((np.int32, 2))
    return np.fromiter(map(encoding.token_to_chars, range(len(encoding))), dtype=pair, count=len(encoding))


def whole(text: str, offsets: np.ndarray) -> np.ndarray:
    """Offsets with ends behind combining marks, and behind characters that no token covers and that are no space."""
    if text.isascii() or not len(offsets):
        return offsets
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    base = _next(codes, text, lambda c: not unicodedata.combining(c))
    space = _next(codes, text, str.isspace)
    starts, ends = offsets[:, 0], offsets[:, 1]
    real = ends > starts
    n = np.int32(len(text))
    behind = np.minimum.accumulate(np.where(real, starts, n)[::-1])[::-1]
    following = np.append(behind[1:], n)  # where the next token starts
    there = np.maximum(ends, np.minimum(space[ends], following))  # over what no token covers
    there = np.where(there < following, there, base[there])
    return np.stack([starts, np.where(real, there, ends)], axis=1)


def _next(codes: np.ndarray, text: str, holds: Any) -> np.ndarray:
    """From each character, and from the end, on: the first for which `holds`, else the end. int32 (characters + 1,)"""
    table = np.zeros(int(codes.max()) + 1, dtype=bool)
    table[[ord(c) for c in set(text) if holds(c)]] = True
    n = len(codes)
    places = np.append(np.where(table[codes], np.arange(n, dtype=np.int32), np.int32(n)), np.int32(n))
    return np.minimum.accumulate(places[::-1])[::-1]
