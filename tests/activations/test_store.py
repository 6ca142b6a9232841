"""The store holds what extraction gives or nothing: never something else, never half of it."""

import json
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from tqdm.auto import tqdm
from transformers import GPTNeoXForCausalLM

import repsim_nb as rs
from repsim_nb.activations import Store, StoreWarning, extract_aligned, extraction, store
from repsim_nb.errors import InputError
from repsim_nb.system.atomic import OutputError

NAME, OTHER = "tiny-neox-w32-d2", "tiny-neox-w64-d2"
TEXTS = [f"The number {i} comes before {i + 1}, and {i + 1} after it." for i in range(12)]
ROWS = {"n_rows": 60, "seed": 2}
forking = pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded torch")
fork = multiprocessing.get_context("fork") if sys.platform == "linux" else None


@pytest.fixture(scope="module")
def model():
    return rs.load_model(NAME)


@pytest.fixture
def runs(monkeypatch):
    """One entry for each time that a model is run."""
    done, run = [], extraction._run
    monkeypatch.setattr(extraction, "_run", lambda model, *rest: (done.append(model.name), run(model, *rest))[1])
    return done


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[layer], b[layer]) for layer in a) and a.rows.equals(b.rows)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_was_extracted_before_is_read_and_is_the_same(tmp_path, model, runs):
    fresh = rs.extract(model, TEXTS, **ROWS)
    first, second = (rs.extract(model, TEXTS, **ROWS, store=tmp_path / "new") for _ in range(2))
    assert runs == [NAME, NAME]
    assert same(first, fresh)
    assert same(second, fresh)
    assert second.provenance == fresh.provenance
    assert second[2].is_contiguous()
    assert (second[2].dtype, len(names(tmp_path / "new"))) == (torch.float32, 1)


def test_other_programs_read_it(tmp_path, model):
    acts = rs.extract(model, TEXTS, layers=[2, 0], **ROWS, store=tmp_path)
    (file,) = tmp_path.iterdir()
    held = load_file(file)
    assert np.array_equal(held["layer_2"], acts[2].numpy())
    with safe_open(file, "numpy") as opened:
        about = {name: json.loads(value) for name, value in opened.metadata().items() if name != "format"}
    assert [about["documents"][code] for code in held["row_document"]] == acts.rows.document.tolist()
    for place in ("sequence", "position", "char_end"):
        assert held[f"row_{place}"].tolist() == acts.rows[place].tolist()
    assert about["provenance"] == acts.provenance
    assert about["key"]["weights"] == model.weights_sha256


