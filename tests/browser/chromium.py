"""A headless Chromium of the system, driven by playwright, that cannot reach beyond this machine and takes notes."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def executable() -> str | None:
    """The path of the first Chromium found."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def missing() -> str | None:
    """Why there can be no browser tests here, in words for a skip; None where there can."""
    if not find_spec("playwright"):
        return "playwright is not installed (pip install -e '.[dev]')"
    if not executable():
        return "no Chromium found (`make browser` installs one)"
    return None


@dataclass
class Notes:
    """What a browser asked for and complained of."""

    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def watch(self, page) -> None:
        """Take notes of everything that happens on this page."""
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url))
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob"):
            self.hosts.add(parts.hostname)


@contextmanager
def browser(profile: Path, width: int = 1440, height: int = 1000, theme: str = "light") -> Iterator[tuple]:
    """A browser context with a fresh profile, and its notes."""
    from playwright.sync_api import sync_playwright

    notes = Notes()
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=executable(),
            headless=True,
            viewport={"width": width, "height": height},
            color_scheme=theme,
            args=list(FLAGS),
            accept_downloads=True,
        )
        context.on("page", notes.watch)
        try:
            yield context, notes
        finally:
            context.close()
