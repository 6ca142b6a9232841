"""Compare how much two groups differ in two arms of an experiment that share models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.groups.pairs import read_pairs
from repsim_nb.groups.separation import effects
from repsim_nb.uncertainty.leaving_out import jackknife_interval

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def arm_difference(
    dissimilarity: xr.DataArray,
    arms: Mapping[str, Mapping[str, str]],
    level: float = 0.95,
) -> pd.DataFrame:
    """Compare the effect of `group_test` between two arms, layer by layer, with an interval over models.

    Parameters
    ----------
    dissimilarity
        Layer x model x model, see `repsim_nb.groups`, with the models of both arms.
    arms
        Arm -> (model -> group): two arms with the same two groups. Models of both arms have one group.
    level
        Coverage of each layer's interval by itself; 1 - 0.05 / n for n layers that are judged together.

    Returns
    -------
    pandas.DataFrame
        Indexed by layer, in units of the dissimilarity: effect_<arm> for both arms, between minus within groups;
        and difference, first minus second, with low and high.

    Raises
    ------
    InputError
        If there are not two arms with the same two groups, a model has two groups, a group of an arm has fewer than
        three models, one model stands alone in its arm and group, or the array is not as for `group_test`.

    Notes
    -----
    The interval is a delete-one-model jackknife with Student's t, which leaves a shared model out of both arms at once,
    so that what the arms share cancels. With three models of each sort it covers more than it says where the arms do
    not differ (docs/simulations.csv). A permutation test would exchange models between the arms; with three against
    three it has 20 ways, and no p-value below 0.1.

    That one arm's effect is significant and the other's is not does not show that they differ.

    Examples
    --------
    >>> import xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> names = [f"{kind}{i}" for kind in ("near", "far", "both") for i in range(3)]
    >>> place = np.repeat([1.0, 5.0, 0.0], 3) + 0.1 * rng.normal(size=9)
    >>> coords = {"layer": [0], "model_a": names, "model_b": names}
    >>> distance = xr.DataArray(np.abs(np.subtract.outer(place, place))[None], coords, ("layer", "model_a", "model_b"))
    >>> group = {name: "rest" if "both" in name else "moved" for name in names}
    >>> arms = {arm: {n: g for n, g in group.items() if arm in n or g == "rest"} for arm in ("near", "far")}
    >>> arm_difference(distance, arms).loc[0, ["difference", "low", "high"]].round(1).tolist()
    [-4.0, -4.1, -3.8]
    """
    import pandas as pd

    models, group, inside = _checked(arms)
    pairs = read_pairs(dissimilarity, models)
    first = np.array([group[m] == group[models[0]] for m in pairs.models])
    a, b = (np.array([m in arm for m in pairs.models]) for arm in inside)

    def by_arm(kept: np.ndarray) -> list[np.ndarray]:
        return [effects(pairs.values, arm & kept & first, arm & kept & ~first) for arm in (a, b)]

    of_a, of_b = (of[0] for of in by_arm(np.ones((1, len(first)), dtype=bool)))
    without = np.subtract(*by_arm(~np.eye(len(first), dtype=bool)))
    sorts = sorted(set(zip(a, b, first, strict=True)))
    parts = [without[(a == x) & (b == y) & (first == f)] for x, y, f in sorts]
    low, high = jackknife_interval(of_a - of_b, parts, level)
    names = [f"effect_{arm}" for arm in arms]
    columns = {names[0]: of_a, names[1]: of_b, "difference": of_a - of_b, "low": low, "high": high}
    return pd.DataFrame(columns, index=pd.Index(pairs.layers, name="layer"))


def _checked(arms: Mapping[str, Mapping[str, str]]) -> tuple[list[str], dict[str, str], list[Mapping[str, str]]]:
    """All models, their groups, and the two arms."""
    inside = list(arms.values())
    if len(inside) != 2 or len({frozenset(arm.values()) for arm in inside}) != 1 or len(set(inside[0].values())) != 2:
        groups = {arm: sorted(set(of.values())) for arm, of in arms.items()}
        raise InputError(f"Expected two arms with the same two groups, got {groups}.")
    group = {**inside[1], **inside[0]}
    torn = [m for m in inside[0] if inside[1].get(m, group[m]) != group[m]]
    if torn:
        raise InputError(
            f"{torn[0]} is in group {inside[0][torn[0]]!r} of one arm and {inside[1][torn[0]]!r} of another."
        )
    for name, of in arms.items():
        for each in dict.fromkeys(of.values()):
            members = [m for m, g in of.items() if g == each]
            common = sum(m in inside[0] and m in inside[1] for m in members)
            if len(members) < 3 or 1 in (common, len(members) - common):
                raise InputError(
                    f"Group {each!r} of arm {name!r} has {len(members)} models, {common} of them in both arms; need at "
                    "least three, and two or none of either sort."
                )
    return list(group), group, inside
