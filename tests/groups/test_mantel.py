"""Mantel's test and agreement of tables: against scipy and all relabellings, and on published tables."""

from itertools import permutations
from math import factorial

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.groups import agreement, mantel, square
from tests.groups.test_groups import at_its_level
from tests.support.realdata import realdata

EMBEDDERS = realdata("embedding_models_beir")
COHERE = "embed-english-v3.0"  # compared on three of the five sets only
# Spearman of CKA with Jaccard@10 over 153 pairs, recomputed with scipy from the tables of Caspari et al. 2024
PUBLISHED = {"trec-covid": 0.62, "fiqa": 0.84, "arguana": 0.61, "nfcorpus": 0.82, "scifact": 0.77}


def table(values, names=None, direction=None):
    names = [f"m{i:02}" for i in range(len(values))] if names is None else names
    made = pd.DataFrame(values, names, names)
    if direction:
        made.attrs["direction"] = direction
    return made


def distances(points):
    return np.linalg.norm(points[..., :, None, :] - points[..., None, :, :], axis=-1)


def random_tables(seed, n=5, k=2):
    return [table(v) for v in distances(np.random.default_rng(seed).standard_normal((k, n, 3)))]


def off_diagonal(values):
    return np.asarray(values)[np.triu_indices(len(values), 1)]


def published(corpus, kind):
    file = EMBEDDERS / f"{corpus}_256_0_25_{kind}.csv"
    if not file.exists():
        pytest.skip(f"{file.name} is not on this machine")
    read = pd.read_csv(file, index_col=0)
    return read.drop(index=COHERE, columns=COHERE, errors="ignore")


