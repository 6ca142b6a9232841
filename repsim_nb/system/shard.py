"""A share of the units of a call, for arrays of a batch system: several calls on one folder, each with its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from repsim_nb.errors import InputError

T = TypeVar("T")


class ShareDone(Exception):
    """A share of the units is done and kept on disk; the message says how to collect all of them."""


@dataclass(frozen=True)
class Shard(Executor):
    """Share `number` of `of` of the units of a call, run here one after the other; their results are kept on disk.

    A call with a share raises `ShareDone` at its end. A last call without one collects the results.

    Parameters
    ----------
    number
        Which share, from 1.
    of
        Number of shares.

    Raises
    ------
    InputError
        There is no such share.

    Examples
    --------
    >>> Shard(2, 3).take("abcdefg")
    ['b', 'e']
    >>> Shard.parsed("2/3")
    Shard(number=2, of=3)
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise InputError(f"shard {self.number}/{self.of}: expected I/N with I from 1 to N, such as 1/4.")

    @classmethod
    def parsed(cls, text: str) -> Shard:
        """Parse I/N."""
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal()):
            raise InputError(f"shard {text}: expected I/N with I from 1 to N, such as 1/4.")
        return cls(int(number), int(of))

    def take(self, units: Sequence[T]) -> list[T]:
        """Every `of`-th unit, from this share's first."""
        return list(units[self.number - 1 :: self.of])

    def submit(self, *_: Any, **__: Any) -> Any:
        """Raise: a share is no place where any function runs."""
        raise InputError(
            f"Share {self.number} of {self.of} needs results that are kept on disk. Give out= (stitching tables) or "
            "store= (models), or use another executor."
        )

    def done(self, count: int, total: int) -> ShareDone:
        """What is raised at the end of a share."""
        return ShareDone(
            f"Share {self.number} of {self.of} is done, {count} of {total} units. When all shares are, call again "
            "without a share to collect them."
        )
