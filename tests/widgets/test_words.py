"""Names and texts that would be markup: widgets show them to the letter."""

import shutil
from html.parser import HTMLParser

import ipywidgets as widgets
import matplotlib.pyplot as plt
import pytest

import repsim_nb as rs
from repsim_nb.models.catalogue import checkpoint
from repsim_nb.widgets.details import _predictions
from repsim_nb.widgets.picture import empty, inline_svg

HOSTILE = "<img src=x onerror=alert(1)>\"'<script>alert(2)<!-- &lt; $\\frac$ 日本 #000000"
TEXTS = tuple(f"{HOSTILE} {i} </td><script>alert(3)</script> import module_{i} as m{i}" for i in range(12))


class Tags(HTMLParser):
    """Names and attributes of all elements, and the text."""

    def __init__(self, page):
        super().__init__()
        self.names, self.attributes, self.text = set(), set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / HOSTILE
    shutil.copytree(checkpoint("tiny-neox-w32-d2", None), folder)
    return str(folder)


def pages(widget):
    """What every HTML widget inside shows."""
    if isinstance(widget, widgets.Box):
        return [page for child in widget.children for page in pages(child)]
    return [widget.value] if isinstance(widget, widgets.HTML) else []


def test_explorer_shows_hostile_names_and_texts_to_the_letter(model):
    explorer = rs.Explorer(model, [model, "tiny-neox-w64-d2"], TEXTS, n_rows=60)
    explorer.run()
    explorer.selected = (1, 1)
    explorer.wait()
    explorer._behind.stitch.prompt.value = HOSTILE
    explorer._behind.stitch.button.click()
    explorer.wait()
    assert explorer.error == ""
    found = Tags("".join(pages(explorer)))
    assert not found.names & {"img", "script"}
    assert not {name for name in found.attributes if name.startswith("on")} | found.attributes & {"src"}
    assert HOSTILE in found.text
    assert HOSTILE in explorer._views.maps.by_model[model].view["y_axis"]
    plt.close("all")


def test_pickers_and_errors_show_hostile_names_to_the_letter(model):
    for picker in (
        rs.ModelPicker(model),
        rs.ModelPicker([model, "tiny-neox-w32-d2"], multiple=True, title=HOSTILE),
        rs.CorpusPicker(TEXTS, title=HOSTILE),
        rs.LayerPicker(title=HOSTILE),
        rs.MeasurePicker(title=HOSTILE),
    ):
        picker.alert.show(ValueError(HOSTILE))
        found = Tags("".join(pages(picker)))
        assert not found.names & {"img", "script"}
        assert HOSTILE in found.text
        assert picker.alert.text == HOSTILE


def test_predictions_show_hostile_labels_to_the_letter():
    import pandas as pd

    found = Tags(_predictions(pd.DataFrame({HOSTILE: [0.5]}, index=[HOSTILE]), HOSTILE))
    assert found.names == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert found.text.count(HOSTILE) == 3


def test_inline_svg_changes_colours_and_no_names():
    ax = empty(3, 2)
    ax.set_title("#000000")
    svg = inline_svg(ax, HOSTILE)
    found = Tags(svg)
    assert "#000000" in found.text
    assert "currentColor" in svg
    assert not found.names & {"img", "script"}
    assert "onerror" not in found.attributes
