import numpy as np
import pytest

from repsim_nb.comparison.controls import Controls
from repsim_nb.depth import block_score, find_blocks
from repsim_nb.depth.blocks import _halves
from repsim_nb.errors import InputError
from repsim_nb.uncertainty import Documents
from tests.support.layers import apart_at_both_ends, massive, planted, smooth, uneven

FEW = {"n_null": 99, "n_halves": 12}  # no p-value is below 0.01


@pytest.mark.parametrize("sizes", [(3, 5, 1), (2, 3, 4)])
def test_planted_blocks_are_found_at_their_places_over_20_seeds(sizes):
    edges = np.cumsum(sizes)[:-1].tolist()
    for seed in range(20):
        found = find_blocks(planted(seed, sizes), seed=seed, **FEW)
        assert found.boundaries.index.tolist() == edges
        assert found.p_value <= 0.01
        assert found.score > found.null_high > 0
        assert found.boundaries.stability.min() >= 0.9


@pytest.mark.slow
def test_smooth_decay_is_called_blocks_no_more_often_than_the_level_says():
    """P(more than 6 of 200 at a true level of 0.01) = 0.005."""
    small = {"n_null": 99, "n_halves": 8}
    alarms = sum(find_blocks(smooth(s, 6, n=120, d=8), seed=s, **small).p_value <= 0.01 for s in range(200))
    assert alarms <= 6


def test_layers_that_stand_apart_at_both_ends_make_no_block_of_the_rest():
    alarms = sum(find_blocks(apart_at_both_ends(s, 4), seed=s, **FEW).p_value <= 0.05 for s in range(20))
    assert alarms <= 3  # P(more at a true level of 0.05) = 0.016


def test_massive_activations_make_a_block_that_every_control_takes_away():
    where = list(range(3, 9))
    for seed in range(8):
        acts, rows = massive(seed, where)
        assert where in find_blocks(acts, seed=seed, **FEW).blocks
        assert find_blocks(acts, seed=seed, **FEW).p_value <= 0.01
        (without,), kept = Controls(leave_out_norms=4).applied(acts)
        assert np.flatnonzero(~kept).tolist() == rows.tolist()
        for controlled in (without, *Controls(remove_components=1).applied(acts)[0]):
            assert find_blocks(controlled, seed=seed, **FEW).p_value > 0.01


def test_blocks_are_of_the_map_not_of_the_scale_rotation_or_names_of_the_layers():
    acts = planted(0, (3, 4))
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(24, 24)))[0]
    other = {10 * layer: 7 * x @ turned + 1 for layer, x in acts.items()}
    found, same = find_blocks(acts, **FEW), find_blocks(other, **FEW)
    assert same.blocks == [[10 * layer for layer in block] for block in found.blocks] == [[0, 10, 20], [30, 40, 50, 60]]
    assert same.score == pytest.approx(found.score, abs=1e-9)
    assert same.p_value == found.p_value


def test_half_samples_take_whole_documents_half_of_them_each_once():
    documents = Documents(np.repeat(np.arange(9), 5), 45)
    for half in _halves(documents, 20, np.random.default_rng(0)):
        by_document = half.reshape(9, 5)
        assert (by_document.all(1) == by_document.any(1)).all()
        assert by_document.all(1).sum() == 4


def test_what_cannot_be_asked_is_said():
    acts = smooth(0, 5)
    with pytest.raises(InputError, match="at least 4 layers, got 3"):
        find_blocks({layer: acts[layer] for layer in range(3)})
    with pytest.raises(InputError, match="at least 8 documents, got 3"):
        find_blocks(acts, groups=np.arange(300) % 3)
    with pytest.raises(InputError, match="symmetric similarity such as cka, got procrustes"):
        find_blocks(acts, "procrustes")
    with pytest.raises(InputError, match="n_null=5"):
        find_blocks(acts, n_null=5)


def test_blocks_over_irregularity_has_the_test_of_find_blocks_at_its_allowance():
    for irregularity in (0.0, 0.25, 0.6):
        found = find_blocks(planted(0, (3, 4)), irregularity=irregularity, **FEW)
        tests = found.over_irregularity([0.1, irregularity])
        assert tests.loc[irregularity, ["score", "null_high", "p_value"]].tolist() == [
            found.score,
            found.null_high,
            found.p_value,
        ]
        assert found.p_text == tests.p[irregularity] == "p at most 0.01"


def test_blocks_over_irregularity_is_larger_for_a_null_that_allows_more():
    acts = uneven(0, [0.98, 0.98, 0.98, 0.96, 0.98, 0.98, 0.98])  # one step is longer, by less than blocks are
    tests = find_blocks(acts, **FEW).over_irregularity()
    assert tests.index.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert tests.null_high.is_monotonic_increasing
    assert tests.p_value.iloc[0] <= 0.02
    assert tests.p_value.iloc[-1] > 0.1
    with pytest.raises(InputError, match="irregularity=-1; expected a number, 0 or more"):
        find_blocks(acts, **FEW).over_irregularity([-1])


def test_find_blocks_of_some_layers_is_that_of_these_alone():
    acts = planted(1, (3, 5))
    some = find_blocks(acts, layers=[1, 2, 3, 4, 5, 6], **FEW)
    alone = find_blocks({k: acts[k] for k in range(1, 7)}, **FEW)
    assert some.blocks == alone.blocks == [[1, 2], [3, 4, 5, 6]]
    assert some.p_value == alone.p_value
    assert some.score == alone.score == pytest.approx(block_score(some.similarity))
    assert some.spans == "1-2, 3-6"
