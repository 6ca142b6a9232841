"""Tables of models against models, against one pair at a time."""

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.groups import family_test, mantel
from repsim_nb.retrieval import overlap, pairwise, summary

RNG = np.random.default_rng(0)
LISTS = {name: {q: RNG.permutation(20)[:8].tolist() for q in range(10)} for name in "abcde"}


def test_pairwise_is_overlap_and_summary_of_each_pair():
    found = pairwise(LISTS, (3, 8), ["jaccard", "rank_biased_overlap"], p=0.8, level=0.9)
    expected = summary(overlap(LISTS["b"], LISTS["d"], (3, 8), p=0.8), 0.9)
    for name in ("jaccard", "rank_biased_overlap"):
        for end, column in (("", "mean"), ("_low", "low"), ("_high", "high")):
            for pair in (("b", "d"), ("d", "b")):
                values = found[name + end].sel(model_a=pair[0], model_b=pair[1])
                np.testing.assert_allclose(values, expected.loc[name, column])
        assert (np.diagonal(found[name].values) == 1).all()


def test_pairwise_is_a_table_for_tests_over_models():
    found = pairwise(LISTS, (3, 8))["overlap"]
    assert mantel(found.sel(k=3), found.sel(k=3)).spearman == pytest.approx(1)
    assert family_test(found.sel(k=8), dict(zip("abcde", "xxyyy", strict=True))).n_within == 4


def test_pairwise_says_what_is_wrong():
    with pytest.raises(rs.InputError, match="at least two models"):
        pairwise({"a": LISTS["a"]})
    with pytest.raises(rs.InputError, match="b: the list of query 0 is empty"):
        pairwise(LISTS | {"b": {0: []}})
    with pytest.raises(rs.InputError, match="no list has more than 8"):
        pairwise(LISTS, 9)
