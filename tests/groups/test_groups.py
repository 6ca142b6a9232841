"""Groups of models: differences that are there are found, others are not, and the numbers are those of the definitions.

Models are points and dissimilarities their distances, layer by layer, so that what is true is known.
"""

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import squareform
from scipy.stats import binom, kendalltau, spearmanr
from sklearn.metrics import adjusted_rand_score

from repsim_nb.errors import InputError
from repsim_nb.groups import (
    cluster,
    dispersion_test,
    extremes,
    first_layer,
    group_test,
    grouping,
    means_by_group,
    rank_correlation,
    rank_measures,
)
from repsim_nb.groups.clustering import adjusted_rand
from repsim_nb.groups.dispersion import centroid_distances
from tests.support.realdata import FOLDER, realdata

FEW = {"n_permutations": 199}
DRAWS = 200  # of simulated levels
FEATHER = "berts_of_a_feather_accuracies_by_run.csv"


def array(values, models=None, layers=None):
    values = np.asarray(values, dtype=float)
    models = [f"m{i:02}" for i in range(values.shape[1])] if models is None else models
    layers = range(len(values)) if layers is None else layers
    coords = {"layer": list(layers), "model_a": models, "model_b": models}
    return xr.DataArray(values, dims=("layer", "model_a", "model_b"), coords=coords)


def distances(points):
    """Euclidean distances of points (layers, models, dimensions)."""
    return array(np.linalg.norm(points[:, :, None] - points[:, None], axis=-1))


def two(n, m=None):
    names = ["a"] * n + ["b"] * (n if m is None else m)
    return {f"m{i:02}": name for i, name in enumerate(names)}


def clouds(rng, n=8, m=None, shifts=(0.0,), scales=(1.0,), dimensions=5):
    """Two groups of points by layer, the second moved by a shift and scaled."""
    m = n if m is None else m
    points = rng.standard_normal((len(shifts), n + m, dimensions))
    points[:, n:] *= np.reshape(scales, (-1, 1, 1))
    points[:, n:, 0] += np.reshape(shifts, (-1, 1))
    return points


def at_its_level(found):
    low, high = binom.ppf([0.001, 0.999], np.size(found), 0.05)
    return low <= np.sum(found) <= high


# --- accuracies


def test_extremes_are_the_best_and_the_worst_and_ties_go_by_order():
    accuracy = pd.Series({"a": 0.5, "b": 0.9, "c": 0.5, "d": 0.1, "e": 0.5, "f": 0.2})
    groups = extremes(accuracy, size=3, names=("high", "low"))
    assert groups.to_dict() == {"b": "high", "a": "high", "c": "high", "d": "low", "f": "low", "e": "low"}
    assert groups.index.tolist() == ["b", "a", "c", "d", "f", "e"]
    same = extremes(pd.Series(0.5, index=list("abcd")), size=2)
    assert same.index.tolist() == ["a", "b", "c", "d"]
    assert set(same.iloc[:2]) == {"generalizing"}
    assert set(same.iloc[2:]) == {"heuristic"}


@pytest.fixture(scope="module")
def feather():
    """Accuracies of the 100 fine-tuned BERTs of McCoy, Min and Linzen 2020."""
    path = realdata(FEATHER)
    if not path.exists():
        pytest.skip(f"needs {FEATHER} (github.com/tommccoy1/hans) in a folder named by {FOLDER}")
    table = pd.read_csv(path, encoding="utf-8-sig", index_col="Run")
    return table[table.index.str.match(r"Run \d+$", na=False)]  # below them are summaries


def test_extremes_of_the_published_accuracies(feather):
    groups = extremes(feather["Lexical (nonent)"])
    best = [99, 8, 37, 6, 95, 10, 39, 31, 67, 98]
    worst = [44, 73, 89, 48, 26, 70, 42, 15, 63, 25]
    assert groups.index.tolist() == [f"Run {i}" for i in [*best, *worst]]


def test_rank_correlation_of_the_published_accuracies(feather):
    lexical, mnli = feather["Lexical (nonent)"], feather["MNLI dev acc."]
    assert spearmanr(lexical, mnli).statistic == pytest.approx(0.42, abs=0.005)
    values = np.abs(mnli.to_numpy()[:, None] - mnli.to_numpy())
    table = rank_correlation(array([values], feather.index.tolist()), lexical, **FEW)
    others = lexical.index != lexical.idxmax()
    x, y = (np.abs(s - s[lexical.idxmax()])[others] for s in (mnli, lexical))
    assert table.spearman[0] == pytest.approx(spearmanr(x, y).statistic)
    assert table.kendall[0] == pytest.approx(kendalltau(x, y).statistic)
    assert table.low[0] < table.spearman[0] < table.high[0]


