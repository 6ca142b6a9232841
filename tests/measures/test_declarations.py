"""What measures declare about themselves, proved both ways: it holds where declared, and fails where not."""

import inspect
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repsim_nb.measures import Measure, get_measure, list_measures
from repsim_nb.measures.registry import INVARIANCES

from .samples import LOGITS, MEASURES, NAMES, TRANSFORMATIONS, N, orthogonal, pair, permutation

few = settings(derandomize=True, max_examples=4, deadline=None, database=None)
seeds = st.integers(0, 10**6)
every_measure = pytest.mark.parametrize("measure", MEASURES, ids=NAMES)

# arccos and square roots lose half of the digits near 0.
ROOTS = ("procrustes", "procrustes_size_and_shape", "angular_shape", "gulp", "permutation_procrustes")


def tolerance(measure: Measure) -> float:
    return 1e-6 if measure.name in ROOTS else 1e-8


def transformed(kind: str, x: np.ndarray, seed: int) -> np.ndarray:
    return TRANSFORMATIONS[kind](x, np.random.default_rng(seed + 1))


def sides(declared: bool) -> list:
    """(measure, invariance, side) of all that is declared, or of all that is not."""
    return [
        pytest.param(measure, kind, side, id=f"{name}-{kind}-{side}")
        for measure, name in zip(MEASURES, NAMES, strict=True)
        for kind in INVARIANCES
        for side in ("x", "y")
        if declared == (kind in (measure.invariances_x if side == "x" else measure.invariances_y))
    ]


@pytest.mark.parametrize(("measure", "kind", "side"), sides(declared=True))
@few
@given(seed=seeds)
def test_declared_invariances_hold(measure: Measure, kind: str, side: str, seed: int) -> None:
    x, y = pair(measure, seed)
    moved = (transformed(kind, x, seed), y) if side == "x" else (x, transformed(kind, y, seed))
    assert measure(*moved) == pytest.approx(measure(x, y), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("measure", [m for m in MEASURES if m.invariances], ids=repr)
@few
@given(seed=seeds)
def test_both_sides_may_be_transformed_at_once(measure: Measure, seed: int) -> None:
    x, y = pair(measure, seed)
    value = measure(x, y)
    for kind in sorted(measure.invariances):
        x, y = transformed(kind, x, seed), transformed(kind, y, seed + 1)
    assert measure(x, y) == pytest.approx(value, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize(("measure", "kind", "side"), sides(declared=False))
def test_invariances_not_declared_do_not_hold(measure: Measure, kind: str, side: str) -> None:
    changes = []
    for seed in range(5):
        x, y = pair(measure, seed)
        moved = (transformed(kind, x, seed), y) if side == "x" else (x, transformed(kind, y, seed))
        changes.append(abs(measure(*moved) - measure(x, y)))
    assert max(changes) > 1e-6


@every_measure
@few
@given(seed=seeds)
def test_symmetry_is_as_declared(measure: Measure, seed: int) -> None:
    x, y = pair(measure, seed)
    if measure.symmetric:
        assert measure(y, x) == pytest.approx(measure(x, y), rel=1e-9, abs=1e-9)
    else:
        assert abs(measure(y, x) - measure(x, y)) > 1e-6


@every_measure
@few
@given(seed=seeds)
def test_bounds_hold_before_rounding_is_clipped(measure: Measure, seed: int) -> None:
    low, high = measure.bounds
    x, y = pair(measure, seed)
    rng = np.random.default_rng(seed)
    for a, b in ((x, y), (x, x), (x, -x), (x, rng.permutation(x)), (x, x**3)):
        p, q = measure.prepare(a), measure.prepare(b, "y")
        assert low - 1e-9 <= measure._score(p.state, q.state) <= high + 1e-9


@every_measure
@few
@given(seed=seeds)
def test_dissimilarity_is_0_for_what_is_the_same(measure: Measure, seed: int) -> None:
    x, y = pair(measure, seed)
    # Ridge shrinks even the exact answer.
    near_zero = 1e-5 if measure.name == "ridge_predictivity" else tolerance(measure)
    assert 0 <= measure.dissimilarity(x, x) < near_zero
    for kind in measure.invariances:
        assert 0 <= measure.dissimilarity(x, transformed(kind, x, seed)) < near_zero
    assert measure.dissimilarity(x, y) >= 0
    if measure.direction == "dissimilarity":
        assert measure.dissimilarity(x, y) == measure(x, y)
    elif math.isfinite(measure.bounds[1]):
        assert measure.dissimilarity(x, y) == measure.bounds[1] - measure(x, y)


@pytest.mark.parametrize("measure", [m for m in MEASURES if m.metric], ids=repr)
@few
@given(seed=seeds, mix=st.floats(0, 1))
def test_metrics_are_metrics(measure: Measure, seed: int, mix: float) -> None:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, N, 4))
    between = (1 - mix) * x + mix * orthogonal(z, rng)  # where the inequality is tight
    for a, b, c in ((x, between, z), (between, x, z), (x, z, rng.normal(size=(N, 2)))):
        assert measure(a, c) <= measure(a, b) + measure(b, c) + 1e-7
    assert measure(x, z) > 1e-2  # 0 only for what is the same


