"""One exercise of the workshop: the check of an answer, and hints that grow more explicit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError, unknown
from repsim_nb.runs.exercises import UNANSWERED, Feedback

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Exercise:
    """An exercise of the workshop.

    Attributes
    ----------
    key
        Part and number, such as "2.3".
    title
        The question in a few words.
    judge
        Called with the answer and the learner's own results; returns the feedback, and never raises on an answer.
    hints
        From a nudge to nearly the answer.
    """

    key: str
    title: str
    judge: Callable[..., Feedback]
    hints: tuple[str, ...]

    def check(self, answer: Any, *given: Any) -> Feedback:
        """Feedback on an answer; one that is left out is asked for."""
        return UNANSWERED if answer is None or answer is ... else self.judge(answer, *given)

    def hint(self, level: int = 1) -> str:
        """The hint of a level, from 1 to the number of hints, and how to get the next one.

        Raises
        ------
        InputError
            If there is no hint of that level.
        """
        if isinstance(level, bool) or level not in range(1, len(self.hints) + 1):
            raise InputError(f"level={level!r}; exercise {self.key} has hints 1 to {len(self.hints)}.")
        more = f' Still stuck? hint("{self.key}", {level + 1})' if level < len(self.hints) else ""
        return f"Hint {level} of {len(self.hints)}: {self.hints[level - 1]}{more}"


class Hint(str):
    """Hint that a notebook shows as it is, without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


def find(exercises: Mapping[str, Exercise], key: str) -> Exercise:
    """The exercise of a key; an InputError that names the keys if there is none."""
    if key not in exercises:
        raise unknown("exercise", key, exercises)
    return exercises[key]


def listed(exercises: Mapping[str, Exercise]) -> pd.DataFrame:
    """One row for each exercise."""
    import pandas as pd

    rows = [(one.key, int(one.key[0]), one.title, len(one.hints)) for one in exercises.values()]
    return pd.DataFrame(rows, columns=["exercise", "part", "title", "hints"]).set_index("exercise")
