"""The noise ceiling against known truth: equal models, runs of one recipe, and normal rows."""

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.comparison import noise_ceiling
from repsim_nb.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 5))


def near(scale, seed):
    return {layer: X + scale * np.random.default_rng([seed, layer]).normal(size=X.shape) for layer in (0, 1)}


@pytest.mark.parametrize(("measure", "same"), [("cka", 1.0), ("procrustes", 0.0), ("rsa", 1.0)])
def test_noise_ceiling_of_a_model_with_itself_is_the_bound(measure, same):
    rotated = {layer: 3 * X @ np.linalg.qr(RNG.normal(size=(5, 5)))[0] + 1 for layer in (0, 1)}
    own = {0: X, 1: X}
    ceiling = noise_ceiling(own, own if measure == "rsa" else rotated, [own, own], measure)
    np.testing.assert_allclose(ceiling.halves, same, atol=1e-5)
    np.testing.assert_allclose(ceiling.seeds, same, atol=1e-5)


def test_noise_ceiling_of_seeds_is_the_mean_over_their_pairs():
    seeds = [near(0.5, seed) for seed in range(3)]
    ceiling = noise_ceiling(seeds[0], near(2.0, 9), seeds)
    pairs = [rs.compare(seeds[i], seeds[j]).values.diagonal() for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(ceiling.seeds, np.mean(pairs, axis=0), atol=1e-6)
    values = rs.compare(seeds[0], near(2.0, 9)).values.diagonal()
    assert (values < ceiling.seeds).all()


def test_noise_ceiling_of_halves_lies_as_far_below_1_as_theory_says():
    """Two halves with independent values of SD s differ by 2 s / sqrt(pi) on average."""
    y, found, spread = X @ RNG.normal(size=(5, 5)), [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(200, 4))
        y = x + rng.normal(size=x.shape)
        found.append(1 - noise_ceiling({0: x}, {0: y}, n_splits=4, seed=seed).halves.item())
        spread.append(rs.get_measure("cka")(x[:100], y[:100]))
    assert np.mean(found) == pytest.approx(2 * np.std(spread) / np.sqrt(np.pi), rel=0.25)


def test_noise_ceiling_divides_documents_not_rows():
    """All rows of a document are equal, so that halves of rows would be nearly the same data."""
    rng = np.random.default_rng(1)
    x, y = (np.repeat(rng.normal(size=(20, 3)), 30, axis=0) for _ in range(2))
    y = x + y
    documents = np.repeat(np.arange(20), 30)
    by_document, by_row = (1 - noise_ceiling({0: x}, {0: y}, groups=g).halves.item() for g in (documents, None))
    assert by_document > 2 * by_row


def test_noise_ceiling_says_what_it_needs():
    one, other = near(0.1, 0), near(0.1, 1)
    with pytest.raises(InputError, match="at least two models of one recipe; got one"):
        noise_ceiling(one, other, [one])
    with pytest.raises(InputError, match="no layer in common"):
        noise_ceiling({0: X}, {3: X})
    with pytest.raises(InputError, match="at least 5 documents; there are 3"):
        noise_ceiling(one, other, groups=np.repeat([0, 1, 2], 100))
    with pytest.raises(InputError, match="only that of seeds"):
        noise_ceiling(one, other, measure="hsic")
    assert list(noise_ceiling(one, other, [one, other], "hsic")) == ["seeds"]


def test_curves_draw_the_ceiling_once():
    one, other = near(0.1, 0), near(1.0, 1)
    result, ceiling = rs.compare(one, other), noise_ceiling(one, other, [one, near(0.1, 2)])
    ax = rs.figures.curves(result, ceiling=ceiling)
    assert rs.figures.curves(rs.compare(one, near(1.0, 3)), ax, label="another", ceiling=ceiling) is ax
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_array_equal(drawn["ceiling: seeds of one recipe"], ceiling.seeds)
    np.testing.assert_array_equal(drawn["ceiling: two halves of the documents"], ceiling.halves)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(labels) == len(set(labels)) == 4
    with pytest.raises(InputError, match="of 'procrustes', the curve of 'cka'"):
        rs.figures.curves(result, ceiling=noise_ceiling(one, other, measure="procrustes"))
    with pytest.raises(InputError, match="leave out layer_a"):
        rs.figures.curves(result, layer_a=0, ceiling=ceiling)
