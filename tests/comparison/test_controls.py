import json

import numpy as np
import pytest
import torch

import repsim_nb as rs
from repsim_nb.activations import extract
from repsim_nb.comparison.closeup import tokens_at
from repsim_nb.comparison.controls import Controls, component_share, largest_activations, massive_activations
from repsim_nb.errors import InputError
from tests.support.layers import massive, smooth


def test_nothing_is_controlled_by_default():
    acts = smooth(0, 2)
    assert not Controls()
    assert rs.compare(acts).equals(rs.compare(acts, leave_out_norms=None, remove_components=0))
    (done,), kept = Controls().applied(acts)
    assert kept.all()
    assert all(np.array_equal(done[layer], acts[layer]) for layer in acts)


def test_rows_of_large_norm_are_left_out_of_all_layers_and_both_sides():
    acts, rows = massive(0, [1], n_layers=3)
    other = smooth(1, 2)
    (a, b), kept = Controls(leave_out_norms=5).applied(acts, other)
    assert np.flatnonzero(~kept).tolist() == rows.tolist()
    assert np.array_equal(b[1], other[1][kept])
    expected = rs.compare({k: x[kept] for k, x in acts.items()}, {k: x[kept] for k, x in other.items()})
    assert np.array_equal(rs.compare(acts, other, leave_out_norms=5), expected)
    assert a[0].shape == (294, 24)


def test_first_tokens_are_left_out_by_their_place_in_the_sequence():
    acts = extract("tiny-neox-w32-d2", n_rows=400)
    (done,), kept = Controls(leave_out_first=20).applied(acts)
    assert 0 < kept.sum() < 400
    assert done.rows.position.min() >= 20
    assert torch.equal(done[1], acts[1][torch.from_numpy(kept)])
    result = rs.compare(acts, leave_out_first=20)
    assert result.attrs["n_rows"] == kept.sum()
    assert json.loads(result.attrs["provenance"])["a"]["controls"] == {"leave_out_first": 20}


def test_removed_components_are_gone_and_the_others_stay():
    x = smooth(0, 1)[0] * np.arange(24, 0, -1)
    centred = x - x.mean(0)
    _, s, vh = np.linalg.svd(centred, full_matrices=False)
    done = Controls(remove_components=2).applied({0: x})[0][0][0].numpy()
    assert np.abs(done @ vh[:2].T).max() < 1e-10 * s[0]
    assert np.allclose(done @ vh[2:].T, centred @ vh[2:].T)


def test_standardized_features_have_one_scale_and_constant_ones_are_left_out():
    x = smooth(0, 1)[0] * np.arange(24, 0, -1) + 5
    x[:, 3] = 7
    done = Controls(standardize=True).applied({0: x})[0][0][0]
    assert done.shape == (300, 23)
    assert torch.allclose(done.std(0), torch.ones(23, dtype=done.dtype))
    scaled = x * np.exp(np.random.default_rng(0).normal(size=24))
    assert np.allclose(rs.compare({0: x}, {0: scaled}, standardize=True), 1)
    assert rs.compare({0: x}, {0: scaled}).item() < 0.99


def test_parameters_with_one_value_per_row_lose_the_same_rows():
    acts, rows = massive(0, [0], n_layers=2)
    groups = np.arange(300) // 3
    kept = ~np.isin(np.arange(300), rows)
    expected = rs.compare(
        {k: x[kept] for k, x in acts.items()}, groups=groups[kept], between_documents=True, interval=True
    )
    controlled = rs.compare(acts, groups=groups, between_documents=True, interval=True, leave_out_norms=5)
    for name in ("low", "high"):
        assert np.array_equal(controlled[name], expected[name])
    assert np.array_equal(controlled, expected)


def test_component_share_is_what_taking_the_component_out_takes_of_hsic():
    a, b = (smooth(s, 2) for s in (0, 1))
    b[1] = a[1] + 0.1 * b[1]
    b[1][:, 0] *= 9
    found = component_share(a, b)
    for la in a:
        for lb in b:
            ux, sx, _ = np.linalg.svd(a[la] - a[la].mean(0), full_matrices=False)
            uy, sy, _ = np.linalg.svd(b[lb] - b[lb].mean(0), full_matrices=False)
            every = np.outer(sx**2, sy**2) * (ux.T @ uy) ** 2
            cell = found.sel(layer_a=la, layer_b=lb)
            assert cell.share.item() == pytest.approx(every[0, 0] / every.sum(), rel=1e-6)
            assert cell.alignment.item() == pytest.approx((ux[:, 0] @ uy[:, 0]) ** 2, rel=1e-6)
            assert cell.variance_b.item() == pytest.approx(sy[0] ** 2 / (sy**2).sum(), rel=1e-6)