# --- separation


def test_a_planted_difference_is_found_where_it_is():
    points = clouds(np.random.default_rng(0), shifts=(0, 0, 3, 6, 0), scales=(1,) * 5)
    table = group_test(distances(points), two(8))
    assert table.index.name == "layer"
    assert (table.p_adjusted <= 0.05).tolist() == [False, False, True, True, False]
    assert first_layer(table) == 2
    assert first_layer(table[:2]) is None
    assert table.effect[3] > table.effect[2] > table.high[[0, 1, 4]].max() / 2
    assert (table.p_adjusted >= table.p_value).all()
    assert (table.low <= table.effect).all()
    assert (table.effect <= table.high).all()
    assert table.low[2] > 0
    named = distances(points).assign_coords(layer=["e", "one", "two", "three", "out"])
    assert first_layer(group_test(named, two(8))) == "two"


def test_the_first_layer_needs_an_effect_above_zero_and_its_level():
    table = pd.DataFrame({"effect": [-1.0, 1.0, 1.0], "p_adjusted": [0.01, 0.04, 0.001]}, index=[4, 5, 6])
    assert first_layer(table) == 5
    assert first_layer(table, level=0.01) == 6
    assert first_layer(table, level=0.0001) is None


def by_hand(values, first):
    pairs = {"between": [], True: [], False: []}
    for i, j in combinations(range(len(values)), 2):
        pairs["between" if first[i] != first[j] else first[i]].append((values[i, j] + values[j, i]) / 2)
    return np.mean(pairs["between"]), (np.mean(pairs[True]) + np.mean(pairs[False])) / 2


@pytest.mark.parametrize(("n", "m"), [(3, 3), (3, 4), (2, 4)])
def test_effect_and_p_values_by_brute_force_on_a_directed_array(n, m):
    rng = np.random.default_rng(n + m)
    values = rng.random((3, n + m, n + m))
    values[:, :n, n:] += 0.3
    table = group_test(array(values), two(n, m))
    effects = []
    for chosen in combinations(range(n + m), n):
        effects.append([np.subtract(*by_hand(v, [i in chosen for i in range(n + m)])) for v in values])
    effects = np.array(effects)  # the first is the given one
    scores = (effects - effects.mean(0)) / effects.std(0)
    for layer in range(3):
        between, within = by_hand(values[layer], [True] * n + [False] * m)
        assert table.between[layer] == pytest.approx(between)
        assert table.within[layer] == pytest.approx(within)
        assert table.effect[layer] == pytest.approx(between - within)
        assert table.p_value[layer] == pytest.approx(np.mean(effects[:, layer] >= effects[0, layer] - 1e-12))
        family = np.mean(scores.max(1) >= scores[0, layer] - 1e-12)
        assert table.p_adjusted[layer] == pytest.approx(family)
    assert table.low.isna().all() == (n == 2)


def test_random_permutations_come_near_to_all_of_them_and_count_the_given_one():
    dissimilarity = distances(clouds(np.random.default_rng(3), n=5, shifts=(1.0, 2.0), scales=(1, 1)))
    exact = group_test(dissimilarity, two(5), n_permutations=252)
    drawn = group_test(dissimilarity, two(5), n_permutations=251)
    assert ((exact.p_value * 252) % 1 < 1e-9).all()
    assert ((drawn.p_value * 252) % 1 < 1e-9).all()  # (1 + k) / (1 + 251)
    assert np.abs(exact.p_value - drawn.p_value).max() < 0.1
    far = group_test(
        distances(clouds(np.random.default_rng(3), n=10, shifts=(50.0,))), two(10), n_permutations=99, seed=1
    )
    assert far.p_value[0] == pytest.approx(0.01)


def test_the_level_of_the_group_test():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(DRAWS):
        walk = clouds(rng, shifts=(0,) * 4, scales=(1,) * 4).cumsum(0)  # neighbouring layers are alike
        found.append(group_test(distances(walk), two(8), **FEW).p_adjusted.min() <= 0.05)
    assert at_its_level(found)


def test_intervals_cover_what_is_true():
    rng = np.random.default_rng(2)
    within, between = rng.standard_normal((2, 400_000, 5)) * 2**0.5
    between[:, 0] += 3
    truth = np.subtract(*(np.linalg.norm(x, axis=1).mean() for x in (between, within)))
    covered = []
    for _ in range(15):
        points = clouds(rng, n=10, shifts=(3,) * 20, scales=(1,) * 20)
        table = group_test(distances(points), two(10), n_permutations=19)
        covered += ((table.low <= truth) & (truth <= table.high)).tolist()
    assert 0.91 <= np.mean(covered) <= 0.985