CHANGES = {
    "layers": {"layers": [1]},
    "rows": {"rows": "mean"},
    "other rows of the kind": {"rows": "last"},
    "n_rows": {"n_rows": 50},
    "seed": {"seed": 3},
    "corpus": {"corpus": [*TEXTS[:-1], TEXTS[-1].replace("after", "behind")]},
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_another_extraction_is_another_entry(tmp_path, model, runs, change):
    how = {"corpus": TEXTS, **ROWS}
    for _ in range(2):
        rs.extract(model, **how, store=tmp_path)
        changed = rs.extract(model, **(how | CHANGES[change]), store=tmp_path)
    assert len(runs) == len(names(tmp_path)) == 2
    assert same(changed, rs.extract(model, **(how | CHANGES[change])))


def test_the_same_rows_asked_for_otherwise_are_the_same_entry(tmp_path, model, runs):
    everything = [rs.extract(model, TEXTS[:1], rows="last", n_rows=n, seed=n, store=tmp_path) for n in (1, 5)]
    assert len(runs) == 1
    assert same(*everything)
    assert [acts.provenance["seed"] for acts in everything] == [1, 5]  # that of the call, not of the entry


def test_the_model_as_it_is_now_decides(tmp_path, runs):
    models = [rs.load_model(NAME), rs.load_model(NAME, dtype="float16"), rs.load_model(OTHER), rs.load_model(NAME)]
    models[3].module.get_input_embeddings().weight.data[5] += 1  # in place, behind torch's own counting
    for _ in range(2):
        for one in models:
            rs.extract(one, TEXTS, **ROWS, store=tmp_path)
    assert len(runs) == len(names(tmp_path)) == 4
    before = rs.extract(models[3], TEXTS, **ROWS, store=tmp_path).provenance["model"]["weights_sha256"]
    models[3].module.get_input_embeddings().weight.data[5] += 1
    after = rs.extract(models[3], TEXTS, **ROWS, store=tmp_path)
    assert after.provenance["model"]["weights_sha256"] != before
    assert same(after, rs.extract(models[3], TEXTS, **ROWS))


def test_a_network_that_computes_otherwise_with_the_same_weights_is_another_entry(tmp_path, model, runs):
    config = type(model.module.config)(**(model.module.config.to_dict() | {"layer_norm_eps": 0.5}))
    changed = GPTNeoXForCausalLM(config)
    changed.load_state_dict(model.module.state_dict())
    other = rs.load_model(changed, tokenizer=model.tokenizer)
    assert other.weights_sha256 == model.weights_sha256
    a, b = (rs.extract(one, TEXTS, **ROWS, store=tmp_path) for one in (model, other))
    assert len(names(tmp_path)) == 2
    assert not torch.equal(a[2], b[2])


def test_a_network_with_hooks_is_not_stored_and_says_so(tmp_path):
    hooked = rs.load_model(NAME)
    hooked.module.gpt_neox.layers[0].register_forward_hook(lambda *_: None)
    with pytest.warns(StoreWarning, match="its GPTNeoXLayer has hooks"):
        acts = rs.extract(hooked, TEXTS, **ROWS, store=tmp_path)
    assert len(acts.rows) == 60
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "what",
    [("versions", lambda: {"torch": "3.0"}), ("code_sha256", lambda packages: "other"), ("FORMAT", "3")],
    ids=lambda w: w[0],
)
def test_other_versions_are_other_entries(tmp_path, model, runs, monkeypatch, what):
    rs.extract(model, TEXTS, **ROWS, store=tmp_path)
    monkeypatch.setattr(store, *what)
    rs.extract(model, TEXTS, **ROWS, store=tmp_path)
    assert len(runs) == len(names(tmp_path)) == 2


def test_a_broken_entry_is_as_good_as_none(tmp_path, model, runs):
    fresh = rs.extract(model, TEXTS, **ROWS, store=tmp_path)
    (file,) = tmp_path.iterdir()
    for damage in (lambda whole: whole[:-9], lambda _: b"", lambda whole: whole.replace(b"weights", b"wrights")):
        file.write_bytes(damage(file.read_bytes()))
        assert same(rs.extract(model, TEXTS, **ROWS, store=tmp_path), fresh)
    assert len(runs) == 4
    assert same(rs.extract(model, TEXTS, **ROWS, store=tmp_path), fresh)
    assert len(runs) == 4


