"""Stitching with different tokenizers: stretches of text that all can read, and the places where all are in step.

Every position of the receiver gets the mapped state of the sender's last token that ends no later in the text (the
sender's first token if there is none), never a state of the receiver's own. The loss is taken only where both have
read exactly the same text, on the receiver's next token. Elsewhere the sender has read less than the receiver, and a
loss would measure missing text rather than a worse representation.

No state can leak the token to be predicted: a counted position ends where a token of the sender ends, and neither it
nor any earlier position has read further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from torch import Tensor

from repsim_nb.activations.selection import ends_a_place
from repsim_nb.models import Batch, Model, Window
from repsim_nb.models.batch import Windows

SUBTOKENS = 64  # resolution within a character that is split into several tokens
UNREACHABLE = 2**60  # `read` of padding and trailing special tokens, whose states are never used


@dataclass(frozen=True)
class Stretch(Window):
    """A window of one tokenizer over a stretch of text that fits one window of every tokenizer.

    Attributes
    ----------
    read
        How much text is read up to each token, (length,), non-decreasing: characters times `SUBTOKENS`, minus the
        number of tokens still missing from the last character.
    shared
        Tokens at which every tokenizer has read the same text, bool (length,).
    each
        `text_key` of a tokenizer -> its window over the same stretch.
    """

    read: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    shared: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    each: dict[str, Stretch] = field(default_factory=dict)


@dataclass(frozen=True)
class SharedBatch(Batch):
    """A batch of one tokenizer that marks where the others have read the same text.

    Attributes
    ----------
    read, shared
        As in `Stretch`, (sequences, length).
    """

    read: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    shared: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))


def window_of(model: Model, window: Window) -> Window:
    """The window itself, or for a stretch the window of the model's tokenizer."""
    return window.each[model.windows.text_key] if isinstance(window, Stretch) else window


def collated(model: Model, windows: Sequence[Window]) -> Batch:
    """Collate windows into a batch of `model`; stretches give a SharedBatch with the model's tokenizer."""
    own = [window_of(model, window) for window in windows]
    batch = model.collate(own)
    if not all(isinstance(window, Stretch) for window in own):
        return batch
    read = torch.full(batch.ids.shape, UNREACHABLE)
    shared = torch.zeros(batch.ids.shape, dtype=torch.bool)
    for row, window in enumerate(cast(Sequence[Stretch], own)):
        read[row, : len(window)] = torch.from_numpy(window.read)
        shared[row, : len(window)] = torch.from_numpy(window.shared)
    return SharedBatch(**{f.name: getattr(batch, f.name) for f in fields(batch)}, read=read, shared=shared)


def paired_tokens(batch: Batch) -> Tensor:
    """Mask of tokens that have a counterpart in every model, bool (sequences, length); all, if tokenizers agree."""
    return batch.shared if isinstance(batch, SharedBatch) else batch.mask


def states_at_receiver(hidden: Tensor, sender: Batch, receiver: Batch) -> Tensor:
    """The sender's states at the receiver's tokens, (sequences, receiver length, d_sender)."""
    if not isinstance(sender, SharedBatch) or not isinstance(receiver, SharedBatch):
        return hidden
    last = torch.searchsorted(sender.read, receiver.read, right=True) - 1
    last = last.clamp(min=0).to(hidden.device)
    return hidden.gather(1, last[..., None].expand(-1, -1, hidden.shape[-1]))