def test_layers_where_all_are_equally_unlike_show_nothing():
    points = clouds(np.random.default_rng(4), n=4, shifts=(5.0,) * 4, scales=(1.0,) * 4)
    dissimilarity = distances(points)
    dissimilarity[0], dissimilarity[1] = 0.0, 0.1
    flat, groups = dissimilarity[:2], two(4)
    for test in (group_test, dispersion_test):
        table = test(dissimilarity, groups)
        effect = table["effect" if test is group_test else "difference"]
        assert (effect[:2] == 0).all()
        assert (table.p_value[:2] == 1).all()
        assert (table.p_adjusted[:2] == 1).all()
        assert np.abs(table[["low", "high"]][:2]).max(axis=None) < 1e-12  # constant: an interval without width
        assert not table.isna().any(axis=None)
        assert (test(flat, groups).p_adjusted == 1).all()
        alone = test(dissimilarity[2:], groups)
        assert np.allclose(alone, table[2:])  # flat layers do not count among the tests
    assert group_test(dissimilarity, groups).p_adjusted[2] < 0.05
    table = grouping(dissimilarity, groups)
    assert table.adjusted_rand.tolist() == [0, 0, 1, 1, 1]
    assert table.p_adjusted[:2].tolist() == [1, 1]
    assert grouping(dissimilarity[:1], groups).p_value.tolist() == [1, 1]


# --- dispersion


@pytest.mark.parametrize(("n", "m"), [(5, 5), (4, 7)])
def test_spreads_are_distances_to_centroids(n, m):
    points = clouds(np.random.default_rng(5), n, m, shifts=(0.0, 3.0), scales=(1.0, 2.0))
    table = dispersion_test(distances(points), two(n, m), **FEW)
    spreads = []
    for part in (points[:, :n], points[:, n:]):
        far = np.linalg.norm(part - part.mean(1, keepdims=True), axis=-1)
        lengths = np.linalg.norm(part[:, :, None] - part[:, None], axis=-1)
        assert np.allclose(centroid_distances(lengths), far)
        spreads.append(far.mean(1) * (1 if n == m else (part.shape[1] / (part.shape[1] - 1)) ** 0.5))
    assert np.allclose(table[["spread_a", "spread_b"]].T, spreads)
    assert np.allclose(table.difference, spreads[0] - spreads[1])
    assert (table.low <= table.difference).all()
    assert (table.difference <= table.high).all()


def test_dispersion_p_values_by_brute_force():
    n, m = 3, 4
    points = clouds(np.random.default_rng(6), n, m, shifts=(0.0, 0.0), scales=(1.0, 3.0))
    table = dispersion_test(distances(points), two(n, m))

    def f_value(z, first):
        groups = [z[first], z[~first]]
        within = sum(((g - g.mean()) ** 2).sum() for g in groups)
        return sum(len(g) * (g.mean() - z.mean()) ** 2 for g in groups) / (within / (n + m - 2))

    given = np.arange(n + m) < n
    values = []
    for part, size in ((points[:, :n], n), (points[:, n:], m)):
        values.append(np.linalg.norm(part - part.mean(1, keepdims=True), axis=-1) * (size / (size - 1)) ** 0.5)
    z = np.concatenate(values, axis=1)
    residuals = np.concatenate([v - v.mean(1, keepdims=True) for v in values], axis=1)
    shared = (1 / (n - 1) + 1 / (m - 1)) / (n * (n - 2) / (n - 1) + m * (m - 2) / (m - 1))  # of the centroid
    observed = np.array([f_value(line, given) for line in z]) * (1 / n + 1 / m) / (n + m - 2) / shared
    others = [np.isin(range(n + m), c) for c in combinations(range(n + m), n)][1:]
    f_values = np.array([observed] + [[f_value(line, other) for line in residuals] for other in others])
    assert np.allclose(table.p_value, (f_values >= observed - 1e-9).mean(0))
    assert np.allclose(table.p_adjusted, (f_values.max(1, keepdims=True) >= observed - 1e-9).mean(0))


