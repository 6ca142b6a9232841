"""Two representations from close by: truths of geometry, and tokens that stand where they are said to stand."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import repsim_nb as rs
from repsim_nb.activations import extract_aligned
from repsim_nb.comparison.closeup import most_different, shared_axes, tokens_at
from repsim_nb.errors import InputError

TEXTS = [f"Document {i} says: import module_{i} as m{i}; ünïcode {i * 7}." for i in range(8)]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def rotation(d: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), n=st.integers(6, 60), d=st.integers(1, 8), extra=st.integers(0, 4))
def test_rotation_scale_shift_and_width_make_no_difference(seed, n, d, extra):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = 0.3 * np.pad(x, ((0, 0), (0, extra))) @ rotation(d + extra, rng) - 2
    closeup = shared_axes(x, y, seed=seed)
    assert np.allclose(closeup.difference, 0, atol=1e-6)
    assert np.allclose(closeup.x, closeup.y, atol=1e-6)


def test_the_mean_square_of_differences_is_the_squared_procrustes_distance():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 6)), rng.normal(size=(80, 9))
    distance = rs.get_measure("procrustes")(x, y)
    assert (shared_axes(x, y).difference ** 2).mean() == pytest.approx(distance**2, rel=1e-6)


def test_a_row_that_was_moved_differs_most():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 5))
    y = x @ rotation(5, rng)
    y[137] += 20
    assert shared_axes(x, y).difference.argmax() == 137


def test_the_axes_are_the_principal_axes_of_both():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 4)) * [10, 3, 0.1, 0.1]
    closeup = shared_axes(x, x, k=500)
    centred = x - x.mean(0)
    variance = np.linalg.eigvalsh(centred.T @ centred)[::-1]
    assert closeup.explained == pytest.approx((variance / variance.sum())[:2], rel=1e-6)
    assert (closeup.x**2).mean(0) == pytest.approx(closeup.explained, rel=1e-6)
    assert abs(np.corrcoef(closeup.x[:, 0], x[:, 0])[0, 1]) > 0.99


def test_the_sample_is_seeded_and_says_how_many_it_is():
    x = np.random.default_rng(3).normal(size=(100, 3))
    one, same, other = (shared_axes(x, x, k=20, seed=seed) for seed in (5, 5, 6))
    assert one.index.tolist() == same.index.tolist() != other.index.tolist()
    assert len(set(one.index.tolist())) == 20
    assert (str(one), len(one.difference)) == ("20 of 100 rows", 100)
    assert shared_axes(x, x, k=500).index.tolist() == list(range(100))


def test_what_cannot_be_aligned_is_refused():
    x = np.random.default_rng(4).normal(size=(10, 3))
    with pytest.raises(InputError, match="x has 10 rows, y has 9"):
        shared_axes(x, x[:9])
    with pytest.raises(InputError, match=r"y has no variance .all 10 rows are equal"):
        shared_axes(x, np.ones((10, 3)))
    with pytest.raises(InputError, match="x has 2 rows; shared_axes needs at least 3"):
        shared_axes(x[:2], x[:2])


@pytest.mark.parametrize("name", ["tiny-neox-w32-d2", "tiny-bert-nli-00"])
def test_tokens_stand_in_their_text(name):
    model = rs.load_model(name)
    corpus = None if model.kind == "classifier" else TEXTS
    acts = rs.extract(model, corpus=corpus, layers=[1], n_rows=60)
    shown = tokens_at(model, acts.rows, corpus)
    loaded = rs.load_corpus(model.made_for if corpus is None else corpus)
    for (_, line), end in zip(shown.iterrows(), acts.rows.char_end, strict=True):
        given = loaded.inputs[loaded.documents.index(line.document)]
        text = given if isinstance(given, str) else "\n".join(given)
        assert line.before + line.token + line.after in text
        assert text[:end].endswith(line.before[-5:] + line.token)
    windows = model.windows(list(loaded.inputs))
    spoken = {model.tokenizer.decode(window.ids[p]).strip() for window in windows for p in range(len(window))}
    assert {token.strip() for token in shown.token if token.isascii()} <= spoken


def test_the_most_different_tokens_come_first():
    models = [rs.load_model(name) for name in ("tiny-neox-w32-d2", "tiny-neox-w64-d2")]
    a, b = extract_aligned(models, TEXTS, n_rows=50)
    closeup = shared_axes(a[1], b[1])
    table = most_different(closeup, models[0], a, TEXTS, n=7)
    assert table.difference.tolist() == sorted(closeup.difference, reverse=True)[:7]
    assert table.document.tolist() == a.rows.document.iloc[table.index].tolist()


def test_the_projection_draws_both_and_joins_them():
    rng = np.random.default_rng(5)
    closeup = shared_axes(rng.normal(size=(60, 4)), rng.normal(size=(60, 4)), k=30)
    ax = rs.figures.projection(closeup, labels=("one", "two"))
    first, second = ax.lines
    assert np.allclose(np.array(first.get_data()).T, closeup.x)
    assert np.allclose(np.array(second.get_data()).T, closeup.y)
    assert np.allclose(ax.collections[0].get_segments(), np.stack([closeup.x, closeup.y], 1))
    assert ax.get_title() == "30 of 60 rows"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["one", "two"]
