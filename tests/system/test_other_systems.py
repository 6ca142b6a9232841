"""What differs on Windows and macOS, simulated: file replacement, names, signals, missing calls, code pages."""

import ast
import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import repsim_nb
from repsim_nb.corpora import python_docs
from repsim_nb.runs import cells, sweep
from repsim_nb.system import atomic as module
from repsim_nb.system.atomic import OutputError, atomic, atomic_folder, replace_folder, writable

PACKAGE = Path(repsim_nb.__file__).parent


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(module, "on_windows", lambda: True)
    monkeypatch.setattr(cells, "on_windows", lambda: True)


def refusing(times, call):
    """`call`, that somebody else's open file lets fail at first."""
    left = [times]

    def called(*arguments):
        if left[0] > 0:
            left[0] -= 1
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        return call(*arguments)

    return called


def test_atomic_waits_while_another_program_holds_the_file_on_windows(tmp_path, monkeypatch, windows):
    path = tmp_path / "table.csv"
    path.write_text("old")
    monkeypatch.setattr(module.os, "replace", refusing(3, os.replace))
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_says_that_the_file_is_open_elsewhere_and_leaves_it_as_it_was(tmp_path, monkeypatch, windows):
    path = tmp_path / "table.csv"
    path.write_text("old")
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    monkeypatch.setattr(module.os, "replace", refusing(10**9, os.replace))
    with pytest.raises(OutputError, match=r"Another program has it open: close it there"), atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_does_not_wait_where_permission_is_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 1e9)
    monkeypatch.setattr(module.os, "replace", refusing(10**9, os.replace))
    with pytest.raises(PermissionError), atomic(tmp_path / "table.csv") as temporary:
        temporary.write_text("new")


def test_replace_folder_waits_while_a_file_in_it_is_open_on_windows(tmp_path, monkeypatch, windows):
    path = tmp_path / "run"
    for text in ("old", "new"):
        with atomic_folder(path) as draft, monkeypatch.context() as patched:
            (draft / "file").write_text(text)
            patched.setattr(Path, "rename", refusing(2, Path.rename))
            replace_folder(draft, path)
            draft.mkdir()
            (draft / "file").write_text(text)
        assert (path / "file").read_text() == text
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    monkeypatch.setattr(Path, "rename", refusing(10**9, Path.rename))
    with pytest.raises(OutputError, match="Another program has it open"), atomic_folder(path) as draft:
        (draft / "file").write_text("newer")
    assert (path / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="simulated by fcntl")
def test_atomic_flushes_a_file_that_is_open_for_writing_as_windows_wants(tmp_path, monkeypatch):
    import fcntl

    def flush(number):
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(module.os, "fsync", flush)
    with atomic(tmp_path / "table.csv") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "table.csv").read_text() == "whole"


@pytest.mark.parametrize(
    "name", ["CON.nc", "aux", "com1.csv", "LPT9", "nul.tar.gz", "table.", "table ", "a:b.csv", "x?"]
)
def test_writable_refuses_names_that_windows_takes_for_something_else(tmp_path, windows, name):
    with pytest.raises(OutputError, match="Windows has no such file name"):
        writable(tmp_path / name)
    with pytest.raises(OutputError, match="Windows has no such file name"), atomic_folder(tmp_path / name):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["console.csv", "com10.nc", "auxiliary", "n_rows=512,seed=0", "a.b.c", ".hidden"])
def test_writable_takes_names_that_only_look_like_devices(tmp_path, windows, name):
    assert writable(tmp_path / name) == tmp_path / name


@pytest.mark.skipif(os.name == "nt", reason="it has no such names")
def test_writable_takes_any_name_elsewhere(tmp_path):
    assert writable(tmp_path / "CON.nc").name == "CON.nc"


def test_a_sweep_names_folders_apart_where_the_file_system_knows_no_case():
    labels = sweep._labels([{"model": "A"}, {"model": "a"}, {"model": "b"}, {"model": "c."}])
    assert len({label.casefold() for label in labels}) == 4
    assert labels[2] == "model=b"
    assert not labels[3].endswith("."), "which Windows drops"
    assert all(label.isascii() for label in labels)
    assert sweep._labels([{"seed": 0}, {"seed": 0}]) == ["seed=0", "seed=0"], "the same cell twice, an error elsewhere"


def test_a_cell_is_told_to_end_by_its_stdin_on_windows_where_it_would_be_cut_off(windows):
    with tempfile.TemporaryFile() as said:
        code = "import sys; sys.stdin.read(); print('cleaned up'); sys.exit(130)"
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=said)
        running = cells._Running(None, process, tempfile.TemporaryFile())  # noqa: SIM115 (closed by stop)
        running.tell()
        running.stop()
        said.seek(0)
        assert said.read().split() == [b"cleaned", b"up"]
    assert process.returncode == 130


SIGNALS = """
import signal, sys, threading, time
for name in ("SIGHUP", "pthread_kill"):
    if hasattr(signal, name):
        delattr(signal, name)
signal.SIGBREAK = signal.SIGUSR1  # as Windows calls that of Ctrl-Break
from repsim_nb.runs.signals import interruptible, tell_main_thread

def ended(tell):
    try:
        with interruptible():
            tell()
            for _ in range(200):
                time.sleep(0.05)
    except KeyboardInterrupt:
        return True
    return False

assert ended(lambda: signal.raise_signal(signal.SIGBREAK))
assert ended(lambda: signal.raise_signal(signal.SIGTERM))
assert ended(lambda: threading.Thread(target=tell_main_thread).start())
"""


@pytest.mark.skipif(os.name == "nt", reason="simulated by SIGUSR1")
def test_interruptible_works_with_the_signals_that_windows_has():
    done = subprocess.run([sys.executable, "-c", SIGNALS], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_only_posix_or_linux_has_is_done_without(monkeypatch, tmp_path):
    for name in ("getuid", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    assert cells.cores() == (os.cpu_count() or 1)
    monkeypatch.setenv("USERNAME", "somebody")
    monkeypatch.setenv("LOGNAME", "somebody")
    assert python_docs._caches()[1].name == "repsim-nb-somebody"
    (tmp_path / "file").touch()
    assert python_docs._own(tmp_path / "file")
    monkeypatch.setitem(sys.modules, "resource", None)
    from repsim_nb.survey import run

    run._limit_memory()


def test_the_command_line_prints_where_the_code_page_lacks_characters():
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for what in ("measures", "notebooks"):
        command = [sys.executable, "-m", "repsim_nb", "list", what]
        done = subprocess.run(
            command, capture_output=True, env=environment, check=False, timeout=300, cwd=PACKAGE.parent
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()


def test_text_files_are_read_and_written_in_utf8_whatever_the_code_page():
    for file in sorted(PACKAGE.rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            named = {keyword.arg for keyword in call.keywords}
            text = name in ("read_text", "write_text") or (
                name == "open" and isinstance(getattr(call.args[-1] if call.args else None, "value", "r"), str)
            )
            if (
                not text
                or "encoding" in named
                or ast.unparse(call.func) in ("os.open", "webbrowser.open", "zipfile.ZipFile(wheel).open")
            ):
                continue
            modes = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            assert any("b" in mode for mode in modes), f"{file.name}:{call.lineno} {ast.unparse(call)}"


def test_no_module_uses_at_its_top_what_only_posix_has():
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        assert not top & {"fcntl", "resource", "pwd", "grp", "pty", "termios", "posix"}, file