def test_a_more_spread_group_raises_the_effect_of_the_group_test_which_is_why_dispersion_is_tested():
    rng = np.random.default_rng(7)
    dissimilarity = distances(clouds(rng, n=10, shifts=(0.0, 0.0), scales=(1.0, 4.0), dimensions=10))
    spread = dispersion_test(dissimilarity, two(10))
    assert (spread.p_adjusted <= 0.05).tolist() == [False, True]
    assert spread.difference[1] < 0
    assert spread.high[1] < 0
    both = group_test(dissimilarity, two(10))
    assert both.p_adjusted[1] <= 0.05
    assert both.effect[1] > 10 * abs(both.effect[0])


@pytest.mark.parametrize("n", [5, 10])
def test_the_level_of_the_dispersion_test_under_a_difference_of_place(n):
    rng = np.random.default_rng(8)
    tables = []
    for _ in range(DRAWS):
        points = clouds(rng, n=n, shifts=(0, 1, 2, 3, 4, 5, 6, 8), scales=(1,) * 8)
        tables.append(dispersion_test(distances(points), two(n), **FEW))
    assert at_its_level([t.p_adjusted.min() <= 0.05 for t in tables])
    assert at_its_level([t.p_value <= 0.05 for t in tables])  # the points of a layer are its own


def test_dissimilarities_that_no_points_have_are_cut_at_zero():
    values = np.ones((1, 6, 6))
    values[0, 0, 1:3] = values[0, 1:3, 0] = 0.1  # 0 is next to 1 and to 2, which are apart
    table = dispersion_test(array(values), two(3))
    assert centroid_distances(table.index.size * values[:, :3, :3] * (1 - np.eye(3)))[0, 0] == 0
    assert 0 < table.spread_a[0] < table.spread_b[0]


def test_spreads_without_variation_differ_for_certain():
    values = np.ones((1, 8, 8))
    values[0, 4:, 4:] = 3.0
    table = dispersion_test(array(values), two(4))
    assert table.p_value[0] == pytest.approx(1 / 70)
    assert table.difference[0] == pytest.approx(-2 * (3 / 8) ** 0.5)


# --- clusters


def test_clusters_are_found_without_labels_and_numbered_by_the_first_model():
    points = clouds(np.random.default_rng(9), n=4, shifts=(0.0, 30.0), scales=(1.0, 1.0))
    dissimilarity = distances(points)[:, ::-1, ::-1]
    for method in ("ward", "average", "complete", "single"):
        table = cluster(dissimilarity, method=method)
        assert table.columns.tolist() == dissimilarity.model_a.values.tolist()
        assert table.loc[1].tolist() == [0] * 4 + [1] * 4
        assert np.issubdtype(table.dtypes.iloc[0], np.integer)
        assert grouping(dissimilarity, two(4), method).adjusted_rand[1] == 1
    assert cluster(dissimilarity, n_groups=3).loc[1].nunique() == 3
    chain = np.abs(np.subtract.outer(*[[0.0, 1, 2, 3, 5.5, 6.5]] * 2))[None]
    assert cluster(array(chain), method="single").loc[0].tolist() == [0, 0, 0, 0, 1, 1]


def test_agreement_with_known_groups_by_brute_force():
    rng = np.random.default_rng(10)
    dissimilarity = distances(clouds(rng, n=4, m=3, shifts=(0.0, 2.0, 4.0), scales=(1, 1, 1)) * [[[1]], [[9]], [[1]]])
    table = grouping(dissimilarity, two(4, 3))
    values = dissimilarity.values
    scaled = [v / squareform(v, checks=False).mean() for v in values]
    labels = [*cluster(dissimilarity).to_numpy(), *cluster(array([np.mean(scaled, axis=0)])).to_numpy()]
    ways = [np.isin(range(7), c) for c in combinations(range(7), 4)]
    index = np.array([[adjusted_rand_score(way, line) for line in labels] for way in ways])
    assert table.index.tolist() == [0, 1, 2, "all"]
    assert np.allclose(table.adjusted_rand, index[0])
    assert np.allclose(table.null_mean, index.mean(0))
    assert np.allclose(table.p_value, (index >= index[0] - 1e-9).mean(0))
    assert ((index > table.null_high.to_numpy() + 1e-9).mean(0) <= 0.05).all()
    scores = (index - index.mean(0)) / index.std(0)
    family = (scores[:, :3].max(1, keepdims=True) >= scores[0, :3] - 1e-9).mean(0)
    assert np.allclose(table.p_adjusted, [*family, table.p_value["all"]])


def test_ties_do_not_go_by_names_which_tell_the_group():
    values = np.full((1, 8, 8), 0.1)
    values[0, 3, 4] = values[0, 4, 3] = 0.11  # all else is tied
    table = grouping(array(values), two(4))
    assert (table.adjusted_rand < 0.5).all()
    assert (table.p_value > 0.05).all()


