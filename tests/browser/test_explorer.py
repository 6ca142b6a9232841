"""The start notebook and its explorer in a real JupyterLab, used with mouse and keyboard.

One server, one kernel and one page for all of it, in the order of this file. Each test sets what it needs itself.
"""

import json
import re
import shutil

import nbformat
import pandas as pd
import pytest
import xarray as xr

from repsim_nb.system.shipped import notebooks_dir
from tests.browser import chromium, servers
from tests.browser.notebook import PATIENCE, answer, idle, opened, run_all, tab_to

if chromium.missing():
    pytest.skip(chromium.missing(), allow_module_level=True)

pytestmark = [pytest.mark.browser, pytest.mark.slow]
EXPLORER = ".repsim-explorer"
POPULATION = """
import repsim_nb as rs
rs.Population(["tiny-neox-w32-d2", "tiny-neox-w32-d2@step0", "tiny-neox-w64-d2"], "cka", n_rows=60)
"""
SMALL, LARGE, OTHER = "tiny-neox-w32-d2", "tiny-neox-w64-d4", "tiny-neox-w64-d2"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The folder that JupyterLab shows and in which kernels work."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(notebooks_dir() / "00_start_here.ipynb", folder)
    app = nbformat.read(servers.TOP / "repsim_nb" / "app" / "explorer.ipynb", as_version=4)
    app.cells.append(nbformat.v4.new_code_cell(POPULATION))
    nbformat.write(app, folder / "explorer.ipynb")
    return folder


@pytest.fixture(scope="module")
def address(home):
    with servers.lab(home) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.browser(tmp_path_factory.mktemp("profile")) as (context, notes):
        yield context, notes


@pytest.fixture(scope="module")
def page(browser, address):
    """The start notebook, all of it run."""
    page = opened(browser[0], address, "00_start_here.ipynb")
    run_all(page)
    page.locator(f"{EXPLORER} [role=gridcell]").first.wait_for()
    idle(page)
    return page


@pytest.fixture
def explorer(page):
    """The explorer of the start notebook, with nothing under way."""
    found = page.locator(EXPLORER)
    found.scroll_into_view_if_needed()
    return found


def picker(explorer, side):
    return explorer.locator(".repsim-model-picker").filter(has_text=f"Model {side}")


def offered(explorer, side, name):
    """The line of a model in the list from which A or B is picked."""
    return picker(explorer, side).locator("select[size]").get_by_role("option", name=name, exact=True)


def grid(explorer, a, b):
    """The map of these two models."""
    return explorer.get_by_role("grid", name=re.compile(rf"{re.escape(a)} .*{re.escape(b)} ", re.S))


def cell(explorer, a, b):
    return explorer.locator(f'[role=gridcell][data-layer-a="{a}"][data-layer-b="{b}"]')


def size(explorer):
    return explorer.locator("[role=gridcell][data-layer-a]").count()


def pair(explorer, a, b):
    """The heading of what lies behind a cell."""
    return explorer.locator(".repsim-pair").filter(has_text=re.compile(f"layer {a}.*layer {b}", re.S))


def status(explorer, text):
    return explorer.get_by_role("status").get_by_text(text)


def pick(explorer, side, name):
    picker(explorer, side).get_by_label("search").fill(name)
    offered(explorer, side, name).click()


def compare(explorer, a, b):
    """Pick two models, run, and wait for their map."""
    pick(explorer, "A", a)
    pick(explorer, "B", b)
    explorer.get_by_role("button", name="Run", exact=True).click()
    grid(explorer, a, b).wait_for()


def test_the_tour_runs_to_its_verdict(page, explorer):
    assert grid(explorer, SMALL, LARGE).is_visible()
    assert size(explorer) == 3 * 5
    assert (
        page.locator(
            ".jp-OutputArea-output.jp-mod-error, [data-mime-type$='error'], [data-mime-type$='stderr']"
        ).count()
        == 0
    )
    assert page.get_by_text("Not yet. Put your answer").count() == 3
    assert page.get_by_text("holds on these models").count() == 1
    assert explorer.get_by_role("alert").count() == 0


def test_an_exercise_says_what_is_wrong_and_then_that_it_is_right(page, explorer):
    answer(page, "answer_1", "4", "Not yet. That is the number of blocks.")
    answer(page, "answer_1", "5", "Right. Position 0 is the embedding")


def test_models_are_picked_with_the_mouse(explorer):
    offered(explorer, "A", OTHER).click()
    offered(explorer, "B", SMALL).click()
    assert offered(explorer, "B", SMALL).get_attribute("title") == SMALL, "a name is shown whole on hover"
    assert grid(explorer, SMALL, LARGE).is_visible(), "nothing runs unasked"
    explorer.get_by_role("button", name="Run", exact=True).click()
    grid(explorer, OTHER, SMALL).wait_for()
    assert size(explorer) == 3 * 3


