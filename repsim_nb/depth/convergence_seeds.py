"""When models of several seeds and sizes converge, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from repsim_nb.depth.convergence import AT_FIRST, REACHED, Losses, convergence
from repsim_nb.depth.seeds import Part, SeedVariance, interval
from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

UNTOLD = "cannot be told"


def convergence_over_seeds(
    courses: Mapping[str, xr.Dataset],
    sizes: Mapping[str, Hashable] | None = None,
    level: float | None = None,
    *,
    interpolate: bool = True,
    losses: Mapping[str, Losses] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Average when each layer converges over the seeds of a size, with its interval over seeds.

    Parameters
    ----------
    courses
        Model -> result of `over_training` against the final model.
    sizes
        Model -> its size. Models of one size count as independent seeds. None means that all are of one size.
    level, interpolate
        As in `convergence`.
    losses
        Model -> step -> loss. Averages the loss at which the level is reached instead of the step.
    confidence
        Coverage of each interval by itself.

    Returns
    -------
    pandas.DataFrame
        Indexed by size and layer: mean of log(1 + step), or of the loss; low and high of its t interval over seeds;
        step, the mean as a number of steps; seeds; reached, how many of them reach the level; and state. With one seed
        the interval is infinite and the state is "one seed: cannot be told". So it is where the seeds of each size have
        the same step, as happens without interpolation if they cross the level between the same checkpoints. If some
        seed never reaches the level there is no mean: it is infinite, and so is the interval. If some seed has reached
        it at its first checkpoint already, and that is not step 0, the mean is a bound and the interval infinite.

    Raises
    ------
    InputError
        If there is no course, a model has no size, or seeds of one size have different layers; also whatever
        `convergence` raises.

    Notes
    -----
    The variance is pooled over the sizes that have a layer (`seeds.SeedVariance`), so a size with one seed has an
    interval if others have several. Pooling takes seeds to vary alike at every size. The interval does not contain the
    choice of documents, which the seeds share.

    Examples
    --------
    >>> import xarray as xr
    >>> about = {"direction": "similarity", "lower_bound": 0.0, "upper_bound": 1.0}
    >>> def course(at):
    ...     values = np.log1p([[0], [100], [1000]]) / np.log1p(at) / 2
    ...     return xr.Dataset(
    ...         {"similarity": (("step", "layer"), values, about)}, {"step": [0, 100, 1000], "layer": [1]}
    ...     )
    >>> found = convergence_over_seeds({"seed 0": course(500), "seed 1": course(600)}, level=0.5)
    >>> round(found.step.item(), 1), found.state.item()
    (547.7, 'reached')
    """
    import pandas as pd

    found = _numbers(courses, sizes, level, interpolate, losses, confidence)
    layers = {size: found.values[name].index for name, size in found.sizes.items()}
    lines = [(size, layer, *_of_layer(found, size, layer, confidence)) for size in layers for layer in layers[size]]
    columns = ["size", "layer", "mean", "low", "high", "seeds", "reached", "state"]
    table = pd.DataFrame(lines, columns=columns).set_index(["size", "layer"])
    if losses is None:
        table.insert(0, "step", np.expm1(table["mean"]))
    return table