labels = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n) for _ in range(2)])
)


@given(labels)
def test_the_adjusted_rand_index_is_that_of_scikit_learn(pair):
    assert adjusted_rand(*pair) == pytest.approx(adjusted_rand_score(*pair), abs=1e-12)


# --- rank correlation


@pytest.fixture
def ranked():
    """Models along a line by accuracy, more so at later layers; and the accuracies."""
    rng = np.random.default_rng(11)
    accuracy = pd.Series(rng.permutation(np.arange(9) ** 1.2), index=[f"m{i:02}" for i in range(9)])
    points = rng.standard_normal((3, 9, 3)) * 2
    points[:, :, 0] += np.outer([0, 0.5, 4], accuracy)
    return distances(points), accuracy


def correlations(dissimilarity, accuracy, reference):
    """Spearman and Kendall by layer, by scipy."""
    others = accuracy.index != reference
    values = dissimilarity.sel(model_a=reference).values[:, others]
    gaps = np.abs(accuracy - accuracy[reference])[others]
    return np.array([[f(v, gaps).statistic for v in values] for f in (spearmanr, kendalltau)])


def test_rank_correlation_is_that_of_scipy(ranked):
    dissimilarity, accuracy = ranked
    for reference, names in {
        "best": [accuracy.idxmax()],
        "m03": ["m03"],
        "each": accuracy.index.tolist(),
    }.items():
        table = rank_correlation(dissimilarity, accuracy, reference, **FEW)
        spearman, kendall = np.mean([correlations(dissimilarity, accuracy, r) for r in names], axis=0)
        assert table.index.tolist() == [0, 1, 2, "mean"]
        assert np.allclose(table.spearman, [*spearman, spearman.mean()])
        assert np.allclose(table.kendall, [*kendall, kendall.mean()])
        assert table.attrs["undefined"] == []
        assert (table.low <= table.high).all()
    assert rank_correlation(dissimilarity, accuracy).p_adjusted[2] <= 0.05


def test_ties_are_ranked_as_scipy_does():
    rng = np.random.default_rng(12)
    values = rng.integers(0, 3, (2, 8, 8)).astype(float)
    values += values.swapaxes(1, 2)
    accuracy = pd.Series([0.4, 0.1, 0.7, 0.7, 0.1, 0.9, 0.2, 0.7], index=[f"m{i:02}" for i in range(8)])
    table = rank_correlation(array(values), accuracy, **FEW)
    spearman, kendall = correlations(array(values), accuracy, "m05")
    assert np.allclose(table.spearman[:2], spearman)
    assert np.allclose(table.kendall[:2], kendall)


def test_gaps_that_differ_by_rounding_are_the_same():
    accuracy = pd.Series([0.4, 0.1, 0.7, 0.2, 0.6], index=[f"m{i:02}" for i in range(5)])
    assert 0.7 - 0.4 != 0.4 - 0.1
    values = np.abs(accuracy.to_numpy()[:, None] * 10 - accuracy.to_numpy() * 10).round()[None]
    table = rank_correlation(array(values), accuracy, "m00")
    assert np.allclose(table[["spearman", "kendall"]], 1)


@pytest.mark.parametrize(("reference", "n"), [("best", 5), ("each", 4)])
def test_rank_correlation_p_values_by_brute_force(reference, n):
    rng = np.random.default_rng(13)
    accuracy = pd.Series([0.3, 0.9, 0.47, 0.1, 0.62][:n], index=[f"m{i:02}" for i in range(n)])
    dissimilarity = distances(rng.standard_normal((2, n, 2)) + np.outer([1, 4], accuracy)[:, :, None])
    table = rank_correlation(dissimilarity, accuracy, reference)
    by_order = []
    for order in permutations(range(n)):
        if reference == "best" and order[1] != 1:
            continue
        permuted = pd.Series(accuracy.to_numpy()[list(order)], index=accuracy.index)
        names = ["m01"] if reference == "best" else accuracy.index
        by_order.append(np.mean([correlations(dissimilarity, permuted, r)[0] for r in names], axis=0))
    by_order = np.array(by_order)  # the first is the given one
    assert len(by_order) == 24
    with_mean = np.column_stack([by_order, by_order.mean(1)])
    assert np.allclose(table.p_value, (with_mean >= with_mean[0] - 1e-9).mean(0))
    scores = (by_order - by_order.mean(0)) / by_order.std(0)
    family = (scores.max(1, keepdims=True) >= scores[0] - 1e-9).mean(0)
    assert np.allclose(table.p_adjusted, [*family, table.p_value["mean"]])


