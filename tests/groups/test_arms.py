"""The difference between two arms of an experiment that share models."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import t

from repsim_nb.errors import InputError
from repsim_nb.groups import arm_difference, group_test

KINDS = {"narrow-a": "narrow", "wide-a": "wide", "narrow-b": "narrow", "wide-b": "wide", "shared": "wide"}
MODELS = {f"{kind}-{i}": group for kind, group in KINDS.items() for i in range(3)}
ARMS = {arm: {m: g for m, g in MODELS.items() if f"-{arm}-" in m or "shared" in m} for arm in "ab"}


def distances(shift_a, shift_b, seed=0, layers=2, dimensions=3):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(layers, len(MODELS), dimensions))
    points[:, ["narrow-a" in m for m in MODELS], 0] += shift_a
    points[:, ["narrow-b" in m for m in MODELS], 0] += shift_b
    values = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    coords = {"layer": list(range(layers)), "model_a": list(MODELS), "model_b": list(MODELS)}
    return xr.DataArray(values, coords, ("layer", "model_a", "model_b"))


def test_arm_difference_is_that_of_the_effects_of_group_test():
    made = distances(4.0, 1.0)
    found = arm_difference(made, ARMS)
    one, two = (group_test(made, arm) for arm in ARMS.values())
    assert found.effect_a.to_numpy() == pytest.approx(one.effect.to_numpy())
    assert found.effect_b.to_numpy() == pytest.approx(two.effect.to_numpy())
    assert found.difference.to_numpy() == pytest.approx((one.effect - two.effect).to_numpy())
    turned = arm_difference(made, dict(reversed(ARMS.items())))
    assert turned.difference.to_numpy() == pytest.approx(-found.difference.to_numpy())
    assert turned.high.to_numpy() == pytest.approx(-found.low.to_numpy())


def test_arm_difference_finds_a_planted_one_and_none_where_both_arms_move_alike():
    found = arm_difference(distances(6.0, 1.0), ARMS)
    assert (found.low > 0).all()
    alike = arm_difference(distances(6.0, 6.0), ARMS)
    assert ((alike.low < 0) & (alike.high > 0)).all()


def test_arm_difference_leaves_a_shared_model_out_of_both_arms_at_once():
    made = distances(2.0, 1.0)
    classes = [[m for m in MODELS if kind in m] for kind in KINDS]
    parts = []
    for members in classes:
        without = []
        for left_out in members:
            kept = [{m: g for m, g in arm.items() if m != left_out} for arm in ARMS.values()]
            one, two = (group_test(made, arm, n_permutations=19).effect for arm in kept)
            without.append((one - two).to_numpy())
        parts.append(2 / 3 * np.square(without - np.mean(without, axis=0)).sum(0))
    freedom = np.sum(parts, axis=0) ** 2 / (np.square(parts).sum(0) / 2)
    reach = t.ppf(0.8, freedom) * np.sqrt(np.sum(parts, axis=0))
    found = arm_difference(made, ARMS, level=0.6)
    assert found.low.to_numpy() == pytest.approx(found.difference.to_numpy() - reach)
    assert found.high.to_numpy() == pytest.approx(found.difference.to_numpy() + reach)


def test_arm_difference_says_what_it_cannot_compare():
    made = distances(1.0, 1.0)
    with pytest.raises(InputError, match="Expected two arms with the same two groups"):
        arm_difference(made, {"a": ARMS["a"]})
    torn = {"a": ARMS["a"], "b": ARMS["b"] | {"shared-0": "narrow"}}
    with pytest.raises(InputError, match="shared-0 is in group 'wide' of one arm and 'narrow' of another"):
        arm_difference(made, torn)
    few = {name: {m: g for m, g in arm.items() if m not in ("shared-1", "shared-2")} for name, arm in ARMS.items()}
    with pytest.raises(InputError, match="1 of them in both arms; need at least three, and two or none"):
        arm_difference(made, few)
