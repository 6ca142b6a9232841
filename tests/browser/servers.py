"""Jupyter servers for the browser tests: on loopback, with empty settings, gone at the end with their kernels."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

TOP = Path(__file__).parents[2]
TOKEN = "browser-tests"
_DEADLINE = 240  # seconds for a server to answer


@contextmanager
def lab(home: Path) -> Iterator[str]:
    """JupyterLab with `home` as its root; gives the address that every path is appended to."""
    settings = home / ".lab" / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    arguments = (
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ServerApp.port=0",
        f"--ServerApp.root_dir={home}",
        f"--IdentityProvider.token={TOKEN}",
        "--VoilaConfiguration.template=offline",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    )
    with _process(arguments, home) as process:
        runtime = home / ".lab" / "runtime" / f"jpserver-{process.pid}.json"
        _until(lambda: runtime.exists() and runtime.read_text().endswith("}"), process)  # written in full
        port = json.loads(runtime.read_text())["port"]
        _until(lambda: _answers(f"http://127.0.0.1:{port}/api/status?token={TOKEN}"), process)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _process(arguments: tuple[str, ...], home: Path) -> Iterator[subprocess.Popen]:
    """`python -m ...` in a process group of its own, which is ended, kernels first, when the block is left."""
    own = home / ".lab"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TOP), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "IPYTHONDIR": str(own / "ipython"),
        "JUPYTER_PATH": str(TOP / "repsim_nb" / "app"),  # voila's template, as in `make app`
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
    }
    with (own / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=environment,
            cwd=home,
            start_new_session=True,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()  # the server then ends its kernels, which lead process groups of their own
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until(ready, process: subprocess.Popen) -> None:
    end = time.monotonic() + _DEADLINE
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"The server of the browser tests did not start: {process.args}")
        time.sleep(0.1)


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=2):
            return True
    except (URLError, OSError):
        return False
