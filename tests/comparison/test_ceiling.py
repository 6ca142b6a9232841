"""The noise ceiling against known truth: a common part and the noise of seeds."""

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.comparison import noise_ceiling
from repsim_nb.errors import InputError

COMMON = np.random.default_rng(0).normal(size=(2000, 6))


def seeds(scale, number, common=COMMON):
    """Models that share `common`, with noise of their own in twelve more dimensions."""
    made = np.random.default_rng([number, int(100 * scale)])
    return [
        {layer: np.hstack([common, scale * made.normal(size=(len(common), 12))]) for layer in (0, 1)}
        for _ in range(number)
    ]


def test_noise_ceiling_of_seeds_is_the_mean_over_their_pairs():
    three = seeds(0.7, 3)
    found = noise_ceiling(three)
    pairs = [rs.compare(three[i], three[j]).values.diagonal() for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(found.seeds, np.mean(pairs, axis=0), atol=1e-6)
    assert list(found) == ["seeds"]


@pytest.mark.parametrize(("one", "other"), [(1.0, 0.1), (0.4, 0.8), (0.6, 0.6)])
def test_noise_ceiling_is_reached_by_recipes_with_the_same_common_part(one, other):
    """Also where the similarity exceeds that of two seeds of the noisier recipe."""
    noisy, clear = seeds(one, 2), seeds(other, 3)
    found = noise_ceiling(noisy, clear)
    between = np.mean([rs.compare(a, b).values.diagonal() for a in noisy for b in clear], axis=0)
    np.testing.assert_allclose(between, found.ceiling, rtol=0.03)
    if one == 1.0:
        assert (between > found.seeds + 0.1).all()


def test_noise_ceiling_is_not_reached_by_recipes_that_share_less():
    noisy, clear = seeds(0.5, 2), seeds(0.1, 2, COMMON @ np.diag([1, 1, 1, 0, 0, 0]))
    found = noise_ceiling(noisy, clear)
    between = np.mean([rs.compare(a, b).values.diagonal() for a in noisy for b in clear], axis=0)
    assert (between < found.ceiling - 0.1).all()


def test_noise_ceiling_of_one_model_with_itself_is_1_on_any_rows():
    same = [{0: COMMON}, {0: 3 * COMMON[:, ::-1] + 1}]
    assert noise_ceiling(same, same).ceiling.item() == pytest.approx(1)
    some = [{0: acts[0][::7]} for acts in same]
    assert noise_ceiling(some, some).ceiling.item() == pytest.approx(1)


def test_noise_ceiling_of_unrelated_seeds_is_0_and_of_other_measures_absent():
    rng = np.random.default_rng(3)
    unrelated = [{0: rng.normal(size=(40, 3))} for _ in range(6)]
    pairs = [noise_ceiling(unrelated[:2], [a, b]).ceiling.item() for a in unrelated[2:] for b in unrelated[2:]]
    assert min(pairs) == 0
    assert list(noise_ceiling(unrelated, unrelated, "procrustes")) == ["seeds", "seeds_other"]


def test_noise_ceiling_says_what_it_needs():
    two = seeds(0.1, 2)
    with pytest.raises(InputError, match="at least two models of each recipe; one has 1"):
        noise_ceiling(two[:1])
    with pytest.raises(InputError, match="other has 1"):
        noise_ceiling(two, two[:1])
    with pytest.raises(InputError, match="no layer in common"):
        noise_ceiling([{0: COMMON}, {0: COMMON}], [{3: COMMON}, {3: COMMON}])


def test_curves_draw_the_ceiling_once_or_the_seeds_of_one_recipe():
    noisy, clear = seeds(0.5, 2), seeds(0.2, 2)
    result, ceiling = rs.compare(noisy[0], clear[0]), noise_ceiling(noisy, clear)
    ax = rs.figures.curves(result, ceiling=ceiling)
    assert rs.figures.curves(rs.compare(noisy[1], clear[1]), ax, label="another", ceiling=ceiling) is ax
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_array_equal(drawn["noise ceiling of the seeds"], ceiling.ceiling)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["a, b", "noise ceiling of the seeds", "another"]
    alone = rs.figures.curves(result, ceiling=noise_ceiling(noisy))
    drawn = {line.get_label(): line.get_ydata() for line in alone.lines}
    np.testing.assert_array_equal(drawn["two seeds of one recipe"], ceiling.seeds)
    with pytest.raises(InputError, match="leave out layer_a"):
        rs.figures.curves(result, layer_a=0, ceiling=ceiling)


def test_curves_refuse_the_ceiling_of_another_measure_or_estimator():
    two = seeds(0.5, 2)
    result = rs.compare(*two)
    for other in ("procrustes", rs.get_measure("cka", debiased=False), rs.get_measure("cka", kernel="rbf")):
        with pytest.raises(InputError, match=r"The ceiling is of .*, the curve of .*(measure|debiased|kernel)"):
            rs.figures.curves(result, ceiling=noise_ceiling(two, two, other))
