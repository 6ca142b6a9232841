"""Which rows are chosen, and what may be used to extract them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import repsim_nb as rs
from repsim_nb.activations.selection import FewerRowsWarning, _quotas_with_cap
from repsim_nb.errors import InputError
from repsim_nb.system.resources import Resources

NAME = "tiny-neox-w32-d2"
TEXTS = [f"Document {number} says: " + "one word after the other, " * (1 + number % 5) for number in range(40)]


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 200), st.integers(1, 12), st.integers(0, 9)
)
@settings(max_examples=200, deadline=None)
def test_rows_come_from_as_few_documents_as_it_takes(available, n_rows, most, seed):
    available = np.array(available)
    quota = _quotas_with_cap(available, n_rows, most, np.random.default_rng(seed))
    each = np.minimum(available, most)
    assert (quota <= each).all()
    assert (quota >= 0).all()
    assert quota.sum() == min(n_rows, each.sum())
    assert ((quota == each) | (quota == 0)).sum() >= len(available) - 1  # only the last one drawn is not used up


def test_rows_per_document_is_kept_and_the_seed_draws_the_documents():
    few = rs.extract(NAME, TEXTS, n_rows=30, rows_per_document=5).rows
    assert (few.document.value_counts() == 5).all()
    assert few.document.nunique() == 6
    spread = rs.extract(NAME, TEXTS, n_rows=30).rows
    assert spread.document.nunique() == 30
    other = rs.extract(NAME, TEXTS, n_rows=30, rows_per_document=5, seed=1).rows
    assert set(other.document) != set(few.document)
    again = rs.extract(NAME, TEXTS, n_rows=30, rows_per_document=5).rows
    assert again.equals(few)


def test_rows_per_document_reads_no_other_document():
    """What is run grows with the documents that are drawn, not with the corpus."""
    from repsim_nb.activations.extraction import plan_aligned

    (few,), (spread,) = (
        plan_aligned([NAME], None, rs.Sampling(TEXTS, n_rows=30, rows_per_document=each)) for each in (10, None)
    )
    assert few.tokens() < spread.tokens() / 4


def test_rows_per_document_says_when_there_are_fewer():
    with pytest.warns(FewerRowsWarning, match="Requested 1,000 rows, but .* has only 80"):
        acts = rs.extract(NAME, TEXTS, n_rows=1000, rows_per_document=2)
    assert len(acts.rows) == 80


def test_rows_per_document_is_in_the_provenance_and_the_rows_are_the_same_in_every_model():
    a, b = rs.extract_aligned([NAME, "tiny-neox-w64-d2"], TEXTS, n_rows=24, rows_per_document=4)
    assert a.rows[["document", "char_end"]].equals(b.rows[["document", "char_end"]])
    assert a.provenance["rows_per_document"] == 4
    assert "rows_per_document" not in rs.extract(NAME, TEXTS, n_rows=4).provenance


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"rows": "token"}, "Unknown kind of rows 'token'. Did you mean 'tokens'"),
        ({"n_rows": 0}, "n_rows=0; expected a positive whole number"),
        ({"n_rows": True}, "n_rows=True; expected a positive whole number"),
        ({"rows_per_document": 0}, "rows_per_document=0; expected a positive whole number"),
        ({"rows_per_document": 2.5}, "rows_per_document=2.5; expected a positive whole number"),
        ({"rows_per_document": 2, "rows": "last"}, 'rows_per_document would have no effect: rows="last"'),
        ({"packing": "pack"}, "Did you mean 'packed'"),
    ],
)
def test_a_sampling_that_makes_no_sense_says_so(how, message):
    with pytest.raises(InputError, match=message):
        rs.Sampling(**how)


def test_batch_tokens_is_how_much_is_run_at_once_and_moves_values_within_rounding():
    from repsim_nb.activations.extraction import plan_aligned

    sampling = rs.Sampling(TEXTS, n_rows=200)
    small, large = (plan_aligned([NAME], None, sampling, Resources(batch_tokens=n))[0] for n in (60, 10**6))
    assert len(small.batches()) > 10
    assert len(large.batches()) == 1
    one, other = (rs.extract(NAME, TEXTS, n_rows=200, batch_tokens=n) for n in (60, 10**6))
    for layer in one:
        assert (one[layer] - other[layer]).abs().max() < 1e-5 * one[layer].abs().max()
    assert rs.estimate(NAME, batch_tokens=4096).batch > rs.estimate(NAME, batch_tokens=256).batch


@pytest.mark.parametrize("given", [{"batch_tokens": 0}, {"memory_limit": -1}, {"batch_tokens": True}])
def test_resources_that_make_no_sense_say_so(given):
    with pytest.raises(InputError, match=f"{next(iter(given))}=.*expected a positive number of"):
        rs.extract(NAME, TEXTS, n_rows=5, **given)


def test_rows_that_are_there_take_no_option_of_extraction():
    x = np.random.default_rng(0).normal(size=(40, 3))
    options = {"corpus": TEXTS, "site": "mlp_out", "rows": "last", "n_rows": 5, "rows_per_document": 2, "seed": 1}
    options |= {"packing": "packed", "store": True, "batch_tokens": 9}
    for name, value in options.items():
        with pytest.raises(InputError, match=f"{name} would have no effect"):
            rs.compare(x, x, **{name: value})
        with pytest.raises(InputError, match=f"{name} would have no effect"):
            rs.compare_models([x, 2 * x], "cka", **{name: value})
    assert rs.compare(x, x, seed=1, interval=True).low.item() <= 1
    with pytest.raises(InputError, match="seed would have no effect"):
        rs.compare_all({"x": x}, seed=1)


def test_an_argument_that_does_not_exist_names_the_nearest_or_how_to_configure_the_measure():
    for call in (rs.compare, rs.estimate, rs.stream, rs.extract):
        with pytest.raises(InputError, match=rf"{call.__name__} has no argument 'nrows'\. Did you mean 'n_rows'"):
            call(NAME, nrows=100)
    with pytest.raises(InputError, match=r'pass measure=get_measure\("cka", fast=\.\.\.\)'):
        rs.compare(NAME, fast=True)
    with pytest.raises(InputError, match=r'pass measure=get_measure\("jaccard", k=\.\.\.\)'):
        rs.compare(NAME, None, None, "jaccard", k=5)
    with pytest.raises(InputError, match=r"stitch has no argument 'step'\. Did you mean 'steps'"):
        rs.stitch(NAME, NAME, 1, step=3)
