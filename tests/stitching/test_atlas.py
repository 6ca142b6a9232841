"""Atlases: every cut into every entry, with known truth, floors, a race, and one table for several processes."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.stitching import table as table_module
from repsim_nb.stitching.floors import untrained_twin
from tests.support.twins import deepened, rotated, rotation_for

SMALL, DEEP, WIDE = "tiny-neox-w32-d2", "tiny-neox-w32-d4", "tiny-neox-w64-d2"
FEW = {"n_fit": 64, "n_report": 8}
CLOSED = {"fit": "least_squares", **FEW}
RACE = {"layers": [2], "into": "all", "steps": 40, **FEW}


@pytest.fixture(scope="module")
def atlas():
    """Two depths and widths with all floors."""
    return rs.stitching_table([SMALL, DEEP], [DEEP, WIDE], into="all", controls="all", **CLOSED)


@pytest.fixture(scope="module")
def raced():
    return rs.stitching_table([DEEP], [SMALL], race=0.1, **RACE)


def test_stitching_table_of_a_model_into_itself_by_the_identity_costs_nothing_where_the_cut_is_the_entry_alone():
    table = rs.stitching_table([DEEP], [DEEP], into="all", map="identity", n_report=8)
    penalty = table.penalty.squeeze().values
    assert np.abs(np.diag(penalty)).max() < 1e-6
    assert penalty[~np.eye(5, dtype=bool)].min() > 1e-3


def test_stitching_table_finds_a_planted_rotation_at_the_right_entries():
    model = rs.load_model("tiny-gelu-3l-s0")
    twin = rotated(model, rotation_for(model))
    table = rs.stitching_table([model], [twin], into="all", map="orthogonal", **CLOSED)
    penalty = table.penalty.squeeze().values
    assert np.abs(np.diag(penalty)).max() < 1e-3
    assert penalty.argmin(1).tolist() == [0, 1, 2, 3]
    assert np.sort(penalty, 1)[:, 1].min() > 0.02


def test_stitching_table_finds_a_planted_layer():
    model = rs.load_model(DEEP)
    table = rs.stitching_table([model], [deepened(model, 2)], into="all", map="identity", n_report=8)
    nothing = np.argwhere(np.abs(table.penalty.squeeze().values) < 1e-6).tolist()
    assert nothing == [[0, 0], [1, 1], [2, 2], [2, 3], [3, 4], [4, 5]]
    assert rs.stitching.best_entries(table).entry.squeeze().values[[0, 1, 3, 4]].tolist() == [0, 1, 4, 5]


def test_stitching_table_holds_what_stitch_says_of_each_cell(atlas):
    assert dict(atlas.penalty.sizes) == {"sender": 2, "receiver": 2, "layer": 5, "into": 5}
    for sender, receiver, layer, into in ((SMALL, DEEP, 1, 3), (DEEP, WIDE, 4, 0)):
        cell = atlas.sel(sender=sender, receiver=receiver, layer=layer, into=into)
        one = rs.stitch(sender, receiver, layer, into=into, **CLOSED)
        assert float(cell.penalty) == pytest.approx(one.penalty, abs=1e-5)
        assert float(cell.recovered) == pytest.approx(one.recovered, abs=1e-5)
        assert float(cell.accuracy) == pytest.approx(one.accuracy, abs=1e-6)
        shuffled = rs.stitch(sender, receiver, layer, into=into, shuffle=True, **CLOSED)
        assert float(cell.shuffled_penalty) == pytest.approx(shuffled.penalty, abs=1e-5)
        untrained = rs.stitch(untrained_twin(rs.load_model(sender)), receiver, layer, into=into, **CLOSED)
        assert float(cell.untrained_penalty) == pytest.approx(untrained.penalty, abs=1e-5)


def test_stitching_table_has_no_cell_where_a_model_has_no_layer(atlas):
    there = np.isfinite(atlas.penalty)
    assert int(there.sum()) == (3 + 5) * (5 + 3)
    for name, of in (("layer", "sender"), ("into", "receiver")):
        deep = atlas[name] > atlas[f"{of}_layers"]
        assert not there.where(deep, False).any()
    assert int(np.isfinite(atlas.self_penalty).sum()) == 5 * 5 + 3 * 3


def test_stitching_table_puts_floors_under_penalties(atlas):
    own = atlas.self_penalty
    assert max(abs(float(own.sel(receiver=WIDE, layer=k, into=k))) for k in range(3)) < 1e-3
    best, untrained, shuffled = (
        atlas[name].min("into").sel(layer=slice(1, 2)) for name in ("penalty", "untrained_penalty", "shuffled_penalty")
    )
    assert bool((best < untrained - 0.5).all())
    assert bool((untrained < shuffled).all())
    constant = atlas.mean_loss - atlas.receiver_loss
    assert float(abs(atlas.shuffled_penalty / constant - 1).max()) < 0.2


def test_untrained_twin_leaves_the_model_as_it_is_and_is_the_same_every_time():
    model = rs.load_model(SMALL)
    before = model.fingerprint()
    twins = [untrained_twin(model, seed) for seed in (0, 0, 1)]
    hashes = [twin.hashed() for twin in twins]
    assert model.fingerprint() == before
    assert hashes[0] == hashes[1] != hashes[2]
    assert twins[0].provenance["weights_sha256"] == hashes[0] != model.weights_sha256
    batch = model.batch(["def f(x): return x"])
    spread = twins[0].logits(batch).softmax(-1)
    assert float(spread.max()) < 0.01


def test_a_race_keeps_what_it_stops_and_leaves_the_rest_as_it_is(raced):
    whole = rs.stitching_table([DEEP], [SMALL], **RACE)
    assert "raced" not in whole
    stopped = raced.raced.squeeze().values
    assert stopped.tolist() == [True, False, False]
    assert np.isfinite(raced.penalty).all()
    assert (raced.steps.squeeze().values[stopped] < whole.steps.squeeze().values[stopped]).all()
    went_on = ~raced.raced
    xr.testing.assert_equal(raced.penalty.where(went_on), whole.penalty.where(went_on))
    start = rs.stitching_table([DEEP], [SMALL], [2], into="all", **CLOSED)
    assert (raced.penalty <= start.penalty + 0.02).all()


def test_an_executor_gives_the_same_with_a_race(raced):
    with ThreadPoolExecutor(2) as pool:
        again = rs.stitching_table([DEEP], [SMALL], race=0.1, executor=pool, **RACE)
        own = rs.stitching_table([WIDE], [SMALL], into="all", controls="untrained", executor=pool, **CLOSED)
    xr.testing.assert_equal(again, raced)
    here = rs.stitching_table([WIDE], [SMALL], into="all", controls="untrained", **CLOSED)
    xr.testing.assert_allclose(own, here, rtol=1e-5)


def test_a_killed_atlas_resumes_between_the_entries_of_a_cut(tmp_path, monkeypatch):
    out, asked = tmp_path / "atlas.nc", ([SMALL], [SMALL, WIDE], [1, 2])
    original, fitted = table_module.stitches_on, []

    def killed(*given):
        for stitched in original(*given):
            if len(fitted) == 4:  # the first cut, and one entry of the second
                raise KeyboardInterrupt
            fitted.append(stitched)
            yield stitched

    monkeypatch.setattr(table_module, "stitches_on", killed)
    with pytest.raises(KeyboardInterrupt):
        rs.stitching_table(*asked, into="all", out=out, **CLOSED)
    assert len(list(tmp_path.glob(".atlas.nc.*/*.json"))) == 4
    assert not out.exists()
    monkeypatch.setattr(table_module, "stitches_on", counting(original, again := []))
    whole = rs.stitching_table(*asked, into="all", out=out, **CLOSED)
    assert len(again) == 12 - 4
    assert list(tmp_path.iterdir()) == [out]
    xr.testing.assert_allclose(whole, rs.stitching_table(*asked, into="all", **CLOSED), rtol=1e-5)


def counting(original, calls):
    def stitches(*given):
        for stitched in original(*given):
            calls.append(stitched)
            yield stitched

    return stitches


OTHER = """
import sys
import repsim_nb as rs
from repsim_nb.stitching import table
original, calls = table.stitches_on, []
def counting(*given):
    for stitched in original(*given):
        calls.append(stitched)
        yield stitched