def places(file):
    """Where a file holds what: header, and the bytes of each tensor."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    found = {name: header[name]["data_offsets"] for name in header if name != "__metadata__"}
    return {name: (8 + length + start, 8 + length + stop) for name, (start, stop) in found.items()}


def zeroed(file, where):
    return file[:where] + bytes(64) + file[where + 64 :]


def flipped(file, where):
    return file[:where] + bytes([file[where] ^ 1]) + file[where + 1 :]


def swapped(file, where):
    """Two layers, whole and well-formed, one in place of the other."""
    return (
        file.replace(b'"layer_1":', b'"layer_X":').replace(b'"layer_2":', b'"layer_1":').replace(b"layer_X", b"layer_2")
    )


def reshaped(file, where):
    return file.replace(b'"shape":[60,32]', b'"shape":[32,60]')


def retyped(file, where):
    return file.replace(b'"dtype":"F32","shape":[60,32]', b'"dtype":"I32","shape":[60,32]')


@pytest.mark.parametrize("damage", [zeroed, flipped, swapped, reshaped, retyped], ids=lambda f: f.__name__)
@pytest.mark.parametrize("part", ["layer_0", "layer_2"])
def test_store_reads_no_entry_that_is_not_what_was_stored(tmp_path, model, runs, damage, part):
    fresh = rs.extract(model, TEXTS, **ROWS, store=tmp_path)
    (file,) = tmp_path.iterdir()
    for end in (0, 1):
        held = file.read_bytes()
        where = places(held)[part][end] - 64 * end
        damaged = damage(held, where)
        assert len(damaged) == len(held)
        assert damaged != held
        del runs[:]
        file.write_bytes(damaged)
        assert same(rs.extract(model, TEXTS, **ROWS, store=tmp_path), fresh)
        assert same(rs.extract(model, TEXTS, **ROWS, store=tmp_path), fresh)
        assert len(runs) == 1, "a bad entry is absent, and made anew"


def test_aligned_models_and_comparisons_use_it(tmp_path, model, runs):
    plain = rs.compare(model, OTHER, TEXTS, **ROWS)
    del runs[:]
    stored = [rs.compare(model, OTHER, TEXTS, **ROWS, store=tmp_path) for _ in range(2)]
    assert runs == [NAME, OTHER]
    assert all(result.identical(plain) for result in stored)
    assert extract_aligned([model, OTHER], TEXTS, **ROWS, store=tmp_path)[1].provenance["model"]["model"] == OTHER
    assert len(runs) == 2


def filled(folder, limit):
    """A store in which each of three entries was used later than the one before, and their size."""
    one = Store(folder, limit)
    layers = {0: torch.zeros(100, 10)}
    for number in range(3):
        entry(one, number, layers)
        (path,) = {path for path in folder.iterdir() if path.stat().st_mtime > time.time() - 100}
        os.utime(path, (1000 * number + 1000,) * 2)
    return one, path.stat().st_size


def entry(one, number, layers):
    import pandas as pd

    n = len(layers[0])
    rows = pd.DataFrame({"document": ["d"] * n, "sequence": 0, "position": range(n), "char_end": range(n)})
    provenance = {"model": {"model": str(number)}, "corpus": {"corpus": "c"}, "site": "s", "rows": "r", "n_rows": n}
    one.keep({"number": number, "layers": [0], "dtype": "float32"}, layers, rows, provenance)


def test_the_least_recently_used_make_room(tmp_path):
    one, size = filled(tmp_path, 10**6)
    assert one.find({"number": 0, "layers": [0], "dtype": "float32"}) is not None  # used now
    one.limit = 3 * size + 10
    entry(one, 3, {0: torch.ones(100, 10)})
    assert sorted(one.entries().model) == ["0", "2", "3"]
    assert one.entries().bytes.sum() <= one.limit
    with pytest.warns(StoreWarning, match="they need 4.03 MB and its limit is"):
        entry(one, 4, {0: torch.ones(1000, 1000)})
    entry(one, 5, {0: torch.ones(1000, 1000)})  # said once
    assert sorted(one.entries().model) == ["0", "2", "3"]


def test_it_is_listed_and_cleared(tmp_path, model):
    rs.extract(model, TEXTS, **ROWS, store=tmp_path)
    one = rs.activations.Store(tmp_path, limit=10**6)
    (line,) = one.entries().itertuples()
    assert (line.model, line.corpus, line.site, line.rows, line.n_rows) == (NAME, "texts", "resid_post", "tokens", 60)
    assert line.bytes == os.path.getsize(line.file)
    assert re.search(r"1 entries, \d.* kB of 1 MB\)$", repr(one))
    old = tmp_path / ".x.partial.safetensors"
    new = tmp_path / ".y.partial.safetensors"
    for path in (old, new):
        path.touch()
    os.utime(old, (1, 1))
    assert one.clear() == 1
    assert names(tmp_path) == [new.name], "what may still be written by another process stays"
    assert one.entries().empty


def test_files_of_others_in_its_folder_are_left_alone(tmp_path):
    one, size = filled(tmp_path, 10**6)
    others = [tmp_path / "adapter.safetensors", tmp_path / f"{'0' * 33}.safetensors"]
    for path in others:
        path.write_bytes(b"1" * size)
        os.utime(path, (1, 1))
    one.limit = 3 * size + 10
    entry(one, 3, {0: torch.ones(100, 10)})
    assert len(one.entries()) == one.clear() == 3
    assert all(path.exists() for path in others)


@pytest.mark.skipif(sys.platform == "win32", reason="file modes")
def test_a_store_is_shared_with_other_users(tmp_path, monkeypatch):
    before = os.umask(0o022)
    try:
        one, _ = filled(tmp_path, 10**6)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}

    def refused(*_):
        raise PermissionError

    key = {"number": 0, "layers": [0], "dtype": "float32"}
    with monkeypatch.context() as patched:
        patched.setattr(os, "utime", refused)
        assert one.find(key) is not None
        patched.setattr(store, "safe_open", refused)
        assert one.find(key) is None
    assert one.find(key) is not None, "what this user may not read is left to those who may"


def test_true_is_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    assert store.as_store(True).folder == tmp_path / "repsim-nb" / "activations"
    assert store.as_store(None) is store.as_store(False) is None
    mine = Store(tmp_path)
    assert store.as_store(mine) is mine


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "store=3; expected None, True, a folder path"),
        ("FILE", "Cannot create the folder"),
        ("FILE/x", "Cannot create"),
    ],
)
def test_a_store_that_cannot_be_is_refused_before_the_run(tmp_path, model, runs, given, message):
    (tmp_path / "file").touch()
    given = str(tmp_path / given.lower()) if isinstance(given, str) else given
    with pytest.raises(InputError, match=message):
        rs.extract(model, TEXTS, **ROWS, store=given)
    assert runs == []
    with pytest.raises(InputError, match="expected a positive number of bytes"):
        Store(tmp_path, limit=0)


@contextmanager
def files_no_longer_than(size):
    """A full disk, as far as writing is concerned: Python ignores the signal, and the write fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_the_entry_and_not_the_result(tmp_path, model):
    one = Store(tmp_path)
    fresh = rs.extract(model, TEXTS, **ROWS)
    with files_no_longer_than(5000):
        with pytest.warns(StoreWarning, match=r"could not be stored in .*file too large"):
            acts = rs.extract(model, TEXTS, **ROWS, store=one)
        again = rs.extract(model, TEXTS, **ROWS, store=one)  # and says so once: a warning is an error here
    assert same(acts, fresh)
    assert same(again, fresh)
    assert names(tmp_path) == []


