"""Reading what a learner typed: each reader returns the value, or feedback on what was expected instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, get_measure
from repsim_nb.runs.exercises import Feedback, whole_number

T = TypeVar("T")


def right(text: str) -> Feedback:
    """Feedback on a right answer."""
    return Feedback(True, text)


def wrong(text: str) -> Feedback:
    """Feedback on an answer that is not right yet."""
    return Feedback(False, text)


def number(answer: Any) -> float | Feedback:
    """A finite real number."""
    try:
        value = np.asarray(answer)
        if value.ndim == 0 and value.dtype.kind in "iuf" and np.isfinite(value):
            return float(value)
    except (TypeError, ValueError):
        pass
    return wrong(f"The answer is a number, such as 0.25; received {answer!r:.60}.")


def choice(answer: Any, names: Iterable[str], what: str) -> str | Feedback:
    """One of some names."""
    names = list(names)
    if isinstance(answer, str) and answer in names:
        return answer
    return wrong(f"The answer is {what}: {', '.join(map(repr, names))}; received {answer!r:.60}.")


def row_numbers(answer: Any, n_rows: int) -> list[int] | Feedback:
    """Numbers of rows, each once."""
    expected = f"The answer is a list of row numbers from 0 to {n_rows - 1}, such as [3, 17]"
    try:
        values = np.asarray(answer)
    except (TypeError, ValueError):
        return wrong(f"{expected}; received {type(answer).__name__}.")
    if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values):
        return wrong(f"{expected}; received {answer!r:.60}.")
    found = [int(value) for value in values]
    if not set(found) <= set(range(n_rows)) or len(set(found)) < len(found):
        return wrong(f"{expected}, each once; received {answer!r:.60}.")
    return found


def layer(answer: Any, layers: Iterable[int]) -> int | Feedback:
    """One of the layers of a table."""
    value, layers = whole_number(answer), list(layers)
    if isinstance(value, Feedback) or value in layers:
        return value
    return wrong(f"There is no layer {value} in the table; its layers are {layers}.")


def measure(answer: Any) -> Measure | Feedback:
    """A measure, or the name of one."""
    if isinstance(answer, Measure):
        return answer
    if isinstance(answer, str):
        try:
            return get_measure(answer)
        except InputError as error:
            return wrong(f"{error} rs.list_measures() lists all names.")
    return wrong(f'The answer is the name of a measure, such as "procrustes"; received {answer!r:.60}.')


def then(value: T | Feedback, judge: Callable[[T], Feedback]) -> Feedback:
    """Feedback on a value that was read, or the feedback of the reader."""
    return value if isinstance(value, Feedback) else judge(value)