table.stitches_on = counting
small, wide, out = sys.argv[1:]
made = rs.stitching_table([small], [small, wide], into="all", out=out, fit="least_squares", n_fit=64, n_report=8)
print(len(calls), float(made.penalty.sum()))
"""


def test_two_processes_share_one_table(tmp_path, monkeypatch):
    out, original, calls = tmp_path / "atlas.nc", table_module.stitches_on, []

    def waiting(*given):
        """Hold the first cut until the other process has finished a stitch."""
        until = time.monotonic() + 120
        while not list(tmp_path.glob(".atlas.nc.*/*.json")) and time.monotonic() < until:
            time.sleep(0.05)
        yield from counting(original, calls)(*given)

    monkeypatch.setattr(table_module, "stitches_on", waiting)
    other = subprocess.Popen([sys.executable, "-c", OTHER, SMALL, WIDE, str(out)], stdout=subprocess.PIPE, text=True)
    made = rs.stitching_table([SMALL], [SMALL, WIDE], into="all", out=out, **CLOSED)
    count, total = other.communicate(timeout=120)[0].split()
    assert len(calls) + int(count) == 18, "no stitch is fitted twice"
    assert min(len(calls), int(count)) > 0
    assert float(made.penalty.sum()) == pytest.approx(float(total), abs=1e-9)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measures": "cka"}, "measures would have no effect"),
        ({"race": 0.5}, "race would have no effect: it is for tables"),
        ({"race": 0.5, "into": "all", "fit": "least_squares"}, "only gradient fits can stop early"),
        ({"race": 0, "into": "all"}, "race=0; expected nats above 0"),
        ({"controls": "itself"}, "Unknown control 'itself'"),
        ({"controls": "all", "shuffle": True}, "shuffles the whole table"),
        ({"into": 9}, "does not exist"),
        ({"into": "all", "layers": [3]}, "does not exist"),
    ],
)
def test_stitching_table_says_what_is_wrong_with_its_input(arguments, message):
    with pytest.raises(InputError, match=message):
        rs.stitching_table([SMALL], [SMALL], **arguments)
