"""A notebook in JupyterLab as somebody in front of the screen uses it: by menus, mouse, keys and what can be read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

from tests.browser.servers import TOKEN

PATIENCE = 240_000  # milliseconds until something that was waited for counts as missing; machines of CI are slow
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


def answer(page: Page, name: str, text: str, expected: str) -> None:
    """Type another value for `name = ...` into its cell, run it, and wait for the expected words below it."""
    code = page.locator(".jp-CodeCell").filter(has_text=f"({name},")
    editor = code.locator(".cm-content")
    editor.click()
    source = editor.inner_text()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(re.sub(rf"^{name} = .*$", f"{name} = {text}", source, flags=re.MULTILINE))
    page.keyboard.press("ControlOrMeta+Enter")
    code.locator(".jp-OutputArea-output").get_by_text(expected).wait_for()


def focused(page: Page) -> tuple[str, str]:
    """Tag and accessible name, roughly, of what has the focus."""
    return tuple(
        page.evaluate(
            "() => { const e = document.activeElement;"
            " return [e.tagName, e.ariaLabel || e.labels?.[0]?.innerText || e.innerText || ''] }"
        )
    )


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus is of this tag, or has a name that begins so."""
    for _ in range(60):
        page.keyboard.press("Tab")
        tag, label = focused(page)
        if name == tag or label.startswith(name):
            return
    raise AssertionError(f"No way by Tab leads to {name}.")
