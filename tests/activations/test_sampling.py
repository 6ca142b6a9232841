"""Which rows are chosen, and what may be used to extract them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import repsim_nb as rs
from repsim_nb.activations import selection
from repsim_nb.activations.extraction import plan_aligned
from repsim_nb.activations.selection import FEWEST_DOCUMENTS, TOKENS_PER_ROW, FewerRowsWarning, _quotas_in_order
from repsim_nb.errors import InputError
from repsim_nb.models.batch import Windows
from repsim_nb.system.resources import Resources

NAME = "tiny-neox-w32-d2"
TEXTS = [f"Document {number} says: " + "one word after the other, " * (1 + number % 5) for number in range(40)]


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 200), st.integers(1, 12), st.integers(0, 9)
)
@settings(max_examples=200, deadline=None)
def test_quotas_take_so_many_rows_of_each_document_until_there_are_enough(available, n_rows, each, seed):
    available = np.array(available)
    order = np.random.default_rng(seed).permutation(len(available))
    quota = _quotas_in_order(available, n_rows, each, order)
    wanted = np.minimum(available, each)
    assert (quota >= 0).all()
    assert quota.sum() == min(n_rows, wanted.sum())
    used = quota[order] == wanted[order]
    assert used[: np.flatnonzero(quota[order])[-1]].all()  # all but the last one drawn


def test_rows_per_document_is_kept_and_the_seed_draws_the_documents():
    few = rs.extract(NAME, TEXTS, n_rows=30, rows_per_document=5).rows
    assert (few.document.value_counts() == 5).all()
    assert few.document.nunique() == 6
    spread = rs.extract(NAME, TEXTS, n_rows=30, rows_per_document=1).rows
    assert spread.document.nunique() == 30
    other = rs.extract(NAME, TEXTS, n_rows=30, rows_per_document=5, seed=1).rows
    assert set(other.document) != set(few.document)
    again = rs.extract(NAME, TEXTS, n_rows=30, rows_per_document=5).rows
    assert again.equals(few)


def test_rows_per_document_reads_no_other_document():
    """What is run grows with the documents that are drawn, not with the corpus."""
    few, spread = (_plan(TEXTS, n_rows=30, rows_per_document=each) for each in (10, 1))
    assert few.tokens() < spread.tokens() / 4


def test_rows_per_document_of_one_spreads_more_rows_than_documents_over_all_of_them():
    rows = rs.extract(NAME, TEXTS, n_rows=100, rows_per_document=1).rows
    assert sorted(set(rows.document.value_counts())) == [2, 3]
    with pytest.warns(FewerRowsWarning, match="Requested 5,000 rows"):
        assert len(rs.extract(NAME, TEXTS[:9], n_rows=5000, rows_per_document=1).rows) < 5000


def _plan(texts, name=NAME, **how):
    return plan_aligned([name], None, rs.Sampling(rs.load_corpus(texts), **how))[0]


WORDS = "a few words that come one after the other until the end of this text is reached "


@pytest.mark.parametrize("n_rows", [256, 2000])
@pytest.mark.parametrize(("name", "lengths"), [(NAME, (1, 2, 3)), (NAME, (9,)), ("tiny-bert-nli-00", (1,))])
def test_rows_per_document_is_chosen_by_cost(name, lengths, n_rows):
    texts = [f"{i} {WORDS * lengths[i % len(lengths)]}" for i in range(1200)]
    plan = _plan(texts, name, n_rows=n_rows)
    each = plan.selection.rows_per_document
    documents = plan.rows.document.nunique()
    assert documents >= FEWEST_DOCUMENTS
    assert plan.rows.document.value_counts().max() == each
    if documents > 1.2 * FEWEST_DOCUMENTS:  # cost decides, and the next smaller number would cost too much
        assert plan.tokens() <= 1.05 * TOKENS_PER_ROW * len(plan)
        further = _plan(texts, name, n_rows=n_rows, rows_per_document=max(1, each // 2))
        assert further.tokens() > TOKENS_PER_ROW * len(further)


def test_rows_of_a_large_corpus_do_not_depend_on_how_much_of_it_was_read(monkeypatch):
    texts = [f"{i} {WORDS * (1 + i % 3)}" for i in range(400)]
    names = [NAME, "tiny-gelu-3l-s0"]
    chosen = {}
    for read in (64, 10**6):
        monkeypatch.setattr(selection, "SURVEYED", read)
        chosen[read] = rs.extract_aligned(names, texts, n_rows=800, rows_per_document=8)[1]
    few, whole = chosen.values()
    assert few.rows[["document", "char_end"]].equals(whole.rows[["document", "char_end"]])
    assert (few[3] - whole[3]).abs().max() < 1e-4


def test_rows_read_no_more_of_a_large_corpus_than_it_takes(monkeypatch):
    monkeypatch.setattr(selection, "SURVEYED", 64)
    read, windows = [], Windows.__call__

    def counted(self, texts, *more):
        read.append(len(texts))
        return windows(self, texts, *more)

    monkeypatch.setattr(Windows, "__call__", counted)
    texts = [f"{i} {WORDS}" for i in range(2000)]
    rs.extract(NAME, texts, n_rows=400, rows_per_document=4)
    assert read == [64, 256]


def test_rows_per_document_by_default_uses_all_documents_where_there_are_few():
    rows = rs.extract(NAME, TEXTS[:20], n_rows=200).rows
    assert rows.document.nunique() == 20


def test_rows_per_document_is_in_the_provenance_and_the_rows_are_the_same_in_every_model():
    a, b = rs.extract_aligned([NAME, "tiny-neox-w64-d2"], TEXTS, n_rows=24, rows_per_document=4)
    assert a.rows[["document", "char_end"]].equals(b.rows[["document", "char_end"]])
    assert a.provenance["rows_per_document"] == 4


def test_rows_per_document_chosen_by_cost_is_in_the_provenance_and_gives_the_same_rows_when_it_is_given():
    texts = [f"{i} {WORDS * 3}" for i in range(300)]
    chosen = rs.extract(NAME, texts, n_rows=1000)
    each = chosen.provenance["rows_per_document"]
    assert each > 1
    assert rs.extract(NAME, texts, n_rows=1000, rows_per_document=each).rows.equals(chosen.rows)
    assert "rows_per_document" not in rs.extract(NAME, texts, n_rows=4, rows="last").provenance


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
        name = "corpora" if name == "corpus" else name
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