# Unit vectors 0, 30 and 60 degrees apart: 1 - cos and 1 - cos^2 of the outer two exceed the sum of the steps.
ON_A_CIRCLE = ["cka", "cca", "svcca", "pwcca", "eigenspace_overlap", "linear_regression", "aligned_cosine"]
ON_A_CIRCLE += ["hard_matching", "soft_matching", "transport_matching"]


@pytest.mark.parametrize("name", ON_A_CIRCLE)
def test_similarities_turned_around_are_no_metrics(name: str) -> None:
    measure = get_measure(name)
    a, b = np.linalg.qr(np.column_stack([np.ones(40), np.random.default_rng(0).normal(size=(40, 2))]))[0].T[1:]
    x, y, z = ((math.cos(t) * a + math.sin(t) * b)[:, None] for t in (0, math.pi / 6, math.pi / 3))
    if name == "aligned_cosine":  # of rows, so turn rows
        x, y, z = (np.array([[math.cos(t), math.sin(t)], [1.0, 0.0]]) for t in (0, math.pi / 6, math.pi / 3))
    assert not measure.metric
    assert measure.dissimilarity(x, z) > measure.dissimilarity(x, y) + measure.dissimilarity(y, z) + 1e-3


def chain(shortcut: float) -> np.ndarray:
    """Four points whose shortest links (1, 1, 1) and two longest distances are fixed, and one distance is not."""
    d = np.zeros((4, 4))
    d[np.triu_indices(4, 1)] = [1, 1.8, 2.2, 1, shortcut, 1]
    centre = np.eye(4) - 1 / 4
    values, vectors = np.linalg.eigh(-centre @ (d + d.T) ** 2 @ centre / 2)
    assert values.min() > -1e-9
    return vectors * np.sqrt(values.clip(0))


def test_distances_that_are_no_metrics_are_0_for_unlike_things_or_break_the_triangle() -> None:
    rng = np.random.default_rng(0)
    p, q, r = ([[math.log(t), math.log(1 - t)]] for t in (0.1, 0.5, 0.9))
    for name in ("jensen_shannon", "kl_divergence"):
        assert get_measure(name)(p, r) > get_measure(name)(p, q) + get_measure(name)(q, r)
    x = rng.normal(size=(12, 3)) + 1
    shuffled = rng.permutation(x)
    for name in ("magnitude_difference", "concentricity_difference", "uniformity_difference", "imd"):
        assert get_measure(name)(x, shuffled) == pytest.approx(0, abs=1e-12)
    assert get_measure("rtd")(chain(1.5), chain(1.6)) == pytest.approx(0, abs=1e-6)
    assert get_measure("procrustes")(chain(1.5), chain(1.6)) > 1e-2
    x, right_on_others = np.eye(3)[[0, 1, 1]], np.eye(3)[[1, 1, 2]]
    assert get_measure("disagreement")(x, x**2 + 7 * x) == 0
    assert get_measure("accuracy_difference", labels=[0, 1, 2])(x, right_on_others) == 0
    declared = [m for m in MEASURES if m.direction == "dissimilarity" and not m.metric]
    assert {m.name for m in declared} == {
        *("jensen_shannon", "kl_divergence", "magnitude_difference", "concentricity_difference"),
        *("uniformity_difference", "imd", "rtd", "disagreement", "accuracy_difference"),
    }


def test_every_registered_measure_is_tested() -> None:
    table = list_measures()
    ours = {m.name for m in MEASURES}
    assert ours <= set(table.index)
    assert {name for name in table.index if get_measure(name).reference != "user-defined"} == ours
    assert len(ours) == 35


@every_measure
def test_declarations_are_complete(measure: Measure) -> None:
    assert measure.title
    assert measure.cost
    assert measure.reference
    assert measure.bounds[0] < measure.bounds[1]
    assert measure.direction in ("similarity", "dissimilarity")
    assert measure.invariances_x | measure.invariances_y <= set(INVARIANCES)


@every_measure
def test_docstrings_document_every_parameter_and_how_the_number_misleads(measure: Measure) -> None:
    doc = inspect.getdoc(type(measure)) or ""
    summary, *rest = doc.splitlines()
    assert summary.endswith(".")
    assert rest[0] == ""
    sections = re.findall(r"^(\w+)\n-+$", doc, re.MULTILINE)
    assert {"Notes", "References", "Examples"} <= set(sections)
    assert sections == [s for s in ("Parameters", "Raises", "Notes", "References", "Examples") if s in sections]
    assert "How the number misleads:" in doc
    documented = re.search(r"^Parameters\n-+\n(.*?)\n\n\w+\n-", doc, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^(\w+)$", documented[1] if documented else "", re.MULTILINE) == list(measure.params)


@every_measure
@few
@given(seed=seeds)
def test_a_grid_is_its_scores(measure: Measure, seed: int) -> None:
    x, y = pair(measure, seed)
    xs = [measure.prepare(a) for a in (x, permutation(x, np.random.default_rng(seed)), x + x**2)]
    ys = [measure.prepare(b, "y") for b in (y, y**3)]
    for rows, columns in ((xs, ys), (xs, xs)):
        grid = measure.grid(rows, columns)
        expected = [[measure.score(p, q) for q in columns] for p in rows]
        assert grid.shape == (len(rows), len(columns))
        assert grid == pytest.approx(np.array(expected), abs=1e-6 if measure.name in ROOTS else 1e-10)
    if measure.name not in LOGITS:
        assert measure.score(xs[0], ys[0]) == pytest.approx(measure(x, y), rel=1e-12)
