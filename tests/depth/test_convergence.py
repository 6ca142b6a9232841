"""Curves that reach a level at a known step, seeds of a known spread, and properties of layers with known agreement."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from repsim_nb.depth import (
    agreement_with_rank,
    convergence,
    convergence_contrasts,
    convergence_over_seeds,
    layer_agreement,
    over_training,
)
from repsim_nb.errors import InputError

CKA = {"direction": "similarity", "lower_bound": -1.0, "upper_bound": 1.0}
DISTANCE = {"direction": "dissimilarity", "lower_bound": 0.0, "upper_bound": np.inf}
STEPS = [0, 10, 100, 1000]


def course(*layers, steps=STEPS, about=CKA, **parts):
    """A course of these curves, one for each layer, and others of the same shape such as low and high."""
    made = {"similarity": layers} | parts
    variables = {name: (("step", "layer"), np.array(curves, float).T, about) for name, curves in made.items()}
    return xr.Dataset(variables, {"step": steps, "layer": range(1, len(layers) + 1)})


def rising(*at, level=0.5):
    """A course whose layers rise linearly in log(1 + step) and reach `level` at these steps, exactly."""
    return course(*(level * np.log1p(STEPS) / np.log1p(step) for step in at))


def test_convergence_is_the_first_checkpoint_at_the_level_and_says_whether_it_is_left():
    found = convergence(course([0.1, 0.95, 0.8, 1], [0.1, 0.2, 0.9, 1], [0.95, 0.95, 1, 1], [0, 0.1, 0.2, 0.3]))
    assert found.step.tolist() == [10, 100, 0, np.inf]
    assert found.settled.tolist() == [1000, 100, 0, np.inf]
    assert found.leaves.tolist() == [True, False, False, False]
    first = "reached at the first checkpoint or before"
    assert found.state.tolist() == ["reached", "reached", first, "never reached"]
    assert found.notna().all().all()


def test_convergence_that_is_left_at_the_end_never_settles():
    found = convergence(course([0.1, 0.95, 0.95, 0.5]))
    assert (found.step[1], found.settled[1], found.leaves[1]) == (10, np.inf, True)


@pytest.mark.parametrize("at", [3.0, 10.0, 77.0, 500.0])
def test_convergence_finds_the_step_between_checkpoints_of_a_curve_linear_in_log_step(at):
    found = convergence(rising(at), 0.5, interpolate=True).loc[1]
    assert found.step == pytest.approx(at)
    assert found.settled == pytest.approx(at)
    assert convergence(rising(at), 0.5).step[1] == min(step for step in STEPS if step >= at)


def test_convergence_of_a_distance_comes_down_to_its_level():
    found = convergence(course([2, 1, 0.5, 0], [2, 1.5, 1.2, 1.1], about=DISTANCE), 0.5)
    assert found.step.tolist() == [100, np.inf]
    rise = convergence(course([-2, -1, -0.5, 0], about=CKA | {"lower_bound": -2.0}), -0.7, interpolate=True)
    fall = convergence(course([2, 1, 0.5, 0], about=DISTANCE), 0.7, interpolate=True)
    assert fall.step[1] == pytest.approx(rise.step[1])


@pytest.mark.parametrize("about", [CKA, DISTANCE])
def test_convergence_has_the_steps_at_which_the_limits_of_its_interval_reach_the_level(about):
    values, low, high = np.array([0.1, 0.5, 0.8, 1]), np.array([0, 0.3, 0.5, 1]), np.array([0.2, 0.75, 0.9, 1])
    if about is DISTANCE:
        values, low, high = 1 - values, 1 - high, 1 - low
    found = convergence(course(values, about=about, low=[low], high=[high]), 0.7 if about is CKA else 0.3).loc[1]
    assert (found.low, found.step, found.high) == (10, 100, 1000)
    never = convergence(course([0.1, 0.2, 0.3, 0.4], low=[[0, 0.1, 0.2, 0.3]], high=[[0.2, 0.3, 0.4, 0.6]]), 0.5).loc[1]
    assert (never.low, never.step, never.high) == (1000, np.inf, np.inf)


def test_convergence_area_is_the_mean_over_log_step():
    found = convergence(course([0.5] * 4, np.log1p(STEPS) / np.log1p(1000), [0, 0, 1, 1])).area
    x = np.log([1, 11, 101, 1001])
    step_up = ((x[2] - x[1]) / 2 + x[3] - x[2]) / (x[3] - x[0])
    assert found.tolist() == pytest.approx([0.5, 0.5, step_up])
    assert convergence(course([0.3], steps=[7])).area[1] == 0.3


def test_convergence_at_equal_loss_reads_the_loss_where_the_level_is_reached():
    losses = pd.Series({0: 8.0, 10: 5.0, 100: 4.0, 1000: 3.0})
    made = course([0.1, 0.95, 1, 1], [0, 0, 0.1, 0.2], low=[[0, 0, 0.9, 1], [0] * 4], high=[[0.9, 1, 1, 1], [0.3] * 4])
    found = convergence(made, losses=losses)
    assert found.loss.tolist() == [5.0, -np.inf]
    assert found.loc[1, ["loss_low", "loss_high"]].tolist() == [4.0, 8.0]
    between = convergence(rising(np.expm1(np.log(11 * 101) / 2)), 0.5, interpolate=True, losses=losses)
    assert between.loss[1] == pytest.approx(4.5)  # half way between steps 10 and 100 in log(1 + step)
    with pytest.raises(InputError, match="losses has the steps 10 to 100; the course needs 0 to 1000"):
        convergence(made, losses={10: 5.0, 100: 4.0})


@pytest.mark.parametrize(
    ("made", "level", "message"),
    [
        (course([0, 0, 0, 1]), 1.5, "from -1 to 1"),
        (course([0, 0, 0, 1]), True, "expected a value of the measure"),
        (course([1, 1, 1, 0], about=DISTANCE), None, "level has no default for this measure"),
        (course([0, 0, 0, 1]).assign_attrs(against="previous"), 0.5, 'this course is against "previous"'),
        (course([0, 0, np.nan, 1]), 0.5, "not finite"),
        (course([0, 0, 0, 1], steps=[0, 100, 10, 1000]), 0.5, "do not ascend"),
        (course([0, 0, 0, 1]).similarity, 0.5, "Expected a result of over_training, got DataArray"),
    ],
)
def test_convergence_says_what_it_cannot_be_told_from(made, level, message):
    with pytest.raises(InputError, match=message):
        convergence(made, level)


def test_convergence_of_a_model_is_at_its_end_at_the_latest():
    texts = [f"Text {i} says that {i} and {i} are {2 * i}." for i in range(12)]
    made = over_training("tiny-neox-w64-d4", ["step50", "step1500"], texts, n_rows=60, layers=[1, 4], interval=True)
    found = convergence(made, 0.99)
    assert found.step.tolist() == [1500, 1500]
    assert (found.low <= found.step).all()


def test_convergence_over_seeds_is_students_interval_of_log_steps():
    from scipy.stats import t

    at = [200.0, 300.0, 500.0]
    found = convergence_over_seeds({f"seed {s}": rising(a, 50) for s, a in enumerate(at)}, level=0.5)
    logs = np.log1p(at)
    reach = t.ppf(0.975, 2) * logs.std(ddof=1) / np.sqrt(3)
    line = found.loc["all", 1]
    assert line[["mean", "low", "high"]].tolist() == pytest.approx(
        [logs.mean(), logs.mean() - reach, logs.mean() + reach]
    )
    assert line.step == pytest.approx(np.expm1(logs.mean()))
    assert (line.seeds, line.reached, line.state) == (3, 3, "reached")
    assert found.loc["all", 2].low == -np.inf, "three times the same says nothing of how seeds vary"


def test_convergence_over_seeds_cannot_tell_from_one_seed_nor_where_some_never_reach_the_level():
    one = convergence_over_seeds({"only": rising(200)}, level=0.5).loc["all", 1]
    assert (one.step, one.low, one.high) == (pytest.approx(200), -np.inf, np.inf)
    assert one.state == "one seed: cannot be told"
    some = convergence_over_seeds({"a": rising(200), "b": course([0, 0.1, 0.2, 0.3])}, level=0.5).loc["all", 1]
    assert (some.step, some.low, some.high, some.reached) == (np.inf, -np.inf, np.inf, 1)
    assert some.state == "reached by 1 of 2 seeds: cannot be told"
    late = {name: rising(200).isel(step=slice(first, None)) for name, first in (("a", 0), ("b", 3))}
    bound = convergence_over_seeds(late, level=0.5).loc["all", 1]
    assert (bound.low, bound.high) == (-np.inf, np.inf)
    assert bound.state == "reached at the first checkpoint or before by 1 of 2 seeds: cannot be told"


def test_convergence_over_seeds_cannot_tell_where_seeds_cross_at_the_same_checkpoint():
    """As they do on a coarse grid; a variance of 0 would make any difference certain."""
    courses = {"a0": rising(300), "a1": rising(400), "b0": rising(20), "b1": rising(30)}
    sizes = {name: name[0] for name in courses}
    found = convergence_over_seeds(courses, sizes, 0.5, interpolate=False)
    assert np.isinf(found[["low", "high"]]).all(axis=None)
    assert set(found.state) == {"no seeds differ at these checkpoints: cannot be told"}
    contrast = convergence_contrasts(courses, sizes, 0.5, interpolate=False).iloc[0]
    assert contrast.difference == pytest.approx(np.log1p(100) - np.log1p(1000))
    assert np.isinf(contrast[["low", "high"]].astype(float)).all()
    with pytest.raises(InputError, match=r"confidence=95; expected a number between 0 and 1"):
        convergence_over_seeds(courses, sizes, 0.5, confidence=95)


def test_convergence_over_seeds_pools_the_variance_of_all_sizes():
    seeds = {"a0": 100.0, "a1": 200.0, "b0": 300.0, "b1": 500.0, "c": 400.0}
    found = convergence_over_seeds({n: rising(at) for n, at in seeds.items()}, {n: n[0] for n in seeds}, level=0.5)
    width = found.high - found.low
    assert width["a", 1] == pytest.approx(width["b", 1])
    assert width["c", 1] == pytest.approx(np.sqrt(2) * width["a", 1])
    losses = {n: {0: 8.0, 1000: 1.0} for n in seeds}
    by_loss = convergence_over_seeds({n: rising(at) for n, at in seeds.items()}, level=0.5, losses=losses)
    assert "step" not in by_loss
    assert by_loss["mean"].item() == pytest.approx(
        np.mean([8 - 7 * np.log1p(at) / np.log(1001) for at in seeds.values()])
    )


def test_convergence_over_seeds_covers_the_true_mean_as_often_as_it_says():
    rng, hits, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        logs = rng.normal(5.0, 0.4, size=3)
        line = convergence_over_seeds(
            {str(i): rising(np.expm1(x)) for i, x in enumerate(logs)}, level=0.5, confidence=0.9
        )
        hits += line.low.item() <= 5.0 <= line.high.item()
    assert abs(hits / trials - 0.9) < 3 * np.sqrt(0.09 / trials)


def test_convergence_contrasts_are_the_two_sample_t_interval_of_two_sizes():
    from scipy.stats import ttest_ind

    small, large = [400.0, 700.0, 500.0], [150.0, 300.0, 220.0]
    made = {f"s{i}": rising(at, at) for i, at in enumerate(small)} | {
        f"l{i}": rising(at, at) for i, at in enumerate(large)
    }
    found = convergence_contrasts(made, {name: name[0] for name in made}, 0.5).loc["s", "l"]
    expected = ttest_ind(np.log1p(large), np.log1p(small))
    ends = expected.confidence_interval(0.95)
    assert found[["low", "high"]].tolist() == pytest.approx([ends.low, ends.high])
    assert found.ratio == pytest.approx(np.exp(found.difference))
    single = convergence_contrasts({"s": rising(300), "l": rising(100)}, {"s": 32, "l": 64}, 0.5).loc[32, 64]
    assert (single.low, single.high) == (-np.inf, np.inf)
    assert single.difference == pytest.approx(np.log(101 / 301))


@pytest.mark.parametrize(
    ("made", "sizes", "message"),
    [
        ({}, None, "courses is empty"),
        ({"a": rising(9)}, {"b": 1}, "sizes has no entry for a; it has b"),
        ({"a": rising(9), "b": rising(9)}, {"a": 1, "b": 1}, "Contrasts need at least two sizes"),
        ({"a": rising(9), "b": rising(9, 9)}, {"a": 1, "b": 1}, "of one size but have the layers"),
        ({"a": rising(9), "b": course([0, 0, 0, 0.1])}, {"a": 1, "b": 2}, r"Layers \[1\] of b do not reach the level"),
    ],
)
def test_convergence_contrasts_say_what_is_missing(made, sizes, message):
    with pytest.raises(InputError, match=message):
        convergence_contrasts(made, sizes, 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_layer_agreement_is_matthews_correlation_with_its_test_over_all_permutations(seed):
    from sklearn.metrics import matthews_corrcoef

    rng = np.random.default_rng(seed)
    a, b = (rng.permutation(np.arange(7) < rng.integers(1, 7)) for _ in range(2))
    found = layer_agreement(dict(enumerate(a)), dict(enumerate(b)))
    assert found.matthews == pytest.approx(matthews_corrcoef(a, b))
    every = np.array([(a & b[list(order)]).sum() for order in permutations(range(7))])
    assert found.p_value == pytest.approx((every >= (a & b).sum()).mean())
    assert found.least == pytest.approx((every == min(a.sum(), b.sum())).mean())


def test_layer_agreement_is_undefined_where_all_layers_are_alike():
    some, every = {1: True, 2: False}, {1: True, 2: True}
    found = layer_agreement(some, every)
    assert (found.matthews, found.p_value, found.least) == (None, 1.0, 1.0)
    assert found.state == "all layers have the second property"
    assert layer_agreement({1: False, 2: False}, some).state == "no layer has the first property"
    with pytest.raises(InputError, match="expected the same"):
        layer_agreement(some, {1: True, 3: True})


def test_agreement_with_rank_is_of_layers_early_at_the_level_and_of_high_rank():
    made = course([0.1, 0.2, 0.5, 1], [0.1, 0.2, 0.44, 1], [0.1, 0.6, 0.7, 1], [0, 0.1, 0.4, 1])
    found = agreement_with_rank(made, {1: 0.96, 2: 0.94, 3: 0.95, 4: 0.2})
    assert (found.matthews, found.layers, found.first, found.second) == (1.0, 4, 2, 2)
    assert found.p_value == found.least == pytest.approx(1 / 6)
    sooner = agreement_with_rank(made, {1: 0.96, 2: 0.94, 3: 0.95, 4: 0.2}, end=200)
    assert sooner.first == 1
    with pytest.raises(InputError, match=r"within the first 0\.005 of training, up to step 5"):
        agreement_with_rank(made, {1: 0.9}, within=0.005)
    with pytest.raises(InputError, match="the course lacks layer 9"):
        agreement_with_rank(made, {9: 0.9})