def test_the_level_of_the_rank_correlation(monkeypatch):
    monkeypatch.setattr("repsim_nb.groups.ranking.RESAMPLES", 2)
    rng = np.random.default_rng(14)
    found = {"best": [], "each": []}
    for _ in range(DRAWS):
        dissimilarity = distances(rng.standard_normal((2, 6, 3)))
        accuracy = pd.Series(rng.random(6), index=[f"m{i:02}" for i in range(6)])
        for reference, so_far in found.items():
            table = rank_correlation(dissimilarity, accuracy, reference, n_permutations=99)
            so_far.append(table.p_adjusted.iloc[:-1].min() <= 0.05)
    assert at_its_level(found["best"])
    assert at_its_level(found["each"])


@pytest.mark.parametrize("reference", ["best", "each"])
def test_intervals_of_what_is_perfectly_ranked_have_no_width(reference):
    accuracy = pd.Series(2.0 ** np.arange(8), index=[f"m{i:02}" for i in range(8)])  # no two gaps are the same
    values = np.abs(accuracy.to_numpy()[:, None] - accuracy.to_numpy())[None]
    table = rank_correlation(array(values), accuracy, reference, **FEW)
    # a model paired with its own copy would still be ranked well; against the order it would not
    against = rank_correlation(array(100 - values), accuracy, reference, **FEW)
    assert np.allclose(table[["spearman", "low", "high"]], 1)
    assert np.allclose(against[["spearman", "low", "high"]], -1)


def test_layers_without_a_correlation_are_named_and_left_out(ranked):
    dissimilarity, accuracy = ranked
    known = rank_correlation(dissimilarity, accuracy, **FEW)
    flat = xr.concat([xr.zeros_like(dissimilarity[:1]), dissimilarity], dim="layer")
    flat = flat.assign_coords(layer=["embedding", "x", "y", "z"])
    table = rank_correlation(flat, accuracy, **FEW)
    assert table.index.tolist() == ["embedding", "x", "y", "z", "mean"]
    assert table.attrs["undefined"] == ["embedding"]
    assert table.loc["embedding"].isna().all()
    assert np.allclose(table[1:], known)
    with pytest.raises(InputError, match="in every layer all dissimilarities"):
        rank_correlation(flat[:1], accuracy)


def test_measures_are_ranked_by_their_mean_over_layers(ranked):
    dissimilarity, accuracy = ranked
    measures = {"poor": dissimilarity[:1], "good": dissimilarity[2:], "all": dissimilarity}
    table = rank_measures(measures, accuracy, **FEW)
    assert table.index.name == "measure"
    assert table.index.tolist() == ["good", "all", "poor"]
    assert table.spearman.is_monotonic_decreasing
    assert table.best_layer.tolist() == [2, 2, 0]
    assert all(np.issubdtype(table.dtypes[c], np.floating) for c in ("spearman", "p_value", "best_spearman"))
    by_layer = rank_correlation(dissimilarity, accuracy, **FEW)
    for column in ("spearman", "kendall", "low", "high", "p_value"):
        assert table.loc["all", column] == pytest.approx(by_layer.loc["mean", column])
    assert table.loc["all", "best_spearman"] == pytest.approx(by_layer.spearman[2])


# --- what holds for all


@pytest.fixture
def everything(ranked, monkeypatch):
    monkeypatch.setattr("repsim_nb.groups.ranking.RESAMPLES", 20)
    _, accuracy = ranked
    points = clouds(np.random.default_rng(15), n=5, m=4, shifts=(0.0, 1.0, 2.0), scales=(1.0, 1.0, 1.5))
    dissimilarity = distances(points)
    groups = two(5, 4)
    functions = [
        lambda d: group_test(d, groups, n_permutations=99),
        lambda d: dispersion_test(d, groups, n_permutations=99),
        lambda d: grouping(d, groups, n_permutations=99),
        lambda d: cluster(d)[[f"m{i:02}" for i in range(9)]],
        lambda d: rank_correlation(d, accuracy, n_permutations=99),
        lambda d: rank_correlation(d, accuracy, "each", n_permutations=99),
        lambda d: rank_measures({"x": d}, accuracy, n_permutations=99).drop(columns="best_layer"),
    ]
    return dissimilarity, functions


def test_the_diagonal_is_never_used(everything):
    dissimilarity, functions = everything
    for diagonal in (1e6, np.nan):
        other = dissimilarity.copy()
        other.values[:, range(9), range(9)] = diagonal
        for function in functions:
            assert np.allclose(function(dissimilarity), function(other))


