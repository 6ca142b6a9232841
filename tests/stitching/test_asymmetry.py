"""Asymmetries between kinds of models: planted ones, and their intervals by brute force."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import t

from repsim_nb.errors import InputError
from repsim_nb.stitching import asymmetry, penalties_by_kind, senders_by_run
from tests.support.penalties import Effects, penalty_table


def table(seed=0, **how):
    return penalty_table(np.random.default_rng(seed), **how)


def by_hand(made, kinds, left_out=None, documents=slice(None)):
    """The corrected asymmetry over layers, from cells named one by one."""
    tokens = made.document_tokens.values[documents].sum()
    means = {}
    for a, b in ("ab", "ba", "aa", "bb"):
        cells = []
        for s in made.sender.values:
            for r in made.receiver.values:
                if (kinds[s], kinds[r]) == (a, b) and s != r and left_out not in (s, r):
                    excess = made.document_loss.sel(sender=s, receiver=r) - made.document_receiver_loss.sel(receiver=r)
                    cells.append(float(excess.mean("layer").values[documents].sum() / tokens))
        means[a + b] = np.mean(cells)
    return means["ab"] - means["ba"] + means["aa"] - means["bb"]


def test_asymmetry_finds_a_planted_one_and_corrects_one_of_receivers_away():
    found = asymmetry(*table(foreign=0.1), "a", "b").loc["all"]
    assert 0 < found.low < 0.1 < found.high
    assert found.p_value < 0.02
    made, kinds = table(receiver=0.1)
    assert asymmetry(made, kinds, "a", "b", corrected=False).loc["all"].asymmetry > 0.05
    corrected = asymmetry(made, kinds, "a", "b").loc["all"]
    assert corrected.low < 0 < corrected.high
    turned = asymmetry(made, kinds, "b", "a").loc["all"]
    assert turned.asymmetry == pytest.approx(-corrected.asymmetry, abs=1e-12)
    assert turned[["low", "high"]].tolist() == pytest.approx([-corrected.high, -corrected.low], abs=1e-12)
    assert turned.p_value == corrected.p_value


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_asymmetry_has_the_interval_of_models_and_documents_left_out_one_by_one(level):
    made, kinds = table(per_kind=(3, 4), documents=6)
    everyone = [by_hand(made, kinds, left_out=m) for m in kinds]
    documents = [by_hand(made, kinds, documents=[d for d in range(6) if d != out]) for out in range(6)]
    groups = [np.array(part) for part in (everyone[:3], everyone[3:], documents)]
    parts = [(len(g) - 1) / len(g) * ((g - g.mean()) ** 2).sum() for g in groups]
    freedom = sum(parts) ** 2 / sum(v**2 / (len(g) - 1) for v, g in zip(parts, groups, strict=True))
    reach = t.ppf(0.5 + level / 2, freedom) * np.sqrt(sum(parts))
    found = asymmetry(made, kinds, "a", "b", level=level).loc["all"]
    value = by_hand(made, kinds)
    assert found[["asymmetry", "low", "high"]].tolist() == pytest.approx([value, value - reach, value + reach])


def test_asymmetry_varies_with_documents_where_models_agree():
    """The interval of a mean of documents of equal size is that of Student's t."""
    still = Effects(sender=0, receiver=0, pair=0, pair_by_document=0)
    made, kinds = penalty_table(np.random.default_rng(0), still, foreign=0.1, layers=1, documents=12)
    made["document_tokens"][:] = 100
    shift = np.random.default_rng(1).normal(size=12)
    of_a = np.array([kinds[m] == "a" for m in kinds])
    nats = 100 * (0.3 + np.outer(of_a, ~of_a)[:, :, None, None] * (0.1 + shift))
    made["document_loss"] = made.document_receiver_loss + made.document_loss.copy(data=nats)
    made = made.transpose("sender", "receiver", "layer", "document")
    found = asymmetry(made, kinds, "a", "b").loc["all"]
    reach = t.ppf(0.975, 11) * shift.std(ddof=1) / np.sqrt(12)
    value = 0.1 + shift.mean()
    assert found[["asymmetry", "low", "high"]].tolist() == pytest.approx([value, value - reach, value + reach])


def test_asymmetry_of_kinds_of_two_models_has_no_interval_where_a_pair_is_needed_that_leaving_out_takes_away():
    made, kinds = table(per_kind=2)
    corrected = asymmetry(made, kinds, "a", "b")
    assert np.isfinite(corrected.asymmetry).all()
    assert (corrected.low == -np.inf).all()
    assert (corrected.high == np.inf).all()
    assert np.isfinite(asymmetry(made, kinds, "a", "b", corrected=False)).all(axis=None)
    frame = penalties_by_kind(made, kinds)
    within = frame.sender == frame.receiver
    assert np.isinf(frame.low[within]).all()
    assert np.isfinite(frame[["penalty", "corrected"]]).all(axis=None)
    assert np.isfinite(frame.low[~within]).all()


