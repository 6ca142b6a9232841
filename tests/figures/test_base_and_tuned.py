import numpy as np
import pandas as pd
import pytest
import xarray as xr

from repsim_nb.errors import InputError
from repsim_nb.figures import carrying_parts, layer_profile, most_moved, transferred

PARTS = ["embedding", "block 1", "block 2", "head"]


@pytest.fixture
def difference():
    """A result of rs.diff as far as it is drawn: block 2 changed, and only it."""
    part = np.array([0.0, 0.0, 0.3, 0.0])
    table = {"weight_change": ("part", part), "loss_change": ((), 0.0, {"units": "nats per token"})}
    for name in ("divergence_into", "divergence_back", "loss_into", "loss_back"):
        sign = -1 if name == "loss_back" else 1
        low, high = sorted((0.5 * sign, 2 * sign))
        ends = {"": sign * part, "_low": low * part, "_high": high * part}
        table |= {f"{name}{end}": ("part", values) for end, values in ends.items()}
    table |= {"moved": ("layer", [0.0, 0.0, 0.5]), "moved_low": ("layer", [0.0, 0.0, 0.4])}
    table |= {"moved_high": ("layer", [0.0, 0.0, 0.6]), "token_moved": ("nth_token", [2.0, 1.0])}
    table |= {"token_before": ("nth_token", ["x = ", "if\n"]), "token_token": ("nth_token", ["$a$", "b"])}
    table |= {"document_most_moved": ("nth_document", [0.9]), "document_most_document": ("nth_document", ["one"])}
    coords = {"part": PARTS, "layer": [0, 1, 2]}
    return xr.Dataset(table, coords, {"model_a": "base", "model_b": "tuned"})


def test_a_profile_has_the_values_their_interval_and_the_weights_of_blocks(difference):
    ax = layer_profile(difference)
    line = ax.lines[0]
    assert line.get_ydata() == pytest.approx([0, 0, 0.5])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.6)
    steps = ax.patches[0].get_data()
    assert steps.values == pytest.approx([0.0, 0.3])
    assert steps.edges == pytest.approx([0, 1, 2])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["tuned", "weights of the block"]
    layer_profile(difference, ax, label="second")
    assert [text.get_text() for text in ax.get_legend().get_texts()].count("weights of the block") == 1
    assert ax.get_ylim()[1] > 2


@pytest.mark.parametrize(("what", "back"), [("divergence", 0.3), ("loss", -0.3)])
def test_parts_stand_in_order_with_both_ways_and_their_intervals(difference, what, back):
    ax = carrying_parts(difference, what=what)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == PARTS
    into, out = (container.lines[0].get_xdata() for container in ax.containers)
    assert into == pytest.approx([0, 0, 0.3, 0])
    assert out == pytest.approx([0, 0, back, 0])
    bar = ax.containers[0].lines[2][0].get_segments()[2]
    assert bar[:, 0] == pytest.approx([0.15, 0.6])
    assert what in ax.get_xlabel()
    assert ax.yaxis_inverted()


def test_tokens_stand_in_what_precedes_them_and_documents_by_name(difference):
    tokens, documents = most_moved(difference), most_moved(difference, of="documents")
    assert [tick.get_text() for tick in tokens.get_yticklabels()] == [r"x = [\$a\$]", r"if\n[b]"]
    assert [bar.get_width() for bar in tokens.patches] == [2, 1]
    assert [tick.get_text() for tick in documents.get_yticklabels()] == ["one"]


def test_a_transfer_is_drawn_beside_chance():
    table = pd.DataFrame({"value": [0.9, 0.5], "low": [0.8, 0.4], "high": [0.95, 0.6]}, index=["carried", "random"])
    table.attrs |= {"chance": 0.5, "long_name": "balanced accuracy"}
    ax = transferred(table)
    assert ax.containers[0].lines[0].get_xdata() == pytest.approx([0.9, 0.5])
    assert ax.lines[-1].get_xdata() == [0.5, 0.5]
    assert ax.get_xlabel() == "balanced accuracy"


def test_what_cannot_be_drawn_is_refused(difference):
    for draw in (layer_profile, carrying_parts, most_moved):
        with pytest.raises(InputError, match=rf"{draw.__name__} draws a result of rs\.diff"):
            draw(xr.Dataset())
    with pytest.raises(InputError, match="expected 'divergence' or 'loss'"):
        carrying_parts(difference, what="moved")
    with pytest.raises(InputError, match="expected 'tokens' or 'documents'"):
        most_moved(difference, of="words")
    with pytest.raises(InputError, match=r"transfer_probe or stitching\.transfer_direction"):
        transferred(pd.DataFrame())
