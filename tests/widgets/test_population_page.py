"""The page of a population: what is on the screen, linked, and hostile names to the letter."""

import numpy as np
import pandas as pd
import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.system.shipped import data_dir
from tests.widgets.test_saved_page import data_of
from tests.widgets.test_words import HOSTILE, Tags

MODELS = ("tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-neox-w32-d4")


def hostile_population(folder):
    """Three models, one in a folder whose name is markup, and a table that holds markup; layers of a pair compared."""
    named = folder / HOSTILE.replace("/", "")
    named.symlink_to(data_dir() / "tiny-neox-w64-d4")
    models = [*MODELS, str(named)]
    table = pd.DataFrame({HOSTILE: [HOSTILE, HOSTILE, "b", "b"]}, index=models)
    made = rs.Population(models, n_rows=60, corpora="python-docs", table=table)
    made.run()
    made.wait()
    made.colour.value = HOSTILE
    made.pair = (models[3], models[0])
    made.wait()
    made.explorer.selected = (1, 2)
    made.wait()
    return made


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    return hostile_population(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def page(population, tmp_path_factory):
    return population.save_html(tmp_path_factory.mktemp("page") / "page.html").read_text(encoding="utf-8")


def test_save_html_of_a_population_holds_map_matrix_findings_and_the_layers_of_the_pair(population, page):
    held = data_of(page)["population"]
    assert held["each"][0]["crowd"] == population._views.crowd.view
    assert held["each"][0]["matrix"] == population._views.matrix.view
    assert population._findings.value in page
    assert held["pair"] == [*population.pair]
    points = [point["name"] for point in held["each"][0]["crowd"]["points"]]
    assert sorted(points) == sorted(held["each"][0]["names"]) == sorted(population.models.value)
    (layers,) = data_of(page)["maps"]
    np.testing.assert_allclose(layers["numbers"], population.explorer.result.values, rtol=1e-5)
    assert "This page holds 1 close-up and" in page


def test_save_html_of_a_population_shows_hostile_names_to_the_letter(population, page):
    shown = Tags(page)
    assert not shown.names & {"img", "link", "iframe", "object"}
    assert not {name for name in shown.attributes if name.startswith("on")} | shown.attributes & {"src", "href"}
    assert page.count("<script") == 2
    assert population.code in shown.text


def test_save_html_of_a_population_without_a_pair_holds_no_layers(tmp_path):
    population = rs.Population(MODELS, n_rows=60)
    with pytest.raises(InputError, match="Run a comparison first"):
        population.save_html(tmp_path / "a.html")
    population.run()
    population.wait()
    text = population.save_html(tmp_path / "a.html").read_text(encoding="utf-8")
    assert "Maps of layers" not in text
    assert data_of(text)["maps"] == data_of(text)["population"]["pair"] == []
    with pytest.raises(InputError, match="max_bytes is 1 kB"):
        population.save_html(tmp_path / "b.html", max_bytes=1000)
    with pytest.raises(InputError, match="ends in"):
        population.save_html(tmp_path / "b.pdf")
    population._take_away.folder.value = str(tmp_path / "out")
    population._take_away.page.click()
    population._take_away.page.click()
    assert population.error == ""
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"population.html", "population-2.html"}
