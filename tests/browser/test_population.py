"""Forty classifiers in a real JupyterLab: from the map of models down to tokens, by mouse and by keyboard."""

import re

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser import chromium, servers
from tests.browser.notebook import idle, opened, run_all

if chromium.missing():
    pytest.skip(chromium.missing(), allow_module_level=True)

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HOSTILE = "<img src=x onerror=document.title='broken'>"
CODE = f"""
import pandas as pd
import repsim_nb as rs
models = [f"tiny-bert-nli-{{i:02}}" for i in range(40)]
table = pd.DataFrame({{"{HOSTILE}": ["{HOSTILE}"] * 20 + ["others"] * 20}}, models)
shown = rs.Population(models, "cka", rows="cls", n_rows=100, table=table)
shown
"""


@pytest.fixture(scope="module")
def browser_and_page(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # or JupyterLab asks for one
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)], metadata=kernel)
    nbformat.write(notebook, home / "population.ipynb")
    with servers.lab(home) as address, chromium.browser(tmp_path_factory.mktemp("profile")) as (context, notes):
        page = opened(context, address, "population.ipynb")
        run_all(page)
        page.locator(".repsim-population .repsim-run").first.wait_for()
        idle(page)
        yield notes, page


def test_a_population_runs_and_is_cancelled_and_runs_again(browser_and_page):
    shown = browser_and_page[1].locator(".repsim-population")
    shown.locator(".repsim-bar .repsim-run").first.click()
    shown.locator(".repsim-bar .repsim-cancel:not([disabled])").first.click()
    shown.locator(".repsim-status").first.filter(has_text="Cancelled").wait_for()
    shown.locator(".repsim-bar .repsim-run").first.click()
    shown.locator(".repsim-crowd-point").nth(39).wait_for()
    assert shown.locator(".repsim-crowd-point").count() == 40
    assert "stress" in shown.locator(".repsim-crowd-figure").inner_text()


def test_the_mouse_goes_from_the_matrix_to_layers_and_tokens(browser_and_page):
    page = browser_and_page[1]
    shown = page.locator(".repsim-population")
    shown.locator('.repsim-crowd-results [role=gridcell][data-layer-a="2"][data-layer-b="5"]').click()
    walk = shown.locator(".repsim-walk")
    walk.locator('[role=gridcell][data-layer-a="3"][data-layer-b="4"]').click()
    walk.locator("mark").first.wait_for()
    assert shown.locator('.repsim-crowd-point[aria-selected="true"]').count() == 2


def test_the_keyboard_chooses_another_pair_on_the_map(browser_and_page):
    page = browser_and_page[1]
    shown = page.locator(".repsim-population")
    before = shown.locator(".repsim-walk .repsim-h2").first.inner_text()
    chosen = shown.locator('.repsim-crowd-point[aria-selected="true"]')
    for left in (1, 0):
        chosen.first.focus()
        page.keyboard.press("Enter")
        expect(chosen).to_have_count(left)
    shown.locator('.repsim-crowd-point[tabindex="0"]').focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    heading = shown.locator(".repsim-walk .repsim-h2").first
    heading.filter(has_text=re.compile("tiny-bert-nli-00.*tiny-bert-nli-39", re.S)).wait_for()
    assert heading.inner_text() != before
    shown.locator('.repsim-walk [role=gridcell][data-layer-a="6"]').first.wait_for()


def test_a_population_shows_hostile_names_as_text_and_has_no_serious_barrier(browser_and_page):
    from axe_playwright_python.sync_playwright import Axe

    notes, page = browser_and_page
    shown = page.locator(".repsim-population")
    assert HOSTILE in shown.locator(".repsim-crowd-legend").inner_text()
    assert shown.locator("img").count() == 0
    assert page.title() != "broken"
    found = Axe().run(page, context=".repsim-population").response["violations"]
    assert not [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]
    assert notes.errors == []
    assert notes.hosts == {"127.0.0.1"}
