import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.retrieval import chance, exchange_test, overlap, pairwise, summary

RNG = np.random.default_rng(0)
LISTS = {name: {q: RNG.permutation(30)[:20].tolist() for q in range(12)} for name in "abc"}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def test_agreement_curves_draw_means_bands_chance_and_floor():
    depths = (1, 5, 20)
    tables = {
        "a, b": summary(overlap(LISTS["a"], LISTS["b"], depths)),
        "a, a": summary(overlap(*[LISTS["a"]] * 2, depths)),
    }
    floors = {"a, b": exchange_test(LISTS["a"], LISTS["b"], depths, n_permutations=9)}
    random = chance(30, depths)
    ax = rs.figures.agreement_curves(tables, chance=random, floors=floors)
    drawn = {line.get_label().strip(): line for line in ax.lines}
    np.testing.assert_allclose(drawn["a, b"].get_ydata(), tables["a, b"].loc["overlap", "mean"])
    assert drawn["a, a"].get_ydata().tolist() == [1, 1, 1]
    np.testing.assert_allclose(drawn["random lists"].get_ydata(), random["overlap"])
    dashed = next(line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata()))
    np.testing.assert_allclose(dashed.get_ydata(), floors["a, b"].loc["overlap", "null_mean"])
    assert dashed.get_color() == drawn["a, b"].get_color()
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(tables["a, b"].loc["overlap", "low"].min())
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "5", "20"]
    with pytest.raises(rs.InputError, match="Did you mean 'jaccard'"):
        rs.figures.agreement_curves(tables, measure="jacard")
    with pytest.raises(rs.InputError, match="got no tables"):
        rs.figures.agreement_curves({})


def test_model_matrix_draws_values_in_the_order_given():
    table = pairwise(LISTS, 5)["overlap"].sel(k=5)
    ax = rs.figures.model_matrix(table, order=["c", "a"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["c", "a"]
    value = f"{table.sel(model_a='c', model_b='a').item():.2f}"
    assert [text.get_text() for text in ax.texts] == [value, value]  # the diagonal is empty
    with pytest.raises(rs.InputError, match="Unknown model 'd'"):
        rs.figures.model_matrix(table, order=["a", "d"])
    with pytest.raises(rs.InputError, match="models against models"):
        rs.figures.model_matrix(pairwise(LISTS, 5)["overlap"])
    with pytest.raises(rs.InputError, match="same models on both sides"):
        rs.figures.model_matrix(table[:2])
    with pytest.raises(rs.InputError, match="not finite"):
        rs.figures.model_matrix(xr.where(table == table[0, 1], np.nan, table))
