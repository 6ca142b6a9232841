"""Families of models and outliers among models: by loops over pairs, at their level, and on published tables."""

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, median_abs_deviation, rankdata

from repsim_nb.errors import InputError
from repsim_nb.groups import family_test, outliers
from tests.groups.test_groups import at_its_level
from tests.groups.test_mantel import distances, published, random_tables, table

# sentence-t5 and gtr are one family: one trunk. The others have no second model here.
EMBEDDERS = {
    "bge": ["bge-small-en-v1.5", "bge-base-en-v1.5", "bge-large-en-v1.5"],
    "e5": ["e5-small-v2", "e5-base-v2", "e5-large-v2"],
    "gte": ["gte-small", "gte-base", "gte-large"],
    "t5": ["gtr-t5-base", "gtr-t5-large", "sentence-t5-base", "sentence-t5-large"],
    "openai": ["text-embedding-3-small", "text-embedding-3-large"],
    "mistral": ["SFR-Embedding-Mistral"],
    "uae": ["UAE-Large-V1"],
    "mixedbread": ["mxbai-embed-large-v1"],
}


def families(*sizes):
    names = np.repeat([f"f{i}" for i in range(len(sizes))], sizes)
    return dict(zip([f"m{i:02}" for i in range(len(names))], names.tolist(), strict=True))


def clarke(values, label):
    """R by a loop over pairs."""
    pairs = list(combinations(range(len(label)), 2))
    ranks = rankdata([values[i, j] for i, j in pairs])
    same = np.array([label[i] == label[j] for i, j in pairs])
    return (ranks[~same].mean() - ranks[same].mean()) / (len(pairs) / 2)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 2), (2, 2, 1), (2, 1, 1), (3, 2, 1), (2, 2, 2)])
@pytest.mark.parametrize("decimals", [0, 9])
def test_family_test_by_brute_force(sizes, decimals):
    given = families(*sizes)
    label, n = list(given.values()), len(given)
    values = np.round(random_tables(1, n)[0].to_numpy(), decimals)
    found = family_test(table(values, direction="dissimilarity"), given)
    ways = np.array([clarke(values[np.ix_(way, way)], label) for way in permutations(range(n))])
    assert found.effect == pytest.approx(ways[0])
    assert found.p_value == pytest.approx(np.mean(ways >= ways[0] - 1e-9))
    assert found.least_p == pytest.approx(np.mean(ways >= ways.max() - 1e-9))
    same = {(i, j): label[i] == label[j] for i, j in combinations(range(n), 2)}
    assert found.within == pytest.approx(np.mean([values[p] for p, one in same.items() if one]))
    assert found.between == pytest.approx(np.mean([values[p] for p, one in same.items() if not one]))
    assert (found.n_within, found.n_between) == (sum(same.values()), len(same) - sum(same.values()))


def test_family_test_effect_is_the_chance_that_a_pair_of_one_family_is_nearer():
    values = random_tables(0, 9)[0]
    given = families(3, 3, 2, 1)
    label = np.array(list(given.values()))
    i, j = np.triu_indices(9, 1)
    pairs, same = values.to_numpy()[i, j], label[i] == label[j]
    nearer = np.sign(pairs[~same][:, None] - pairs[same]).mean()
    assert family_test(values, given, 99).effect == pytest.approx(nearer)


def test_family_test_keeps_pairs_between_of_a_family_of_one():
    values = random_tables(0, 7)[0]
    found = family_test(values, families(3, 3, 1), 99)
    assert (found.n_models, found.n_families, found.n_within, found.n_between) == (7, 3, 6, 15)


def test_family_test_turns_similarities_and_leaves_out_models_without_a_family():
    values = random_tables(0, 8)[0]
    given = families(3, 2, 2)
    found = family_test(values, given, 99)
    turned = family_test(1 - values, pd.Series(given).iloc[::-1], 99)
    assert turned[:5] == pytest.approx(found[:5])
    assert (turned.within, turned.between) == pytest.approx((1 - found.within, 1 - found.between))
    renamed = family_test(np.exp(values), {m: {"f0": "z", "f1": "y", "f2": "x"}[f] for m, f in given.items()}, 99)
    assert renamed[:5] == pytest.approx(found[:5])


@pytest.mark.parametrize("sizes", [(3, 3, 2, 2), (4, 2, 1, 1, 1)])
def test_family_test_keeps_its_level_with_random_families(sizes):
    rng = np.random.default_rng(0)
    n = sum(sizes)
    values = [table(v) for v in distances(rng.standard_normal((400, n, 3)) * rng.exponential(size=(400, n, 1)))]
    assert at_its_level([family_test(v, families(*sizes), 99).p_value <= 0.05 for v in values])


