"""Cards: objects of the package in words, as notebooks show them."""

import subprocess
import sys
from types import SimpleNamespace

import IPython
import pytest
from IPython.core.formatters import HTMLFormatter

import repsim_nb as rs
from repsim_nb.system.card import card, show_in_notebooks
from tests.widgets.test_words import HOSTILE, Tags


@pytest.fixture
def formatter(monkeypatch):
    """The HTML formatter of a shell that seems to be running."""
    made = HTMLFormatter()
    shell = SimpleNamespace(display_formatter=SimpleNamespace(formatters={"text/html": made}))
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    return made


def test_card_escapes_all_that_it_is_given():
    shown = Tags(card(HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}, {HOSTILE: "<b>more</b>"}))
    assert shown.names == {"div", "strong", "ul", "li", "details", "summary", "pre", "b"}
    assert shown.text.count(HOSTILE) == 3


def test_show_in_notebooks_shows_a_class_by_name_and_leaves_formatters_of_the_user(formatter):
    class Thing:
        pass

    place = Thing.__module__, Thing.__name__
    show_in_notebooks(*place, lambda _: "ours")
    assert formatter(Thing()) == "ours"
    formatter.for_type(Thing, lambda _: "theirs")
    show_in_notebooks(*place, lambda _: "ours")
    assert formatter(Thing()) == "theirs"


def test_show_in_notebooks_does_nothing_without_a_notebook(monkeypatch):
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    show_in_notebooks("a", "B", str)


def test_importing_the_package_in_a_notebook_registers_results_and_imports_no_xarray():
    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell; s = InteractiveShell.instance();"
        "import repsim_nb; assert 'xarray' not in sys.modules; f = s.display_formatter.formatters['text/html'];"
        "import xarray as xr; assert f.lookup_by_type(xr.DataArray) is f.lookup_by_type(xr.Dataset)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_models_and_corpora_say_in_words_what_they_are():
    model = rs.load_model("tiny-bert-nli-00")
    assert "weights_sha256" not in vars(model)
    shown = Tags(model._repr_html_())
    assert "A classifier model with 6 layers of width 48" in shown.text
    assert "weights_sha256" not in vars(model), "no hash is computed only to be shown"
    assert model.weights_sha256 in Tags(model._repr_html_()).text
    assert "non-entailment" in shown.text
    corpus = rs.load_corpus("nli-heuristics")
    shown = Tags(corpus._repr_html_())
    assert f"{len(corpus):,} pairs of texts" in shown.text
    assert corpus.sha256 in shown.text
    assert corpus.texts[0] in shown.text


def test_models_and_corpora_show_hostile_names_and_texts_to_the_letter():
    model = rs.load_model("tiny-neox-w32-d2")
    model.name = HOSTILE
    for thing in (model, rs.load_corpus([HOSTILE, "b"])):
        shown = Tags(thing._repr_html_())
        assert not shown.names & {"img", "script"}
        assert HOSTILE[:40] in shown.text
