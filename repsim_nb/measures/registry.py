"""What a measure is, and the table of all of them.

A measure compares two representations of the same n stimuli: x of shape (n, d_x) and y of shape (n, d_y), row i of
both being stimulus i. `prepare` does once what concerns one representation, `score` what concerns a pair, `grid` all
pairs of two lists.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repsim_nb.errors import InputError, unknown
from repsim_nb.measures.accumulation import Accumulator, Layers
from repsim_nb.measures.arrays import as_matrix, check_order
from repsim_nb.measures.constraints import check_names, check_values
from repsim_nb.measures.features import Layer
from repsim_nb.measures.moments import Moments
from repsim_nb.system.progress import steps

Direction = Literal["similarity", "dissimilarity"]
INVARIANCES = ("permutation", "orthogonal", "scale", "shift", "linear")
EUCLIDEAN = frozenset({"permutation", "orthogonal", "shift"})
SIMILAR = EUCLIDEAN | {"scale"}
AFFINE = SIMILAR | {"linear"}
ROUNDING = 1e-5  # how far beyond its bounds rounding can carry a value; more than that is an error of ours


class DegenerateWarning(UserWarning):
    """The value is right by its formula, and says nothing about the data (too few rows)."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """One representation, as far as `measure` can work on it alone."""

    measure: "Measure"
    state: Any
    n: int
    d: int
    dtype: torch.dtype
    device: torch.device


class Measure:
    """A configured measure.

    A subclass is a keyword-only dataclass of its parameters; it sets the declarations below (those that depend on
    parameters in `__post_init__`) and implements `_prepare` and `_score`.
    """

    name: str
    title: str
    direction: Direction
    bounds: tuple[float, float]
    symmetric: bool = True
    metric: bool = False  # triangle inequality, and 0 only between what the invariances make equal
    min_rows: int = 2
    cost: str  # of one pair; n rows, d features
    reference: str
    invariances_x: frozenset[str] = frozenset()
    invariances_y: frozenset[str] = frozenset()
    needs_rows: frozenset[str] = frozenset()  # sides on which fewer rows than features make the value meaningless
    moment_dtype: torch.dtype | None = None  # of the products `from_moments` needs; None: it needs all rows at once

    def __init_subclass__(cls) -> None:
        dataclass(eq=False, repr=False, kw_only=True)(cls)  # works in place

    def __post_init__(self) -> None:
        check_values(self.name, type(self), self.params)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters and their values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.params.items())})"

    @property
    def invariances(self) -> frozenset[str]:
        """What both sides may undergo, each by itself, without changing the value."""
        return self.invariances_x & self.invariances_y

    def configured(self, **params: Any) -> "Measure":
        """This measure with some parameters changed."""
        return get_measure(self.name, **{**self.params, **params})

    def __call__(self, x: Any, y: Any, **params: Any) -> float:
        """The value for x (n, d_x) and y (n, d_y), tensors or arrays; `params` change parameters for this call."""
        if params:
            return self.configured(**params)(x, y)
        return self.score(*self._prepare_both(x, y))

    def dissimilarity(self, x: Any, y: Any) -> float:
        """The value turned so that 0 = the same up to the invariances: a dissimilarity stays as it is, a similarity s
        becomes upper bound - s (1 - s for all that have a fixed value for x with itself).
        """
        p, q = self._prepare_both(x, y)
        self._check([p], [q])
        value = float(self._dissimilarity(p.state, q.state))
        return self._within_bounds(value, (0.0, math.inf))

    def dissimilarities(self, xs: Sequence[Prepared], ys: Sequence[Prepared]) -> np.ndarray:
        """`dissimilarity` for all pairs of prepared representations, shape (len(xs), len(ys))."""
        self._check(xs, ys)
        if type(self)._dissimilarity is Measure._dissimilarity:
            values = self.grid(xs, ys)
            return values if self.direction == "dissimilarity" else self.bounds[1] - values
        values = np.array([[self._dissimilarity(p.state, q.state) for q in ys] for p in xs])
        return np.array([[self._within_bounds(float(v), (0.0, math.inf)) for v in row] for row in values])

    def prepare(self, x: Any, side: str = "x") -> Prepared:
        """Check x (n, d) and do what concerns it alone; `side` is how messages call it."""
        matrix = as_matrix(x, side)
        n, d = matrix.shape
        if n < self.min_rows:
            settings = ", ".join(f"{k}={v}" for k, v in self.params.items() if isinstance(v, int | float | str))
            raise InputError(
                f"{self.name}({settings}) needs at least {self.min_rows} rows, {side} has {n}: give more rows."
            )
        return Prepared(self, self._prepare(matrix, side), n, d, matrix.dtype, matrix.device)

    def score(self, p: Prepared, q: Prepared) -> float:
        """The value for two prepared representations."""
        self._check([p], [q])
        return self._within_bounds(float(self._score(p.state, q.state)), self.bounds)

    def grid(self, xs: Sequence[Prepared], ys: Sequence[Prepared]) -> np.ndarray:
        """The values for all pairs, shape (len(xs), len(ys))."""
        self._check(xs, ys)
        return self._bounded(self._grid([p.state for p in xs], [q.state for q in ys]))

    def grid_with_errors(self, xs: Sequence[Prepared], ys: Sequence[Prepared]) -> tuple[np.ndarray, np.ndarray | None]:
        """`grid`, and the standard errors of its values where they are estimated from a sample; else None."""
        return self.grid(xs, ys), None

    def accumulator(
        self, layers_a: Layers, layers_b: Layers | None = None, dtype: torch.dtype | None = None
    ) -> Accumulator:
        """An empty accumulator of what `from_moments` needs, for layers of a and b (layer -> width).

        `dtype` is that of products, float32 or float64; None is what the measure can do with.

        Raises
        ------
        InputError
            A measure that needs all rows at once.
        """
        if self.moment_dtype is None:
            able = sorted(n for n in _MEASURES if get_measure(n).moment_dtype is not None)
            raise InputError(
                f"{self!r} needs all rows at once and cannot be added up batch by batch. Those that can: "
                f"{', '.join(able)}."
            )
        return Moments(layers_a, layers_b, dtype or self.moment_dtype)

    def from_moments(self, moments: Accumulator) -> np.ndarray:
        """The values that `grid` gives for the rows `moments` has seen: (layers of a, layers of b).

        Parameters
        ----------
        moments
            What `self.accumulator(...)` returned, or one with products in float64, with rows added.

        Raises
        ------
        InputError
            A measure that needs all rows at once, too few rows, no variance.
        """
        suitable = self.accumulator(moments.layers_a, moments.layers_b)
        if type(suitable) is not type(moments) or moments.dtype.itemsize < suitable.dtype.itemsize:
            raise InputError(f"{self!r} is not to be had from {moments!r}: use what its accumulator() returns.")
        if moments.n < self.min_rows:
            raise InputError(f"{self.name} needs at least {self.min_rows} rows, {moments!r} has fewer: add more.")
        widths = {"x": moments.layers_a, "y": moments.layers_b or moments.layers_a}
        self._check_rows(moments.n, {side: max(layers.values()) for side, layers in widths.items()})
        return self._bounded(self._from_accumulator(moments))

    def memory(self, n: int, widths_x: Sequence[int], widths_y: Sequence[int] | None = None) -> int:
        """Bytes that comparing layers of these widths takes at most beside their n rows; widths_y=None: with itself."""
        widths = [*widths_x, *(widths_y or [])]
        wide = sum(widths_x), sum(widths_y or widths_x)
        return sum(self._kept_bytes(n, d) for d in widths) + self._work_bytes(n, widths, wide)

    # What a measure implements.

    def _kept_bytes(self, n: int, d: int) -> int:
        """Bytes that `_prepare` keeps of one representation, beside its rows."""
        return 0

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        """Bytes in work at most beside what is kept, of layers of these widths, so wide together on each side."""
        return 0

    def _from_accumulator(self, moments: Any) -> np.ndarray:
        xs, ys = moments.layers()
        ps = [self._from_layer(x) for x in xs]
        return self._grid(ps, ps if ys is xs else [self._from_layer(y) for y in ys])

    def _from_layer(self, x: Layer) -> Any:
        """What `_prepare` makes of a layer, without its rows; for measures with a moment_dtype."""
        raise NotImplementedError

    def _prepare(self, x: Tensor, side: str) -> Any:
        return x

    def _score(self, p: Any, q: Any) -> float:
        raise NotImplementedError

    def _grid(self, ps: list[Any], qs: list[Any]) -> np.ndarray:
        same = len(ps) == len(qs) and all(p is q for p, q in zip(ps, qs, strict=True))
        half = same and self.symmetric
        cells = [(i, j) for i in range(len(ps)) for j in range(i if half else 0, len(qs))]
        values = np.zeros((len(ps), len(qs)))
        for i, j in steps(cells, self.name, "pair", shown=False):
            values[i, j] = self._score(ps[i], qs[j])
        return np.triu(values) + np.triu(values, 1).T if half else values

    def _dissimilarity(self, p: Any, q: Any) -> float:
        value = self._within_bounds(float(self._score(p, q)), self.bounds)
        return value if self.direction == "dissimilarity" else self.bounds[1] - value

    # Checks shared by all.

    def _prepare_both(self, x: Any, y: Any) -> tuple[Prepared, Prepared]:
        check_order(x, y)
        x, y = as_matrix(x, "x"), as_matrix(y, "y")
        if len(x) != len(y):
            raise InputError(_unequal_rows(len(x), len(y)))
        dtype = torch.promote_types(x.dtype, y.dtype)
        return self.prepare(x.to(dtype), "x"), self.prepare(y.to(dtype), "y")

    def _check(self, xs: Sequence[Prepared], ys: Sequence[Prepared]) -> None:
        if not xs or not ys:
            raise InputError(f"{self.name}: nothing to compare ({len(xs)} x {len(ys)} representations).")
        first = xs[0]
        for p in [*xs, *ys]:
            if p.measure is not self:
                raise InputError(
                    f"Prepared by {p.measure!r}, scored by {self!r}: prepare with the measure that scores."
                )
            if p.n != first.n:
                raise InputError(_unequal_rows(first.n, p.n))
            if (p.dtype, p.device) != (first.dtype, first.device):
                raise InputError(
                    f"{self.name}: one representation is {first.dtype} on {first.device}, another {p.dtype} on "
                    f"{p.device}. Bring them to one dtype and device first."
                )
        self._check_rows(first.n, {"x": max(p.d for p in xs), "y": max(q.d for q in ys)})

    def _check_rows(self, n: int, widest: dict[str, int]) -> None:
        for side in sorted(self.needs_rows):
            if n <= widest[side]:
                warnings.warn(
                    f"{self.name}: {n} rows for {widest[side]} features of {side}: with so few rows the value "
                    "is much the same for any data. Take more rows than features.",
                    DegenerateWarning,
                    stacklevel=4,
                )
                break

    def _bounded(self, values: np.ndarray) -> np.ndarray:
        return np.array([[self._within_bounds(float(v), self.bounds) for v in row] for row in values])

    def _within_bounds(self, value: float, bounds: tuple[float, float]) -> float:
        low, high = bounds
        if not math.isfinite(value):
            raise InputError(
                f"{self.name} is not a finite number here ({value}): the values of x or y are too large or too small "
                "for its formula. Rescale them."
            )
        if not low - ROUNDING <= value <= high + ROUNDING:
            raise ArithmeticError(f"{self.name} = {value} is outside its bounds {bounds}: please report this.")
        return min(max(value, low), high)


def _unequal_rows(n_x: int, n_y: int) -> str:
    return f"x has {n_x} rows, y has {n_y}: row i of both must be the same stimulus. Align the rows first."


_MEASURES: dict[str, type[Measure]] = {}
M = TypeVar("M", bound=type[Measure])


def register(cls: M) -> M:
    """Put a subclass of Measure in the table."""
    if cls.name in _MEASURES:
        raise InputError(
            f"A measure named {cls.name!r} exists already ({_MEASURES[cls.name].title}): choose another name."
        )
    for invariance in sorted(cls.invariances_x | cls.invariances_y):
        if invariance not in INVARIANCES:
            raise unknown("invariance", invariance, INVARIANCES)
    _MEASURES[cls.name] = cls
    return cls


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
    """Register a function f(x, y, *, parameter=default, ...) of two tensors (n, d_x) and (n, d_y) as a measure.

    The function itself is returned unchanged.

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
            raise InputError(f"Measure {name!r}: give parameter {without[0]!r} a default value.")

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


