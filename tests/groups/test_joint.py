"""One test of all measures and layers: the same relabellings for all, and no more evidence than there is."""

from itertools import combinations

import numpy as np
import pytest

from repsim_nb.errors import InputError
from repsim_nb.groups import dispersion_test, group_test, grouping, joint_test
from tests.groups.test_groups import array, at_its_level, clouds, distances, two

ALTERNATIVES = ("location", "spread", "clusters")


def measures(rng, **how):
    """Two measures of the same models, which therefore agree."""
    points = clouds(rng, **how)
    return {"all": distances(points), "two": distances(points[..., :2])}


def by_hand(dissimilarities, first):
    """Scores of every assignment, (assignments, measures and layers), by loops over pairs; the given one first."""
    n = len(first)
    ways = [[m in c for m in range(n)] for c in combinations(range(n), sum(first))]
    ways.sort(key=lambda way: way != list(first))
    effects = []
    for way in ways:
        line = []
        for values in (layer for d in dissimilarities.values() for layer in d.values):
            of = {"ab": [], "aa": [], "bb": []}
            for i, j in combinations(range(n), 2):
                of["ab" if way[i] != way[j] else "aa" if way[i] else "bb"].append(values[i, j])
            line.append(np.mean(of["ab"]) - (np.mean(of["aa"]) + np.mean(of["bb"])) / 2)
        effects.append(line)
    effects = np.array(effects)
    return (effects - effects.mean(0)) / effects.std(0)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (4, 3)])
def test_joint_test_by_brute_force(n, m):
    given = measures(np.random.default_rng(3), n=n, m=m, shifts=(0, 1.5))
    scores = by_hand(given, [True] * n + [False] * m)
    table = joint_test(given, two(n, m))
    for statistic, of in (("maximum", scores.max(1)), ("mean", scores.mean(1))):
        line = table.loc[statistic]
        assert line.value == pytest.approx(of[0])
        assert line.p_value == pytest.approx(np.mean(of >= of[0] - 1e-9))
        assert line.least_p == pytest.approx(np.mean(of >= of.max() - 1e-9))
    place = scores[0].argmax()
    assert table.attrs["where"] == (("all", "two")[place // 2], place % 2)
    assert (table.cells == 4).all()


@pytest.mark.parametrize(
    ("alternative", "test"), [("location", group_test), ("spread", dispersion_test), ("clusters", grouping)]
)
def test_joint_test_of_one_cell_is_the_test_of_that_cell(alternative, test):
    given = distances(clouds(np.random.default_rng(1), shifts=(3,)))
    table = joint_test({"one": given}, two(8), alternative, 999)
    alone = test(given, two(8), n_permutations=999).p_value.loc[0]
    assert table.p_value.tolist() == [alone, alone]
    assert alone < 1


def test_joint_test_is_not_moved_by_a_measure_that_says_the_same_again():
    given = distances(clouds(np.random.default_rng(2), shifts=(0, 1, 0)))
    often = {str(scale): scale * given for scale in (1.0, 2.0, 5.0)}
    for alternative in ALTERNATIVES:
        once, thrice = (joint_test(g, two(8), alternative, 999) for g in ({"one": given}, often))
        assert once.p_value.tolist() == thrice.p_value.tolist()
        np.testing.assert_allclose(once.value, thrice.value)
    alone = group_test(given, two(8), n_permutations=999)
    assert joint_test({"one": given}, two(8), n_permutations=999).p_value["maximum"] == alone.p_adjusted.min()


def test_joint_test_keeps_its_level_where_measures_agree_and_finds_what_is_planted():
    alarms = {(alternative, statistic): [] for alternative in ALTERNATIVES for statistic in ("maximum", "mean")}
    for seed in range(100):
        given = measures(np.random.default_rng(seed), n=6, shifts=(0, 0, 0), scales=(1, 1, 1))
        for alternative in ALTERNATIVES:
            p = joint_test(given, two(6), alternative, 199, seed).p_value
            for statistic in p.index:
                alarms[alternative, statistic].append(p[statistic] <= 0.05)
    assert all(at_its_level(found) for (alternative, _), found in alarms.items() if alternative != "clusters")
    for statistic in ("maximum", "mean"):  # few different values, so it can be below its level
        assert np.mean(alarms["clusters", statistic]) < 0.09
    moved = joint_test(measures(np.random.default_rng(0), shifts=(0, 6, 0), scales=(1, 1, 1)), two(8))
    assert moved.p_value["maximum"] == moved.least_p["maximum"] <= 0.001
    assert moved.attrs["where"][1] == 1
    apart = measures(np.random.default_rng(0), shifts=(0, 9), scales=(1, 1))
    assert joint_test(apart, two(8), "clusters").p_value["maximum"] <= 0.001
    wider = measures(np.random.default_rng(0), shifts=(0, 0), scales=(6, 6))
    assert (joint_test(wider, two(8), "spread").p_value <= 0.01).all()


def test_joint_test_takes_models_by_name_and_measures_with_layers_of_their_own():
    given = measures(np.random.default_rng(4), shifts=(0, 1, 2))
    first, shuffled = given["all"], given["two"].isel(layer=[1, 2])
    order = np.random.default_rng(0).permutation(16)
    moved = shuffled.isel(model_a=order, model_b=order)
    tables = [joint_test({"a": first, "b": b}, two(8), n_permutations=999) for b in (shuffled, moved)]
    assert tables[0].equals(tables[1])
    assert (tables[0].cells == 5).all()


def test_joint_test_shows_nothing_where_nothing_varies():
    same = array([np.ones((8, 8))])
    still = joint_test({"still": same}, two(4))
    assert still.p_value.tolist() == [1, 1]
    assert still.value.tolist() == [0, 0]
    assert still.attrs["where"] is None
    given = distances(clouds(np.random.default_rng(5), n=4, shifts=(1,)))
    alone, beside = joint_test({"one": given}, two(4)), joint_test({"one": given, "still": same}, two(4))
    assert alone.equals(beside)


def test_joint_test_calls_spreads_without_variation_different():
    points = np.zeros((1, 8, 2))
    points[0, 4:] = [[1, 0], [-1, 0], [0, 1], [0, -1]]
    table = joint_test({"one": distances(points)}, two(4), "spread")
    assert table.p_value.tolist() == table.least_p.tolist()
    assert (table.p_value < 0.05).all()


def test_joint_test_refuses_what_it_cannot_test():
    given = distances(clouds(np.random.default_rng(0)))
    with pytest.raises(InputError, match="no measure"):
        joint_test({}, two(8))
    with pytest.raises(InputError, match="location"):
        joint_test({"one": given}, two(8), "locations")
    with pytest.raises(InputError, match="no values for m16"):
        joint_test({"one": given}, {**two(8), "m16": "b"})
    with pytest.raises(InputError, match="need at least 3"):
        joint_test({"one": given}, two(2, 14), "spread")
