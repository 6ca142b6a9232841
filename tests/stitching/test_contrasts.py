"""Entries are chosen on other documents than they are judged on, and planted contrasts and correlations are found."""

import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.comparison import compare
from repsim_nb.errors import InputError
from repsim_nb.stitching import at_entries, best_entries, estimate_table, geometry_predicts, size_contrast
from repsim_nb.stitching.geometry import ROWS
from tests.support.atlases import atlas_of

SEEDS = ["a0", "a1", "a2", "b0", "b1", "b2"]
KINDS = {name: name[0] for name in SEEDS}


def test_best_entries_takes_the_planted_entry_and_no_profit_from_noise():
    planted = np.full((1, 1, 3, 5), 1.0)
    planted[0, 0, [0, 1, 2], [4, 2, 0]] = 0.5
    found = best_entries(atlas_of(planted, ["s"], ["r"], noise=0.05))
    assert found.entry.squeeze().values.tolist() == [4, 2, 0]
    assert found.penalty.values == pytest.approx(0.5, abs=0.05)
    assert found.penalty.dims == ("sender", "receiver", "layer")
    assert bool((found.penalty_low < found.penalty).all())
    same = atlas_of(np.ones((1, 1, 60, 12)), ["s"], ["r"], noise=1.0, depths={"s": 59, "r": 11})
    lowest = float(same.penalty.min("into").mean())
    assert lowest < 0.8, "there is something to profit from"
    assert float(best_entries(same).penalty.mean()) == pytest.approx(1, abs=0.1)


def test_at_entries_takes_equal_relative_depth_or_one_entry():
    penalty = np.arange(3 * 9).reshape(1, 1, 3, 9) / 10
    table = atlas_of(penalty, ["s"], ["r"], depths={"s": 2, "r": 8})
    found = at_entries(table)
    assert found.entry.squeeze().values.tolist() == [0, 4, 8]
    assert found.penalty.squeeze().values == pytest.approx([0.0, 1.3, 2.6])
    assert at_entries(table, 3).entry.squeeze().values.tolist() == [3, 3, 3]
    with pytest.raises(InputError, match=r"not entered at layer 4; the table has \[0, 1\]"):
        at_entries(table.isel(into=[0, 1]))


def test_best_entries_cuts_models_of_other_depths_at_the_same_relative_depth():
    penalty = np.full((2, 1, 5, 3), np.nan)
    penalty[0, 0, :3] = np.arange(3)[:, None]
    penalty[1, 0] = np.arange(5)[:, None]
    table = atlas_of(penalty, ["flat", "deep"], ["r"], depths={"flat": 2, "deep": 4, "r": 2})
    found = best_entries(table)
    assert found.cut.values.tolist() == [[0, 1, 2], [0, 2, 4]]
    assert found.penalty.squeeze().values.tolist() == [[0, 1, 2], [0, 2, 4]]


@pytest.mark.parametrize("entries", ["best", "relative"])
def test_size_contrast_finds_a_planted_contrast_and_not_one_of_receivers(entries):
    of_a = np.array([name[0] == "a" for name in SEEDS])
    planted = 1.0 + 0.7 * np.outer(of_a, ~of_a)[..., None, None] + 0.4 * ~of_a[None, :, None, None]
    planted = planted + 0.01 * np.random.default_rng(1).standard_normal((6, 6, 3, 3))
    table = atlas_of(planted, SEEDS, SEEDS, noise=0.02)
    line = size_contrast(table, KINDS, "a", "b", entries).loc["all"]
    assert line.low < 0.7 < line.high
    assert line.low > 0.6
    assert line.p_value == pytest.approx(0.1)
    assert size_contrast(table, KINDS, "a", "b", entries, corrected=False).asymmetry["all"] == pytest.approx(
        1.1, abs=0.1
    )
    two = table.sel(sender=[*SEEDS[:2], *SEEDS[3:]], receiver=[*SEEDS[:2], *SEEDS[3:]])
    assert np.isinf(size_contrast(two, KINDS, "a", "b", entries).high["all"]), "two seeds give no interval"


def test_size_contrast_says_what_is_wrong_with_its_input():
    table = atlas_of(np.ones((6, 6, 3, 3)), SEEDS, SEEDS)
    with pytest.raises(InputError, match="Unknown choice of entries 'bset'"):
        size_contrast(table, KINDS, "a", "b", "bset")
    with pytest.raises(InputError, match="Expected a table of cuts and entries"):
        best_entries(table.isel(into=0))
    with pytest.raises(InputError, match="one document"):
        best_entries(table.isel(document=[0]))


