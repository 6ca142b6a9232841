"""Measures against independent, slow implementations of their definitions."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from sklearn.linear_model import Ridge

from repsim_nb.measures import features, get_measure, kernels
from repsim_nb.measures.matching import best_transport


def grams(kernel: str, *xs: np.ndarray, bandwidth: float = 1.0) -> list[np.ndarray]:
    out = []
    for x in xs:
        d2 = ((x[:, None] - x[None]) ** 2).sum(-1)
        variance = bandwidth**2 * np.median(d2[np.triu_indices(len(x), 1)])
        out.append(x @ x.T if kernel == "linear" else np.exp(-d2 / (2 * variance)))
    return out


def hsic1(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """Song et al. (2012), eq. 5, for any matrices."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    one = np.ones(n)
    value = np.trace(k @ l) + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * one @ k @ l @ one / (n - 2)
    return value / (n * (n - 3))


def related(n: int, d: int, seed: int = 0, width: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + rng.normal(size=d)
    return x, x[:, :1] + 0.7 * rng.normal(size=(n, width)) + 1


@pytest.mark.parametrize(("n", "d"), [(9, 30), (40, 4)])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_hsic_is_song_s_and_gretton_s(n: int, d: int, kernel: str) -> None:
    x, y = related(n, d)
    k, l = grams(kernel, x, y)  # noqa: E741
    h = np.eye(n) - 1 / n
    assert get_measure("hsic", kernel=kernel)(x, y) == pytest.approx(hsic1(k, l), rel=1e-10)
    gretton = np.trace(k @ h @ l @ h) / (n - 1) ** 2
    assert get_measure("hsic", kernel=kernel, debiased=False)(x, y) == pytest.approx(gretton, rel=1e-10)
    squared = hsic1(k, k) + hsic1(l, l) - 2 * hsic1(k, l)
    assert get_measure("hsic", kernel=kernel).dissimilarity(x, y) == pytest.approx(squared, rel=1e-10)


def projected(k: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """k on the pairs kept, minus its best approximation there by a_i + a_j, by plain least squares."""
    n = len(k)
    rows, columns = np.nonzero(keep)
    design = np.zeros((len(rows), n))
    design[np.arange(len(rows)), rows] += 1
    design[np.arange(len(rows)), columns] += 1
    a = np.linalg.lstsq(design, k[rows, columns], rcond=None)[0]
    out = np.zeros_like(k)
    out[rows, columns] = k[rows, columns] - design @ a
    return out


@pytest.mark.parametrize("labels", ["aabbbccccdde", "aaaaaabbbccd", "aaaaaaaabccd", "dacbbacbdabe"])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("d", [2, 20])
def test_groups_leave_out_pairs_and_project_out_means(labels: str, kernel: str, d: int) -> None:
    x, y = related(len(labels), d)
    groups = np.array(list(labels))
    keep = groups[:, None] != groups
    k, l = (projected(gram, keep) for gram in grams(kernel, x, y))  # noqa: E741
    expected = (k * l).sum() / math.sqrt((k * k).sum() * (l * l).sum())
    assert get_measure("cka", groups=groups, kernel=kernel)(x, y) == pytest.approx(expected, rel=1e-9)


def test_groups_of_one_row_are_the_debiased_estimator() -> None:
    x, y = related(20, 3)
    assert get_measure("cka", groups=range(20))(x, y) == pytest.approx(get_measure("cka")(x, y), rel=1e-12)


def test_only_groups_make_cka_0_for_unrelated_models_of_the_same_documents() -> None:
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(32), 16)

    def tokens() -> np.ndarray:
        return rng.normal(size=(32, 64))[documents] + rng.normal(size=(512, 64))

    pairs = [(tokens(), tokens()) for _ in range(40)]
    plain = np.array([get_measure("cka")(*p) for p in pairs])
    grouped = np.array([get_measure("cka", groups=documents)(*p) for p in pairs])
    assert 0.2 < plain.mean() < 0.4
    assert abs(grouped.mean()) < 3 * grouped.std() / math.sqrt(len(pairs)) < 0.02


def test_groups_of_unequal_sizes_keep_zero_expectation() -> None:
    rng = np.random.default_rng(1)
    documents = np.repeat(np.arange(12), rng.integers(1, 12, size=12))
    values = []
    for _ in range(300):
        x, y = (rng.normal(size=(12, 5))[documents] + 0.3 * rng.normal(size=(len(documents), 5)) for _ in "xy")
        groups = kernels.Groups(documents, len(documents))
        grams_xy = [kernels.Gram(features.Features(torch.from_numpy(m), "x"), "linear", True, groups) for m in (x, y)]
        cross = kernels.kept_products(grams_xy[:1], grams_xy[1:])[0].item()
        values.append(cross * (grams_xy[0].unit * grams_xy[1].unit) ** 2)
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values))


