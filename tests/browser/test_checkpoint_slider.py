"""Maps over training in a real JupyterLab, of a course, an explorer and a population: moved, and played."""

import re

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser import chromium, servers
from tests.browser.notebook import idle, opened, run_all

if chromium.missing():
    pytest.skip(chromium.missing(), allow_module_level=True)

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CODE = """
import repsim_nb as rs
texts = [f"Text {i} says that {i} and {i} are {2 * i}." for i in range(12)]
course = rs.depth.over_training("tiny-neox-w64-d4", None, texts, layers=[0, 2, 4], n_rows=60, maps=True)
shown = rs.CheckpointSlider(course)
shown
"""
EXPLORER = """
explorer = rs.Explorer("tiny-neox-w64-d2", "tiny-neox-w32-d2", texts, over="a", n_rows=60)
explorer.run()
explorer
"""
POPULATION = """
models = [f"tiny-neox-{size}@{step}" for size in ("w64-d2", "w32-d2") for step in ("step0", "step1500")]
population = rs.Population([*models, "tiny-neox-w32-d4"], "cka", n_rows=60)
population.run()
population
"""


@pytest.fixture(scope="module")
def browser_and_page(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # or JupyterLab asks for one
    cells = [nbformat.v4.new_code_cell(code) for code in (CODE, EXPLORER, POPULATION)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, home / "training.ipynb")
    with servers.lab(home) as address, chromium.browser(tmp_path_factory.mktemp("profile")) as (context, notes):
        page = opened(context, address, "training.ipynb")
        run_all(page)
        page.locator(".repsim-checkpoints [role=gridcell]").first.wait_for()
        page.locator(".repsim-population [role=option]").first.wait_for()
        idle(page)
        yield notes, page


def test_the_slider_goes_from_the_keyboard_and_the_map_follows(browser_and_page):
    page = browser_and_page[1]
    shown = page.locator(".repsim-checkpoints")
    slider = shown.get_by_role("slider", name="training step")
    slider.focus()
    title = shown.locator(".repsim-map-title")
    for key, step, place in (("End", 1500, 6), ("ArrowLeft", 1000, 5), ("Home", 0, 1), ("ArrowRight", 50, 2)):
        page.keyboard.press(key)
        title.filter(has_text=f"tiny-neox-w64-d4@step{step} and tiny-neox-w64-d4").wait_for()
        assert slider.get_attribute("aria-valuetext") == f"{step:,} ({place} of 6)"
    assert page.locator(".jp-Notebook .jp-Cell").count() <= 4, "no key was taken as a command of the notebook"


def test_a_chosen_cell_keeps_its_place_while_its_value_changes(browser_and_page):
    page = browser_and_page[1]
    shown = page.locator(".repsim-checkpoints")
    cell = shown.locator('[role=gridcell][data-layer-a="2"][data-layer-b="2"]')
    cell.click()
    before = shown.locator(".repsim-map-readout").inner_text()
    slider = shown.get_by_role("slider", name="training step")
    slider.focus()
    page.keyboard.press("End")
    shown.locator(".repsim-map-readout").filter(has_text="Layer 2 of tiny-neox-w64-d4@step1500").wait_for()
    assert shown.locator(".repsim-map-readout").inner_text() != before
    assert cell.get_attribute("aria-selected") == "true"


def test_an_explorer_plays_its_steps_from_the_keyboard_at_the_pace_that_is_chosen(browser_and_page):
    page = browser_and_page[1]
    shown = page.locator(".repsim-explorer:not(.repsim-population)").first
    slider, title = shown.get_by_role("slider", name="training step"), shown.locator(".repsim-map-title")
    cell = shown.locator('[role=gridcell][data-layer-a="1"][data-layer-b="2"]')
    title.filter(has_text="tiny-neox-w64-d2@step1500 and tiny-neox-w32-d2").wait_for()
    cell.click()
    shown.locator(".repsim-pair").filter(has_text="tiny-neox-w64-d2@step1500, layer 1").wait_for()
    shown.get_by_label("pace").select_option("5 a second")
    button = shown.get_by_role("button", name="Play")
    button.focus()
    page.keyboard.press("Enter")
    title.filter(has_text="tiny-neox-w64-d2@step0 and tiny-neox-w32-d2").wait_for()
    title.filter(has_text="tiny-neox-w64-d2@step1500 and tiny-neox-w32-d2").wait_for()
    button.wait_for()  # it has stopped by itself
    assert cell.get_attribute("aria-selected") == "true"
    slider.focus()
    page.keyboard.press("Home")
    shown.locator(".repsim-pair").filter(has_text="tiny-neox-w64-d2@step0, layer 1").wait_for()
    shown.get_by_label("training", exact=True).select_option("as they are chosen")
    shown.get_by_role("button", name="Run", exact=True).click()
    title.filter(has_text=re.compile("^tiny-neox-w64-d2 and tiny-neox-w32-d2$")).wait_for()
    assert not slider.is_visible()


def test_a_population_goes_through_its_steps_from_the_keyboard(browser_and_page):
    page = browser_and_page[1]
    shown = page.locator(".repsim-population")
    points, cells = shown.locator("[role=option]"), shown.locator(".repsim-map-view [role=gridcell][data-layer-a]")
    assert points.count() == 5
    shown.get_by_role("slider", name="training step").focus()
    page.keyboard.press("Home")
    expect(points).to_have_count(3)
    assert cells.count() == 25
    shown.get_by_label("models", exact=True).select_option("at the step")
    expect(cells).to_have_count(9)
    points.first.focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(shown.locator("[role=option][aria-selected=true]")).to_have_count(1)
    assert "tiny-neox-w32-d4" in shown.locator("[role=option][aria-selected=true]").get_attribute("aria-label")


def test_the_sliders_have_no_serious_barrier_and_nothing_complained(browser_and_page):
    from axe_playwright_python.sync_playwright import Axe

    notes, page = browser_and_page
    for each in (".repsim-checkpoints", ".repsim-explorer:not(.repsim-population)", ".repsim-population"):
        found = Axe().run(page, context=each).response["violations"]
        assert not [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]
    assert notes.errors == []
    assert notes.hosts == {"127.0.0.1"}
