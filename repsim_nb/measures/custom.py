"""Measures of your own, made from functions."""

import inspect
import math
from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.registry import Direction, Measure, register


def measure(
    *,
    name: str,
    title: str,
    direction: Direction,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    invariances: Collection[str] = (),
    symmetric: bool = True,
    metric: bool = False,
    min_rows: int = 2,
    cost: str = "unknown",
    reference: str = "user-defined",
) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Register a function as a measure.

    The function takes two tensors (n, d_x) and (n, d_y), and parameters with defaults: f(x, y, *, parameter=default).
    It is returned unchanged. The first line of its docstring is what the measure picker shows.

    Parameters
    ----------
    name, title
        What code and what readers call it.
    direction
        "similarity" (larger = more alike) or "dissimilarity" (0 = the same).
    bounds
        Lowest and highest possible value; a value outside raises an ArithmeticError.
    invariances
        Transformations of either side that do not change the value: "permutation", "orthogonal", "scale", "shift",
        "linear".
    symmetric, metric, min_rows, cost, reference
        As the attributes of `Measure`.

    Raises
    ------
    InputError
        The name is taken, an invariance is unknown, or a parameter of the function has no default.

    Notes
    -----
    Nothing checks that the declarations are true, and figures and nulls rely on them: test them on data.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> @measure(name="mean_gap", title="Gap between means", direction="dissimilarity", bounds=(0, math.inf))
    ... def mean_gap(x, y, *, power: float = 1.0):
    ...     return abs(float(x.mean() - y.mean())) ** power
    >>> get_measure("mean_gap", power=2)([[0.0], [0.0]], [[3.0], [3.0]])
    9.0
    """

    def decorate(function: Callable[..., float]) -> Callable[..., float]:
        parameters = list(inspect.signature(function).parameters.values())[2:]
        without = [p.name for p in parameters if p.default is p.empty]
        if without:
            raise InputError(f"Measure {name!r}: parameter {without[0]!r} needs a default value.")

        def score(self: Measure, x: Tensor, y: Tensor) -> float:
            return function(x, y, **self.params)

        body: dict[str, Any] = {"name": name, "title": title, "direction": direction, "bounds": bounds}
        body |= {"symmetric": symmetric, "metric": metric, "min_rows": min_rows, "cost": cost, "reference": reference}
        body |= {"invariances_x": frozenset(invariances), "invariances_y": frozenset(invariances)}
        body |= {"_score": score, "__doc__": function.__doc__, "__module__": function.__module__}
        body["__annotations__"] = {p.name: Any if p.annotation is p.empty else p.annotation for p in parameters}
        body |= {p.name: p.default for p in parameters}
        register(type(name, (Measure,), body))
        return function

    return decorate