def test_a_click_on_a_cell_shows_what_lies_behind_it(explorer):
    tokens = set()
    for a, b in ((1, 2), (2, 0)):
        cell(explorer, a, b).click()
        pair(explorer, a, b).wait_for()
        explorer.locator(".repsim-projection svg").wait_for()
        tokens.add(explorer.locator(".repsim-tokens tbody").inner_text())
        assert cell(explorer, a, b).get_attribute("aria-selected") == "true"
        assert explorer.locator("[role=gridcell][aria-selected=true]").count() == 1
    assert len(tokens) == 2


def test_all_of_it_goes_from_the_keyboard(page, explorer):
    picker(explorer, "B").get_by_label("search").focus()
    page.keyboard.type("solu-3l-s1")
    offered(explorer, "B", "tiny-solu-3l-s1").wait_for(state="attached")  # of the first letters, which also offer s0
    offered(explorer, "B", "tiny-solu-3l-s0").wait_for(state="detached")  # and of the last one
    tab_to(page, "model")
    page.keyboard.press("End")
    tab_to(page, "Run")
    page.keyboard.press("Enter")
    explorer.get_by_role("grid", name=re.compile("tiny-solu-3l-s1@")).wait_for()
    tab_to(page, "Layer ")
    for key in ("ArrowDown", "ArrowDown", "Home", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    pair(explorer, 1, 1).wait_for()


def test_a_long_run_is_cancelled_and_leaves_the_last_result(explorer):
    compare(explorer, OTHER, SMALL)
    explorer.get_by_label("null and interval").check()
    explorer.get_by_label("how many").fill("20000")
    explorer.get_by_label("how many").press("Tab")
    explorer.get_by_role("button", name="Run", exact=True).click()
    status(explorer, re.compile(r"\d+ of \d+")).wait_for()
    explorer.get_by_role("button", name="Cancel").click()
    status(explorer, "Cancelled. The last result is kept.").wait_for()
    assert grid(explorer, OTHER, SMALL).is_visible()
    assert size(explorer) == 3 * 3
    explorer.get_by_label("null and interval").uncheck()
    explorer.get_by_label("how many").fill("500")
    explorer.get_by_label("how many").press("Tab")


def test_an_error_is_shown_with_what_to_do_and_goes_with_the_next_run(explorer):
    pick(explorer, "A", "nobody/nothing")
    explorer.get_by_role("button", name="Run", exact=True).click()
    alert = explorer.get_by_role("alert").filter(has_text="nobody/nothing")
    alert.wait_for()
    assert size(explorer) > 0, "the last result is kept"
    compare(explorer, SMALL, OTHER)
    alert.wait_for(state="hidden")


def test_figure_and_numbers_are_exported(explorer, home):
    compare(explorer, SMALL, LARGE)
    explorer.locator(".repsim-folder input").fill("taken away")
    explorer.get_by_role("button", name="Export").click()
    status(explorer, "Wrote 5 files to").wait_for()
    stem = home / "taken away" / f"cka--{SMALL}--{LARGE}"
    assert xr.open_dataset(f"{stem}.nc", engine="h5netcdf").load()["cka"].shape == (3, 5)
    assert len(pd.read_csv(f"{stem}.csv")) == 3 * 5
    for ending in ("svg", "png"):
        assert stem.with_name(f"{stem.name}.{ending}").stat().st_size > 1000


def test_a_saved_state_is_restored(explorer):
    compare(explorer, SMALL, OTHER)
    cell(explorer, 2, 1).click()
    pair(explorer, 2, 1).wait_for()
    text = explorer.locator(".repsim-state-text input")
    assert not text.is_visible(), "the state is behind a button"
    explorer.get_by_role("button", name="State").click()
    saved = text.input_value()
    assert json.loads(saved)["selected"] == [2, 1]
    compare(explorer, OTHER, LARGE)
    text.fill(saved)
    text.press("Tab")
    explorer.get_by_role("button", name="Restore").click()
    status(explorer, "Restored. Press Run.").wait_for()
    assert picker(explorer, "A").locator("select[size]").input_value() == SMALL
    explorer.get_by_role("button", name="Run", exact=True).click()
    grid(explorer, SMALL, OTHER).wait_for()
    pair(explorer, 2, 1).wait_for()


def test_no_serious_barrier_for_assistive_technology(page, explorer):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=EXPLORER).response["violations"]
    serious = [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]
    assert not serious


def test_voila_serves_the_explorer_and_a_population_alone(browser, address):
    page = browser[0].new_page()
    page.goto(
        f"{address}/voila/render/explorer.ipynb?token={servers.TOKEN}", timeout=120_000
    )  # runs the notebook first
    page.set_default_timeout(PATIENCE)
    alone, population = page.locator(f"{EXPLORER}:not(.repsim-population)"), page.locator(".repsim-population")
    alone.get_by_role("button", name="Run", exact=True).wait_for()
    assert page.get_by_text("explorer()").count() == page.get_by_text("rs.Population").count() == 0
    population.get_by_role("button", name="Run", exact=True).click()
    population.locator(".repsim-crowd-point").nth(2).wait_for()
    assert population.locator(".repsim-crowd-point").count() == 3
    page.close()


def test_nothing_left_this_machine_and_no_console_complained(browser):
    notes = browser[1]
    assert notes.hosts == {"127.0.0.1"}
    assert notes.errors == []
