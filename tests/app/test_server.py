"""The app answers its own pages, and nobody else: asked as browsers and pages of other sites would ask."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

pytest.importorskip("voila")

pytestmark = pytest.mark.slow
IDLE = 12  # seconds; the tests that need the page's kernel come first


class Server:
    """A started app: its address, and requests to it under any header."""

    def __init__(self, address):
        parts = urlsplit(address)
        self.port, self.token = parts.port, parts.query.removeprefix("token=")
        self.host, self.cookie = f"localhost:{self.port}", ""

    def ask(self, path, method="GET", **headers):
        """Status, headers and text of the answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(
            method, path, headers={"Host": self.host, **{k.replace("_", "-"): v for k, v in headers.items()}}
        )
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read().decode()
        connection.close()
        return found

    def status(self, path, method="GET", **headers):
        return self.ask(path, method, **headers)[0]

    def channels(self, kernel, messages=(), **headers):
        """Types of the messages that come back from a kernel's websocket."""

        async def talk():
            url = f"ws://127.0.0.1:{self.port}/api/kernels/{kernel}/channels?session_id=s"
            request = HTTPRequest(url, headers={"Host": self.host, **headers})
            socket = await websocket_connect(request)
            for kind in messages:
                header = {"msg_id": kind, "msg_type": kind, "session": "s", "username": "", "version": "5.3"}
                content = {"code": "import os; os.mkdir('ran')", "silent": False, "store_history": False}
                message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
                await socket.write_message(json.dumps({**message, "channel": "shell"}))
            found = []
            while "kernel_info_reply" not in found:
                found.append(json.loads(await asyncio.wait_for(socket.read_message(), 60))["msg_type"])
            socket.close()
            while await asyncio.wait_for(socket.read_message(), 60) is not None:
                pass
            return found

        return asyncio.run(talk())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("folder")


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "voila.json").write_text('{"Voila": {"token": ""}, "VoilaConfiguration": {"file_allowlist": [".*"]}}')
    environment = {**os.environ, "HOME": str(home), "JUPYTER_TOKEN": "known", "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [
        "--folder",
        str(folder),
        "--no-browser",
        "--kernels",
        "1",
        "--idle",
        str(IDLE / 60),
        "--host",
        "Tunnel.Example",
    ]
    command = [sys.executable, "-m", "repsim_nb.app", *arguments]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=subprocess.PIPE, stderr=log, text=True)
    address = process.stdout.readline()
    yield Server(address.split()[-1])
    process.terminate()
    rest, _ = process.communicate(timeout=30)
    assert "token" not in rest, "the address is printed once"
    assert process.returncode == 0


@pytest.fixture(scope="module")
def page(server):
    """The page as its owner opens it; sets the server's cookie."""
    status, headers, text = server.ask(f"/?token={server.token}")
    assert status == 200
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    server.cookie = cookie.partition(";")[0]
    return text


@pytest.fixture(scope="module")
def kernel(page):
    return re.search(r'"kernelId": ?"([\w-]+)"', page)[1]


def test_the_page_shows_the_explorer_and_not_its_code(page):
    assert "Explorer(children=" in page
    assert "repsim_nb.app import" not in page


def test_a_page_runs_no_code(server, kernel, folder):
    own = {"Cookie": server.cookie, "Origin": f"http://{server.host}"}
    answers = server.channels(kernel, ("execute_request", "kernel_info_request"), **own)
    assert answers[-1] == "kernel_info_reply"
    assert "execute_reply" not in answers
    assert not list(folder.iterdir())


def test_a_kernels_websocket_is_open_to_the_page_alone(server, kernel):
    path = f"/api/kernels/{kernel}/channels?session_id=s"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    own, evil = f"http://{server.host}", f"evil.example:{server.port}"
    token = {"Authorization": f"token {server.token}"}
    for refused in (
        {},
        {"Origin": own},
        {"Cookie": server.cookie, "Origin": "http://evil.example"},
        {"Cookie": server.cookie, "Host": evil},
        {"Cookie": server.cookie, "Host": evil, "Origin": f"http://{evil}"},
        {"Cookie": server.cookie, "Sec-WebSocket-Origin": "http://evil.example"},
        {**token, "Origin": "http://evil.example"},
        {**token, "Host": evil, "Origin": f"http://{evil}"},
    ):
        assert server.status(path, **upgrade, **refused) == 403
    for allowed in ({"Cookie": server.cookie, "Origin": own}, {**token, "Origin": own}, token):
        assert server.channels(kernel, ["kernel_info_request"], **allowed)[-1] == "kernel_info_reply"


