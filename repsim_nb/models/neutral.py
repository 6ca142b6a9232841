"""Whether a sequence's activations depend on what else is in its batch, and on how far it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repsim_nb.errors import InputError


@dataclass(frozen=True)
class Neutral:
    """What leaves the activations of a text as they are when the model reads that text alone.

    Attributes
    ----------
    padding:
        Whether sequences of different lengths may share a batch, the shorter ones padded.
    company:
        Whether sequences of one length may share a batch.
    truncation:
        Whether a causal model may stop after the last token that is wanted. True of all others, which read whole
        sequences anyway.
    below:
        Sequences of up to so many tokens may be padded and truncated whatever the above says.
    why:
        What stands against it, for messages.
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
        """Equal for sequences that may share a batch, of which this is the `number`th."""
        if not self.company:
            return number
        return 0 if self.padding or length <= self.below else length

    def cut(self, length: int) -> bool:
        """Whether a sequence of `length` tokens may be run to its last wanted token only."""
        return self.truncation or length <= self.below

    def check(self, name: str, lengths: Sequence[int], padded: int) -> None:
        """Raise unless sequences of these lengths may be a batch of `padded` tokens each.

        Raises
        ------
        InputError
            The rest of the batch would change what the model `name` gives.
        """
        alone = len(lengths) == 1 or self.company
        if alone and all(self.together(length, padded) or length == padded for length in lengths):
            return
        raise InputError(
            f"A batch of {len(lengths)} sequences, padded to {padded} tokens, was given to {name}, which gives a text "
            f"other values there than alone: {self.why}. Run each on its own: model.batch([text]), or of a text longer "
            "than the context model.collate([window]) for window in model.windows([text])."
        )


NEUTRAL = Neutral()
