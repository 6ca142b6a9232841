"""Agreement on results of compare_models as they are: several measures, corpora and layers in one call."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import spearmanr

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.groups import agreement, family_test, group_test, mantel, mean_agreement

MODELS, CORPORA = list("abcdefg"), ["prose", "code"]
PAIRS = np.triu_indices(len(MODELS), 1)


def result(seed=0, dims=("corpus",), measures=("one", "two", "three")):
    """Distances of points that measures and corpora see with noise."""
    rng = np.random.default_rng(seed)
    shape = [{"corpus": 2, "layer": 3}[d] for d in dims]
    points = rng.normal(size=(len(MODELS), 3))
    coords = {"corpus": CORPORA, "layer": [0, 1, 2], "model_a": MODELS, "model_b": MODELS}
    names = [*dims, "model_a", "model_b"]
    made = {}
    for measure in measures:
        seen = points + 0.6 * rng.normal(size=(*shape, len(MODELS), 3))
        distances = np.linalg.norm(seen[..., :, None, :] - seen[..., None, :, :], axis=-1)
        made[measure] = (names, distances, {"direction": "dissimilarity"})
    return xr.Dataset(made, {d: coords[d] for d in names})


def rho(a, b):
    return spearmanr(a.values[PAIRS], b.values[PAIRS]).statistic


def test_agreement_between_measures_of_a_result_is_that_of_each_corpus():
    table, given = agreement(result(), n_permutations=99), result()
    assert table.index.names == ["corpus", "table_a", "table_b"]
    assert len(table) == 2 * 3
    for corpus in CORPORA:
        tables = {str(name): values.sel(corpus=corpus) for name, values in given.items()}
        pd.testing.assert_frame_equal(table.loc[corpus], agreement(tables, n_permutations=99), check_like=False)
    assert table.spearman["code", "one", "three"] == pytest.approx(
        rho(given.one.sel(corpus="code"), given.three.sel(corpus="code"))
    )


def test_agreement_between_corpora_of_a_result_is_that_of_each_measure_and_layer():
    given = result(dims=("corpus", "layer"))
    table = agreement(given, n_permutations=99, between="corpus")
    assert table.index.names == ["measure", "layer", "table_a", "table_b"]
    assert len(table) == 3 * 3
    one = given.two.sel(layer=1)
    assert table.spearman["two", 1, "prose", "code"] == pytest.approx(
        rho(one.sel(corpus="prose"), one.sel(corpus="code"))
    )
    layers = agreement(given, n_permutations=99, between="layer").spearman
    assert layers["one", "code", "0", "2"] == pytest.approx(
        rho(given.one.sel(corpus="code", layer=0), given.one.sel(corpus="code", layer=2))
    )


def test_mean_agreement_is_the_mean_with_an_interval_over_models():
    given = result()
    table = mean_agreement(given, n_permutations=199)
    assert table.index.tolist() == ["prose", "code", "all"]
    assert table.n_tables.tolist() == [3, 3, 3]

    def mean(corpus, models):
        tables = [values.sel(corpus=corpus, model_a=models, model_b=models) for values in given.values()]
        pairs = np.triu_indices(len(models), 1)
        found = [
            spearmanr(a.values[pairs], b.values[pairs]).statistic for i, a in enumerate(tables) for b in tables[:i]
        ]
        return np.mean(found)

    for corpus in CORPORA:
        assert table.spearman[corpus] == pytest.approx(mean(corpus, MODELS))
    assert table.spearman["all"] == pytest.approx(table.spearman[CORPORA].mean())
    z = np.arctanh([mean("code", [m for m in MODELS if m != gone]) for gone in MODELS])
    spread = np.sqrt(6 / 7 * ((z - z.mean()) ** 2).sum())
    from scipy.stats import t

    low = np.tanh(np.arctanh(table.spearman["code"]) - t.ppf(0.975, 6) * spread)
    assert table.low["code"] == pytest.approx(low)
    assert (table.low < table.spearman).all()
    assert (table.spearman < table.high).all()
    assert table.p_value["all"] <= 0.02


def test_mean_agreement_between_corpora_has_a_line_for_each_measure():
    given = result()
    table = mean_agreement(given, "corpus", n_permutations=99)
    assert table.index.tolist() == ["one", "two", "three", "all"]
    assert table.spearman["two"] == pytest.approx(mantel(*(given.two.sel(corpus=c) for c in CORPORA)).spearman)
    assert table.low["two"] == pytest.approx(mantel(*(given.two.sel(corpus=c) for c in CORPORA)).low)


@pytest.mark.parametrize("seed", range(3))
def test_mean_agreement_has_its_level_where_tables_are_unrelated(seed):
    rng = np.random.default_rng(seed)
    p_values = []
    for _ in range(40):
        points = rng.normal(size=(3, 7, 3))
        tables = [pd.DataFrame(np.linalg.norm(p[:, None] - p, axis=-1), MODELS, MODELS) for p in points]
        p_values.append(mean_agreement(dict(enumerate(tables)), n_permutations=99).p_value.item())
    assert np.mean(np.array(p_values) <= 0.25) < 0.25 + 3 * np.sqrt(0.25 * 0.75 / 40)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.16)


def test_mean_agreement_says_what_it_can_compare():
    with pytest.raises(InputError, match="Did you mean 'corpus'"):
        mean_agreement(result(), "corpora")
    with pytest.raises(InputError, match="between='corpus' would have no effect"):
        mean_agreement({"a": pd.DataFrame(np.eye(4))}, "corpus")
    with pytest.raises(InputError, match="at least two values of measure, got 1"):
        mean_agreement(result(measures=["one"]))


def test_groups_take_results_without_layers_and_at_relative_depths():
    families = dict(zip(MODELS, "xxxyyyy", strict=True))
    given = result(dims=())
    table = group_test(given.one, families)
    assert table.index.tolist() == ["only"]
    deep = xr.concat([given.one, given.two], "depth").assign_coords(depth=[0.5, 1])
    assert group_test(deep, families).effect[0.5] == pytest.approx(table.effect["only"])
    of_one = result(dims=("corpus",)).one.isel(corpus=[0])
    assert family_test(of_one, families).effect == family_test(of_one[0], families).effect
    assert rs.groups.cluster(given.one).shape == (1, 7)