def test_as_many_pages_as_kernels_are_allowed(server, kernel):
    status, _, text = server.ask("/", Cookie=server.cookie)
    assert (status, "1 pages of this app are open" in text) == (503, True)


PATHS = ["/", "/x", "/voila/static/voila.js", "/voila/templates/offline/static/voila.js", "/voila/files/explorer.ipynb"]
PATHS += [
    "/api/kernels",
    "/api/kernels/{}",
    "/api/kernels/{}/channels",
    "/voila/api/themes/x",
    "/voila/labextensions/x",
]
PATHS += ["/login", "/logout", "/api/contents/x", "/voila/query/{}", "/voila/execution/{}", "//", "/voila/tree"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_served_without_the_token_or_to_another_site(server, kernel, path):
    path = path.format(kernel)
    asked = f"{path}?token={server.token}"
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        assert server.status(path, method) == 403
        assert server.status(f"{path}?token=wrong", method) == 403
        assert server.status(f"{path}?token=", method) == 403
        assert server.status(f"{path}?token=known", method) == 403
        assert server.status(path, method, Cookie=server.cookie[:-2] + "xx") == 403
        assert server.status(asked, method, Host="evil.example") == 403
        assert server.status(asked, method, Host=f"evil.example:{server.port}", Cookie=server.cookie) == 403
        assert server.status(asked, method, Origin="http://evil.example") == 403
    evil = f"evil.example:{server.port}"
    assert server.status(asked, Host=evil, Origin=f"http://{evil}", Cookie=server.cookie) == 403
    assert server.status(path, Cookie=server.cookie, Sec_Fetch_Site="cross-site") == 403
    assert server.status(path, Cookie=server.cookie, Sec_Fetch_Site="same-site") == 403


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost.",
        "0.0.0.0",
        "[::]",
        "evil@localhost",
        "localhost,evil",
    ],
)
def test_a_host_that_only_looks_known_is_refused(server, page, host):
    for name in (host, f"{host}:{server.port}"):  # 400 by tornado, where it can be no host at all
        assert server.status(f"/voila/static/voila.js?token={server.token}", Host=name) in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]", "tunnel.example", "TUNNEL.example"])
def test_known_hosts_are_answered(server, page, host):
    for name in (host, f"{host}:{server.port}"):
        path = f"/voila/static/voila.js?token={server.token}"
        assert server.status(path, Host=name, Origin=f"http://{name}") == 200
    assert server.status("/voila/static/voila.js", Host=host, Authorization=f"token {server.token}") == 200


@pytest.mark.parametrize(
    "origin", ["null", "http://localhost", "http://localhost:1", "file://", "http://localhost.evil", ""]
)
def test_another_origin_of_this_machine_is_refused(server, page, origin):
    assert server.status(f"/voila/static/voila.js?token={server.token}", Origin=origin) == 403


def test_the_files_beside_the_page_are_not_served(server, page):
    for name in ("explorer.ipynb", "server.py", "../pyproject.toml", "x.png"):
        assert server.status(f"/voila/files/{name}", Cookie=server.cookie) == 403


def test_an_idle_kernel_is_ended_and_makes_room(server, kernel):
    """The page of a kernel that is gone stays; the next visitor gets one."""
    end = time.monotonic() + 120
    while server.status(f"/api/kernels/{kernel}", Cookie=server.cookie) != 404:
        assert time.monotonic() < end
        time.sleep(0.5)
    assert server.status("/", Cookie=server.cookie) == 200


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--folder", "/no/such/folder"], "There is no folder '/no/such/folder'"),
        (["--kernels", "0"], "kernels=0"),
        (["--idle", "0"], "idle=0"),
        (["--idle", "nan"], "idle=nan"),
    ],
)
def test_bad_options_are_one_line(capsys, arguments, says):
    from repsim_nb.app.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--no-browser"])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_line(server):
    command = [sys.executable, "-m", "repsim_nb.app", "--port", str(server.port), "--no-browser"]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True)
    assert ended.returncode == 2
    assert f"Port {server.port} cannot be used" in ended.stderr.decode()
    assert "Traceback" not in ended.stderr.decode()
