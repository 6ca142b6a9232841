"""The map over training in a real JupyterLab, moved by mouse and keyboard."""

import nbformat
import pytest

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


@pytest.fixture(scope="module")
def browser_and_page(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # or JupyterLab asks for one
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)], metadata=kernel)
    nbformat.write(notebook, home / "training.ipynb")
    with servers.lab(home) as address, chromium.browser(tmp_path_factory.mktemp("profile")) as (context, notes):
        page = opened(context, address, "training.ipynb")
        run_all(page)
        page.locator(".repsim-checkpoints [role=gridcell]").first.wait_for()
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
    assert page.locator(".jp-Notebook .jp-Cell").count() <= 2, "no key was taken as a command of the notebook"


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


def test_the_slider_has_no_serious_barrier_and_nothing_complained(browser_and_page):
    from axe_playwright_python.sync_playwright import Axe

    notes, page = browser_and_page
    found = Axe().run(page, context=".repsim-checkpoints").response["violations"]
    assert not [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]
    assert notes.errors == []
    assert notes.hosts == {"127.0.0.1"}
