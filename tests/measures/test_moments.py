"""Sums over batches give what all rows at once give, in any order and from any parts."""

import functools
import operator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from repsim_nb.errors import InputError
from repsim_nb.measures import DegenerateWarning, get_measure, list_measures
from repsim_nb.measures.minibatch import BatchSums
from repsim_nb.measures.moments import ROWS, Moments

N = 2500  # more than the rows gathered before products
WIDTHS_A, WIDTHS_B = {0: 30, 1: 300, 4: 17}, {2: 24, 3: 40}
FROM_MOMENTS = [
    ("cka", {}),
    ("cka", {"debiased": False}),
    ("hsic", {}),
    ("hsic", {"debiased": False}),
    ("procrustes", {}),
    ("procrustes_size_and_shape", {}),
    ("angular_shape", {}),
    ("angular_shape", {"alpha": 0.3}),
    ("angular_shape", {"alpha": 0}),
    ("cca", {}),
    ("cca", {"summary": "mean_square"}),
    ("svcca", {}),
    ("svcca", {"components": 3}),
    ("pwcca", {}),
    ("linear_regression", {}),
    ("gulp", {}),
    ("gulp", {"regularization": 0}),
]


@functools.cache
def sides(dtype=torch.float32):
    """Layers that share 12 directions, lie far from 0 and drift along the rows, as those of a sorted corpus do."""
    rng = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    shared, time = normal(N, 12), torch.linspace(0, 1, N, dtype=torch.float64)[:, None]

    def layer(width):
        rows = shared @ normal(12, width) + normal(N, width) + time * normal(width) + 5 * normal(width)
        return rows.to(dtype)

    return tuple({name: layer(width) for name, width in widths.items()} for widths in (WIDTHS_A, WIDTHS_B))


def part(side, rows):
    return None if side is None else {layer: x[rows] for layer, x in side.items()}


def added(accumulator, a, b, batch):
    for start in range(0, N, batch):
        accumulator.add(part(a, slice(start, start + batch)), part(b, slice(start, start + batch)))
    return accumulator


def in_memory(measure, a, b):
    left = [measure.prepare(x, "x") for x in a.values()]
    return measure.grid(left, left if b is None else [measure.prepare(y, "y") for y in b.values()])


def comparable(measure, values):
    """Distances near 0 are square roots of rounding: compare what is under the root."""
    if measure.name in ("angular_shape", "procrustes"):
        return np.cos(values) if measure.name == "angular_shape" else 1 - values**2 / 2
    return values**2 if measure.direction == "dissimilarity" else values


