"""A saved page with hostile names, opened from disk: hover, selection, close-up, no request and no complaint."""

import re

import pytest

from tests.browser import chromium
from tests.browser.notebook import tab_to
from tests.widgets.test_population_page import hostile_population
from tests.widgets.test_saved_page import hostile_page
from tests.widgets.test_words import HOSTILE

if chromium.missing():
    pytest.skip(chromium.missing(), allow_module_level=True)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module", params=["light", "dark"])
def opened(request, tmp_path_factory):
    """The page, and what it asked for and complained of."""
    file = hostile_page(tmp_path_factory.mktemp("saved"))
    with chromium.browser(tmp_path_factory.mktemp("profile"), 1024, theme=request.param) as (context, notes):
        page, asked = context.new_page(), []
        page.on("request", lambda one: asked.append(one.url))
        page.on("dialog", lambda dialog: notes.errors.append(dialog.message))
        page.goto(file.as_uri())
        page.locator("[role=gridcell]").first.wait_for()
        yield page, asked, notes, file


def cell(page, a, b):
    return page.locator(f'[role=gridcell][data-layer-a="{a}"][data-layer-b="{b}"]')


def test_pointing_at_a_cell_says_its_layers_and_value(opened):
    page = opened[0]
    cell(page, 2, 0).hover()
    page.locator(".repsim-map-readout").filter(has_text=f"Layer 2 of {HOSTILE}, layer 0 of {HOSTILE}: ").wait_for()


def test_a_click_shows_the_curve_and_the_closeup_if_it_was_computed(opened):
    page = opened[0]
    cell(page, 0, 1).click()
    page.get_by_role("heading", name=re.compile("layer 0, against .* layer 1", re.S)).wait_for()
    assert page.locator("[data-closeup]").is_visible()
    assert HOSTILE[:14] in page.locator("mark").inner_text()
    cell(page, 2, 2).click()
    page.get_by_text("No close-up of this pair").wait_for()
    assert not page.locator("[data-closeup]").is_visible()
    assert page.locator(".repsim-page-curve circle").count() == 3


def test_a_cell_is_chosen_with_the_arrow_keys(opened):
    page = opened[0]
    cell(page, 2, 2).click()
    page.locator("body").press("Tab")
    cell(page, 2, 2).focus()
    for key in ("ArrowDown", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    assert cell(page, 0, 1).get_attribute("aria-selected") == "true"
    assert page.locator("[data-closeup]").is_visible()
    tab_to(page, "SUMMARY")
    page.keyboard.press("Enter")
    page.get_by_text("arrays given by the caller").last.wait_for()


def test_nothing_was_asked_for_and_nothing_complained_and_no_barrier_is_serious(opened):
    from axe_playwright_python.sync_playwright import Axe

    page, asked, notes, file = opened
    found = Axe().run(page).response["violations"]
    assert not [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]
    assert page.locator("img, script[src]").count() == 0
    assert asked == [file.as_uri()]
    assert notes.errors == []


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    made = hostile_population(tmp_path_factory.mktemp("models"))
    return made, made.save_html(tmp_path_factory.mktemp("population") / "population.html")


def test_the_page_of_a_population_links_map_matrix_and_layers(opened, population):
    from axe_playwright_python.sync_playwright import Axe

    (first, _, notes, _), (population, file) = opened, population
    page, asked = first.context.new_page(), []
    page.on("request", lambda one: asked.append(one.url))
    page.goto(file.as_uri())
    points, layers = page.locator("[role=option]"), page.get_by_role("heading", name="Maps of layers")
    points.first.wait_for()
    assert page.locator("[role=option][aria-selected=true]").count() == 2
    assert layers.is_visible()
    points.first.hover()
    page.locator(".repsim-page-crowd .repsim-map-readout").filter(has_text=population.models.value[0]).wait_for()
    ordered = population._views._ordered
    third = next(place for place, name in enumerate(ordered, 1) if name not in population.pair)
    with_itself = f'[data-layer-a="{third}"][data-layer-b="{third}"]'
    page.locator(f".repsim-page-matrix {with_itself}").click()
    page.get_by_text(re.compile("This page holds the layers of .* only", re.S)).wait_for()
    assert not layers.is_visible()
    assert page.locator("[role=option][aria-selected=true]").count() == 1
    for name in population.pair:  # by keyboard, as a reader without a mouse
        points.nth(population.models.value.index(name)).focus()
        page.keyboard.press("Enter")
    layers.wait_for()
    assert page.locator(".repsim-page-matrix [role=gridcell][aria-selected=true]").count() == 1
    found = Axe().run(page).response["violations"]
    assert not [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]
    assert page.locator("img, script[src]").count() == 0
    assert asked == [file.as_uri()]
    assert notes.errors == []
    page.close()
