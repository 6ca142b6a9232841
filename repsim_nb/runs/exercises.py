"""Exercises of the start notebook: a check says whether an answer is right and, if not, where to look.

Right answers are computed from the learner's own models and results, so that exercises work with any parameters. A
check never raises on an answer, however malformed: it says what it received and what it expected.
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

SAME = 1e-3  # a similarity this close to perfect counts as perfect, since activations are float32
FLOOR = 0.2  # a similarity below this looks like that of unrelated rows


@dataclass(frozen=True)
class Feedback:
    """Feedback of a check; true if the answer is right."""

    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'Right.' if self.right else 'Not yet.'} {self.text}"


UNANSWERED = Feedback(False, "Put your answer in place of the dots.")


def check_positions(answer: Any, model: Model | str) -> Feedback:
    """Check the answer to: at how many places can the representations of `model` be read?

    Parameters
    ----------
    answer
        The learner's answer.
    model
        A model, or the name of one.

    Returns
    -------
    Feedback
        Whether the answer is right, with a hint if not.

    Raises
    ------
    InputError
        If the model does not exist.

    Examples
    --------
    >>> check_positions(2, "tiny-neox-w32-d2")
    Not yet. That is the number of blocks. You can also look before the first block: what is there?
    >>> check_positions("many", "tiny-neox-w32-d2")
    Not yet. The answer is one whole number, such as 7; received 'many'.
    """
    from repsim_nb.models import load_model

    n_layers = load_model(model).n_layers
    number = whole_number(answer)
    if isinstance(number, Feedback):
        return number
    if number == n_layers + 1:
        return Feedback(True, f"Position 0 is the embedding, and positions 1 to {n_layers} come after each block.")
    if number == n_layers:
        return Feedback(False, "That is the number of blocks. You can also look before the first block: what is there?")
    return Feedback(False, f"The model has {n_layers} blocks; you can look before the first one and after each.")


def check_nearest_layer(answer: Any, result: xr.DataArray, layer: int) -> Feedback:
    """Check the answer to: which layer of model b is most similar to `layer` of model a in this map?

    Parameters
    ----------
    answer
        The learner's answer.
    result
        Result of `compare`. For a dissimilarity the smallest value counts as most similar.
    layer
        Layer of model a.

    Returns
    -------
    Feedback
        Whether the answer is right, with a hint if not. If several layers are tied, each is right.

    Raises
    ------
    InputError
        If `layer` is not a layer of model a in this map.

    Examples
    --------
    >>> import numpy as np
    >>> from repsim_nb import compare
    >>> x, y = np.random.default_rng(0).normal(size=(2, 100, 5))
    >>> check_nearest_layer(0, compare({0: x}, {0: x + 2 * y, 1: x + y}), layer=0)
    Not yet. Layer 0 of the other model has 0.23 in this row of the map. Another cell of the row has more.
    """
    if layer not in result.layer_a.values:
        raise InputError(f"layer={layer!r} is not in the map; the layers of a are {result.layer_a.values.tolist()}.")
    number = whole_number(answer)
    if isinstance(number, Feedback):
        return number
    row = result.sel(layer_a=layer)
    layers = row.layer_b.values.tolist()
    if number not in layers:
        return Feedback(False, f"The other side of the map has no layer {number}; its layers are {layers}.")
    similarity = result.attrs["direction"] == "similarity"
    value, best = row.sel(layer_b=number).item(), (row.max() if similarity else row.min()).item()
    if np.isclose(value, best):
        return Feedback(True, f"With {value:.2f}, no other layer is more similar to layer {layer}.")
    return Feedback(
        False,
        f"Layer {number} of the other model has {value:.2f} in this row of the map. "
        f"Another cell of the row has {'more' if similarity else 'less'}.",
    )


def check_unseen_change(answer: Any, x: Any, measure: str | Measure = "cka") -> Feedback:
    """Check whether `answer` differs from `x` in nearly all numbers, but is identical to it under a measure.

    Parameters
    ----------
    answer
        The learner's transformation of x, (n_rows, any number of features).
    x
        A representation, (n_rows, d).
    measure
        A measure of two matrices.

    Returns
    -------
    Feedback
        Whether the answer is right, with a hint if not.

    Raises
    ------
    InputError
        If the measure does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(100, 5))
    >>> check_unseen_change(x ** 2, x)
    Not yet. CKA noticed: it gives 0.08, and 1 for identical representations. Is row i still about token i?
    >>> check_unseen_change(3 * x[:, ::-1] - 1, x)
    Right. 100% of the numbers changed, and CKA gives 1.00. It does not see: orthogonal, permutation, scale, shift.
    """
    from repsim_nb.measures import get_measure

    chosen, x = get_measure(measure), np.asarray(x, dtype=float)
    matrix = matrix_of_rows(answer, len(x))
    if isinstance(matrix, Feedback):
        return matrix
    changed = 1.0 if matrix.shape != x.shape else float(1 - np.isclose(matrix, x).mean())
    if changed < 0.9:
        return Feedback(False, f"Only {changed:.0%} of the numbers changed. Change nearly all of them.")
    try:
        value = chosen(x, matrix)
    except InputError as error:
        return Feedback(False, f"Your matrix is y in this message: {error}")
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
    found = f"{name} noticed: it gives {value:.2f}, and {perfect:.0f} for identical representations."
    return Feedback(False, f"{found} {hint}")


def whole_number(answer: Any) -> int | Feedback:
    """The answer as an int, or feedback on what is wrong with it."""
    if answer is None or answer is ...:
        return UNANSWERED
    try:
        value = np.asarray(answer)
        if value.ndim == 0 and value.dtype.kind in "iuf" and value == int(value):
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    return Feedback(False, f"The answer is one whole number, such as 7; received {answer!r:.60}.")


def matrix_of_rows(answer: Any, n_rows: int) -> np.ndarray | Feedback:
    """The answer as a finite matrix with n_rows rows, or feedback on what is wrong with it."""
    if answer is None or answer is ...:
        return UNANSWERED
    try:
        values = np.asarray(answer)
        matrix = None if np.iscomplexobj(values) else values.astype(float)
    except (TypeError, ValueError):
        matrix = None
    if matrix is None:
        return Feedback(False, f"The answer is a matrix of numbers made from x; received {type(answer).__name__}.")
    if matrix.ndim != 2 or len(matrix) != n_rows:
        return Feedback(
            False, f"The answer needs one row for each of the {n_rows} rows of x; got shape {matrix.shape}."
        )
    if not np.isfinite(matrix).all():
        return Feedback(False, "Some of the numbers are infinite or NaN. Did you divide by zero?")
    return matrix