def test_one_massive_direction_carries_everything():
    acts, _ = massive(0, [1, 2], n_layers=3)
    found = component_share(acts)
    assert found.share.sel(layer_a=1, layer_b=2) > 0.95
    assert found.share.sel(layer_a=0, layer_b=0) < 0.2


def test_largest_activations_names_the_row_and_the_feature():
    acts, rows = massive(0, [1], n_layers=2)
    table = largest_activations(acts)
    assert table.row[1] in rows
    assert table.feature[1] == 3
    assert table.largest[1] == np.abs(acts[1]).max()
    assert table.norm_ratio[1] > 8 > table.norm_ratio[0]
    known = largest_activations(extract("tiny-neox-w32-d2", n_rows=50))
    assert {"document", "position"} <= set(known)


def test_massive_activations_lists_what_was_planted():
    acts, rows = massive(0, [1, 2, 4], n_layers=5, size=5000.0)
    table = massive_activations(acts)
    assert sorted(table.row) == rows.tolist()
    assert set(table.feature) == {3}
    for line in table.itertuples():
        by_layer = {k: abs(x[line.row, 3]) / np.sort(np.abs(x), axis=None)[(x.size - 1) // 2] for k, x in acts.items()}
        assert (line.first_layer, line.last_layer, line.n_layers) == (1, 4, 3)
        assert line.layer == max(by_layer, key=by_layer.get)
        assert line.ratio == pytest.approx(by_layer[line.layer], rel=1e-6)
        assert line.value == acts[line.layer][line.row, 3]
    assert table.ratio.is_monotonic_decreasing
    assert massive_activations(acts, above=1e6).empty
    assert massive_activations(acts, times=1e6).empty


def test_massive_activations_shows_the_token_of_each_row():
    model = rs.load_model("tiny-neox-w32-d2")
    acts = extract(model, n_rows=60)
    table = massive_activations(acts, model, above=0.5, times=4)
    assert len(table) > 3
    expected = tokens_at(model, acts.rows.iloc[table.row])
    assert table.token.tolist() == expected.token.tolist()
    assert table.document.tolist() == expected.document.tolist()
    assert table.position.tolist() == acts.rows.position.iloc[table.row].tolist()
    empty = massive_activations(acts, model, above=1e9)
    assert list(empty) == list(table)
    assert empty.empty


def test_massive_activations_says_what_it_expects():
    with pytest.raises(InputError, match=r"shapes \(9, 2\), \(9, 3\); expected one shape"):
        massive_activations({0: np.ones((9, 2)), 1: np.ones((9, 3))})
    with pytest.raises(InputError, match="plain arrays have no tokens"):
        massive_activations(smooth(0, 2), rs.load_model("tiny-neox-w32-d2"))


def test_what_cannot_be_controlled_is_said():
    acts = smooth(0, 1)
    with pytest.raises(InputError, match="remove_components=24 leaves nothing of layer 0"):
        rs.compare(acts, remove_components=24)
    with pytest.raises(InputError, match="plain arrays have no positions"):
        rs.compare(acts, leave_out_first=1)
    with pytest.raises(InputError, match="0 of 50 rows remain"):
        Controls(leave_out_first=10_000).applied(extract("tiny-neox-w32-d2", n_rows=50))
    for wrong in ({"leave_out_norms": 1}, {"leave_out_first": -1}, {"remove_components": 1.5}, {"standardize": 2}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}=.*expected"):
            Controls(**wrong)
    with pytest.raises(InputError, match="no variance"):
        component_share({0: np.ones((10, 3))})
    with pytest.raises(InputError, match="controls and between_documents need all activations in memory"):
        rs.compare("tiny-neox-w32-d2", n_rows=30_000, memory_limit=10_000_000, remove_components=1)
