"""Exercises of the start notebook: a check says whether an answer is right, and if not, what to look at.

Right answers are computed from the models and results that the learner has at hand, so that exercises go with any
parameters. A check never raises on an answer, however malformed: it says what it received and what it expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.measures import Measure
    from repsim_nb.models import Model

SAME = 1e-3  # a likeness within this of perfect counts as perfect: activations are float32
FLOOR = 0.2  # a likeness below this looks like that of unrelated rows


@dataclass(frozen=True)
class Feedback:
    """What a check says; true when the answer is right."""

    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'Right.' if self.right else 'Not yet.'} {self.text}"


UNANSWERED = Feedback(False, "Put your answer in place of the dots.")


def check_positions(answer: Any, model: Model | str) -> Feedback:
    """At how many places can the representations of `model` be read? Before its first block, and after each.

    Raises
    ------
    InputError
        A model that does not exist.

    Examples
    --------
    >>> check_positions(2, "tiny-neox-w32-d2")
    Not yet. That is the number of its blocks. One can also look before the first block: what is there?
    >>> check_positions("many", "tiny-neox-w32-d2")
    Not yet. The answer is one whole number, such as 7; received 'many'.
    """
    from repsim_nb.models import load_model

    n_layers = load_model(model).n_layers
    number = _whole(answer)
    if isinstance(number, Feedback):
        return number
    if number == n_layers + 1:
        return Feedback(True, f"Position 0 is the embedding, and positions 1 to {n_layers} come after each block.")
    if number == n_layers:
        return Feedback(
            False, "That is the number of its blocks. One can also look before the first block: what is there?"
        )
    return Feedback(False, f"The model has {n_layers} blocks; one can look before the first of them and after each.")


def check_nearest_layer(answer: Any, result: xr.DataArray, layer: int) -> Feedback:
    """Which layer of model b is most like this `layer` of model a, in a map that `compare` returned?

    Where several are equally like it, each is right. Of a dissimilarity, the smallest value is the most alike.

    Raises
    ------
    InputError
        `layer` is not a layer of model a in this map.

    Examples
    --------
    >>> import numpy as np
    >>> from repsim_nb import compare
    >>> x, y = np.random.default_rng(0).normal(size=(2, 100, 5))
    >>> check_nearest_layer(0, compare({0: x}, {0: x + 2 * y, 1: x + y}), layer=0)
    Not yet. Layer 0 of the other model has 0.23 in this row of the map. Another cell of the row has more.
    """
    if layer not in result.layer_a.values:
        raise InputError(f"layer={layer!r} is not in the map; layers of a are {result.layer_a.values.tolist()}.")
    number = _whole(answer)
    if isinstance(number, Feedback):
        return number
    row = result.sel(layer_a=layer)
    layers = row.layer_b.values.tolist()
    if number not in layers:
        return Feedback(False, f"There is no layer {number} on the other side of the map; its layers are {layers}.")
    alike = result.attrs["direction"] == "similarity"
    value, best = row.sel(layer_b=number).item(), (row.max() if alike else row.min()).item()
    if np.isclose(value, best):
        return Feedback(True, f"With {value:.2f}, no other layer is more like layer {layer}.")
    return Feedback(
        False,
        f"Layer {number} of the other model has {value:.2f} in this row of the map. "
        f"Another cell of the row has {'more' if alike else 'less'}.",
    )


def check_unseen_change(answer: Any, x: Any, measure: str | Measure = "cka") -> Feedback:
    """Is `answer` unlike `x` in nearly all its numbers, and yet perfectly like it to a measure?

    Parameters
    ----------
    answer
        What the learner made of x, (n_rows, any number of features).
    x
        A representation, (n_rows, d).
    measure
        One that reports likeness between two matrices.

    Raises
    ------
    InputError
        A measure that does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(100, 5))
    >>> check_unseen_change(x ** 2, x)
    Not yet. CKA noticed: it gives 0.08 where a perfect likeness gives 1. Is row i still about token i?
    >>> check_unseen_change(3 * x[:, ::-1] - 1, x)
    Right. 100% of the numbers changed, and CKA gives 1.00. It does not see: orthogonal, permutation, scale, shift.
    """
    from repsim_nb.measures import get_measure

    chosen, x = get_measure(measure), np.asarray(x, dtype=float)
    matrix = _matrix(answer, len(x))
    if isinstance(matrix, Feedback):
        return matrix
    changed = 1.0 if matrix.shape != x.shape else float(1 - np.isclose(matrix, x).mean())
    if changed < 0.9:
        return Feedback(False, f"Only {changed:.0%} of the numbers changed. Change nearly all of them.")
    try:
        value = chosen(x, matrix)
    except InputError as error:
        return Feedback(False, f"Your matrix is y here, and {error}")
    name, perfect = chosen.name.upper(), chosen(x, x)
    if abs(value - perfect) < SAME:
        unseen = ", ".join(sorted(chosen.invariances))
        return Feedback(
            True, f"{changed:.0%} of the numbers changed, and {name} gives {value:.2f}. It does not see: {unseen}."
        )
    hint = (
        "Is row i still about token i?"
        if chosen.direction == "similarity" and value < FLOOR
        else f'What does it not see? Look at rs.get_measure("{chosen.name}").invariances.'
    )
    return Feedback(False, f"{name} noticed: it gives {value:.2f} where a perfect likeness gives {perfect:.0f}. {hint}")


def _whole(answer: Any) -> int | Feedback:
    """The answer as an int, or what is wrong with it."""
    if answer is None or answer is ...:
        return UNANSWERED
    try:
        value = np.asarray(answer)
        if value.ndim == 0 and value.dtype.kind in "iuf" and value == int(value):
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    return Feedback(False, f"The answer is one whole number, such as 7; received {answer!r:.60}.")


def _matrix(answer: Any, n_rows: int) -> np.ndarray | Feedback:
    """The answer as a finite matrix of n_rows rows, or what is wrong with it."""
    if answer is None or answer is ...:
        return UNANSWERED
    try:
        matrix = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        return Feedback(False, f"The answer is a matrix of numbers, made from x; received {type(answer).__name__}.")
    if matrix.ndim != 2 or len(matrix) != n_rows:
        return Feedback(False, f"The answer has a row for each of the {n_rows} rows of x; its shape is {matrix.shape}.")
    if not np.isfinite(matrix).all():
        return Feedback(False, "Some of the numbers are infinite or not numbers at all. Was something divided by zero?")
    return matrix