def test_direction_order_and_names_of_models_do_not_matter(everything):
    dissimilarity, functions = everything
    directed = dissimilarity.copy()
    tilt = np.random.default_rng(16).standard_normal((3, 9, 9))
    directed += (tilt - tilt.swapaxes(1, 2)) / 10
    order = np.random.default_rng(17).permutation(9)
    shuffled = dissimilarity[:, order, order]
    turned = dissimilarity.rename(model_a="sender", model_b="receiver").transpose("receiver", "layer", "sender")
    for function in functions[:3] + functions[4:]:
        for other in (directed, shuffled, turned, dissimilarity):  # the last: same seed, same numbers
            assert np.allclose(function(dissimilarity), function(other))
    clusters = [functions[3](d).to_numpy() for d in (dissimilarity, shuffled)]
    assert [adjusted_rand(*lines) for lines in zip(*clusters, strict=True)] == [1.0] * 3


def test_models_without_a_group_are_left_out(everything):
    dissimilarity, _ = everything
    groups = {m: g for m, g in two(5, 4).items() if m not in ("m01", "m07")}
    kept = [m for m in dissimilarity.model_a.values if m in groups]
    for test in (group_test, dispersion_test, grouping):
        expected = test(dissimilarity.sel(model_a=kept, model_b=kept), groups, **FEW)
        assert np.allclose(test(dissimilarity, pd.Series(groups), **FEW), expected)


def test_swapping_the_groups_turns_the_difference_of_spreads_round(everything):
    dissimilarity, _ = everything
    swapped = dict(reversed(two(5, 4).items()))
    tables = [dispersion_test(dissimilarity, g, **FEW) for g in (two(5, 4), swapped)]
    assert tables[1].columns[:2].tolist() == ["spread_b", "spread_a"]
    assert np.allclose(tables[0].difference, -tables[1].difference)
    assert np.allclose(tables[0].low, -tables[1].high)
    assert np.allclose(group_test(dissimilarity, two(5, 4)).effect, group_test(dissimilarity, swapped).effect)


def test_other_seeds_give_other_permutations(everything):
    dissimilarity, _ = everything
    p_values = [group_test(dissimilarity, two(5, 4), n_permutations=99, seed=s).p_value for s in range(3)]
    assert len({tuple(p) for p in p_values}) > 1


# --- errors


def test_wrong_arrays_are_refused():
    good = distances(clouds(np.random.default_rng(18), n=4))
    for wrong, message in [
        (good.expand_dims("corpus"), "dimension"),
        (good.drop_vars("model_b"), "dimension"),
        (good[:, :, ::-1], "same models"),
        (good[:, :3], "same models"),
        (good.assign_coords(model_a=["m"] * 8, model_b=["m"] * 8), "each once"),
        (good.where(good.model_a != "m02"), "m02 and m00 at layer 0 is nan|m00 and m02 at layer 0 is nan"),
        (good + np.inf, "inf"),
    ]:
        with pytest.raises(InputError, match=message):
            cluster(wrong)


def test_wrong_groups_are_refused():
    good = distances(clouds(np.random.default_rng(19), n=4))
    for wrong, message in [
        (two(4) | {"elsewhere": "a"}, "elsewhere"),
        (dict.fromkeys(two(4), "a"), "two groups, got 1"),
        (two(4) | {"m00": "c", "m01": "c"}, "two groups, got 3"),
        (two(1, 7), "'a' has 1"),
        (pd.concat([pd.Series(two(4)), pd.Series({"m00": "a"})]), "twice"),
    ]:
        for test in (group_test, dispersion_test, grouping):
            with pytest.raises(InputError, match=message):
                test(good, wrong)
    with pytest.raises(InputError, match="'a' has 2"):
        dispersion_test(good, two(2, 6))
    for test in (group_test, dispersion_test, grouping):
        with pytest.raises(InputError, match="at least 19"):
            test(good, two(4), n_permutations=18)


def test_wrong_clusterings_are_refused():
    good = distances(clouds(np.random.default_rng(20), n=4))
    with pytest.raises(InputError, match="Did you mean 'average'"):
        cluster(good, method="averaged")
    with pytest.raises(InputError, match="clustering method 'ward2'"):
        grouping(good, two(4), method="ward2")
    for n_groups in (0, 9):
        with pytest.raises(InputError, match=f"into {n_groups} clusters"):
            cluster(good, n_groups)