@pytest.mark.parametrize(("per_kind", "least"), [(3, 0.1), (4, 2 / 70)])
def test_asymmetry_gives_the_smallest_p_value_that_so_many_models_allow(per_kind, least):
    made, kinds = table(foreign=1.0, per_kind=per_kind)
    found = asymmetry(made, kinds, "a", "b")
    assert found.attrs["least"] == pytest.approx(least)
    assert found.loc["all"].p_value == pytest.approx(least)
    assert asymmetry(*table(per_kind=(2, 3)), "a", "b").attrs["least"] == 0.1  # the kinds cannot be exchanged


def test_asymmetry_has_the_p_value_of_all_assignments_counted_by_hand():
    made, kinds = table(per_kind=3)
    value, names = by_hand(made, kinds), list(kinds)
    others = [by_hand(made, {n: "a" if n in part else "b" for n in names}) for part in combinations(names, 3)]
    share = np.mean(np.abs(others) >= abs(value) - 1e-12)
    assert asymmetry(made, kinds, "a", "b").loc["all"].p_value == pytest.approx(share)


def test_asymmetry_says_what_it_cannot_tell():
    made, kinds = table(documents=1)
    with pytest.raises(InputError, match="one document; an interval over documents needs at least two"):
        asymmetry(made, kinds, "a", "b")
    made, kinds = table()
    with pytest.raises(InputError, match="Unknown kind 'c'; expected one of a, b"):
        asymmetry(made, kinds, "a", "c")


def test_penalties_by_kind_leave_a_model_into_itself_out():
    made, kinds = table(foreign=0.1)
    for i, name in enumerate(made.sender.values):  # an absurd value where a model meets itself
        made.document_loss.loc[{"sender": name, "receiver": name}] += 1e6 * (i + 1)
    frame = penalties_by_kind(made, kinds).set_index(["layer", "sender", "receiver"])
    assert frame.penalty.max() < 1
    assert frame.high.max() < 1
    assert frame.loc[(1, "a", "a"), "pairs"] == 20
    assert frame.loc[(1, "a", "b"), "pairs"] == 25
    own = frame[frame.index.get_level_values("sender") == frame.index.get_level_values("receiver")]
    assert (own[["corrected", "corrected_low", "corrected_high"]] == 0).all(axis=None)
    foreign = frame.loc[(1, "a", "b")]
    assert foreign.corrected == pytest.approx(foreign.penalty - frame.penalty.loc[(1, "b", "b")])
    assert foreign.corrected_low < foreign.corrected < foreign.corrected_high
    assert (frame.low < frame.penalty).all()
    assert (frame.penalty < frame.high).all()
    assert frame.penalty.loc[(1, "a", "b")] - frame.penalty.loc[(1, "b", "a")] == pytest.approx(0.1, abs=0.05)


def checkpoints(seed=0, **how):
    """A table whose senders are checkpoints, in another order than the receivers; what a run keeps is cheap."""
    made, kinds = table(seed, **how)
    for name in made.sender.values:
        made.document_loss.loc[{"sender": name, "receiver": name}] = made.document_receiver_loss.sel(receiver=name)
    named = made.assign_coords(sender=[f"{m}@step{3 if kinds[m] == 'a' else 9}" for m in made.sender.values])
    return named.isel(sender=np.random.default_rng(seed).permutation(len(kinds))), made, kinds


def test_senders_by_run_gives_checkpoints_the_asymmetry_of_their_runs():
    mixed, made, kinds = checkpoints(foreign=0.05)
    paired = senders_by_run(mixed)
    assert paired.sender.values.tolist() == made.receiver.values.tolist()
    assert paired.checkpoint.sel(sender="b1").item() == "b1@step9"
    assert asymmetry(paired, kinds, "a", "b").equals(asymmetry(made, kinds, "a", "b"))
    assert penalties_by_kind(paired, kinds).equals(penalties_by_kind(made, kinds))


def test_senders_by_run_finds_twice_a_planted_effect_of_senders_without_stitches_within_a_run():
    mixed, _, kinds = checkpoints(sender=0.1)
    found = asymmetry(senders_by_run(mixed), kinds, "a", "b").loc["all"]
    assert 0 < found.low < 0.2 < found.high  # once into receivers of each kind
    assert found.p_value < 0.02


def test_senders_by_run_takes_the_pairing_that_is_given_and_refuses_another_number_of_senders():
    mixed, made, kinds = checkpoints()
    odd = mixed.assign_coords(sender=[f"early {m.split('@')[0]}" for m in mixed.sender.values])
    runs = {sender: sender.removeprefix("early ") for sender in odd.sender.values.tolist()}
    assert asymmetry(senders_by_run(odd, runs), kinds, "a", "b").equals(asymmetry(made, kinds, "a", "b"))
    with pytest.raises(InputError, match="Expected one sender for each receiver"):
        senders_by_run(odd)
    with pytest.raises(InputError, match="Expected one sender for each receiver"):
        senders_by_run(mixed.isel(sender=slice(3)))
    with pytest.raises(InputError, match="runs has no entry for early"):
        senders_by_run(odd, {})
