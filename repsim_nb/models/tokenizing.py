"""Tokenize texts with a fast tokenizer, and identify its behaviour from its own definition, without probe texts."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.system.memory import limit_bytes, readable_size

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase
else:
    PreTrainedTokenizerBase = Tokenizer = Encoding = Any  # see model.py

AT_ONCE = 2**18  # characters, since a tokenizer temporarily needs over a hundred times the size of its text
REMEMBERED = 32  # groups of texts, about 1 MB each with their tokens
# PEAK_FACTOR: bytes per byte of text during tokenizing; measured 140 to 200 for five tokenizers and two scripts.
# KEPT_FACTOR, BYTES_PER_TEXT: bytes per byte of text, and per text, for the tokens and boundaries that are kept.
PEAK_FACTOR, KEPT_FACTOR, BYTES_PER_TEXT = 180, 15, 96
ALWAYS_ALLOWED = 10**8  # bytes that tokenizing may use whatever the limit
PIPELINE = ("normalizer", "pre_tokenizer", "post_processor")


@dataclass(frozen=True)
class Tokens:
    """Tokens of several whole texts, one text after the other, without special tokens.

    Attributes
    ----------
    ids
        Token ids, int32 (tokens,).
    offsets
        Characters of its text that each token covers, int32 (tokens, 2).
    counts
        Number of tokens of each text, int64 (texts,).
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

    def frozen(self) -> Tokens:
        """These, with arrays that cannot be written to."""
        for column in (self.ids, self.offsets, self.counts):
            column.flags.writeable = False
        return self

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ids and offsets of each text."""
        start = 0
        for end in np.cumsum(self.counts).tolist():
            yield self.ids[start:end], self.offsets[start:end]
            start = end


class Tokenizing:
    """A snapshot of a fast tokenizer.

    Attributes
    ----------
    before, after
        Special tokens that it puts around a text.
    text_key
        Equal for tokenizers that give the same tokens for every text and every pair of texts.
    key
        Equal for tokenizers that also have the same beginning-of-text and end-of-text tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        from tokenizers import Tokenizer

        self._plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._plain.no_padding()
        self._plain.no_truncation()
        self.text_key = _digest(self._plain.to_str(), splits_special(tokenizer))
        self.key = _digest(self.text_key, tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.before, self.after = template(self._plain)
        self._plain.post_processor = None  # it may trim whitespace from offsets, leaving tokens without text
        self._plain.encode_special_tokens = splits_special(tokenizer)

    def tokens(self, texts: Sequence[str]) -> Iterator[Tokens]:
        """The tokens of all texts, a few texts at a time.

        A token ends after everything that belongs to its last character. Tokenizers that compose characters (an e and
        an accent) report an end before the accent, although they have read it.
        """
        for part in _by_size(texts):
            yield _tokens(self, tuple(part)) if len(part) > 1 else self.tokens_of(part)

    def tokens_of(self, texts: Sequence[str]) -> Tokens:
        """The tokens of texts that are tokenized together."""
        encodings = self._plain.encode_batch(list(texts), add_special_tokens=False)[::-1]
        found = []
        for text in texts:
            encoding = encodings.pop()  # free each encoding as soon as it is read
            ids = np.array(encoding.ids, dtype=np.int32)
            found.append(Tokens(ids, whole(text, _offsets(encoding)), np.array([len(ids)])))
            del encoding
        return Tokens.joined(found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizing) and self.text_key == other.text_key

    def __hash__(self) -> int:
        return hash(self.text_key)


@lru_cache(maxsize=REMEMBERED)
def _tokens(tokenizing: Tokenizing, texts: tuple[str, ...]) -> Tokens:
    """Remembered, since the models of a family and the checkpoints of a run read the same texts."""
    return tokenizing.tokens_of(texts).frozen()


def text_bytes(texts: Sequence[str | Sequence[str]]) -> int:
    """Peak bytes needed to tokenize texts or pairs.

    A text is tokenized as a whole, since its tokens can depend on all of it; short texts are tokenized together.
    """
    own = sizes(texts)
    return (
        PEAK_FACTOR * max(max(own, default=0), min(sum(own), AT_ONCE))
        + KEPT_FACTOR * sum(own)
        + BYTES_PER_TEXT * len(own)
    )


def check_text(texts: Sequence[str | Sequence[str]], memory_limit: int | None = None) -> None:
    """Check that texts can be tokenized within a memory limit; None means half of the available memory.

    Raises
    ------
    InputError
        If they cannot; the message gives the maximum length of a text, or the maximum amount of text.
    """
    if (needed := text_bytes(texts)) <= ALWAYS_ALLOWED:
        return
    limit = limit_bytes(memory_limit)
    if limit is None or needed <= limit:
        return
    room, own = max(limit, ALWAYS_ALLOWED), sizes(texts)
    longest, total = max(own), sum(own)
    rest = KEPT_FACTOR * total + BYTES_PER_TEXT * len(own)
    if PEAK_FACTOR * AT_ONCE + rest <= room:
        why = f"text {own.index(longest)} alone has {readable_size(longest)}, and a text is tokenized as a whole"
        advice = f"Split it into texts of at most {readable_size((room - rest) // PEAK_FACTOR)}"
    else:
        why = f"there are {readable_size(total)} of text"
        advice = f"Use at most {readable_size(int(total * (room - PEAK_FACTOR * AT_ONCE) / rest))} of it"
    raise InputError(
        f"Tokenizing needs about {readable_size(needed)}, since {why}; the limit is {readable_size(room)}. {advice}, "
        "or raise memory_limit."
    )


def sizes(texts: Sequence[str | Sequence[str]]) -> list[int]:
    """UTF-8 bytes of each text or pair of texts."""
    return [_size(text) if isinstance(text, str) else sum(map(_size, text)) for text in texts]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def state(tokenizer: PreTrainedTokenizerBase) -> tuple[Any, ...]:
    """A value that changes when a tokenizer is edited. Cheap, unlike the key, which hashes the whole vocabulary.

    Raises
    ------
    InputError
        If the tokenizer splits the same text differently each time.
    """
    backend = tokenizer.backend_tokenizer
    dropout = getattr(backend.model, "dropout", None)
    if dropout:
        raise InputError(
            f"The tokenizer {type(tokenizer).__name__} drops merges at random (dropout={dropout}), so a text has "
            "different tokens each time. Set tokenizer.backend_tokenizer.model.dropout = None."
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
    """Whether special tokens that occur in a text are split like any other characters."""
    own = tokenizer.backend_tokenizer.encode_special_tokens  # as the last call left it
    return bool(getattr(tokenizer, "split_special_tokens", own))


def template(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Special tokens that a tokenizer puts before and after a text.

    Runs the post-processor on the token of another tokenizer, since this one may have no token for any probe text.
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
    """Group texts in order up to a total size, at least one per group."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > AT_ONCE:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text) + 64  # overhead per text
    if part:
        yield part


def _offsets(encoding: Encoding) -> np.ndarray:
    """Offsets read one by one: a list of tuples would need ten times the memory."""
    pair = np.dtype((np.int32, 2))
    return np.fromiter(map(encoding.token_to_chars, range(len(encoding))), dtype=pair, count=len(encoding))


def whole(text: str, offsets: np.ndarray) -> np.ndarray:
    """Extend ends of offsets over combining marks, and over characters other than spaces that no token covers."""
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
    """For each character and the end: the next position where `holds`, else the end; int32 (characters + 1,)."""
    table = np.zeros(int(codes.max()) + 1, dtype=bool)
    table[[ord(c) for c in set(text) if holds(c)]] = True
    n = len(codes)
    places = np.append(np.where(table[codes], np.arange(n, dtype=np.int32), np.int32(n)), np.int32(n))
    return np.minimum.accumulate(places[::-1])[::-1]