def test_wrong_accuracies_are_refused(ranked):
    dissimilarity, accuracy = ranked
    for wrong, message in [
        (accuracy.where(accuracy.index != "m04"), "accuracy is missing for m04"),
        (pd.concat([accuracy, accuracy[:1]]), "'m00' twice"),
    ]:
        with pytest.raises(InputError, match=message):
            extremes(wrong, size=2)
        with pytest.raises(InputError, match=message):
            rank_correlation(dissimilarity, wrong)
    for size in (0, 5):
        with pytest.raises(InputError, match="cannot be taken from 9"):
            extremes(accuracy, size=size)
    with pytest.raises(InputError, match="two different names"):
        extremes(accuracy, size=2, names=("x", "x"))
    with pytest.raises(InputError, match="at least four"):
        rank_correlation(dissimilarity, accuracy[:3])
    with pytest.raises(InputError, match="all accuracy gaps"):
        rank_correlation(dissimilarity, accuracy * 0)
    with pytest.raises(InputError, match="has no values for elsewhere"):
        rank_correlation(dissimilarity, pd.concat([accuracy, pd.Series({"elsewhere": 0.1})]))
    with pytest.raises(InputError, match="Unknown reference 'worst'"):
        rank_correlation(dissimilarity, accuracy, "worst")
    with pytest.raises(InputError, match="at least 19"):
        rank_correlation(dissimilarity, accuracy, n_permutations=3)
    with pytest.raises(InputError, match="no measure"):
        rank_measures({}, accuracy)


def test_means_by_group_are_those_of_a_loop_in_both_directions():
    rng = np.random.default_rng(0)
    names = ["m0", "m1", "m2", "m3", "m4"]
    values = xr.DataArray(
        rng.random((2, 5, 5)),
        dims=("layer", "sender", "receiver"),
        coords={"layer": [3, 4], "sender": names, "receiver": names},
    )
    group = dict(zip(names, "aabab", strict=True))
    table = means_by_group(values.transpose("sender", "receiver", "layer"), group, directed=True)
    assert len(table) == 8
    for line in table.itertuples():
        expected = [
            values.sel(layer=line.layer, sender=s, receiver=r).item()
            for s in names
            for r in names
            if s != r and (group[s], group[r]) == (line.first, line.second)
        ]
        assert (line.pairs, line.value) == (len(expected), pytest.approx(np.mean(expected)))
    both = means_by_group(values, group).set_index(["layer", "first", "second"])
    directed = table.set_index(["layer", "first", "second"]).value
    assert both.value[3, "a", "b"] == pytest.approx((directed[3, "a", "b"] + directed[3, "b", "a"]) / 2)
    assert both.pairs[3, "a", "a"] == 3
    assert (both.low < both.value).sum() == 4  # one pair alone has no interval
    assert both.low[:, "b", "b"].isna().all()


def test_intervals_of_means_shrink_with_models_and_cover_the_truth():
    rng = np.random.default_rng(1)
    hit, width = 0, []
    for size in [6] * 150 + [24] * 150:
        effect = rng.normal(size=2 * size)  # of each model; the truth of every pair is 0
        values = effect[:, None] + effect
        names = [str(i) for i in range(2 * size)]
        array = xr.DataArray(values[None], dims=("layer", "a", "b"), coords={"layer": [0], "a": names, "b": names})
        line = means_by_group(array, {n: "x" if i < size else "y" for i, n in enumerate(names)}).iloc[1]
        assert (line["first"], line["second"]) == ("x", "y")
        hit += line.low <= 0 <= line.high
        width.append(line.high - line.low)
    assert 0.91 <= hit / 300 <= 0.99
    assert np.mean(width[150:]) < 0.6 * np.mean(width[:150])


def test_dissimilarities_below_zero_count_as_zero_wherever_distances_are_meant():
    names = [str(i) for i in range(8)]
    group = {n: "x" if int(n) < 4 else "y" for n in names}
    apart = np.array([[float((i < 4) != (j < 4)) for j in range(8)] for i in range(8)])
    below = np.where(apart == 0, -1.0, 0.0)
    noise = 1e-4 * np.where(np.add.outer(np.arange(8), np.arange(8)) % 2, 1, -1.0) + 1e-6
    coords = {"layer": [0, 1, 2], "a": names, "b": names}
    values = xr.DataArray(np.array([apart, apart, noise]), dims=("layer", "a", "b"), coords=coords)
    assert grouping(values, group).adjusted_rand["all"] == 1
    spread = dispersion_test(values.copy(data=np.array([below] * 3)), group)
    assert (spread.spread_x == spread.spread_y).all()
    one_sided = below.copy()
    one_sided[4:, 4:] = 0
    spread = dispersion_test(values.copy(data=np.array([one_sided] * 3)), group)
    assert (spread.difference == 0).all()
