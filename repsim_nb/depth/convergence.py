"""When layers converge: the step, or the loss, at which they become similar to their final state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

REACHED, AT_FIRST, NEVER = "reached", "reached at the first checkpoint or before", "never reached"
ROUNDING = 1e-9  # below the level by this much still counts as reaching it
USUAL = 0.9  # level for similarities with upper bound 1

Losses = Mapping[int, float]  # step -> loss; a pandas Series works as well


def convergence(
    course: xr.Dataset, level: float | None = None, *, interpolate: bool = False, losses: Losses | None = None
) -> pd.DataFrame:
    """Find the first step at which each layer is as similar to its final state as `level`.

    Parameters
    ----------
    course
        Result of `over_training` against the final model.
    level
        Similarity that counts as converged; for a dissimilarity, which falls, the value to come down to. None means 0.9
        for similarities with upper bound 1.
    interpolate
        False takes the first checkpoint that reaches the level, a step at which there is a measurement but one that
        depends on which checkpoints there are. True takes the point between it and the checkpoint before, linear in
        log(1 + step).
    losses
        Loss of the run at its steps, step -> loss. Adds the loss at which the level is reached, to compare models at
        equal loss rather than at equal step.

    Returns
    -------
    pandas.DataFrame
        Indexed by layer.

        - step: where the level is first reached; infinite if it never is.
        - state: "reached", "reached at the first checkpoint or before" or "never reached".
        - leaves: whether the layer falls short of the level again at a later checkpoint.
        - settled: the step from which it stays; infinite if it does not.
        - area: mean similarity over log(1 + step), which needs no level. It depends on the first and last checkpoint.
        - low, high (if the course has an interval): where the upper and the lower end of the interval over documents
          first reach the level.
        - loss (with losses): the loss at `step`, minus infinity if the level is never reached; with an interval also
          loss_low and loss_high, the losses at `high` and `low`.

    Raises
    ------
    InputError
        If the course is not against the final model, the level is not within the bounds of the measure, or losses does
        not cover the steps of the course.

    Notes
    -----
    With biased measures and few rows, untrained layers can start above the level; draw the null. The interval combines
    intervals that hold for each step by itself. Below `low` it errs with at most half of 1 minus their coverage; above
    `high` it can err more often, since the lower end has to stay below the level at every step before. It is over
    documents: for seeds see `convergence_over_seeds`.

    Examples
    --------
    >>> import xarray as xr
    >>> values = [[0.1, 0.2], [0.95, 0.4], [0.8, 0.7], [1.0, 0.85]]
    >>> about = {"direction": "similarity", "lower_bound": 0.0, "upper_bound": 1.0}
    >>> course = xr.Dataset(
    ...     {"similarity": (("step", "layer"), values, about)}, {"step": [0, 10, 100, 1000], "layer": [1, 2]}
    ... )
    >>> found = convergence(course)
    >>> found.step.tolist(), found.settled.tolist()
    ([10.0, inf], [1000.0, inf])
    >>> found.state.tolist()
    ['reached', 'never reached']
    """
    import pandas as pd

    similarity = similarity_of(course)
    falls = similarity.attrs.get("direction") == "dissimilarity"
    goal = _level(similarity, level)
    steps, sign = similarity.step.values.astype(float), -1 if falls else 1
    limits = {"low": "low" if falls else "high", "high": "high" if falls else "low"} if "low" in course else {}
    lines = []
    for layer in similarity.layer.values.tolist():
        curve = _Curve(steps, sign * similarity.sel(layer=layer).values - sign * goal, interpolate)
        line = {"layer": layer, "step": curve.first, "state": curve.state, "leaves": curve.leaves}
        line |= {"settled": curve.settled, "area": _area(steps, similarity.sel(layer=layer).values)}
        for end, of in limits.items():
            bound = course[of].sel(layer=layer).values
            line[end] = _Curve(steps, sign * bound - sign * goal, interpolate).first
        lines.append(line)
    table = pd.DataFrame(lines).set_index("layer")
    if losses is None:
        return table
    at = {name: losses_at(losses, table[name].to_numpy(), steps) for name in ("step", *limits)}
    table["loss"] = at["step"]
    if limits:
        table["loss_low"], table["loss_high"] = (f(at["low"], at["high"]) for f in (np.minimum, np.maximum))
    return table


class _Curve:
    """How far a curve is above its goal at each step, and where it reaches it."""

    def __init__(self, steps: np.ndarray, above: np.ndarray, interpolate: bool):
        self._steps, self._above, self._interpolate = steps, above, interpolate
        self._there = above >= -ROUNDING

    @property
    def first(self) -> float:
        """Where it first reaches the goal."""
        return self._at(int(np.argmax(self._there))) if self._there.any() else np.inf

    @property
    def settled(self) -> float:
        """Where it reaches the goal for good."""
        short = np.flatnonzero(~self._there)
        place = int(short[-1]) + 1 if len(short) else 0
        return self._at(place) if place < len(self._there) else np.inf

    @property
    def leaves(self) -> bool:
        return bool(self._there.any() and not self._there[np.argmax(self._there) :].all())

    @property
    def state(self) -> str:
        return NEVER if not self._there.any() else AT_FIRST if self._there[0] else REACHED

    def _at(self, place: int) -> float:
        if place == 0 or not self._interpolate:
            return float(self._steps[place])
        short, over = -self._above[place - 1], max(self._above[place], 0.0)
        before, here = np.log1p(self._steps[place - 1 : place + 1])
        return float(np.expm1(before + (here - before) * short / (short + over)))


def similarity_of(course: Any) -> xr.DataArray:
    """The similarity of a course to the final model, checked."""
    similarity = getattr(course, "data_vars", {}).get("similarity")
    if similarity is None or similarity.dims != ("step", "layer") or not similarity.size:
        raise InputError(f"Expected a result of over_training, got {type(course).__name__} without its similarity.")
    against = course.attrs.get("against", "final")
    if against != "final":
        raise InputError(f'Convergence is towards the final model, but this course is against "{against}".')
    if not np.isfinite(similarity.values).all():
        raise InputError("The course has values that are not finite; its convergence cannot be told.")
    if (np.diff(similarity.step.values) <= 0).any():
        raise InputError("The steps of the course do not ascend; sort them: course.sortby('step').")
    return similarity


def _level(similarity: xr.DataArray, level: float | None) -> float:
    low = float(similarity.attrs.get("lower_bound", -np.inf))
    high = float(similarity.attrs.get("upper_bound", np.inf))
    rising = similarity.attrs.get("direction") == "similarity"
    if level is None:
        if rising and high == 1:
            return USUAL
        raise InputError("level has no default for this measure; say which value counts as converged.")
    if isinstance(level, bool) or not isinstance(level, int | float | np.floating) or not low <= level <= high:
        raise InputError(f"level={level!r}; expected a value of the measure, from {low:g} to {high:g}.")
    return float(level)


def _area(steps: np.ndarray, values: np.ndarray) -> float:
    """Mean over log(1 + step), between checkpoints by the trapezoid rule."""
    x = np.log1p(steps)
    return float(np.trapezoid(values, x) / (x[-1] - x[0])) if len(x) > 1 else float(values[0])


def losses_at(losses: Losses, at: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The loss at these steps, linear in log(1 + step) between those recorded; minus infinity where never."""
    known = sorted((int(step), float(loss)) for step, loss in losses.items())
    if not known or known[0][0] > steps[0] or known[-1][0] < steps[-1]:
        recorded = f"{known[0][0]} to {known[-1][0]}" if known else "none"
        raise InputError(f"losses has the steps {recorded}; the course needs {steps[0]:g} to {steps[-1]:g}.")
    x, y = np.array(known).T
    if not np.isfinite(y).all():
        raise InputError("losses has values that are not finite.")
    reached = np.isfinite(at)
    return np.where(reached, np.interp(np.log1p(np.where(reached, at, 0)), np.log1p(x), y), -np.inf)