@lru_cache(maxsize=4)
def stretches(
    cuts: tuple[Windows, ...], lengths: tuple[int, ...], texts: tuple[str, ...]
) -> tuple[list[Stretch], int, list[int]]:
    """Split texts into stretches that fit every tokenizer's window and end where all tokenizers end a token.

    Text between two shared boundaries that does not fit a window is dropped, as is text after the last one.

    Parameters
    ----------
    cuts
        Windows of different tokenizers.
    lengths
        Maximum window length for each, in tokens.
    texts
        The texts.

    Returns
    -------
    tuple[list[Stretch], int, list[int]]
        The stretches, as windows of the first tokenizer; the number of shared boundaries; the number of boundaries of
        each tokenizer.
    """
    rooms = [cut.room(length) for cut, length in zip(cuts, lengths, strict=True)]
    keys = [cut.text_key for cut in cuts]
    found: list[Stretch] = []
    shared, places = 0, [0] * len(cuts)
    for text, tokens in enumerate(zip(*(cut.tokens(texts) for cut in cuts), strict=True)):
        own = [_places(offsets) for _, offsets in tokens]
        chars = own[0][0]
        for each, _ in own[1:]:
            chars = np.intersect1d(chars, each, assume_unique=True)
        shared += len(chars)
        places = [count + len(each) for count, (each, _) in zip(places, own, strict=True)]
        stops = np.stack([np.append(0, stop[np.searchsorted(each, chars)]) for each, stop in own])
        chars = np.append(0, chars)
        for first, last in _steps(stops, rooms):
            parts = [slice(*stop[[first, last]]) for stop in stops]
            windows = [
                cut.framed(text, ids[part], offsets[part])
                for cut, (ids, offsets), part in zip(cuts, tokens, parts, strict=True)
            ]
            stretch = _stretch(keys, windows, chars[first : last + 1])
            if stretch.shared.sum() > 1:  # something to predict
                found.append(stretch)
    return found, shared, places


def _places(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Characters at which a tokenizer ends a token, and the number of tokens up to each."""
    real = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    whole = real[ends_a_place(offsets[real, 0], offsets[real, 1])]
    return offsets[whole, 1], whole + 1


def _steps(stops: np.ndarray, rooms: Sequence[int]) -> list[tuple[int, int]]:
    """First and last shared boundary of each stretch, as far apart as all windows allow.

    Parameters
    ----------
    stops
        Number of tokens of each tokenizer up to each boundary, (tokenizers, boundaries).
    rooms
        Text tokens that fit in a window of each tokenizer.
    """
    steps, first, end = [], 0, stops.shape[1] - 1
    while first < end:
        last = min(
            int(np.searchsorted(stop, stop[first] + room, side="right")) - 1
            for stop, room in zip(stops, rooms, strict=True)
        )
        if last > first:
            steps.append((first, last))
        first = max(last, first + 1)
    return steps


def _stretch(keys: Sequence[str], windows: Sequence[Window], chars: np.ndarray) -> Stretch:
    """Combine the windows of one stretch; `chars` are its shared boundaries. Returns that of the first tokenizer."""
    read = [_read(window.offsets, chars[0]) for window in windows]
    chars = chars * SUBTOKENS
    if not all(reached[0] == chars[0] for reached in read):  # not all have a special token before the text
        chars = chars[1:]
    each: dict[str, Stretch] = {}
    for key, window, reached in zip(keys, windows, read, strict=True):
        shared = np.zeros(len(window), dtype=bool)
        shared[np.searchsorted(reached, chars, side="right") - 1] = True
        each[key] = Stretch(window.text, window.ids, window.offsets, read=reached, shared=shared, each=each)
    return each[keys[0]]


def _read(offsets: np.ndarray, begins: int) -> np.ndarray:
    """`Stretch.read` for a window whose text begins at character `begins`."""
    real = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    whole = real[ends_a_place(offsets[real, 0], offsets[real, 1])]
    offsets = offsets.astype(np.int64)
    completes = whole[np.searchsorted(whole, real)]  # the token that completes each one's character
    read = np.full(len(offsets), begins * SUBTOKENS)
    read[real] = offsets[completes, 1] * SUBTOKENS - np.minimum(completes - real, SUBTOKENS - 1)
    read = np.maximum.accumulate(read)
    read[np.flatnonzero(offsets[:, 0] >= 0)[-1] + 1 :] = UNREACHABLE
    return read