@pytest.mark.parametrize("n", [4, 5])
@pytest.mark.parametrize("decimals", [0, 9])
def test_mantel_by_brute_force_with_and_without_ties(n, decimals):
    a, b = (t.round(decimals) for t in random_tables(2, n))
    found = mantel(a, b)
    x = off_diagonal(a)
    ways = [spearmanr(x, off_diagonal(b.to_numpy()[np.ix_(way, way)])).statistic for way in permutations(range(n))]
    assert found.spearman == pytest.approx(ways[0])
    assert found.p_value == pytest.approx(np.mean(np.array(ways) >= ways[0] - 1e-9))
    assert found.least_p == pytest.approx(np.mean(np.array(ways) >= max(ways) - 1e-9))
    assert (found.n_models, found.n_pairs) == (n, n * (n - 1) // 2)


@pytest.mark.parametrize("n", [4, 5, 6])
def test_mantel_of_a_table_with_itself_is_one_at_the_least_p(n):
    a = random_tables(0, n)[0]
    found = mantel(a, a)
    assert found.spearman == pytest.approx(1)
    assert found.p_value == pytest.approx(1 / factorial(n)) == pytest.approx(found.least_p)
    assert found.low == pytest.approx(found.high) == pytest.approx(1)


def test_mantel_counts_relabellings_that_change_nothing():
    """Four models in two identical pairs: 8 of 24 relabellings keep the table."""
    a = table([[0, 1, 2, 2], [1, 0, 2, 2], [2, 2, 0, 1], [2, 2, 1, 0]])
    assert mantel(a, a).p_value == pytest.approx(8 / 24)


def test_mantel_with_random_permutations_counts_the_observed_one():
    a = random_tables(0, 9)[0]
    found = mantel(a, a, n_permutations=99)
    assert found.p_value == found.least_p == pytest.approx(0.01)
    a, b = random_tables(1, 6)
    exact = mantel(a, b).p_value
    assert mantel(a, b, n_permutations=700).p_value == pytest.approx(exact, abs=0.07)


@given(st.integers(0, 1000), st.permutations(range(6)))
def test_mantel_does_not_depend_on_scales_or_on_the_order_of_models(seed, order):
    a, b = random_tables(seed, 6)
    plain = mantel(a, b)
    moved = mantel(np.log(a.where(a > 0, np.exp(-50))).iloc[order, order], (b**3).iloc[:, order[::-1]])
    assert moved[:3] == pytest.approx(plain[:3])
    assert moved[3:5] == pytest.approx(plain[3:5])
    assert moved.models == plain.models


@given(st.integers(0, 1000))
def test_mantel_is_symmetric_in_its_tables(seed):
    a, b = random_tables(seed, 5)
    assert mantel(a, b)[:5] == pytest.approx(mantel(b, a)[:5])


def test_mantel_uses_the_models_of_both_tables_and_names_the_others():
    a, b = random_tables(3, 7)
    small = mantel(a.iloc[:6, :6], b.iloc[1:, 1:])
    assert small.models == ["m01", "m02", "m03", "m04", "m05"]
    assert small.left_out == ["m00", "m06"]
    assert small[:5] == mantel(a.iloc[1:6, 1:6], b, models=small.models)[:5]


def test_mantel_turns_opposite_directions():
    a, b = random_tables(4)
    plain = mantel(a, b)
    stated = a.where(~np.eye(5, dtype=bool))  # the diagonal says nothing
    assert mantel(stated, stated.T).spearman == pytest.approx(1)
    for other in (table(-b.to_numpy(), direction="similarity"), 1 / (1 + b)):
        assert mantel(a, other)[:5] == pytest.approx(plain[:5])
        assert mantel(other, 5 - a)[:5] == pytest.approx(plain[:5])
        stated.attrs["direction"] = "similarity"  # wins over any diagonal
        assert mantel(stated, other).spearman == pytest.approx(-plain.spearman)
        del stated.attrs["direction"]
        with pytest.raises(InputError, match="'a': set its attrs"):
            mantel(stated, other)


def test_mantel_averages_both_directions_and_reads_a_layer_of_compare_models():
    rng = np.random.default_rng(0)
    x = {f"m{i}": rng.standard_normal((30, 4)) for i in range(5)}
    found = rs.compare_models(x, ["linear_regression", "procrustes"])
    a, b = found.linear_regression, found.procrustes
    by_hand = spearmanr(off_diagonal((a[0].values + a[0].values.T) / 2), off_diagonal(b[0].values)).statistic
    assert mantel(a, b).spearman == pytest.approx(by_hand)
    assert mantel(a.sel(layer=0), b.sel(layer=0).to_pandas()).spearman == pytest.approx(by_hand)
    assert agreement(found).spearman.item() == pytest.approx(by_hand)
    with pytest.raises(InputError, match="Select one layer"):
        mantel(xr.concat([a, a], "layer"), b)


def test_mantel_refuses_what_it_cannot_compare():
    a, b = random_tables(0)
    holed = b.copy()
    holed.iloc[1, 3] = np.nan
    flat = table(np.ones((5, 5)), direction="dissimilarity")
    for wrong, message in (
        ((a, b.to_numpy()), "'b' to be a DataFrame .* got ndarray"),
        ((a, b.iloc[:3]), "same models on both sides"),
        ((a, b.rename(index={"m00": "x"})), "same models on both sides"),
        ((a, holed), "nan from m01 to m03"),
        ((a, flat), "All pairs of the table 'b' have one value"),
        ((a, b.astype(object).replace(0.0, "zero")), "of numbers"),
        ((a, b.iloc[:3, :3]), "at least 4 models that all tables hold, got 3"),
        ((a, b, ["m00", "m01", "m02", "nobody"]), "'a' has no values for nobody"),
        ((a, table(b.to_numpy(), direction="up")), "direction of the table 'b' is 'up'"),
    ):
        with pytest.raises(InputError, match=message):
            mantel(*wrong)
    with pytest.raises(InputError, match="use at least 19"):
        mantel(a, b, n_permutations=5)


def test_mantel_knows_nothing_where_the_correlation_hangs_on_one_model():
    first = np.arange(5) == 0
    lone = table(np.where(first[:, None] ^ first, 1.0, 0.0), direction="similarity")
    found = mantel(lone, table(-random_tables(0)[0].to_numpy(), direction="similarity"))
    assert (found.low, found.high) == (-1, 1)


def test_mantel_keeps_its_level():
    rng = np.random.default_rng(0)
    p = [mantel(*(table(v) for v in distances(rng.standard_normal((2, 6, 2)))), n_permutations=99).p_value
         for _ in range(400)]  # fmt: skip
    assert at_its_level(np.array(p) <= 0.05)


def test_mantel_intervals_cover_the_correlation_of_a_large_population():
    rng = np.random.default_rng(1)

    def noisy(n):
        points = rng.standard_normal((n, 4))
        return [table(v) for v in distances(np.stack([points, points + rng.standard_normal((n, 4))]))]

    truth = np.mean([spearmanr(*(off_diagonal(t) for t in noisy(300))).statistic for _ in range(3)])
    found = [mantel(*noisy(12), n_permutations=19) for _ in range(150)]
    covered = sum(f.low <= truth <= f.high for f in found)
    assert binomtest(covered, 150, 0.95, "less").pvalue > 0.001
    assert np.mean([f.high - f.low for f in found]) < 1


# --- agreement of several tables


def test_agreement_holds_what_mantel_finds_for_each_two_tables():
    a, b, c = random_tables(5, 6, 3)
    found = agreement({"a": a, "b": 1 / (1 + b), "c": c})
    for (x, y), pair in zip((("a", "b"), ("a", "c"), ("b", "c")), ((a, b), (a, c), (b, c)), strict=True):
        alone = mantel(*pair)
        line = found.loc[(x, y)]
        assert line[["spearman", "p_value", "low", "high"]].tolist() == pytest.approx(
            [alone.spearman, alone.p_value, alone.low, alone.high]
        )
    assert (found.p_adjusted >= found.p_value).all()
    drawn = square(found)
    assert drawn.loc["c", "a"] == drawn.loc["a", "c"] == found.spearman["a", "c"]
    assert (np.diag(drawn) == 1).all()
    ax = rs.figures.agreement_map(drawn)
    assert "over pairs of models" in ax.collections[0].colorbar.ax.get_ylabel()


def test_agreement_of_two_tables_needs_no_adjustment():
    a, b = random_tables(6, 8)
    found = agreement({"a": a, "b": b}, n_permutations=4000).iloc[0]
    assert found.p_adjusted == pytest.approx(found.p_value, abs=0.03)


def test_agreement_uses_the_models_of_all_tables():
    a, b, c = random_tables(7, 8, 3)
    found = agreement({"a": a.iloc[:7, :7], "b": b.iloc[1:, 1:], "c": c})
    assert found.attrs["models"] == [f"m{i:02}" for i in range(1, 7)]
    assert found.attrs["left_out"] == ["m00", "m07"]


def test_agreement_keeps_its_level_over_all_pairs_of_tables():
    rng = np.random.default_rng(3)
    found = []
    for _ in range(200):
        tables = distances(rng.standard_normal((4, 7, 2)))
        found.append(agreement({str(i): table(v) for i, v in enumerate(tables)}, n_permutations=99))
    assert at_its_level([f.p_adjusted.min() <= 0.05 for f in found])
    assert np.mean([f.p_value.min() <= 0.05 for f in found]) > 0.1  # six tests at 0.05


def test_agreement_refuses_one_table_and_square_an_unknown_column():
    a, b = random_tables(0)
    with pytest.raises(InputError, match="at least two tables, got 1"):
        agreement({"a": a})
    with pytest.raises(InputError, match="Did you mean 'spearman'"):
        square(agreement({"a": a, "b": b}), "spearmann")


# --- published tables


@pytest.mark.parametrize("corpus", PUBLISHED)
def test_mantel_of_cka_and_overlap_of_published_embedding_models(corpus):
    cka, overlap = published(corpus, "top1_cka"), published(corpus, "top10_jaccard")
    found = mantel(cka, overlap, n_permutations=999)
    assert (found.n_models, found.n_pairs, found.left_out) == (18, 153, [])
    assert round(found.spearman, 2) == PUBLISHED[corpus]
    same = cka.loc[overlap.index, overlap.index]
    assert found.spearman == pytest.approx(spearmanr(off_diagonal(same), off_diagonal(overlap)).statistic)
    assert found.p_value == 0.001
    assert 0 < found.low < found.spearman < found.high < 1


def test_agreement_of_published_embedding_models_over_measures_and_corpora():
    kinds = {"cka": "top1_cka", "jaccard": "top10_jaccard", "rank": "top10_rank"}
    found = agreement(
        {f"{kind} {c}": published(c, file) for kind, file in kinds.items() for c in ("trec-covid", "fiqa", "arguana")},
        n_permutations=199,
    )
    assert len(found) == 36
    drawn = square(found)

    def mean_over_corpora(kind):
        of = drawn.filter(like=kind, axis=0).filter(like=kind, axis=1)
        return off_diagonal(of.to_numpy()).mean()

    # CKA keeps its order of pairs from text to text, what users see does not
    assert mean_over_corpora("cka") > mean_over_corpora("jaccard") > mean_over_corpora("rank")
