"""A Hugging Face hub on this machine: enough of one for the real download code, with nothing but folders behind it.

Datasets lie in `datasets/owner/name`; `breaks` counts how often a download is yet to be cut off in the middle.
"""

import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

import repsim_nb

HERE = Path(repsim_nb.__file__).parent.parent
TOKEN = "hf_ThisTokenMustNeverBePrinted"  # of the right form, and of no account


class Hub:
    """Serves `folder`/owner/name as main and `folder`/owner/name@revision as another revision, used in a `with`.

    Args:
        folder: what it holds.
        gated: a repository that shows what it holds and hands nothing out.
        private: a repository that refuses every token.
        faults: what goes wrong with the weights of a repository: "cut" (the first time the connection closes halfway),
            "reset" (the first time it breaks halfway), "gone" (after half of it nothing comes any more), "short" (the
            first time less comes than was said), "down" (the server fails).

    `tokens` are those that clients have sent, `sent` how many bytes of each file they have been given, `ranges` where
    in a file they began to read when it was not its start.
    """

    def __init__(
        self, folder: Path, gated: str = "", private: str = "", faults: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.gated, self.private, self.tokens = folder, gated, private, set()
        self.sent: dict[str, int] = {}
        self.breaks = 0
        self.faults, self.ranges = dict(faults or {}), {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Hub":
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def find(self, repository: str, revision: str) -> Path | None:
        """The folder of a revision, which is a name or the commit that was handed out for it."""
        main = self.folder / repository
        for path in (main, *main.parent.glob(f"{main.name}@*")):
            name = unquote(path.name).partition("@")[2] or "main"
            if path.is_dir() and revision in (name, commit(path)):
                return path
        return None


def commit(folder: Path) -> str:
    """What stands for the commit of a revision: it differs where the files do."""
    names = (folder.name, *(f"{file.name}{file.stat().st_size}" for file in files(folder)))
    return sha1("".join(names).encode()).hexdigest()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def pointing_at(endpoint: str, home: Path) -> dict[str, str]:
    """Variables of a process that sees `endpoint` as the hub and has a cache of its own."""
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return own | {"HF_HUB_DISABLE_TELEMETRY": "1"}


def run(program: str, endpoint: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python program that sees `endpoint` as the hub and has a cache of its own."""
    own = pointing_at(endpoint, home) | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE), "HF_TOKEN": TOKEN}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    return subprocess.run(
        [sys.executable, "-c", program], env=kept | own | environment, capture_output=True, text=True, timeout=300
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if token := self.headers.get("Authorization"):
            self.hub.tokens.add(token.removeprefix("Bearer "))
        match [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]:
            case ["api", "models", owner, name]:
                self.serve(f"{owner}/{name}", "main", self.about)
            case ["api", "models", owner, name, "revision", revision]:
                self.serve(f"{owner}/{name}", revision, self.about)
            case ["api", "models", owner, name, "tree", revision, *under]:
                self.serve(f"{owner}/{name}", revision, self.tree, *under)
            case [owner, name, "resolve", revision, *path]:
                self.serve(f"{owner}/{name}", revision, self.file, *path)
            case ["api", "datasets", owner, name]:
                self.serve(f"datasets/{owner}/{name}", "main", self.about)
            case ["api", "datasets", owner, name, "revision", revision]:
                self.serve(f"datasets/{owner}/{name}", revision, self.about)
            case ["api", "datasets", owner, name, "auth-check"]:
                self.serve(f"datasets/{owner}/{name}", "main", self.check)
            case ["api", "datasets", owner, name, "tree", revision, *under]:
                self.serve(f"datasets/{owner}/{name}", revision, self.tree, *under)
            case ["datasets", owner, name, "resolve", revision, *path]:
                self.serve(f"datasets/{owner}/{name}", revision, self.file, *path)
            case _:
                self.answer(404, {"error": "unknown address"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        wanted = json.loads(asked)["paths"] if asked.startswith("{") else parse_qs(asked).get("paths", [])
        match [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]:
            case ["api", "datasets", owner, name, "paths-info", revision]:
                self.serve(f"datasets/{owner}/{name}", revision, self.infos, *wanted)
            case _:
                self.answer(404, {"error": "unknown address"})

    def infos(self, _, folder, *wanted):
        there = [folder / path for path in wanted]
        found = [_entry(path, folder) for path in there if path.is_file()]
        found += [
            {"type": "directory", "path": str(p.relative_to(folder)), "oid": "0" * 40} for p in there if p.is_dir()
        ]
        self.answer(200, found)

    def serve(self, repository, revision, what, *path):
        if repository == self.hub.private:
            why = "Invalid credentials in Authorization header"
            return self.answer(401, {"error": why}, X_Error_Message=why)
        if self.hub.find(repository, "main") is None:
            # 401 and not 404, as the real one: whether a private repository exists is nobody's business
            return self.answer(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        folder = self.hub.find(repository, revision)
        if folder is None:
            return self.answer(404, {"error": "Revision not found"}, X_Error_Code="RevisionNotFound")
        return what(repository, folder, *path)

    def about(self, repository, folder):
        siblings = [{"rfilename": str(file.relative_to(folder))} for file in files(folder)]
        self.answer(
            200,
            {"id": repository.removeprefix("datasets/"), "sha": commit(folder), "siblings": siblings, "private": False},
        )

    def check(self, repository, _):
        if repository == self.hub.gated:
            return self.answer(403, {"error": f"Access to {repository} is restricted"}, X_Error_Code="GatedRepo")
        return self.answer(200, {})

    def tree(self, _, folder, *under):
        top = folder.joinpath(*under)
        found = [file for file in files(folder) if file.is_relative_to(top)]
        if under and not found:
            return self.missing(folder)
        below = [path for path in sorted(folder.rglob("*")) if path.is_dir() and path.parent == top]
        folders = [{"type": "directory", "path": str(p.relative_to(folder)), "oid": "0" * 40} for p in below]
        if "recursive=true" not in self.path.lower():
            return self.answer(200, folders + [_entry(file, folder) for file in found if file.parent == top])
        return self.answer(200, [_entry(file, folder) for file in found])

    def file(self, repository, folder, *path):
        if repository == self.hub.gated:  # what it holds is shown to everybody, as on the real one
            return self.answer(403, {"error": f"Access to model {repository} is restricted"}, X_Error_Code="GatedRepo")
        file = folder.joinpath(*path)
        if not file.is_file():
            return self.missing(folder)
        content = file.read_bytes()
        about = {"ETag": f'"{_entry(file, folder)["oid"]}"', "X_Repo_Commit": commit(folder), "Accept_Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, len(content)
        if asked:
            start, stop = int(asked[1]), min(int(asked[2] or len(content)) + 1, len(content))
            self.hub.ranges.setdefault(repository, []).append(start)
            about["Content_Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        if file.suffix == ".safetensors" and self.command == "GET" and repository in self.hub.faults:
            return self.fail(repository, content[start:stop], about, start)
        return self.answer(206 if asked else 200, content[start:stop], **about)

    def fail(self, repository, content, about, start):
        fault = self.hub.faults[repository]
        if fault == "down":
            return self.answer(500, {"error": "Internal Error"})
        if fault == "short":
            del self.hub.faults[repository]
            return self.answer(200, content[:-100], **about)
        if fault == "gone" and start:
            self.close_connection = True  # without an answer
            return None
        if fault != "gone":
            del self.hub.faults[repository]
        self.close_connection = True
        self.answer(200, content, **about, only=len(content) // 2)
        if fault == "reset":
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        return None

    def missing(self, folder):
        self.answer(404, {"error": "no such file"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit(folder))

    def answer(self, status, content, only=None, **headers):
        """Status, headers and content; `only` so many bytes of it, whatever the headers say."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for key, value in {"Content-Type": kind, "Content-Length": len(body), **headers}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            if isinstance(content, bytes):
                self.hub.sent[self.path] = self.hub.sent.get(self.path, 0) + len(body)
                if self.hub.breaks:
                    self.hub.breaks -= 1
                    self.close_connection = True
                    only = len(body) // 2
            self.wfile.write(body[:only])


def _entry(file: Path, folder: Path) -> dict[str, object]:
    content = file.read_bytes()
    return {
        "type": "file",
        "path": str(file.relative_to(folder)),
        "size": len(content),
        "oid": sha256(content).hexdigest(),
    }