def convergence_contrasts(
    courses: Mapping[str, xr.Dataset],
    sizes: Mapping[str, Hashable],
    level: float | None = None,
    *,
    layers: Sequence[int] | None = None,
    interpolate: bool = True,
    losses: Mapping[str, Losses] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare when two sizes converge, averaged over layers, with an interval over seeds.

    Parameters
    ----------
    courses, sizes, level, interpolate, losses, confidence
        As in `convergence_over_seeds`.
    layers
        Layers to average over; None takes all layers of each model.

    Returns
    -------
    pandas.DataFrame
        Indexed by every pair of sizes (one, other), in the order of `sizes`. difference: mean of log(1 + step), or of
        the loss, of the other less that of the one; low, high: its t interval, infinite if no size has several seeds;
        ratio (without losses): the same as a ratio of 1 + steps; seeds: models in both.

    Raises
    ------
    InputError
        If there are fewer than two sizes, or some layer has no step to average; also whatever
        `convergence_over_seeds` raises.

    Notes
    -----
    A negative difference of steps says that the other size converges sooner. Convergence is towards each model's own
    end, so it depends on how long and how well each was trained; at equal loss the sign is the other way round: a
    larger loss at convergence is sooner. The interval lets seeds vary and takes sizes and documents as they are.

    Examples
    --------
    >>> import xarray as xr
    >>> about = {"direction": "similarity", "lower_bound": 0.0, "upper_bound": 1.0}
    >>> def course(at):
    ...     values = np.log1p([[0], [100], [1000]]) / np.log1p(at) / 2
    ...     return xr.Dataset(
    ...         {"similarity": (("step", "layer"), values, about)}, {"step": [0, 100, 1000], "layer": [1]}
    ...     )
    >>> found = {"small 0": course(700), "small 1": course(800), "large 0": course(300), "large 1": course(350)}
    >>> convergence_contrasts(found, {name: name.split()[0] for name in found}, level=0.5).round(2).iloc[0].tolist()
    [-0.84, -1.27, -0.4, 0.43, 4.0]
    """
    import pandas as pd

    found = _numbers(courses, sizes, level, interpolate, losses, confidence)
    names, groups = list(found.sizes), list(found.sizes.values())
    values = np.array([_over_layers(name, found, layers) for name in names])
    variance = SeedVariance.of_models(values, groups)
    order = dict.fromkeys(groups)
    if len(order) < 2:
        raise InputError(f"Contrasts need at least two sizes; all models have the size {groups[0]!r}.")
    lines = []
    for one, other in combinations(order, 2):
        weights = np.zeros(len(names))
        for size, sign in ((one, -1), (other, 1)):
            members = [place for place, group in enumerate(groups) if group == size]
            weights[members] = sign / len(members)
        ends = interval(float(weights @ values), _parts(variance, weights), confidence)
        lines.append((one, other, *ends, np.exp(ends.value), np.count_nonzero(weights)))
    columns = ["one", "other", "difference", "low", "high", "ratio", "seeds"]
    table = pd.DataFrame(lines, columns=columns).set_index(["one", "other"])
    return table if losses is None else table.drop(columns="ratio")


class _Numbers(NamedTuple):
    """Of each model when its layers converge, which of these are known rather than bounds, and the model's size."""

    values: dict[str, pd.Series]
    known: dict[str, pd.Series]
    sizes: dict[str, Hashable]


def _numbers(
    courses: Mapping[str, xr.Dataset],
    sizes: Mapping[str, Hashable] | None,
    level: float | None,
    interpolate: bool,
    losses: Mapping[str, Losses] | None,
    confidence: float,
) -> _Numbers:
    """Log(1 + step), or loss, by model and layer."""
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence!r}; expected a number between 0 and 1, such as 0.95.")
    if not courses:
        raise InputError("courses is empty; expected model -> result of over_training.")
    for given, what in ((sizes, "sizes"), (losses, "losses")):
        lacking = [name for name in courses if given is not None and name not in given]
        if lacking:
            raise InputError(f"{what} has no entry for {lacking[0]}; it has {', '.join(given or ()) or 'none'}.")
    found = _Numbers({}, {}, {name: "all" if sizes is None else sizes[name] for name in courses})
    layers: dict[Hashable, tuple[str, list[int]]] = {}
    for name, course in courses.items():
        table = convergence(course, level, interpolate=interpolate, losses=losses[name] if losses else None)
        found.values[name] = table.loss if losses else np.log1p(table.step)
        found.known[name] = (table.state == REACHED) | (table.step == 0)
        seed, expected = layers.setdefault(found.sizes[name], (name, table.index.tolist()))
        if table.index.tolist() != expected:
            raise InputError(f"{seed} and {name} are of one size but have the layers {expected} and {[*table.index]}.")
    return found


def _of_layer(found: _Numbers, size: Hashable, layer: int, confidence: float) -> tuple[Any, ...]:
    """Mean over the seeds of a size, its interval, seeds, how many reach the level, and what can be told."""
    seeds = [name for name in found.sizes if found.sizes[name] == size]
    values = np.array([found.values[name][layer] for name in seeds])
    known, reached = sum(found.known[name][layer] for name in seeds), int(np.isfinite(values).sum())
    if reached < len(seeds):
        never = values[~np.isfinite(values)][0]
        return (never, -np.inf, np.inf, len(seeds), reached, f"reached by {reached} of {len(seeds)} seeds: {UNTOLD}")
    if known < len(seeds):
        state = f"{AT_FIRST} by {len(seeds) - known} of {len(seeds)} seeds: {UNTOLD}"
        return (values.mean(), -np.inf, np.inf, len(seeds), reached, state)
    having = [name for name in found.sizes if layer in found.known[name].index and found.known[name][layer]]
    variance = SeedVariance.of_models(
        np.array([found.values[name][layer] for name in having]), [found.sizes[name] for name in having]
    )
    weights = np.array([(name in seeds) / len(seeds) for name in having])
    parts = _parts(variance, weights)
    ends = interval(float(values.mean()), parts, confidence)
    why = "one seed" if variance is None else "no seeds differ at these checkpoints"
    return (*ends, len(seeds), reached, REACHED if parts else f"{why}: {UNTOLD}")


def _parts(variance: SeedVariance | None, weights: np.ndarray) -> list[Part]:
    """Parts of the variance of a mean; none where there is a single seed, or where all cross at the same checkpoint."""
    parts = [] if variance is None else list(variance.of_mean(weights))
    return parts if sum(part.variance for part in parts) > 0 else []


def _over_layers(name: str, found: _Numbers, layers: Sequence[int] | None) -> float:
    number, known = found.values[name], found.known[name]
    chosen = number.index.tolist() if layers is None else list(layers)
    missing = [layer for layer in chosen if layer not in number.index]
    if missing or not chosen:
        raise InputError(f"{name} has no layer {missing[0]!r}." if missing else "layers is empty.")
    unknown = [layer for layer in chosen if not known[layer]]
    if unknown:
        raise InputError(
            f"Layers {unknown} of {name} do not reach the level between its first and its last checkpoint, so there is "
            "no mean to compare. Choose another level, or add checkpoints."
        )
    return float(number[chosen].mean())