def test_family_test_intervals_cover_with_the_families_as_they_are():
    rng = np.random.default_rng(2)
    given = families(3, 3, 3, 2, 1)
    centres = rng.standard_normal((5, 4))[np.repeat(np.arange(5), (3, 3, 3, 2, 1))]
    found = [
        family_test(table(v), given, 19) for v in distances(centres + 0.8 * rng.standard_normal((200, len(centres), 4)))
    ]
    truth = np.mean([f.effect for f in found])
    assert binomtest(sum(f.low <= truth <= f.high for f in found), 200, 0.95, "less").pvalue > 0.001
    assert np.mean([f.high - f.low for f in found]) < 1.2


def test_family_test_knows_nothing_where_one_model_decides():
    found = family_test(random_tables(0, 4)[0], families(2, 1, 1))
    assert (found.low, found.high) == (-1, 1)


def test_family_test_refuses_families_without_pairs_within_or_between():
    values = random_tables(0, 5)[0]
    for sizes in ((5,), (1, 1, 1, 1, 1)):
        with pytest.raises(InputError, match="at least two families, one of which has two"):
            family_test(values, families(*sizes))
    with pytest.raises(InputError, match="lists a model twice"):
        family_test(values, pd.Series(["a", "b"], index=["m00", "m00"]))
    with pytest.raises(InputError, match="no values for m05"):
        family_test(values, families(3, 3))
    with pytest.raises(InputError, match="cannot be told whether"):
        family_test(values.where(values > 0), families(3, 2))


@pytest.mark.parametrize("corpus", ["trec-covid", "fiqa", "arguana"])
@pytest.mark.parametrize("kind", ["top1_cka", "top10_jaccard"])
def test_family_test_of_published_embedding_models(corpus, kind):
    given = {model: family for family, models in EMBEDDERS.items() for model in models}
    values = published(corpus, kind)
    found = family_test(values, given, 999)
    order = list(given)
    assert found.effect == pytest.approx(clarke(-values.loc[order, order].to_numpy(), list(given.values())))
    assert (found.n_models, found.n_families, found.n_within, found.n_between) == (18, 8, 16, 137)
    assert found.within > found.between
    assert found.p_value <= 0.05


# --- outliers


def planted(rng, n=11, dimensions=20, far=1):
    points = rng.standard_normal((n, dimensions))
    points[:far] += 4 * rng.choice([-1, 1], (far, dimensions))
    return table(distances(points))


def test_outliers_have_the_means_and_robust_scores_of_a_loop():
    values = random_tables(0, 7)[0]
    found = outliers(values, n_draws=99).loc[values.index]
    means = np.array([np.delete(row, i).mean() for i, row in enumerate(values.to_numpy())])
    assert found["mean"].to_numpy() == pytest.approx(means)
    assert found.z.to_numpy() == pytest.approx((means - np.median(means)) / median_abs_deviation(means) / 1.4826)


@pytest.mark.parametrize("far", [1, 3])
def test_outliers_find_those_planted_even_if_there_are_several(far):
    rng = np.random.default_rng(0)
    found = [outliers(planted(rng, far=far), n_draws=199) for _ in range(20)]
    for each in found:
        assert sorted(each.index[:far]) == [f"m{i:02}" for i in range(far)]
    assert np.mean([(each.p_adjusted.iloc[:far] <= 0.05).all() for each in found]) > 0.8


def test_outliers_turn_similarities():
    values = planted(np.random.default_rng(1))
    found, turned = outliers(values, n_draws=99), outliers(1 - values / 100, n_draws=99)
    assert turned.index.tolist() == found.index.tolist()
    assert turned.z.to_numpy() == pytest.approx(found.z.to_numpy())
    assert turned["mean"].to_numpy() == pytest.approx(1 - found["mean"].to_numpy() / 100)
    assert turned.p_adjusted.iloc[0] == found.p_adjusted.iloc[0] == 0.01


@pytest.mark.parametrize("dimensions", [2, 20])
def test_outliers_are_found_in_few_populations_without_any(dimensions):
    """The null has the axes of the table; with a normal null, 26% of populations in two dimensions have an outlier."""
    rng = np.random.default_rng(4)
    clouds = distances(rng.standard_normal((150, 11, dimensions)))
    found = [outliers(table(v), n_draws=99, seed=i).p_adjusted.min() <= 0.05 for i, v in enumerate(clouds)]
    assert binomtest(sum(found), 150, 0.05, "greater").pvalue > 0.001


def test_outliers_are_none_if_all_models_are_equally_far():
    even = table(1 - np.eye(6))
    found = outliers(even)
    assert (found.z == 0).all()
    assert (found.p_adjusted == 1).all()
    lone = even + np.where((np.arange(6) == 0)[:, None] ^ (np.arange(6) == 0), 1, 0)
    found = outliers(lone, n_draws=99)
    assert found.index[0] == "m00"
    assert found.p_adjusted.iloc[0] == 0.01
    with pytest.raises(InputError, match="at least 5 models"):
        outliers(even, ["m00", "m01", "m02", "m03"])
    with pytest.raises(InputError, match="use at least 19"):
        outliers(even, n_draws=5)
