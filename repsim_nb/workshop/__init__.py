"""A workshop of three hours: exercises with checks and hints, a challenge, solutions and a printout.

The four parts and the challenge are the notebooks in `notebooks/workshop/`. They need neither a GPU nor a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repsim_nb.runs.exercises import Feedback
from repsim_nb.workshop.challenge import EXERCISES as _CHALLENGE
from repsim_nb.workshop.challenge import make_challenge
from repsim_nb.workshop.cheaters import EXERCISES as _CHEATERS
from repsim_nb.workshop.exercise import Exercise, Hint, find, listed
from repsim_nb.workshop.fooled import EXERCISES as _FOOLED
from repsim_nb.workshop.joining import EXERCISES as _JOINING
from repsim_nb.workshop.representations import EXERCISES as _REPRESENTATIONS
from repsim_nb.workshop.solutions import solution, solved

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Exercise", "check", "hint", "list_exercises", "make_challenge", "solution", "solved"]

_EXERCISES = {one.key: one for one in (*_REPRESENTATIONS, *_FOOLED, *_JOINING, *_CHEATERS, *_CHALLENGE)}


def check(key: str, answer: Any, *given: Any) -> Feedback:
    """Check the answer to an exercise.

    Parameters
    ----------
    key
        Number of the exercise, such as "1.3".
    answer
        The learner's answer. The placeholder `...` is no answer yet.
    *given
        What the question is about, as in the notebook: the learner's own models, results or matrices.

    Returns
    -------
    Feedback
        Whether the answer is right, with an explanation, or where to look.

    Raises
    ------
    InputError
        If there is no such exercise.

    Examples
    --------
    >>> check("1.1", 2, "tiny-neox-w32-d2")
    Not yet. That is the number of blocks. You can also look before the first block: what is there?
    >>> check("1.1", ..., "tiny-neox-w32-d2")
    Not yet. Put your answer in place of the dots.
    """
    return find(_EXERCISES, key).check(answer, *given)


def hint(key: str, level: int = 1) -> Hint:
    """Show a hint for an exercise.

    Parameters
    ----------
    key
        Number of the exercise, such as "1.3".
    level
        1 is a nudge, the last level nearly gives the answer away.

    Returns
    -------
    str
        The hint.

    Raises
    ------
    InputError
        If there is no such exercise, or no hint of that level.

    Examples
    --------
    >>> hint("1.4")
    Hint 1 of 3: Does it matter which feature is called number 0? Still stuck? hint("1.4", 2)
    """
    return Hint(find(_EXERCISES, key).hint(level))


def list_exercises() -> pd.DataFrame:
    """List the exercises, one row each (index: number): part, title and number of hints.

    Examples
    --------
    >>> list_exercises().loc["1.5", "title"]
    'Read a map'
    """
    return listed(_EXERCISES)
