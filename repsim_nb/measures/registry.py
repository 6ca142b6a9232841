"""The base class of measures, and the registry of all of them.

A measure compares two representations of the same n stimuli: x of shape (n, d_x) and y of shape (n, d_y), where row i
of both is stimulus i. `prepare` does the work that needs one representation only, once; `score` compares a pair, and
`grid` all pairs of two lists.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
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
ROUNDING = 1e-5  # how far rounding can carry a value beyond its bounds; more than that is a bug


class DegenerateWarning(UserWarning):
    """The value follows its formula but says nothing about the data, as there are too few rows."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """One representation, with all that `measure` can compute from it alone."""

    measure: "Measure"
    state: Any
    n: int
    d: int
    dtype: torch.dtype
    device: torch.device


class Measure:
    """A configured measure: call it with x (n, d_x) and y (n, d_y) for a number.

    Attributes
    ----------
    name, title
        What code and what readers call it.
    direction
        "similarity" (larger = more alike) or "dissimilarity" (0 = the same).
    bounds
        Lowest and highest possible value.
    symmetric
        Whether swapping x and y keeps the value.
    metric
        Whether it satisfies the triangle inequality and is 0 only between what the invariances make equal.
    min_rows
        Fewer rows raise an InputError.
    cost
        Of one pair; n rows, d features.
    reference
        Where it is defined.
    invariances_x, invariances_y
        Transformations of each side that do not change the value, among `INVARIANCES`.
    needs_rows
        Sides on which rows must outnumber features; otherwise the value is much the same for any data, and a
        DegenerateWarning says so.
    moment_dtype
        Precision of the products that `from_moments` needs; None if the measure needs all rows at once.

    Notes
    -----
    A subclass is a keyword-only dataclass of its parameters. It sets the attributes above, those that depend on
    parameters in `__post_init__`, and implements `_prepare` and `_score`.

    Examples
    --------
    >>> cka = get_measure("cka")
    >>> round(cka([[0.0], [1.0], [2.0], [3.0], [5.0]], [[0.0], [1.0], [4.0], [9.0], [25.0]]), 6)
    0.963087
    """

    name: str
    title: str
    direction: Direction
    bounds: tuple[float, float]
    symmetric: bool = True
    metric: bool = False
    min_rows: int = 2
    cost: str
    reference: str
    invariances_x: frozenset[str] = frozenset()
    invariances_y: frozenset[str] = frozenset()
    needs_rows: frozenset[str] = frozenset()
    moment_dtype: torch.dtype | None = None

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
        """Transformations that leave the value as it is, on either side."""
        return self.invariances_x & self.invariances_y

    def configured(self, **params: Any) -> "Measure":
        """Return this measure with some parameters changed.

        Examples
        --------
        >>> get_measure("rsa").configured(inner="euclidean")
        rsa(inner='euclidean', outer='spearman')
        """
        return get_measure(self.name, **{**self.params, **params})

    def __call__(self, x: Any, y: Any, **params: Any) -> float:
        """Compare x and y.

        Parameters
        ----------
        x, y
            (n, d_x) and (n, d_y), tensors or arrays; row i of both is the same stimulus.
        params
            Parameters of the measure to change for this call.

        Returns
        -------
        float
            Within `bounds`.

        Raises
        ------
        InputError
            x or y is no matrix of finite numbers; they have different numbers of rows, or fewer than `min_rows`; or the
            measure is undefined for them, as without variance.
        """
        if params:
            return self.configured(**params)(x, y)
        return self.score(*self._prepare_both(x, y))

    def dissimilarity(self, x: Any, y: Any) -> float:
        """Compare x and y so that 0 = the same up to the invariances, whatever the direction of the measure.

        A dissimilarity stays as it is; a similarity s becomes upper bound - s, usually 1 - s, which is rarely a metric.
        Arguments and errors are those of a call.
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
        """Check x and do the work that needs x alone, to compare it with many others.

        Parameters
        ----------
        x
            (n, d), a tensor or array.
        side
            "x" or "y": what messages call it.

        Raises
        ------
        InputError
            x is no matrix of finite numbers, has fewer than `min_rows` rows, or the measure is undefined for it.
        """
        matrix = as_matrix(x, side)
        n, d = matrix.shape
        if n < self.min_rows:
            settings = ", ".join(f"{k}={v}" for k, v in self.params.items() if isinstance(v, int | float | str))
            raise InputError(
                f"{self.name}({settings}) needs at least {self.min_rows} rows, {side} has {n}. Give more rows."
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
        """Return an empty accumulator of the sums that `from_moments` needs.

        Parameters
        ----------
        layers_a, layers_b
            Layer -> width; layers_b=None compares a with itself.
        dtype
            Precision of products, float32 or float64; None is the lowest that the measure can use.

        Raises
        ------
        InputError
            The measure needs all rows at once.
        """
        if self.moment_dtype is None:
            able = sorted(n for n in _MEASURES if get_measure(n).moment_dtype is not None)
            raise InputError(
                f"{self!r} needs all rows at once and cannot be computed batch by batch. These measures can: "
                f"{', '.join(able)}."
            )
        return Moments(layers_a, layers_b, dtype or self.moment_dtype)

    def from_moments(self, moments: Accumulator) -> np.ndarray:
        """Return the values that `grid` gives for the rows in `moments`: (layers of a, layers of b).

        Parameters
        ----------
        moments
            What `self.accumulator(...)` returned, or the same with products in float64, after rows were added.

        Raises
        ------
        InputError
            The measure needs all rows at once, the accumulator is of another kind, or has too few rows or no variance.
        """
        suitable = self.accumulator(moments.layers_a, moments.layers_b)
        if type(suitable) is not type(moments) or moments.dtype.itemsize < suitable.dtype.itemsize:
            raise InputError(f"{self!r} cannot be computed from {moments!r}. Use what its accumulator() returns.")
        if moments.n < self.min_rows:
            raise InputError(f"{self.name} needs at least {self.min_rows} rows, {moments!r} has fewer. Add more rows.")
        widths = {"x": moments.layers_a, "y": moments.layers_b or moments.layers_a}
        self._check_rows(moments.n, {side: max(layers.values()) for side, layers in widths.items()})
        return self._bounded(self._from_accumulator(moments))

    def memory(self, n: int, widths_x: Sequence[int], widths_y: Sequence[int] | None = None) -> int:
        """Return the most bytes that comparing layers of these widths takes, on top of their n rows.

        widths_y=None compares the layers of x with themselves.
        """
        widths = [*widths_x, *(widths_y or [])]
        wide = sum(widths_x), sum(widths_y or widths_x)
        return sum(self._kept_bytes(n, d) for d in widths) + self._work_bytes(n, widths, wide)

    # What a measure implements.

    def _kept_bytes(self, n: int, d: int) -> int:
        """Bytes that `_prepare` keeps for one representation, on top of its rows."""
        return 0

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        """Most bytes of working memory, on top of what is kept; `wide` is the total width of each side."""
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
                    f"Prepared with {p.measure!r} but scored with {self!r}. Prepare with the measure that scores."
                )
            if p.n != first.n:
                raise InputError(_unequal_rows(first.n, p.n))
            if (p.dtype, p.device) != (first.dtype, first.device):
                raise InputError(
                    f"{self.name}: one representation is {first.dtype} on {first.device}, another {p.dtype} on "
                    f"{p.device}. Convert them to one dtype and device first."
                )
        self._check_rows(first.n, {"x": max(p.d for p in xs), "y": max(q.d for q in ys)})

    def _check_rows(self, n: int, widest: dict[str, int]) -> None:
        for side in sorted(self.needs_rows):
            if n <= widest[side]:
                warnings.warn(
                    f"{self.name}: {n} rows for {widest[side]} features of {side}. With so few rows the value is much "
                    "the same for any data. Use more rows than features.",
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
    """Class decorator: register a subclass of `Measure` under its name.

    Raises
    ------
    InputError
        The name is taken, or an invariance is unknown.
    """
    if cls.name in _MEASURES:
        raise InputError(
            f"A measure named {cls.name!r} already exists ({_MEASURES[cls.name].title}). Choose another name."
        )
    for invariance in sorted(cls.invariances_x | cls.invariances_y):
        if invariance not in INVARIANCES:
            raise unknown("invariance", invariance, INVARIANCES)
    _MEASURES[cls.name] = cls
    return cls


def get_measure(name: str | Measure, **params: Any) -> Measure:
    """Return the measure of this name, configured.

    Parameters
    ----------
    name
        A name from `list_measures()`, or a measure, which is returned with `params` changed.
    params
        Parameters of the measure; the others keep their defaults.

    Raises
    ------
    InputError
        An unknown measure or parameter, or a value that does not fit.

    Examples
    --------
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
    """How to set `name` if it is a parameter of the measure among the arguments `given`; else None."""
    measure = given.get("measure", "cka")
    if isinstance(measure, str) and measure not in _MEASURES:
        return None
    configured = get_measure(measure)
    if name not in configured.params:
        return None
    return f'It is a parameter of the measure: pass measure=get_measure("{configured.name}", {name}=...).'


FIRST = ("cka", "procrustes", "angular_shape")


def list_measures() -> pd.DataFrame:
    """Return all measures with their declarations under default parameters; index = name.

    Returns
    -------
    pandas.DataFrame
        One row for each measure: title, direction, bounds, symmetric, metric, invariances, min_rows, cost, parameters
        and reference.

    Examples
    --------
    >>> list_measures().title["procrustes"]
    'Orthogonal Procrustes distance'
    """
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