def test_geometry_predicts_finds_what_penalties_follow_and_says_how_sure():
    rng = np.random.default_rng(0)
    names = ["p", "q", "r", "s"]
    penalty = rng.random((4, 4, 5, 5)) + np.arange(4)[None, :, None, None]  # receivers differ, and that does not count
    similarity = np.stack([1 - (penalty - np.floor(penalty)), rng.random(penalty.shape)])
    found = geometry_predicts(atlas_of(penalty, names, names, similarity=similarity))
    assert found.index.tolist() == ["m0", "m1", "difference in relative depth"]
    assert found.loc["m0", ["spearman", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
    assert found.low["m1"] < 0 < found.high["m1"]
    assert found.beyond_low["m0"] > 0.5
    assert found.loc[found.index[-1], ["beyond_depth", "beyond_low", "beyond_high"]].tolist() == [0, 0, 0]
    assert (found.pairs == 12).all()
    assert (found.cells == 12 * 25).all()


def test_geometry_predicts_takes_depth_for_what_it_is_and_knows_nothing_from_two_models():
    depth = np.abs(np.subtract.outer(np.arange(5) / 4, np.arange(5) / 4))
    penalty = np.broadcast_to(depth, (2, 2, 5, 5))
    table = atlas_of(penalty, ["p", "q"], ["p", "q"], similarity=1 - penalty[None])
    found = geometry_predicts(table)
    assert found.spearman.tolist() == pytest.approx([1, 1])
    assert found.low.tolist() == [-1, -1]
    assert found.high.tolist() == [1, 1]
    with pytest.raises(InputError, match="no similarities"):
        geometry_predicts(table.drop_vars("similarity"))
    with pytest.raises(InputError, match="no pair of different models"):
        geometry_predicts(table.isel(sender=[0], receiver=[0]))


def test_a_table_has_the_similarity_that_compare_gives():
    small = ("tiny-neox-w32-d2", "tiny-neox-w64-d2")
    how = {"fit": "least_squares", "n_fit": 32, "n_report": 4, "measures": ["cka", "procrustes"], "into": [1, 2]}
    table = rs.stitching_table(small[:1], small, [0, 1], **how)
    assert table.similarity.dims == ("measure", "sender", "receiver", "layer", "into")
    corpus = rs.load_corpus("python-docs", split="test")
    a, b = rs.extract_aligned(small, corpus, [[0, 1], [1, 2]], n_rows=ROWS)
    cka = compare(a, b, measure="cka", null=59)
    cell = table.sel(sender=small[0], receiver=small[1])
    assert cell.similarity_raw.sel(measure="cka").values == pytest.approx(cka.values, abs=1e-5)
    assert cell.similarity.sel(measure="cka").values == pytest.approx(cka.calibrated.values, abs=1e-5)
    assert bool((cell.similarity > 0.02).all())
    both = rs.stitching_table(small, small, **how | {"into": [1], "measures": "cka"}, layers=[1]).similarity.squeeze()
    assert float(both[0, 1]) == float(both[1, 0]), "a symmetric measure is taken once"
    own = table.sel(sender=small[0], receiver=small[0], layer=1, into=1)
    assert own.similarity.values == pytest.approx([1, 1], abs=1e-3)


def test_estimate_table_counts_stitches_tokens_and_steps(monkeypatch):
    names, how = ["tiny-neox-w32-d2", "tiny-neox-w64-d2"], {"into": "all", "n_fit": 24, "n_report": 4}
    closed = estimate_table(names, names, fit="least_squares", **how)
    assert closed.stitches == 4 * 9
    assert closed.descent_seconds == 0
    assert set(closed.tokens) == {"report", "match"}
    floors = estimate_table(names, names, fit="least_squares", controls="all", **how)
    assert floors.stitches == 3 * 4 * 9
    assert floors.tokens["report"] == 3 * closed.tokens["report"]
    few, many = (estimate_table(names, names, steps=steps, **how) for steps in (20, 200))
    assert many.tokens["fit"] == pytest.approx(10 * few.tokens["fit"])
    assert many.descent_seconds > few.descent_seconds > 0
    assert str(many).startswith("stitches     36\n")


def test_figures_draw_an_atlas_and_similarity_against_function():
    import matplotlib.pyplot as plt

    penalty = np.random.default_rng(0).random((2, 2, 3, 3))
    table = atlas_of(penalty, ["p", "q"], ["p", "q"], similarity=1 - penalty[None])
    raced = xr.zeros_like(table.penalty, dtype=bool)
    raced[0, 0, 0, :2] = True
    figure = rs.figures.atlas(table.assign(raced=raced))
    first = figure.axes[0]
    assert len(figure.axes) == 5
    assert first.lines[0].get_xdata().tolist() == (penalty[0, 0].argmin(1) + 0.5).tolist()
    assert len(first.collections[1].get_paths()) == 2
    ax = rs.figures.similarity_against_function(table)
    assert [line.get_color() for line in ax.lines if len(line.get_xdata()) == 9].count("0.6") == 2
    assert "nats per token" in ax.get_ylabel()
    with pytest.raises(InputError, match="Unknown variable 'penalti'"):
        rs.figures.atlas(table, "penalti")
    with pytest.raises(InputError, match="Unknown measure of the table 'cka'"):
        rs.figures.similarity_against_function(table, "cka")
    with pytest.raises(InputError, match="into='all'"):
        rs.figures.atlas(table.isel(into=0))
    plt.close("all")
