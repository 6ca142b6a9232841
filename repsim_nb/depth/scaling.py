"""How similarity follows depth in a family of sizes, beyond what untrained networks show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.depth.distance import Maps, correspondence_of, decay_of, depth_match_of, stacked
from repsim_nb.depth.seeds import Part, SeedVariance, interval, over_documents
from repsim_nb.depth.sizes import Size, size_of
from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Numbers = Mapping[tuple[str, ...], np.ndarray]  # a model, or two -> a number of theirs, (1 + replicates,)
OVER = "relative over absolute depth"


def depth_claims(
    maps: Maps,
    sizes: Mapping[str, Size],
    twins: Mapping[str, str] | None = None,
    replicates: Maps | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compute how much similarity decays with depth, and whether it follows relative or absolute depth.

    Parameters
    ----------
    maps
        (model, other model) -> map, as `compare_all` returns, also those of models with themselves.
    sizes
        Trained model -> (width, depth). Models of the same size count as independent seeds.
    twins
        Untrained model -> the trained model whose size it has; `maps` has its maps as well.
    replicates
        The same maps with groups of documents left out, as `comparison.replicates` returns; None leaves the choice of
        documents out of the intervals.
    level
        Coverage of each interval by itself.

    Returns
    -------
    pandas.DataFrame
        Columns value, low, high and sizes (sizes, or pairs of sizes, averaged), indexed by number: "decay" (`decay`),
        "equal depth" (`correspondence`, between sizes), each also as "untrained" and "beyond untrained" if there are
        twins, and "relative over absolute depth": similarity at equal relative depth minus that at equal absolute
        depth, over interior layers of models of different depth.

    Raises
    ------
    InputError
        If a model has no size, or no number can be computed.

    Notes
    -----
    Every size, or pair of sizes, counts once. Intervals let seeds and, with replicates, documents vary, and take the
    sizes as they are. The variance over seeds is pooled over sizes (`seeds.SeedVariance`); without a size of two models
    the intervals are infinite. A twin is taken as it is: one untrained network stands for its size, and lines
    "untrained" have intervals over documents alone.
    """
    import pandas as pd

    grids, twins = stacked(maps, replicates), twins or {}
    of = dict(sizes) | {twin: size_of(sizes, model) for twin, model in twins.items()}
    lines = {}
    for name, number, suits in _NUMBERS:
        found = {tuple(dict.fromkeys(pair)): number(pair[0], x) for pair, x in grids.items() if suits(*pair, x)}
        trained = _by_size({key: x for key, x in found.items() if not set(key) & set(twins)}, of)
        untrained = _by_size({key: x for key, x in found.items() if set(key) <= set(twins)}, of)
        both = [size for size in trained if size in untrained]
        if trained:
            lines[name] = _line(trained, {}, list(trained), of, level)
        if both and name != OVER:
            lines[f"{name}, untrained"] = _line(untrained, {}, both, of, level, taken=True)
            lines[f"{name}, beyond untrained"] = _line(trained, untrained, both, of, level)
    if not lines:
        raise InputError(
            "depth_claims needs a model of three layers with a map of itself, or two models and their map."
        )
    return pd.DataFrame.from_dict(lines, "index", columns=["value", "low", "high", "sizes"]).rename_axis("number")


def _itself(a: str, b: str, x: np.ndarray) -> bool:
    return a == b and x.shape[1] > 2


def _two(a: str, b: str, x: np.ndarray) -> bool:
    return a != b


def _of_different_depth(a: str, b: str, x: np.ndarray) -> bool:
    return a != b and x.shape[1] != x.shape[2] and min(x.shape[1:]) > 2


_NUMBERS: tuple[tuple[str, Callable[[str, np.ndarray], np.ndarray], Callable[[str, str, np.ndarray], bool]], ...] = (
    ("decay", lambda model, x: decay_of(x, model), _itself),
    ("equal depth", lambda model, x: correspondence_of(x), _two),
    (OVER, lambda model, x: depth_match_of(x), _of_different_depth),
)


def _by_size(found: Numbers, sizes: Mapping[str, Size]) -> Mapping[tuple[Size, ...], Numbers]:
    """The numbers of every size, or of every pair of different sizes."""
    cells: dict[tuple[Size, ...], dict[tuple[str, ...], np.ndarray]] = {}
    for key, x in found.items():
        of = tuple(sorted((size_of(sizes, name) for name in key), key=str))
        if len(set(of)) == len(key):
            cells.setdefault(of, {})[key] = x
    return cells


def _line(
    cells: Mapping[tuple[Size, ...], Numbers],
    floors: Mapping[tuple[Size, ...], Numbers],
    averaged: list[tuple[Size, ...]],
    sizes: Mapping[str, Size],
    level: float,
    taken: bool = False,
) -> tuple[float, float, float, int]:
    """Mean over sizes, less the mean of the floors if there are any, its interval and the number of sizes.

    `taken` takes the models as they are: an interval over documents alone.
    """
    value = np.mean([np.mean(list(cells[size].values()), axis=0) for size in averaged], axis=0)
    if floors:
        value = value - np.mean([np.mean(list(floors[size].values()), axis=0) for size in averaged], axis=0)
    weights = {key: 1 / len(averaged) / len(cells[size]) for size in averaged for key in cells[size]}
    parts = _over_seeds({key: x[0] for cell in cells.values() for key, x in cell.items()}, weights, sizes)
    if len(value) > 1 and (parts or taken):
        parts.append(over_documents(value[1:]))
    return (*interval(value[0], parts, level), len(averaged))


def _over_seeds(
    numbers: Mapping[tuple[str, ...], float], weights: Mapping[tuple[str, ...], float], sizes: Mapping[str, Size]
) -> list[Part]:
    names = sorted({name for key in numbers for name in key})
    single = len(next(iter(numbers))) == 1
    values, shares = np.full((2, len(names), len(names)), np.nan)
    shares[:] = 0
    for key, x in numbers.items():
        i, j = names.index(key[0]), names.index(key[-1])
        values[i, j] = values[j, i] = x
        shares[i, j] = shares[j, i] = weights.get(key, 0)
    of = [size_of(sizes, name) for name in names]
    if single:
        variance, shares = SeedVariance.of_models(np.diag(values), of), np.diag(shares)
    else:
        variance = SeedVariance.of_pairs(values, of)
    return variance.of_mean(shares) if variance else []
