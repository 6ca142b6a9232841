"""Voila's server with a check of host, origin and token before every handler, and a limit on kernels."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Iterable
from html import escape
from inspect import isawaitable
from pathlib import Path
from typing import Any

from jupyter_server.log import log_request
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.httpserver import HTTPServer
from tornado.httputil import split_host_and_port
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import HTTPError
from traitlets import Integer
from traitlets.config import Config
from voila.app import Voila

from repsim_nb.app import FOLDER
from repsim_nb.errors import InputError

HERE = Path(__file__).parent
PORT = 8866
WAIT_SECONDS = 6  # for a kernel to become free
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Refused(HTTPError):
    """A refused request, with the reason."""

    def __init__(self, status: int, why: str):
        super().__init__(status, reason=why)


class Guarded:
    """Mixin for handlers that refuses requests from other origins or without the token.

    A page of another site can send requests to this machine, even under a host name that it points here (DNS
    rebinding), but it cannot forge the headers Host and Origin and does not know the token. The token is needed once;
    afterwards a signed cookie replaces it for requests from the app's own pages.
    """

    request: Any
    settings: dict[str, Any]

    async def prepare(self) -> None:
        """Check the request, then let the handler prepare."""
        headers, host = self.request.headers, self.request.host.lower()
        if split_host_and_port(host)[0] not in self.settings["hosts"]:
            raise Refused(403, "This app does not accept this host name. Start it with --host to allow it.")
        origin = headers.get("Origin", headers.get("Sec-WebSocket-Origin"))
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            raise Refused(403, "This app only accepts requests from its own pages.")
        own = headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
        provider = self.settings["identity_provider"]
        given = (provider.get_token(self) or "").encode()
        if not secrets.compare_digest(given, provider.token.encode()) and not (own and provider.get_user_cookie(self)):
            raise Refused(403, "Open the address that the app printed at its start: it contains a token.")
        handlers = super().prepare()  # type: ignore[misc]
        if isawaitable(handlers):
            await handlers

    def write_error(self, status: int, **about: Any) -> None:
        """Show a refusal as a one-sentence page."""
        error = about.get("exc_info", (None, None))[1]
        if not isinstance(error, Refused):
            super().write_error(status, **about)  # type: ignore[misc]
            return
        self.set_header("Content-Type", "text/html; charset=utf-8")  # type: ignore[attr-defined]
        self.finish(f"<!doctype html><title>repsim-nb</title><p>{escape(str(error.reason))}</p>")  # type: ignore[attr-defined]


class Kernels(AsyncMappingKernelManager):
    """A kernel manager with a maximum number of kernels."""

    most = Integer(4, config=True)
    _starting = 0

    async def start_kernel(self, **how: Any) -> str:  # type: ignore[override]
        """Start a kernel, waiting a few seconds for one whose page was closed or reloaded if the limit is reached."""
        end = time.monotonic() + WAIT_SECONDS
        while self._full and time.monotonic() < end:
            await asyncio.sleep(0.2)
        if self._full:
            raise Refused(503, f"{self.most} pages of this app are open, which is the maximum. Close one, or wait.")
        self._starting += 1
        try:
            return await super().start_kernel(**how)
        finally:
            self._starting -= 1

    @property
    def _full(self) -> bool:
        return len(self) + self._starting >= self.most


class App(Voila):
    """The explorer on this machine's loopback interface."""

    hosts: frozenset[str] = LOCAL
    port: Any

    def init_settings(self) -> dict[str, Any]:
        """Voila's settings, plus those that `Guarded` needs."""
        # Origins are checked and the cookie is same-site, so no additional XSRF token is needed.
        own = {"hosts": self.hosts, "disable_check_xsrf": True, "log_function": log_without_token}
        return super().init_settings() | own

    def init_handlers(self) -> list[Any]:
        """Voila's handlers, all guarded, without the login form."""
        login = {pattern for pattern, *_ in self.identity_provider.get_handlers()}
        return [
            (pattern, type(handler.__name__, (Guarded, handler), {}), *more)
            for pattern, handler, *more in super().init_handlers()
            if pattern not in login
        ]

    def listen(self) -> None:
        """Serve until Ctrl-C or SIGTERM; print the address once."""
        try:
            sockets = bind_sockets(self.port or PORT, self.ip)
        except OSError as error:
            if self.port:
                self.stop()
                raise InputError(f"Port {self.port} cannot be used: {error.strerror}. Choose another.") from None
            sockets = bind_sockets(0, self.ip)
        self.port: int = sockets[0].getsockname()[1]
        HTTPServer(self.app).add_sockets(sockets)
        self.ioloop = IOLoop.current()
        print(f"The explorer is at {self.address}", flush=True)
        if self.open_browser:
            self.launch_browser()
        try:
            self.ioloop.start()
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    @property
    def address(self) -> str:
        """URL of the page, with the token."""
        return f"http://{self.ip}:{self.port}/?token={self.token}"

    def launch_browser(self) -> None:
        """Open the page through a file that only its owner can read, since anybody can read process arguments."""
        import webbrowser

        page = Path(self.connection_dir, "open.html")
        page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={self.address}">', encoding="utf-8")
        webbrowser.open(page.as_uri())


def log_without_token(handler: Any) -> None:
    """Log failed requests without the token in their URL."""
    log_request(handler, record_prometheus_metrics=False)


def serve(
    folder: Path | None = None,
    port: int | None = None,
    hosts: Iterable[str] = (),
    *,
    kernels: int = 4,
    idle: float = 1800,
    browser: bool = True,
) -> None:
    """Serve the explorer until Ctrl-C.

    Parameters
    ----------
    folder
        The only folder to read models and texts from and write results to; None allows no files at all.
    port
        Port number; None means 8866, or any free port.
    hosts
        Host names that the app accepts, besides those of the loopback interface.
    kernels
        Maximum number of open pages.
    idle
        Seconds until an idle page is closed.
    browser
        Whether to open the page in a browser.

    Raises
    ------
    InputError
        If the folder does not exist, the port cannot be used, or a number is out of range.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"There is no folder '{folder}'. Use an existing folder.")
    if kernels < 1 or not idle > 0:
        raise InputError(f"kernels={kernels}, idle={idle:g} seconds; expected at least 1, and more than 0.")
    os.environ[FOLDER] = "" if folder is None else str(folder.resolve())
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("JUPYTER_PATH")])])
    settings = Config()
    settings.VoilaConfiguration.update(
        {
            "template": "offline",
            "allow_template_override": "NO",
            "allow_theme_override": "NO",
            "file_allowlist": [],
            "multi_kernel_manager_class": Kernels,
        }
    )
    settings.Kernels.most = kernels
    settings.KernelManager.shutdown_wait_time = WAIT_SECONDS / 3  # kernels have nothing to save
    settings.MappingKernelManager.update(
        {"cull_idle_timeout": max(1, round(idle)), "cull_interval": max(1, min(60, round(idle / 2)))}
        | {"cull_connected": True}
    )
    settings.IdentityProvider.cookie_options = {"samesite": "Strict"}
    app = App(
        config=settings,
        config_file_paths=[],  # ignore settings of other voila installations and a voila.py in the current folder
        token=secrets.token_urlsafe(24),
        port=port or 0,
        open_browser=browser,
        log_level="ERROR",
    )
    app.hosts = LOCAL | {host.lower() for host in hosts}
    app.initialize([str(HERE / "explorer.ipynb")])
    app.start()
