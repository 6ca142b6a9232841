"""Part 1: what a representation is. Layers, rows, features, and a first map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.measures import get_measure
from repsim_nb.runs.exercises import (
    FLOOR,
    Feedback,
    check_nearest_layer,
    check_positions,
    check_unseen_change,
    matrix_of_rows,
)
from repsim_nb.workshop.answers import right, row_numbers, then, wrong
from repsim_nb.workshop.exercise import Exercise

if TYPE_CHECKING:
    from repsim_nb.activations import Activations


def _twins(answer: Any, acts: Activations) -> Feedback:
    """Two rows from different documents that layer 0 cannot tell apart, and the last layer can."""
    return then(row_numbers(answer, len(acts.rows)), lambda pair: _judge_twins(pair, acts))


def _judge_twins(pair: list[int], acts: Activations) -> Feedback:
    if len(pair) != 2:
        return wrong(f"The answer is two rows; received {len(pair)}.")
    documents = acts.rows.document.iloc[pair].tolist()
    first, last = (np.asarray(acts[layer][pair], dtype=float) for layer in (min(acts), max(acts)))
    gap, gap_above = np.linalg.norm(first[0] - first[1]), np.linalg.norm(last[0] - last[1])
    if gap:
        return wrong(f"At layer {min(acts)} these two rows are {gap:.2f} apart. Look for two at distance 0.")
    if documents[0] == documents[1]:
        return wrong(f"Both rows are from {documents[0]!r}. Take two from different documents.")
    return right(
        f"The same token in two documents: at distance 0 in layer {min(acts)}, where a model knows only which token it "
        f"is, and {gap_above:.1f} apart in layer {max(acts)}, after it has read what came before."
    )


def _unaligned(answer: Any, x: Any) -> Feedback:
    """The rows of x in another order, as if the two models had read different tokens."""
    x = np.asarray(x, dtype=float)
    return then(matrix_of_rows(answer, len(x)), lambda matrix: _judge_unaligned(matrix, x))


def _judge_unaligned(matrix: np.ndarray, x: np.ndarray) -> Feedback:
    if matrix.shape != x.shape or not np.array_equal(np.sort(matrix, axis=0), np.sort(x, axis=0)):
        return wrong("Every column has to hold the same numbers as that of x, only in another order.")
    try:
        value = get_measure("cka")(x, matrix)
    except InputError as error:
        return wrong(str(error))
    if value > FLOOR:
        return wrong(f"CKA with x is still {value:.2f}. Which order, if it changes, pairs up different tokens?")
    return right(
        f"CKA fell to {abs(value):.2f}, although mean, variance and even the shape of the cloud of points are those "
        "of x. A comparison needs row i to be the same token on both sides."
    )


EXERCISES = (
    Exercise(
        "1.1",
        "At how many places can you look?",
        check_positions,
        (
            "Look at the first column of the drawing above: where does the arrow start, and where does it end?",
            "You can look after every block. Is there anything to see before the first one?",
            "`model.n_layers` counts blocks. Layer 0, the embedding, comes on top: n_layers + 1.",
        ),
    ),
    Exercise(
        "1.2",
        "Two rows that layer 0 cannot tell apart",
        _twins,
        (
            "What does the embedding know about a token? What does it not know yet?",
            "Layer 0 is a table with one line for each token of the vocabulary. So look for one token that occurs in "
            "two documents: equal rows of `a[0]`.",
            "`np.unique(a[0].numpy(), axis=0, return_inverse=True, return_counts=True)` finds equal rows: take two "
            "rows with the same number in the inverse, such as that of the largest count.",
        ),
    ),
    Exercise(
        "1.3",
        "Break a comparison without changing a number",
        _unaligned,
        (
            "What do the two matrices of a comparison share: the rows or the columns?",
            "Row i has to be the same token on both sides. What if it were not?",
            "Put the rows in another order: reverse them with `x[::-1]`, or use "
            "`np.random.default_rng(0).permutation(x)`.",
        ),
    ),
    Exercise(
        "1.4",
        "Change every number without changing the comparison",
        check_unseen_change,
        (
            "Does it matter which feature is called number 0?",
            "CKA compares how similar the rows are to each other. Which changes leave that alone? Look at "
            '`rs.get_measure("cka").invariances`.',
            "Put the columns in another order, `x[:, ::-1]`; or multiply all numbers by 3.",
        ),
    ),
    Exercise(
        "1.5",
        "Read a map",
        check_nearest_layer,
        (
            "Each cell of the map compares one layer of A with one layer of B. Which cells belong to the layer of A "
            "that is asked about?",
            "Layer 3 of A is one row of the map. The lightest cell of that row is the answer.",
            "`first_map.sel(layer_a=3)` is the row; `.idxmax()` finds its largest value.",
        ),
    ),
)