def test_minibatch_cka_sums_hsic_over_batches() -> None:
    x, y = related(47, 5)
    x[:20] *= 100  # batches of very different scale
    parts = list(zip(np.array_split(x, 4), np.array_split(y, 4), strict=True))  # 47 rows in batches of at most 15
    xy, xx, yy = (sum(hsic1(*grams("linear", *p)) for p in pick) for pick in (
        parts, [(a, a) for a, _ in parts], [(b, b) for _, b in parts]))  # fmt: skip
    assert get_measure("cka", batch=15)(x, y) == pytest.approx(xy / math.sqrt(xx * yy), rel=1e-10)


@pytest.mark.parametrize("params", [{}, {"debiased": False}, {"groups": np.arange(60) // 6}, {"kernel": "rbf"}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_route_and_tiling_gives_the_same(
    params: dict, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = get_measure("cka", **params)
    layers = [torch.from_numpy(related(60, d, seed=d)[0]).to(dtype) for d in (5, 7, 40, 59)]
    whole = measure.grid(*[[measure.prepare(a) for a in layers]] * 2)
    for by_grams in (True, False):
        monkeypatch.setattr(kernels, "gram_route_is_cheaper", lambda *sizes, by_grams=by_grams: by_grams)
        monkeypatch.setattr(features, "TILE_BYTES", 4096)
        monkeypatch.setattr(features, "TILE_ROWS", 17)
        monkeypatch.setattr(kernels, "TILE_ROWS", 17)
        monkeypatch.setattr(kernels, "TILE", (16, 32))
        monkeypatch.setattr(kernels, "WIDTH", 8)
        xs, ys = ([measure.prepare(a) for a in layers] for _ in "xy")
        assert measure.grid(xs, ys) == pytest.approx(whole, abs=3e-6 if dtype is torch.float32 else 1e-12)
        assert measure.grid(xs, xs) == pytest.approx(whole, abs=3e-6 if dtype is torch.float32 else 1e-12)


def test_float32_survives_a_row_far_from_all_others() -> None:
    rng = np.random.default_rng(0)
    x, y = related(300, 20, width=20)
    y += x
    x[0] += 3000 * rng.normal(size=20)
    y[0] += 2000 * rng.normal(size=20)
    double = get_measure("cka")(x, y)
    assert get_measure("cka")(x.astype("f4"), y.astype("f4")) == pytest.approx(double, abs=1e-5)


@pytest.mark.parametrize(("p", "q"), [(3, 3), (4, 2), (3, 5), (7, 11)])
def test_transport_is_the_linear_program_on_both_paths(p: int, q: int, monkeypatch: pytest.MonkeyPatch) -> None:
    r = np.random.default_rng(p).uniform(-1, 1, size=(p, q))
    rows = [np.kron(np.eye(p)[i], np.ones(q)) for i in range(p)]
    columns = [np.kron(np.ones(p), np.eye(q)[j]) for j in range(q)]
    marginals = [1 / p] * p + [1 / q] * q
    expected = -linprog(-r.ravel(), A_eq=np.array(rows + columns), b_eq=marginals).fun
    for copies in (1, 100):
        monkeypatch.setattr("repsim_nb.measures.matching.LARGEST_COPIES", copies)
        assert best_transport(r) == pytest.approx(expected, rel=1e-9)
    assert best_transport(r) == pytest.approx(best_transport(r.T), rel=1e-12)


def test_matching_measures_by_trying_everything() -> None:
    x, y = related(30, 4)
    r = np.corrcoef(x.T, y.T)[:4, 4:]
    hard = max(np.mean([r[i, j] for j, i in enumerate(chosen)]) for chosen in itertools.permutations(range(4), 3))
    assert get_measure("hard_matching")(x, y) == pytest.approx(hard, rel=1e-10)
    assert get_measure("soft_matching")(x, y) == pytest.approx((r.max(0).mean() + r.max(1).mean()) / 2, rel=1e-10)
    square = related(30, 3)
    one_to_one = get_measure("hard_matching")(*square)
    assert get_measure("transport_matching")(*square) == pytest.approx(one_to_one, rel=1e-10)
    padded = np.pad(y, ((0, 0), (0, 1)))
    nearest = min(np.linalg.norm(x[:, list(o)] - padded) for o in itertools.permutations(range(4)))
    assert get_measure("permutation_procrustes")(x, y) == pytest.approx(nearest, rel=1e-10)


def test_a_constant_feature_correlates_with_nothing() -> None:
    x, _ = related(30, 3)
    constant = x.copy()
    constant[:, 1] = 0.1
    for name, expected in (("hard_matching", 2 / 3), ("soft_matching", None)):
        value = get_measure(name)(constant, x)
        assert expected is None or value == pytest.approx(get_measure(name)(x[:, [0, 2]], x) * expected)
        assert -1 <= value <= 1


def neighbours(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    return np.argsort(-(cosine - 2 * np.eye(len(x))), axis=1)[:, :k], cosine


def test_cknna_by_dense_masks() -> None:
    x, y = related(40, 5)
    k = 4
    (near_x, gram_x), (near_y, gram_y) = neighbours(x, k), neighbours(y, k)
    mask_x, mask_y = np.zeros((40, 40)), np.zeros((40, 40))
    np.put_along_axis(mask_x, near_x, 1, axis=1)
    np.put_along_axis(mask_y, near_y, 1, axis=1)
    both = mask_x * mask_y
    expected = hsic1(gram_x * both, gram_y * both) / math.sqrt(
        hsic1(gram_x * mask_x, gram_x * mask_x) * hsic1(gram_y * mask_y, gram_y * mask_y)
    )
    assert get_measure("cknna", k=k)(x, y) == pytest.approx(expected, rel=1e-10)


def test_second_order_cosine_row_by_row() -> None:
    x, y = related(300, 5)  # more rows than one block
    (near_x, gram_x), (near_y, gram_y) = neighbours(x, 6), neighbours(y, 6)
    values = []
    for i in range(300):
        union = sorted({*near_x[i], *near_y[i]})
        s, t = gram_x[i, union], gram_y[i, union]
        values.append(s @ t / np.linalg.norm(s) / np.linalg.norm(t))
    assert get_measure("second_order_cosine", k=6)(x, y) == pytest.approx(np.mean(values), rel=1e-10)


@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(10), [3, 9, 4, 8, 5, 7, 6, 6, 2, 10])])
def test_ridge_predictivity_by_plain_nested_cross_validation(groups: np.ndarray | None) -> None:
    x, y = related(60, 3, width=8)
    if groups is None:
        folds = np.array_split(np.arange(60), 5)
    else:
        folds = [np.flatnonzero(np.isin(groups, part)) for part in np.array_split(np.arange(10), 5)]

    def error(train: list[int], test: list[int], penalty: float) -> float:
        mean_x, mean_y = x[train].mean(0), y[train].mean(0)
        centred = y[train] - mean_y
        strength = penalty * np.linalg.eigvalsh(centred.T @ centred).mean()
        model = Ridge(strength, fit_intercept=False).fit(centred, x[train] - mean_x)
        return ((x[test] - mean_x - model.predict(y[test] - mean_y).reshape(len(test), -1)) ** 2).sum()

    def rows(chosen: list[int]) -> list[int]:
        return [i for f in chosen for i in folds[f]]

    unexplained = total = 0.0
    for outer in range(5):
        others = [f for f in range(5) if f != outer]
        penalties = np.logspace(-6, 3, 19)
        costs = [
            sum(error(rows([f for f in others if f != inner]), folds[inner], a) for inner in others) for a in penalties
        ]
        unexplained += error(rows(others), folds[outer], penalties[int(np.argmin(costs))])
        total += ((x[folds[outer]] - x[rows(others)].mean(0)) ** 2).sum()
    value = get_measure("ridge_predictivity", groups=groups)(x, y)
    assert value == pytest.approx(1 - unexplained / total, rel=1e-8)
    assert 0 < value < 1


def test_functional_measures_against_scipy() -> None:
    x, y = 4 * np.random.default_rng(0).normal(size=(2, 50, 7))
    p, q = softmax(x, axis=1), softmax(y, axis=1)
    labels = np.arange(50) % 7
    assert get_measure("jensen_shannon")(x, y) == pytest.approx((jensenshannon(p, q, base=2, axis=1) ** 2).mean())
    assert get_measure("kl_divergence")(x, y) == pytest.approx(entropy(p, q, axis=1).mean())
    assert get_measure("disagreement")(x, y) == np.mean(p.argmax(1) != q.argmax(1))
    difference = abs(np.mean(p.argmax(1) == labels) - np.mean(q.argmax(1) == labels))
    assert get_measure("accuracy_difference", labels=labels)(x, y) == pytest.approx(difference)
    assert log_softmax(x, axis=1).shape == x.shape


def test_linear_measures_agree_where_theory_says_so() -> None:
    x, y = related(50, 4)
    rho = get_measure("cca", summary="mean_square")(x, y)
    white = [np.linalg.svd(m - m.mean(0), full_matrices=False)[0] for m in (x, y)]
    assert get_measure("gulp", regularization=0)(x, y) == pytest.approx(math.sqrt(4 + 3 - 2 * 3 * rho))
    assert get_measure("linear_regression")(white[0], y) == pytest.approx(3 * rho / 4)
    assert get_measure("procrustes")(x, y) == pytest.approx(2 * math.sin(get_measure("angular_shape")(x, y) / 2))
    one = get_measure("cka", debiased=False)(x[:, :1], y[:, :1])
    assert one == pytest.approx(np.corrcoef(x[:, 0], y[:, 0])[0, 1] ** 2)


def test_gulp_is_the_difference_of_ridge_predictors() -> None:
    x, y = related(50, 4)
    predictors = []
    for m in (x, y):
        m = m - m.mean(0)
        m = m * math.sqrt(50) / np.linalg.norm(m)
        predictors.append(m @ np.linalg.inv(m.T @ m / 50 + 0.3 * np.eye(m.shape[1])) @ m.T / 50)
    assert get_measure("gulp", regularization=0.3)(x, y) == pytest.approx(np.linalg.norm(predictors[0] - predictors[1]))


def test_imd_from_its_definition() -> None:
    x, y = related(30, 3)
    traces = []
    t = np.logspace(-1, 1, 256)
    for m in (x, y):
        d = np.linalg.norm(m[:, None] - m[None], axis=-1) + np.diag(np.full(30, np.inf))
        links = np.zeros((30, 30))
        np.put_along_axis(links, np.argsort(d, axis=1)[:, :5], 1, axis=1)
        links = np.maximum(links, links.T)
        degree = links.sum(1)
        laplacian = np.eye(30) - links / np.sqrt(degree[:, None] * degree)
        traces.append(np.exp(-np.outer(t, np.linalg.eigvalsh(laplacian))).mean(1))
    expected = np.max(np.exp(-2 * (t + 1 / t)) * np.abs(traces[0] - traces[1]))
    assert get_measure("imd")(x, y) == pytest.approx(expected, rel=1e-9)


def test_rounding_of_a_large_mean_is_no_direction() -> None:
    rng = np.random.default_rng(0)
    x, y = related(60, 2)
    for dtype, offset in ((np.float64, 1e6), (np.float32, 10)):
        flat = (x @ rng.normal(size=(2, 7)) + offset).astype(dtype)
        for name in ("cca", "pwcca", "linear_regression"):
            assert get_measure(name)(y.astype(dtype), flat) == pytest.approx(get_measure(name)(y, x), rel=1e-4)


@pytest.mark.parametrize("n", [4, 31, 256, 257, 500, 705, 900])
def test_tiles_cover_every_pair_of_rows_once(n: int) -> None:
    covered = np.zeros((n, n), dtype=int)
    for rows, columns in kernels._tiles(n, *kernels.TILE):
        covered[rows, columns] += 1
        if rows != columns:
            covered[columns, rows] += 1
        assert rows.stop - rows.start <= kernels.TILE[0]
        assert columns.stop - columns.start <= kernels.TILE[1]
    assert (covered == 1).all()


def test_cka_of_gram_matrices_in_several_tiles_is_that_of_numpy() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 450, 2100)) + 3
    y += x

    def hsic(a: np.ndarray, b: np.ndarray) -> float:  # Song et al., equation 5
        k, l, n = a @ a.T, b @ b.T, len(a)  # noqa: E741
        np.fill_diagonal(k, 0)
        np.fill_diagonal(l, 0)
        middle = k.sum() * l.sum() / ((n - 1) * (n - 2))
        return (k * l).sum() + middle - 2 / (n - 2) * k.sum(0) @ l.sum(0)

    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert get_measure("cka")(x, y) == pytest.approx(expected, abs=1e-9)
    assert get_measure("cka")(x.astype("f4"), y.astype("f4")) == pytest.approx(expected, abs=1e-6)