def agree(measure, values, expected, tolerance):
    values, expected = comparable(measure, values), comparable(measure, expected)
    assert values.shape == expected.shape
    assert np.abs(values - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("alone", [False, True], ids=["a-b", "a-a"])
@pytest.mark.parametrize(("name", "params"), FROM_MOMENTS, ids=str)
def test_moments_give_what_all_rows_give(name, params, alone):
    a, b = sides()
    b, widths_b = (None, None) if alone else (b, WIDTHS_B)
    measure = get_measure(name, **params)
    values = measure.from_moments(added(measure.accumulator(WIDTHS_A, widths_b), a, b, batch=431))
    agree(measure, values, in_memory(measure, a, b), 1e-6)


def test_every_measure_says_whether_it_can_be_had_from_moments():
    able = {name for name in list_measures().index if get_measure(name).moment_dtype is not None}
    assert able == {name for name, _ in FROM_MOMENTS}
    for measure in [get_measure("rsa"), get_measure("cka", kernel="rbf"), get_measure("cka", groups=np.arange(N) // 5)]:
        with pytest.raises(InputError, match=r"needs all rows at once.*angular_shape, cca, cka"):
            measure.accumulator(WIDTHS_A)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@settings(max_examples=12, deadline=None)
@given(
    cuts=st.lists(st.integers(1, N - 1), max_size=4, unique=True),
    order=st.randoms(use_true_random=False),
    shuffled=st.booleans(),
)
def test_parts_in_any_order_and_association_give_the_whole(dtype, cuts, order, shuffled):
    a, b = sides(dtype)
    where = np.arange(N)
    if shuffled:
        order.shuffle(where)
    parts = [
        Moments(WIDTHS_A, WIDTHS_B, dtype).add(part(a, rows), part(b, rows)) for rows in np.split(where, sorted(cuts))
    ]
    order.shuffle(parts)
    while len(parts) > 1:
        place = order.randrange(len(parts) - 1)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    assert parts[0].n == N
    tolerance = 1e-6 if dtype is torch.float32 else 1e-10
    for measure in (get_measure("cka"), get_measure("procrustes")):
        agree(measure, measure.from_moments(parts[0]), in_memory(measure, a, b), tolerance)


@pytest.mark.parametrize("widths_b", [None, WIDTHS_B], ids=["a-a", "a-b"])
def test_halves_that_lie_far_apart_merge(widths_b):
    a, b = sides()
    jump = (torch.arange(N)[:, None] >= N // 2) * 200.0
    a, b = ({layer: x + jump for layer, x in side.items()} for side in (a, b))
    first, second = (
        Moments(WIDTHS_A, widths_b).add(part(a, rows), None if widths_b is None else part(b, rows))
        for rows in (slice(N // 2), slice(N // 2, N))
    )
    for measure in (get_measure("cka"), get_measure("procrustes")):
        expected = in_memory(measure, a, None if widths_b is None else b)
        agree(measure, measure.from_moments(first + second), expected, 1e-6)
        agree(measure, measure.from_moments(second + first), expected, 1e-6)


def test_adding_leaves_the_parts_alone_and_adding_in_place_does_not():
    a, _ = sides()
    first, second = (Moments(WIDTHS_A).add(part(a, rows)) for rows in (slice(1000), slice(1000, N)))
    both = first + second
    assert (first.n, second.n, both.n) == (1000, N - 1000, N)
    first += second
    assert first.n == N
    cka = get_measure("cka")
    assert np.array_equal(cka.from_moments(first), cka.from_moments(both))
    onto_nothing = Moments(WIDTHS_A) + both
    assert np.array_equal(cka.from_moments(onto_nothing), cka.from_moments(both))
    assert onto_nothing.rounding == both.rounding > 0


def test_rows_may_follow_after_reading():
    a, b = sides()
    cka, moments = get_measure("cka"), Moments(WIDTHS_A, WIDTHS_B)
    moments.add(part(a, slice(900)), part(b, slice(900)))
    agree(cka, cka.from_moments(moments), in_memory(cka, part(a, slice(900)), part(b, slice(900))), 1e-6)
    moments.add(part(a, slice(900, N)), part(b, slice(900, N)))
    agree(cka, cka.from_moments(moments), in_memory(cka, a, b), 1e-6)


def test_added_rows_are_copied():
    a, _ = sides()
    rows = part(a, slice(500))
    rows = {layer: x.clone() for layer, x in rows.items()}
    cka, moments = get_measure("cka"), Moments(WIDTHS_A).add(rows)
    for x in rows.values():
        x.zero_()
    agree(cka, cka.from_moments(moments), in_memory(cka, part(a, slice(500)), None), 1e-6)
    assert all((x == 0).all() for x in rows.values())


@pytest.mark.parametrize("widths_b", [None, WIDTHS_B], ids=["a-a", "a-b"])
def test_saved_moments_come_back_and_still_merge(tmp_path, widths_b):
    a, b = sides()
    b = b if widths_b else None
    gulp = get_measure("gulp")
    first, second = (
        gulp.accumulator(WIDTHS_A, widths_b).add(part(a, r), part(b, r)) for r in (slice(800), slice(800, N))
    )
    first.save(tmp_path / "first.safetensors")
    loaded = Moments.load(tmp_path / "first.safetensors")
    assert (loaded.n, loaded.layers_a, loaded.layers_b) == (800, WIDTHS_A, widths_b)
    assert np.array_equal(gulp.from_moments(loaded), gulp.from_moments(first))
    assert np.array_equal(gulp.from_moments(loaded + second), gulp.from_moments(first + second))


def test_other_files_are_refused(tmp_path):
    cka = get_measure("cka", batch=100)
    cka.accumulator(WIDTHS_A).add(sides()[0]).save(tmp_path / "batches.safetensors")
    with pytest.raises(InputError, match=r"holds 'HSIC of batches'.*expected 'second moments'"):
        Moments.load(tmp_path / "batches.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="holds 'something else'"):
        Moments.load(tmp_path / "other.safetensors")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(InputError, match="not readable as a safetensors file"):
        Moments.load(tmp_path / "text")


def stored(moments):
    return sum(8 * total.numel() for total in moments.products.values())


def test_memory_is_known_beforehand_and_does_not_grow():
    a, b = sides()
    for widths_b, side_b in ((None, None), (WIDTHS_B, b)):
        moments = added(Moments(WIDTHS_A, widths_b), a, side_b, 100)
        before = stored(moments), moments._rows.numel()
        added(moments, a, side_b, 600)
        assert (stored(moments), moments._rows.numel()) == before
        held = stored(moments) + 4 * moments._rows.numel()
        assert held < Moments(WIDTHS_A, widths_b).nbytes < 2 * held
        assert moments._rows.shape[0] == ROWS


def test_a_with_itself_stores_half():
    widths = dict.fromkeys(range(6), 512)
    alone, both = Moments(widths), Moments(widths, widths)
    assert stored(alone) < 0.6 * 8 * (6 * 512) ** 2
    assert stored(alone) < 0.51 * stored(both)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: Moments({}), "at least one layer"),
        (lambda a, b: Moments({0: 0}), r"widths must be positive whole numbers, got \{0: 0\}"),
        (lambda a, b: Moments({0: 3}, dtype=torch.float16), "float32 or float64"),
        (lambda a, b: Moments(WIDTHS_A, WIDTHS_B).add(a), "was made for a and b"),
        (lambda a, b: Moments(WIDTHS_A).add(a, b), "was made for a alone"),
        (lambda a, b: Moments(WIDTHS_A, WIDTHS_B).add(b, a), r"a has layers \[2, 3\], expected \[0, 1, 4\]"),
        (lambda a, b: Moments({**WIDTHS_A, 1: 299}).add(a), "Layer 1 of a has width 300, expected 299"),
        (lambda a, b: Moments(WIDTHS_A, WIDTHS_B).add(a, part(b, slice(9))), r"\[9, 2500\] rows"),
        (lambda a, b: Moments({0: 1}).add({0: torch.tensor([[1.0], [np.nan]])}), "layer 0 of a has 1 values that are"),
        (lambda a, b: Moments(WIDTHS_A) + Moments(WIDTHS_B), "layers_a is"),
        (lambda a, b: Moments(WIDTHS_A) + Moments(WIDTHS_A, dtype=torch.float64), "dtype is float32 here and float64"),
        (lambda a, b: Moments(WIDTHS_A) + BatchSums(WIDTHS_A), "kind is second moments here and HSIC of batches"),
        (lambda a, b: Moments(WIDTHS_A) + 1, "Only accumulators with the same settings add up"),
        (lambda a, b: BatchSums(WIDTHS_A) + BatchSums(WIDTHS_A, batch=9), "batch is 256 here and 9 there"),
        (lambda a, b: get_measure("cka").from_moments(Moments(WIDTHS_A)), "needs at least 4 rows"),
        (lambda a, b: Moments(WIDTHS_A).layers(), "has no rows yet"),
        (lambda a, b: get_measure("cca").from_moments(Moments(WIDTHS_A).add(a)), "Use what its accumulator"),
        (lambda a, b: get_measure("cka").from_moments(BatchSums(WIDTHS_A).add(a)), "Use what its accumulator"),
        (lambda a, b: Moments(WIDTHS_A).add(a).layers()[0][0].spectrum, "Whitening needs float64 products"),
        (lambda a, b: BatchSums(WIDTHS_A).add(part(a, slice(3))).totals(), "ends with 3 rows"),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call(*sides())


def test_rows_without_variance_are_named():
    still = {0: torch.full((50, 2), 3.0), 1: torch.randn(50, 2)}
    for name in ("cka", "procrustes", "cca"):
        measure = get_measure(name)
        with pytest.raises(InputError, match="layer 0 of a has no variance"):
            measure.from_moments(measure.accumulator({0: 2, 1: 2}).add(still))


@pytest.mark.parametrize("factor", [1e17, 1e-18])
def test_values_beyond_float32_products_are_an_error_and_float64_takes_them(factor):
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(1)) * factor
    cka = get_measure("cka")
    with pytest.raises(InputError, match="too large or too small for float32 products"):
        cka.from_moments(Moments({0: 3}).add({0: x}))
    agree(cka, cka.from_moments(Moments({0: 3}, dtype=torch.float64).add({0: x})), np.ones((1, 1)), 1e-12)


def test_first_rows_that_lie_far_from_all_others_cost_no_digits():
    a, b = sides()
    away = {layer: x[:5] + 3000 for layer, x in a.items()}
    moments = Moments(WIDTHS_A, WIDTHS_B).add(away, part(b, slice(5)))
    moments.settle()
    added(moments, a, b, 600)
    cka = get_measure("cka")
    rows_a, rows_b = ({layer: torch.cat([first[layer][:5], x]).double() for layer, x in side.items()}
                      for first, side in ((away, a), (b, b)))  # fmt: skip
    agree(cka, cka.from_moments(moments), in_memory(cka, rows_a, rows_b), 1e-6)


def test_one_row_far_beyond_all_others_needs_float64():
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(1))
    x[7] *= 1e4
    cka = get_measure("cka")
    with pytest.raises(InputError, match="lost in the rounding of float32"):
        cka.from_moments(Moments({0: 6}).add({0: x}))
    agree(cka, cka.from_moments(Moments({0: 6}, dtype=torch.float64).add({0: x})), np.ones((1, 1)), 1e-6)


def test_rank_deficient_layers_keep_their_rank():
    a, b = sides()
    flat = {0: a[0][:, :3] @ torch.randn(3, 20, generator=torch.Generator().manual_seed(2))}
    for name in ("cca", "linear_regression", "pwcca"):
        measure = get_measure(name)
        moments = measure.accumulator({0: 20}, WIDTHS_B).add(flat, b)
        agree(measure, measure.from_moments(moments), in_memory(measure, flat, b), 1e-6)


def test_too_few_rows_warn_as_in_memory():
    cca = get_measure("cca")
    moments = cca.accumulator({0: 8}).add({0: torch.randn(8, 8)})
    with pytest.warns(DegenerateWarning, match="8 rows for 8 features"):
        cca.from_moments(moments)


@pytest.mark.parametrize("params", [{"batch": 250}, {"batch": 250, "kernel": "rbf", "bandwidth": 0.5}], ids=str)
@pytest.mark.parametrize("alone", [False, True], ids=["a-b", "a-a"])
def test_batch_sums_give_minibatch_cka(params, alone):
    a, b = sides()
    b, widths_b = (None, None) if alone else (b, WIDTHS_B)
    measure = get_measure("cka", **params)
    sums = added(measure.accumulator(WIDTHS_A, widths_b), a, b, 431)
    agree(measure, measure.from_moments(sums), in_memory(measure, a, b), 1e-6)


def test_batch_sums_of_parts_add_up(tmp_path):
    a, b = sides()
    cka = get_measure("cka", batch=250)
    one, two, three = (
        cka.accumulator(WIDTHS_A, WIDTHS_B).add(part(a, rows), part(b, rows))
        for rows in (slice(750), slice(750, 2000), slice(2000, N))
    )
    two.save(tmp_path / "two.safetensors")
    whole = in_memory(cka, a, b)
    agree(cka, cka.from_moments(one + (BatchSums.load(tmp_path / "two.safetensors") + three)), whole, 1e-6)
    agree(cka, cka.from_moments(functools.reduce(operator.add, (three, one, two))), whole, 1e-6)


@pytest.mark.parametrize("n", [4, 8, 9, 12, 13, 101, 103])
def test_the_last_batches_are_neither_too_long_nor_too_short(n, monkeypatch):
    sizes = []
    whole = BatchSums._batch
    monkeypatch.setattr(BatchSums, "_batch", lambda self, rows: (sizes.append(len(rows)), whole(self, rows)))
    sums = BatchSums({0: 3}, batch=8).add({0: torch.randn(n, 3)})
    sums.totals()
    assert sum(sizes) == n
    assert all(4 <= size <= 8 for size in sizes)