def test_a_folder_that_vanishes_is_a_warning(tmp_path, model, monkeypatch):
    one = Store(tmp_path / "here")
    monkeypatch.setattr(store, "save_file", lambda *_: (_ for _ in ()).throw(OutputError("gone")))
    with pytest.warns(StoreWarning, match="gone"):
        assert len(rs.extract(model, TEXTS, **ROWS, store=one).rows) == 60
    assert names(tmp_path / "here") == []


def _extracted(model, folder, start, heard):
    start.wait()
    acts = rs.extract(model, TEXTS, **ROWS, store=folder)
    heard.put([acts[layer].numpy().tobytes() for layer in acts])


@forking
@pytest.mark.filterwarnings("ignore:.*fork")
def test_two_processes_at_once_leave_one_right_entry(tmp_path, model):
    fresh = rs.extract(model, TEXTS, **ROWS)
    start, heard = fork.Barrier(2), fork.SimpleQueue()
    both = [fork.Process(target=_extracted, args=(model, tmp_path, start, heard)) for _ in range(2)]
    for one in both:
        one.start()
    results = [heard.get() for _ in both]
    for one in both:
        one.join()
    assert results == [[fresh[layer].numpy().tobytes() for layer in fresh]] * 2
    assert [one.exitcode for one in both] == [0, 0]
    (name,) = names(tmp_path)
    assert not name.startswith(".")


def _stored_again(model, folder, started):
    tqdm.set_lock(threading.RLock())  # its own is shared with this process, which would wait for what was killed
    started.set()
    while True:
        for path in folder.glob("[!.]*"):
            path.unlink(missing_ok=True)
        rs.extract(model, TEXTS, n_rows=60, seed=2, store=folder)


@forking
@pytest.mark.filterwarnings("ignore:.*fork")
def test_killed_at_any_moment_the_store_is_right_or_absent(tmp_path, model):
    """20 times, a process that stores and removes without end is killed after a random while."""
    fresh = rs.extract(model, TEXTS, **ROWS)
    draw = random.Random(0)
    for _ in range(20):
        started = fork.Event()
        process = fork.Process(target=_stored_again, args=(model, tmp_path, started))
        process.start()
        started.wait()
        time.sleep(draw.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert same(rs.extract(model, TEXTS, **ROWS, store=tmp_path), fresh)
    assert Store(tmp_path).clear() == 1
