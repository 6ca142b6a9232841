"""Planted blocks of known strength, and the share of them that the test finds."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from repsim_nb.depth import block_power, find_blocks, power_text
from repsim_nb.depth.power import _across, _found
from repsim_nb.errors import InputError
from tests.support.layers import smooth


@pytest.fixture(scope="module")
def stream():
    return find_blocks(smooth(0, 6, n=150, d=12), n_null=39, n_halves=12)


def test_block_power_grows_from_the_level_to_certainty_and_shrinks_with_the_level(stream):
    asked = {"n_planted": 25, "irregularity": 0.1}
    power = block_power(stream, [0.0, 0.15, 0.9], **asked)
    assert power.index.tolist() == [0.0, 0.15, 0.9]
    assert power.low[0.0] <= 0.05  # the level is within the binomial interval
    assert power.power.is_monotonic_increasing
    assert power.power[0.9] >= 0.9
    assert power.score.is_monotonic_increasing
    assert ((power.low <= power.power) & (power.power <= power.high)).all()
    assert block_power(stream, [0.15], level=1 / 40, **asked).power.item() < power.power[0.15]
    assert block_power(stream, [0.9], level=1 / 41, **asked).power.item() == 0  # no p-value is as small
    assert block_power(stream, [0.15], n_planted=25, irregularity=0.6).power.item() < power.power[0.15]


def test_block_power_has_one_answer_for_one_seed(stream):
    asked = {"strengths": [0.4], "n_planted": 10}
    assert block_power(stream, seed=3, **asked).equals(block_power(stream, seed=3, **asked))
    alone = block_power(stream, **asked)
    assert alone.loc[0.4].equals(block_power(stream, [0.1, 0.4], n_planted=10).loc[0.4])


def test_block_power_stops_early_without_another_answer(stream):
    """Found means p <= level with all maps of the null, as in find_blocks."""
    null = replace(stream.null, rng=np.random.default_rng(5))
    scores = null.scores(0.25)
    for score in np.quantile(scores, np.linspace(0.5, 1, 30)):
        p = (1 + (scores >= score).sum()) / 40
        assert _found(score, null, int(0.05 * 40 + 1e-9) - 1, 0.25) == (p <= 0.05)


@pytest.mark.parametrize(("n_layers", "boundaries"), [(4, 1), (9, 1), (9, 3)])
def test_block_power_plants_boundaries_with_two_layers_or_more_to_a_block(n_layers, boundaries):
    rng = np.random.default_rng(0)
    for _ in range(20):
        apart = _across(n_layers, boundaries, rng)
        sizes = np.diff([0, *(np.flatnonzero(np.diagonal(apart, 1)) + 1), n_layers])
        assert len(sizes) == boundaries + 1
        assert (sizes >= 2).all()
        assert apart[0, -1]
        assert (apart == apart.T).all()


def test_block_power_says_what_it_cannot_tell(stream):
    for wrong, message in [
        ({"boundaries": 3}, "boundaries=3 among 6 layers"),
        ({"strengths": [1.2]}, "expected shares 0 to 1"),
        ({"n_planted": 0}, "n_planted=0"),
        ({"irregularity": -1}, "irregularity=-1"),
    ]:
        with pytest.raises(InputError, match=message):
            block_power(stream, **wrong)


def test_power_text_names_the_weakest_blocks_that_are_found_or_the_strongest():
    power = pd.DataFrame({"power": [0.1, 0.8, 1.0]}, index=[0.1, 0.3, 0.5])
    assert power_text(power).startswith("blocks with 30% less similarity")
    assert power_text(power).endswith("probability 0.80")
    assert power_text(power.iloc[:1]).startswith("blocks with 10% less")
    assert power_text(power.iloc[:1]).endswith("probability 0.10")
