"""Replicates are the maps of the remaining rows."""

from __future__ import annotations

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.comparison import replicates
from repsim_nb.errors import InputError
from repsim_nb.uncertainty import Documents


@pytest.mark.parametrize("measure", ["cka", "procrustes"])
def test_replicates_are_the_maps_without_each_group_of_documents(measure: str) -> None:
    rng = np.random.default_rng(0)
    acts = {name: {layer: rng.normal(size=(120, 4)) for layer in range(2)} for name in "ab"}
    documents = np.repeat(np.arange(30), 4)
    found = replicates(acts, measure, groups=documents, seed=3)
    blocks = Documents(documents, 120).blocks(20, 3)
    assert list(found) == [("a", "a"), ("b", "a"), ("b", "b")]
    for block in (0, 7):
        kept = {name: {k: x[blocks != block] for k, x in layers.items()} for name, layers in acts.items()}
        for pair, whole in rs.compare_all(kept, measure=measure).items():
            np.testing.assert_allclose(found[pair].values[block], whole.values, atol=1e-6)


def test_replicates_need_five_documents() -> None:
    with pytest.raises(InputError, match="at least 5 documents; there are 2"):
        replicates({"a": np.eye(6)}, groups=[0, 0, 0, 1, 1, 1])
