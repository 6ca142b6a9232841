"""The saved page: it holds what the explorer shows, runs one script of ours, and shows hostile names to the letter."""

import base64
import json
import re
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.widgets import save_html
from repsim_nb.widgets.map import view_of
from tests.widgets.test_words import HOSTILE, Tags

A, B = "tiny-neox-w32-d2", "tiny-neox-w64-d2"
TEXTS = tuple(f"{HOSTILE} {i}</script><!--<script> import module_{i} as m{i}" for i in range(12))
X = {layer: np.random.default_rng(layer).normal(size=(50, 4)) for layer in range(3)}


@pytest.fixture(scope="module")
def explorer():
    """Two maps, and two close-ups of the first."""
    made = rs.Explorer(A, [B, A], TEXTS, n_rows=60)
    made.run()
    for pair in ((1, 2), (0, 1)):
        made.selected = pair
        made.wait()
    return made


@pytest.fixture(scope="module")
def page(explorer, tmp_path_factory):
    return explorer.save_html(tmp_path_factory.mktemp("page") / "page.html").read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="repsim-data">(.*?)</script>', page, re.S)[1])


def test_save_html_holds_the_maps_of_the_explorer_on_one_scale(explorer, page):
    data = data_of(page)
    limits = tuple(data["maps"][0]["limits"])
    assert [m["view"] for m in data["maps"]] == [view_of(result, limits) for result in explorer.results.values()]
    for held, result in zip(data["maps"], explorer.results.values(), strict=True):
        np.testing.assert_allclose(held["numbers"], result.values, rtol=1e-5)
    assert data["selected"] == [0, 0, 1]


def test_save_html_holds_the_closeups_that_were_computed_and_no_others(explorer, page, tmp_path):
    assert re.findall(r'data-closeup="([^"]+)"', page) == ["0 1 2", "0 0 1"]
    assert page.count("Tokens they differ on most") == 2
    assert "This page holds 2 close-ups" in page
    without = explorer.save_html(tmp_path / "maps.html", closeups=False).read_text(encoding="utf-8")
    assert "data-closeup" not in without.split("<script")[0]
    assert "This page holds 0 close-ups" in without


def test_save_html_folds_provenance_and_code(explorer, page):
    text = Tags(page).text
    for result in explorer.results.values():
        assert json.dumps(json.loads(result.attrs["provenance"]), indent=1, ensure_ascii=False) in text
    assert explorer.code in text


def test_save_html_runs_only_its_own_script_and_refers_to_nothing(page):
    shown = Tags(page)
    scripts = re.findall(r"<script[^>]*>", page)
    assert scripts == ['<script type="application/json" id="repsim-data">', '<script type="module">']
    assert not shown.names & {"img", "link", "iframe", "object"}
    assert not shown.attributes & {"src", "href"}
    assert not {name for name in shown.attributes if name.startswith("on")}
    assert not re.search(r'xlink:href="[^#]|url\((?!#)', page)
    own = re.search(r'<script type="module">(.*?)</script>', page, re.S)[1]
    assert f"script-src 'sha256-{base64.b64encode(sha256(own.encode()).digest()).decode()}'" in page
    assert "default-src 'none'" in page
    assert not re.search(r"^\s*(export|import)\b", own, re.M)


def hostile_page(folder):
    """A page of arrays whose names and texts are markup, with one close-up."""
    result = rs.compare(X).assign_attrs(model_a=HOSTILE, model_b=HOSTILE, long_name=HOSTILE)
    axes = rs.closeup.shared_axes(X[0], X[1])
    tokens = pd.DataFrame(
        {"difference": [1.0], "before": HOSTILE, "token": HOSTILE, "after": HOSTILE, "document": HOSTILE}
    )
    return save_html({HOSTILE: result}, folder / "hostile.html", {(HOSTILE, (0, 1)): (axes, tokens)})


def test_save_html_shows_hostile_names_and_texts_to_the_letter(tmp_path):
    page = hostile_page(tmp_path).read_text(encoding="utf-8")
    shown = Tags(page)
    assert not shown.names & {"img"}
    assert not {name for name in shown.attributes if name.startswith("on")} | shown.attributes & {"src"}
    assert page.count("<script") == 2
    assert HOSTILE in shown.text
    assert data_of(page)["maps"][0]["a"] == HOSTILE


def test_save_html_takes_one_result_without_a_widget(tmp_path):
    result = rs.compare(X, measure="procrustes")
    file = save_html(result, tmp_path / "new" / "map.html")
    (held,) = data_of(file.read_text(encoding="utf-8"))["maps"]
    np.testing.assert_allclose(held["numbers"], result.values, rtol=1e-5)
    assert [*file.parent.iterdir()] == [file], "no draft is left"


def test_save_html_refuses_what_it_cannot_keep(explorer, tmp_path):
    result = rs.compare(X)
    for path, more, says in (
        ("a.pdf", {}, "ends in .html"),
        ("a.html", {"max_bytes": 1000}, "max_bytes is 1 kB. Raise max_bytes."),
        ("a.html", {"closeups": {("b", (0, 9)): (None, None)}}, r"layers \(0, 9\), but no such cell"),
    ):
        with pytest.raises(InputError, match=says):
            save_html(result, tmp_path / path, **more)
    with pytest.raises(InputError, match="several measures"):
        save_html({"x": result, "y": rs.compare(X, measure="procrustes")}, tmp_path / "a.html")
    with pytest.raises(InputError, match="Run a comparison first"):
        rs.Explorer(A, B).save_html(tmp_path / "a.html")
    with pytest.raises(InputError, match=r"of it are 2 close-ups: leave them out"):
        explorer.save_html(tmp_path / "a.html", max_bytes=50_000)
    assert [*tmp_path.iterdir()] == []


def test_the_button_saves_pages_one_beside_the_other_and_says_how_large(explorer, tmp_path):
    explorer._take_away.folder.value = str(tmp_path)
    explorer._take_away.page.click()
    explorer._take_away.page.click()
    assert explorer.error == ""
    assert {file.name for file in tmp_path.iterdir()} == {"explorer.html", "explorer-2.html"}
    assert "explorer-2.html" in explorer._bar.said.value
    assert "kB, 2 close-ups" in explorer._bar.said.value


def test_another_run_forgets_the_closeups_of_the_last():
    explorer = rs.Explorer(A, B, TEXTS, n_rows=60)
    explorer.run()
    explorer.selected = (0, 0)
    explorer.wait()
    assert [*explorer._behind.panels] == [(B, (0, 0))]
    explorer.selected = None
    explorer.run()
    assert explorer._behind.panels == {}
