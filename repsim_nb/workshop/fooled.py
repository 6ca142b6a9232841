"""Part 2: measures and how they fool you. Few rows, huge norms, invariances, chance, width."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.measures import DegenerateWarning, Measure, get_measure
from repsim_nb.measures.diagnostics import noise_floor
from repsim_nb.runs.exercises import SAME, Feedback, whole_number
from repsim_nb.workshop.answers import choice, measure, right, row_numbers, then, wrong
from repsim_nb.workshop.exercise import Exercise

if TYPE_CHECKING:
    import xarray as xr

ENOUGH = 0.1  # a score of unrelated data that does not mislead any more
MOST_ROWS = 20_000
WIDTHS, ROWS = (8, 64), 200  # of the unrelated data that shows whether a score grows with width
GROWS = 0.1  # by as much as a score grows with width if it does


def _enough_rows(answer: Any, features: int) -> Feedback:
    """Rows with which biased CKA of unrelated data is at most ENOUGH."""
    return then(whole_number(answer), lambda rows: _judge_rows(rows, features))


def _judge_rows(rows: int, features: int) -> Feedback:
    if not 4 <= rows <= MOST_ROWS:
        return wrong(f"Choose a number of rows from 4 to {MOST_ROWS:,}; received {rows}.")
    biased = get_measure("cka", debiased=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateWarning)  # too few rows is what the question is about
        value = np.mean([biased(*np.random.default_rng([rows, i]).normal(size=(2, rows, features))) for i in range(3)])
    if value > ENOUGH:
        return wrong(f"With {rows:,} rows of {features} features, biased CKA of unrelated data is still {value:.2f}.")
    return right(
        f"With {rows:,} rows, {rows / features:.0f} times as many as features, biased CKA of unrelated data is "
        f"{value:.2f}. The debiased estimator is about 0 with any number of rows, only more noisy with few."
    )


def _fooling_rows(answer: Any, x: Any, y: Any) -> Feedback:
    """The few rows that make two unrelated matrices look alike."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return then(row_numbers(answer, len(x)), lambda rows: _judge_fooling(rows, x, y))


def _judge_fooling(rows: list[int], x: np.ndarray, y: np.ndarray) -> Feedback:
    if len(rows) > len(x) // 10:
        return wrong(f"You left out {len(rows)} of {len(x)} rows. A few are enough: at most {len(x) // 10}.")
    kept = np.setdiff1d(np.arange(len(x)), rows)
    cka = get_measure("cka")
    before, after = cka(x, y), cka(x[kept], y[kept])
    if after > ENOUGH:
        return wrong(f"Without these {len(rows)} rows CKA is {after:.2f}; with them {before:.2f}. Some are still in.")
    return right(
        f"CKA fell from {before:.2f} to {abs(after):.2f} without {len(rows)} of {len(x)} rows. The first token of a "
        "text does this in many large models. `rs.compare(..., leave_out_norms=...)` leaves such rows out."
    )


def _blind_measure(answer: Any, x: Any, changed: Any) -> Feedback:
    """A measure that finds x and `changed` identical."""
    return then(measure(answer), lambda chosen: _judge_blind(chosen, np.asarray(x), np.asarray(changed)))


def _judge_blind(chosen: Measure, x: np.ndarray, changed: np.ndarray) -> Feedback:
    try:
        value, perfect = chosen(x, changed), chosen(x, x)
    except InputError as error:
        return wrong(str(error))
    if abs(value - perfect) > SAME:
        return wrong(f"{chosen.name} notices: it gives {value:.2f}, and {perfect:.2f} for x with itself.")
    unseen = ", ".join(sorted(chosen.invariances_y)) or "none that are declared"
    return right(f"{chosen.name} gives {value:.2f}, as for x with itself. What it does not see: {unseen}.")


def _beyond_chance(answer: Any, result: xr.DataArray) -> Feedback:
    """How many cells of a map exceed their null."""
    return then(whole_number(answer), lambda cells: _judge_cells(cells, result))


def _judge_cells(cells: int, result: xr.DataArray) -> Feedback:
    found = int((result.p_value <= 0.05).sum())
    if cells == found:
        return right(f"{found} of {result.size} cells are more similar than unrelated documents (p <= 0.05).")
    if cells == result.size - found:
        return wrong("That is the number of cells that do not. Small p-values speak against chance.")
    return wrong(f"The map has {result.size} cells, and each has a p-value: look at `result.p_value`.")


def _grows_with_width(answer: Any, names: list[str]) -> Feedback:
    """The measure whose score of unrelated data grows with the number of features."""
    return then(choice(answer, names, "one of these measures"), _judge_width)


def _judge_width(name: str) -> Feedback:
    narrow, wide = (noise_floor(name, [ROWS], features).item() for features in WIDTHS)
    found = f"{name} of unrelated data is {narrow:.2f} with {WIDTHS[0]} features and {wide:.2f} with {WIDTHS[1]}"
    if wide - narrow < GROWS:
        return wrong(f"{found} ({ROWS} rows). It does not grow with the width.")
    return right(f"{found} ({ROWS} rows). A wider model has a higher score before it has learned anything.")


EXERCISES = (
    Exercise(
        "2.1",
        "How many rows are enough?",
        _enough_rows,
        (
            "Which way does the curve of the biased estimator go when the number of rows grows?",
            "Unrelated data gets about features / (features + rows).",
            "You need about ten times as many rows as features: try 1000.",
        ),
    ),
    Exercise(
        "2.2",
        "The rows that fool CKA",
        _fooling_rows,
        (
            "CKA weighs rows by their size. Is there anything odd about the size of some?",
            "Compute the norm of every row of `noise_x`: `np.linalg.norm(noise_x, axis=1)`. How many stand out?",
            "`np.flatnonzero(np.linalg.norm(noise_x, axis=1) > 50)` gives the row numbers.",
        ),
    ),
    Exercise(
        "2.3",
        "A measure that does not see the mixing",
        _blind_measure,
        (
            "What did the multiplication do to x? Could a linear map undo it?",
            'Look at the column `invariances` of `rs.list_measures()`: some measures do not see any "linear" change.',
            'Canonical correlation, "cca", is one of them.',
        ),
    ),
    Exercise(
        "2.4",
        "What is more than chance?",
        _beyond_chance,
        (
            "Cells that are no more similar than unrelated documents are hatched. Count the others.",
            "`few.p_value` has the p-value of each cell. Up to 0.05 counts as more than chance.",
            "`(few.p_value <= 0.05).sum().item()` counts them.",
        ),
    ),
    Exercise(
        "2.5",
        "Which score grows with the width?",
        _grows_with_width,
        (
            "Imagine that you predict x from more and more columns of pure noise. What happens to the fit?",
            "A measure that fits something to the data, without holding any data back, gains from every feature.",
            'Regression fits one coefficient per feature: "linear_regression".',
        ),
    ),
)
