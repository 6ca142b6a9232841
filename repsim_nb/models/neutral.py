"""Whether a sequence's activations depend on the rest of its batch, and on where it is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repsim_nb.errors import InputError


@dataclass(frozen=True)
class Neutral:
    """What does not change the activations of a text, compared with reading that text alone.

    Attributes
    ----------
    padding:
        Whether sequences of different lengths may share a batch, the shorter ones padded.
    company:
        Whether sequences of one length may share a batch.
    truncation:
        Whether a causal model may stop after the last token that is needed. True for other models, which read whole
        sequences anyway.
    below:
        Sequences of up to this many tokens may be padded and truncated in any case.
    why:
        The reason for any restriction, for messages.
    """

    padding: bool = True
    company: bool = True
    truncation: bool = True
    below: int = 0
    why: str = ""

    def together(self, first: int, second: int) -> bool:
        """Whether sequences of `first` and `second` tokens may share a batch."""
        return self.company and (self.padding or first == second or max(first, second) <= self.below)

    def apart(self, length: int, number: int) -> int:
        """A key that is equal for sequences that may share a batch; `number` is unique to each sequence."""
        if not self.company:
            return number
        return 0 if self.padding or length <= self.below else length

    def cut(self, length: int) -> bool:
        """Whether a sequence of `length` tokens may be cut off after the last token that is needed."""
        return self.truncation or length <= self.below

    def check(self, name: str, lengths: Sequence[int], padded: int) -> None:
        """Check that sequences of these lengths may share a batch, padded to `padded` tokens.

        Raises
        ------
        InputError
            The rest of the batch would change the output of the model `name`.
        """
        alone = len(lengths) == 1 or self.company
        if alone and all(self.together(length, padded) or length == padded for length in lengths):
            return
        raise InputError(
            f"{name} got a batch of {len(lengths)} sequences, padded to {padded} tokens, but gives a text other values "
            f"in a batch than alone: {self.why}. Run each on its own: model.batch([text]), or for a text longer than "
            "the context model.collate([window]) for window in model.windows([text])."
        )


NEUTRAL = Neutral()
