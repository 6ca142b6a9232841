"""What a stitch takes is said before it runs."""

import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.stitching import estimate_stitch, estimates, ground

A, B = "tiny-neox-w32-d2", "tiny-neox-w64-d2"


@pytest.fixture
def one_second(monkeypatch):
    """Every trial takes a second: a busy machine would decide."""

    def timed(work):
        work()
        return 1.0

    monkeypatch.setattr(estimates, "_timed", timed)


def test_estimate_stitch_counts_the_tokens_that_a_stitch_runs(monkeypatch):
    how = {"map": "orthogonal", "fit": "least_squares", "n_fit": 24, "n_report": 6}
    about = estimate_stitch(A, B, 1, **how)
    ran = {}

    def counted(items, what, unit="batch", shown=True, total=None, sizes=None, cheaper=""):
        ran[what] = sum(sizes or [])
        return iter(items)

    monkeypatch.setattr(ground, "steps", counted)
    rs.stitch(A, B, 1, **how)
    assert about.tokens["match"] == ran[f"{A}, match"] == ran[f"{B}, match"]
    assert about.tokens["report"] == ran[f"{A}, report"] == ran[f"losses of {B}"]


def test_estimate_stitch_counts_steps_only_where_there_is_descent(one_second):
    closed = estimate_stitch(A, B, 1, fit="least_squares", n_fit=24, n_report=6)
    few, many = (estimate_stitch(A, B, 1, steps=steps, n_fit=24, n_report=6) for steps in (20, 200))
    assert closed.descent_seconds == 0
    assert many.descent_seconds > 5 * few.descent_seconds > 0
    assert few.forward_seconds > closed.forward_seconds  # the sender's states of the text that steps run on
    assert f"about {many.seconds:.0f} s, at most {many.descent_seconds:.0f} s of it gradient steps" in str(many)


def test_estimate_stitch_says_no_seconds_of_the_sender_that_the_receiver_runs_anyway(one_second):
    """A stitch of a model into itself runs each text once for both."""
    how = {"map": "identity", "n_report": 6}
    model, untrained = rs.load_model(A), rs.load_model(f"{A}@step0")
    own, other = estimate_stitch(model, model, 1, **how), estimate_stitch(model, untrained, 1, **how)
    assert own.tokens == other.tokens
    assert own.forward_seconds < other.forward_seconds
    assert own.weights < other.weights


def test_estimate_stitch_refuses_what_stitch_refuses():
    with pytest.raises(InputError, match=r"Unknown map 'afine'. Did you mean 'affine'"):
        estimate_stitch(A, B, 1, map="afine")
    with pytest.raises(InputError, match="kind"):
        estimate_stitch(A, "tiny-bert-nli-00", 1)
