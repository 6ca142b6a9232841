"""Shipped draws of rows are those that would be computed here, or they are not used."""

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.groups import shipped_draws

NAME = "generalization-draws"


def compared(seed=0, measures=("cka", "mutual_knn"), models=("tiny-bert-nli-31", "tiny-bert-nli-07"), **how):
    settings = {"rows": "tokens", "n_rows": 512, "rows_per_document": 1, "seed": seed} | how
    return rs.compare_models(
        list(models), list(measures), rs.load_corpus("nli-heuristics", "test"), layers=[0, 4], **settings
    )


@pytest.mark.parametrize(
    ("name", "models"),
    [
        (NAME, ("tiny-bert-nli-31", "tiny-bert-nli-07")),
        (f"{NAME}-second-encoder", ("tiny-bert-b-nli-11", "tiny-bert-b-nli-03")),
        (f"{NAME}-varied-recipes", ("tiny-bert-nli-varied-07", "tiny-bert-nli-varied-02")),
    ],
)
def test_shipped_draws_are_those_computed_here(name, models):
    first, second = compared(models=models), compared(1, models=models)
    draws = shipped_draws(name, first)
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
