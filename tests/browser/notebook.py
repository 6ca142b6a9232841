"""A notebook in JupyterLab as somebody in front of the screen uses it: by menus, mouse, keys and what can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

from browser.servers import TOKEN

PATIENCE = 90_000  # milliseconds until something that was waited for counts as missing
_IDLE = "() => document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'"


def opened(context: BrowserContext, address: str, name: str) -> Page:
    """The page of a notebook whose kernel has started."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}/lab/tree/{name}?token={TOKEN}&reset")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    idle(page)
    return page


def idle(page: Page) -> None:
    """Wait until the kernel is connected and has nothing to do."""
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()  # the indicator alone is idle without a kernel
    page.wait_for_function(_IDLE)


def choose_from_menu(page: Page, menu: str, item: str) -> None:
    """Click on an entry of the menu bar."""
    page.locator(".lm-MenuBar-itemLabel", has_text=menu).first.click()
    page.locator(".lm-Menu-itemLabel", has_text=item).first.click()


def run_all(page: Page) -> None:
    """Run all cells; returns at once."""
    choose_from_menu(page, "Run", "Run All Cells")


def cell(page: Page, containing: str) -> Locator:
    """The code cell whose source contains this text."""
    return page.locator(".jp-CodeCell", has=page.locator(".jp-InputArea", has_text=containing))