def get_measure(name: str | Measure, **params: Any) -> Measure:
    """The measure of this name, configured.

    >>> cka = get_measure("cka", debiased=False)
    >>> cka.direction, cka.bounds, sorted(cka.invariances)
    ('similarity', (0.0, 1.0), ['orthogonal', 'permutation', 'scale', 'shift'])
    """
    if isinstance(name, Measure):
        return name.configured(**params) if params else name
    if name not in _MEASURES:
        raise unknown("measure", name, _MEASURES, "See list_measures().")
    cls = _MEASURES[name]
    check_names(name, cls, params)
    return cls(**params)


def as_parameter(name: str, given: Mapping[str, Any]) -> str | None:
    """How to set a parameter of the measure among the arguments `given`, where `name` is one."""
    measure = given.get("measure", "cka")
    if isinstance(measure, str) and measure not in _MEASURES:
        return None
    configured = get_measure(measure)
    if name not in configured.params:
        return None
    return f'It is a parameter of the measure: give measure=get_measure("{configured.name}", {name}=...).'


FIRST = ("cka", "procrustes", "angular_shape")


def list_measures() -> pd.DataFrame:
    """All measures with their declarations under default parameters; index = name."""
    names = [n for n in FIRST if n in _MEASURES] + [n for n in _MEASURES if n not in FIRST]
    measures = [get_measure(name) for name in names]
    columns = {
        "title": [m.title for m in measures],
        "direction": [m.direction for m in measures],
        "bounds": [m.bounds for m in measures],
        "symmetric": [m.symmetric for m in measures],
        "metric": [m.metric for m in measures],
        "invariances": [_invariances(m) for m in measures],
        "min_rows": [m.min_rows for m in measures],
        "cost": [m.cost for m in measures],
        "parameters": [", ".join(f"{k}={v!r}" for k, v in m.params.items()) for m in measures],
        "reference": [m.reference for m in measures],
    }
    return pd.DataFrame(columns, index=pd.Index(names, name="name"))


def _invariances(m: Measure) -> str:
    x, y = (", ".join(i for i in INVARIANCES if i in side) or "none" for side in (m.invariances_x, m.invariances_y))
    return x if x == y else f"x: {x}; y: {y}"
