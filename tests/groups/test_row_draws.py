"""Shipped draws of rows are those that would be computed here, or they are not used."""

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.groups import shipped_draws

NAME = "generalization-draws"


def compared(seed=0, measures=("cka", "mutual_knn"), **how):
    settings = {"rows": "tokens", "n_rows": 512, "rows_per_document": 1, "seed": seed} | how
    models = ["tiny-bert-nli-31", "tiny-bert-nli-07"]
    return rs.compare_models(
        models, list(measures), rs.load_corpus("nli-heuristics", "test"), layers=[0, 4], **settings
    )


def test_shipped_draws_are_those_computed_here():
    first, second = compared(), compared(1)
    draws = shipped_draws(NAME, first)
    assert draws.sizes == {"draw": 5, "layer": 2, "model_a": 2, "model_b": 2}
    assert draws.model_a.values.tolist() == first.model_a.values.tolist()
    for measure in first:
        assert (draws[measure][0] == first[measure]).all()
        np.testing.assert_allclose(draws[measure][1], second[measure], atol=5e-5)
        assert abs(draws[measure][0] - draws[measure][1]).max() > 2e-4


def test_shipped_draws_are_none_for_another_comparison():
    first = compared()
    assert shipped_draws(NAME, compared(1)) is None
    assert shipped_draws(NAME, compared(n_rows=256)) is None
    assert shipped_draws(NAME, first * 1.01) is None
    assert shipped_draws(NAME, first.assign(another=first.cka)) is None
    assert shipped_draws(NAME, first.assign_coords(layer=[0, 7])) is None
    names = ["tiny-bert-nli-31", "someone"]
    assert shipped_draws(NAME, first.assign_coords(model_a=names, model_b=names)) is None
    swapped = ["tiny-bert-nli-12", "tiny-bert-nli-13"]  # other models under these names
    assert shipped_draws(NAME, first.assign_coords(model_a=swapped, model_b=swapped)) is None
    with pytest.raises(FileNotFoundError):
        shipped_draws("generalization-none", first)
