"""Models by hub id: the real download code against a hub on this machine, in processes that see that one only."""

import json
import shutil
import socket
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

import repsim_nb as rs
from repsim_nb.models.shape import shape_of
from repsim_nb.system.shipped import data_dir
from tests.models.test_encoders import sentence_model
from tests.support.hub import TOKEN, Hub, commit, run
from tests.support.native_checkpoints import TOKENIZER, older, older_weights, write

pytestmark = pytest.mark.slow  # three processes that import everything

GELU = "NeelNanda/GELU_3L512W_C4_Code"
DIGITS = "NeelNanda/gpt-neox-tokenizer-digits"
TEXT = "Return a new array."
FAULTS = {"some/cut": "cut", "some/reset": "reset", "some/vanished": "gone", "some/short": "short", "some/down": "down"}
CHUNK = 2**16
PROGRAM = f"""
import errno, json, os, time
from dataclasses import asdict
from pathlib import Path

time.sleep = lambda seconds: None  # between attempts
import torch
from huggingface_hub import constants, file_download

import repsim_nb as rs
from repsim_nb.models.shape import shape_of
from repsim_nb.cli.command import main

CACHE = Path(os.environ["HF_HOME"]) / "hub"
constants.DOWNLOAD_CHUNK_SIZE = {CHUNK}  # of these small files there would be one
really = file_download.http_get

def on_a_full_disk(url, file, **_):
    file.write(b"some of it")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

def cached(name):
    kept = CACHE.glob("models--" + name.partition("@")[0].replace("/", "--") + "/**/*")
    kept = (file for file in kept if file.is_file())
    return sorted(file.name for file in kept if "snapshots" in file.parts or "incomplete" in file.name)

@torch.no_grad()
def outcome(name):
    name, _, time = name.partition("#")
    if time == "shape":
        return {{**asdict(shape_of(name)), "cached": cached(name)}}
    file_download.http_get = on_a_full_disk if time == "full" else really
    try:
        model = rs.load_model(name)
    except Exception as error:
        return {{"error": type(error).__name__, "message": str(error), "cached": cached(name)}}
    logits = model.logits(model.batch([{TEXT!r}]))
    return {{"name": model.name, "last": logits[0, -1].tolist(), **model.provenance}}

print(json.dumps({{name: outcome(name) for name in NAMES}}))
main(["compare", "some/gone", "some/neox", "--out", "never.csv"])
"""


class Shout:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return print, ("SHOUT",)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    shutil.copytree(data_dir() / "tiny-neox-w32-d2", folder / "some" / "neox")
    shutil.copytree(data_dir() / "tiny-neox-w32-d2@step0", folder / "some" / "neox@step0")
    shutil.copytree(TOKENIZER, folder / "some" / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copytree(folder / "some" / "pickled", folder / "some" / "code")
    weights = load_file(TOKENIZER / "model.safetensors")
    torch.save(weights, folder / "some" / "pickled" / "pytorch_model.bin")
    torch.save(weights | {"more": Shout()}, folder / "some" / "code" / "pytorch_model.bin")
    (folder / "some" / "empty").mkdir()
    (folder / "some" / "empty" / "README.md").write_text("no model")
    write(folder / GELU, older() | {"tokenizer_name": DIGITS}, older_weights(), "GELU_3L_final.pth")
    write(folder / "some" / "native", older() | {"tokenizer_name": "some/lost"}, older_weights())
    write(folder / "some" / "gated", older(), older_weights())
    (folder / DIGITS).mkdir()
    for file in TOKENIZER.glob("tokenizer*"):
        shutil.copy(file, folder / DIGITS)
    for name in ("EleutherAI/pythia-70m", *FAULTS, "some/full"):
        shutil.copytree(data_dir() / "tiny-neox-w32-d2", folder / name)
    shutil.copytree(data_dir() / "tiny-neox-w32-d2@step0", folder / "EleutherAI" / "pythia-70m@step1000")
    shutil.copytree(data_dir() / "tiny-bert-nli-00", folder / "some" / "classifier")
    sentence_model(folder / "some" / "sentences", path="0_Transformer", more=["Dense"])
    dense = folder / "some" / "sentences" / "3_Dense"
    dense.mkdir()
    (dense / "config.json").write_text(json.dumps({"in_features": 16, "out_features": 4, "bias": False}))
    save_file({"linear.weight": torch.ones(4, 16)}, dense / "model.safetensors")
    shutil.copytree(folder / "some" / "sentences", folder / "some" / "unread-sentences")
    shutil.copytree(data_dir() / "tiny-neox-w32-d2", folder / "some" / "unread")
    shutil.copytree(data_dir() / "tiny-neox-w32-d2@step0", folder / "some" / "unread@step0")
    in_shards(folder / "some" / "shards")
    shutil.copytree(folder / "some" / "shards", folder / "some" / "shardless")
    next((folder / "some" / "shardless").glob("model-00002*")).unlink()
    shutil.copytree(TOKENIZER, folder / "some" / "truncated")
    weights_file = folder / "some" / "truncated" / "model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-100])
    shutil.copytree(TOKENIZER, folder / "some" / "images")
    images = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
    (folder / "some" / "images" / "config.json").write_text(json.dumps(images))
    with Hub(folder, gated="some/gated", private="some/private", faults=FAULTS) as served:
        yield served


def in_shards(folder):
    model = rs.load_model(TOKENIZER)
    model.module.save_pretrained(folder, max_shard_size="100KB")
    model.tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def loaded(endpoint, home, *names):
    """What became of every name in one process, and all that it printed."""
    done = run(PROGRAM.replace("NAMES", repr(names)), endpoint, home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done


@pytest.fixture(scope="module")
def online(hub, home):
    good = (
        "some/neox",
        "some/neox@step0",
        "gelu-3l",
        "some/pickled",
        "pythia-70m",
        "EleutherAI/pythia-70m@step1000",
        "some/classifier",
        "some/sentences",
        "some/shards",
        "some/cut",
    )
    again = ("some/reset", "some/reset#again", "some/short", "some/short#again", "some/full#full", "some/full#again")
    bad = (
        "some/code",
        "some/gone",
        "gone/neox@main",
        "some/neox@step1",
        "some/gated",
        "some/private",
        "some/empty",
        "some/native",
        "some/shardless",
        "some/truncated",
        "some/images",
        "some/vanished",
        "some/down",
        "EleutherAI/pythia-71m",
    )
    shapes = ("some/unread@step0#shape", "some/unread-sentences#shape")
    return loaded(hub.endpoint, home, *good, *again, "solu-3l", *bad, *shapes)


@pytest.fixture(scope="module")
def offline(online, home):
    """The same cache, and nothing that listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    return loaded(endpoint, home, "gelu-3l", "some/neox", "other/neox", "solu-3l", "some/vanished")


@pytest.mark.parametrize("revision", ["", "@step0"])
@torch.no_grad()
def test_a_model_of_the_hub_is_the_one_that_lies_there(hub, online, revision):
    found = online[0][f"some/neox{revision}"]
    own = rs.load_model(f"tiny-neox-w32-d2{revision}")
    assert found["name"] == f"some/neox{revision}"
    assert found["weights_sha256"] == own.weights_sha256
    assert found["last"] == pytest.approx(own.logits(own.batch([TEXT]))[0, -1].tolist(), abs=1e-5)
    assert found["source"] == "hub"
    assert found["revision"] == (revision.removeprefix("@") or "main")
    assert found["commit"] == commit(hub.folder / "some" / f"neox{revision}")


def test_a_pickle_gives_its_tensors_and_nothing_else(online):
    found, done = online
    own = rs.load_model(TOKENIZER)
    assert found["some/pickled"]["weights_sha256"] == own.weights_sha256
    assert found["some/pickled"]["pickled"]
    assert not found["some/neox"]["pickled"]
    assert "'some/pickled' has its weights only as a pickle" in done.stderr
    assert "SHOUT" not in done.stdout + done.stderr


@torch.no_grad()
def test_a_toy_model_loads_by_its_short_name_with_the_tokenizer_it_names(hub, online):
    found = online[0]["gelu-3l"]
    own = rs.load_model(hub.folder / GELU, tokenizer=rs.load_model("tiny-neox-w32-d2").tokenizer)
    assert found["last"] == pytest.approx(own.logits(own.batch([TEXT]))[0, -1].tolist(), abs=1e-5)
    assert found["weights_sha256"] == own.weights_sha256
    assert (found["name"], found["repository"]) == ("gelu-3l", GELU)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("some/gone", "'some/gone': the hub has no such repository, or it is private. Check the name"),
        ("gone/neox@main", "'gone/neox': the hub has no such repository"),
        ("solu-3l", "'NeelNanda/SoLU_3L512W_C4_Code': the hub has no such repository"),
        ("some/neox@step1", "'some/neox': it has no revision 'step1'. See ENDPOINT/some/neox/tree/main"),
        ("some/gated", "'some/gated': it is gated. Ask for access at ENDPOINT/some/gated, then log in with"),
        ("some/private", "'some/private': the hub does not accept your token. To replace it, log in with"),
        ("some/empty", "'some/empty' is not a model checkpoint: it has no config.json"),
        ("some/code", "'some/code': its weights are broken or contain more than tensors, so nothing was read."),
        ("EleutherAI/pythia-71m", "it is private. Did you mean 'EleutherAI/pythia-70m'? If it is private, log in with"),
        (
            "some/shardless",
            "lacks 1 of the 4 files with its weights, for example model-00002-of-00004.safetensors.",
        ),
        ("some/truncated", "model.safetensors' is truncated or not a safetensors file"),
        ("some/images", "'some/images' is a ViTForImageClassification; expected a causal language model"),
        ("some/reset", "'some/reset': the connection broke ("),
        ("some/vanished", "'some/vanished': the connection broke ("),
        ("some/short", "'some/short': the size of a file does not match that on the hub. Load it again"),
        ("some/down", "'some/down': the hub answered with status 500. Try again later."),
        ("some/full#full", "is full. Free some space, or set HF_HOME to a folder on another disk. Load it again"),
        ("some/native", "tokenizer of 'some/native': Cannot download 'some/lost': the hub has no such repository"),
    ],
)
def test_what_the_hub_refuses_is_one_line_with_advice(hub, online, name, advice):
    refused = online[0][name]
    assert refused["error"] == "InputError"
    assert advice.replace("ENDPOINT", hub.endpoint) in refused["message"]
    assert "\n" not in refused["message"]


@torch.no_grad()
def test_pythia_loads_by_both_names_and_by_checkpoint(hub, online):
    for name, folder, embedded in (
        ("pythia-70m", "pythia-70m", "tiny-neox-w32-d2"),
        ("EleutherAI/pythia-70m@step1000", "pythia-70m@step1000", "tiny-neox-w32-d2@step0"),
    ):
        found = online[0][name]
        assert found["weights_sha256"] == rs.load_model(embedded).weights_sha256
        assert found["repository"] == "EleutherAI/pythia-70m"
        assert found["commit"] == commit(hub.folder / "EleutherAI" / folder)
        assert found["revision"] == (name.partition("@")[2] or "main")


@pytest.mark.parametrize(
    ("name", "kind"), [("some/classifier", "classifier"), ("some/sentences", "encoder"), ("some/shards", "causal")]
)
def test_every_kind_of_model_comes_from_the_hub_as_from_its_folder(hub, online, name, kind):
    found = online[0][name]
    own = rs.load_model(hub.folder / name)
    assert (found["kind"], own.kind) == (kind, kind)
    assert found["weights_sha256"] == own.weights_sha256
    assert found.get("sentences") == own.provenance.get("sentences")  # weights of modules behind the encoder included


def test_a_connection_that_closes_is_taken_up_where_it_closed(hub, online):
    size = (TOKENIZER / "model.safetensors").stat().st_size
    assert online[0]["some/cut"]["weights_sha256"] == rs.load_model(TOKENIZER).weights_sha256
    assert hub.ranges["some/cut"] == [size // 2 // CHUNK * CHUNK] != [0]


@pytest.mark.parametrize("name", ["some/reset", "some/short", "some/full"])
def test_after_a_broken_download_nothing_is_half_there_and_the_next_goes_well(hub, online, name):
    first = online[0]["some/full#full" if name == "some/full" else name]
    assert first["error"] == "InputError"
    assert not any("incomplete" in file or file.endswith("safetensors") for file in first["cached"])
    again = online[0][f"{name}#again"]
    assert again["weights_sha256"] == rs.load_model(TOKENIZER).weights_sha256


@pytest.mark.parametrize("name", ["unread@step0", "unread-sentences"])
def test_the_shape_of_a_model_needs_its_config_alone(hub, online, name):
    found = online[0][f"some/{name}#shape"]
    assert found["cached"]
    assert all(file.endswith(".json") for file in found["cached"])
    shape = asdict(shape_of(hub.folder / "some" / name))
    assert found == shape | {"name": f"some/{name}", "cached": found["cached"]}


def test_nothing_heavy_is_downloaded_of_a_model_that_is_not_for_us(online):
    assert "config.json" in online[0]["some/images"]["cached"]
    assert "model.safetensors" not in online[0]["some/images"]["cached"]


def test_without_a_network_half_of_a_model_is_not_taken_for_the_whole(offline):
    refused = offline[0]["some/vanished"]
    assert "not in the cache and http://127.0.0.1:" in refused["message"]


def test_without_a_network_what_was_downloaded_still_loads(online, offline):
    for name in ("gelu-3l", "some/neox"):
        assert offline[0][name] == online[0][name]
    retried = [line for line in offline[1].stderr.splitlines() if "thrown while requesting" in line]
    assert all("some/vanished" in line for line in retried)  # only where half is there


@pytest.mark.parametrize("name", ["other/neox", "solu-3l"])
def test_without_a_network_the_error_says_so(offline, name):
    refused = offline[0][name]
    assert refused["error"] == "InputError"
    assert "not in the cache and http://127.0.0.1:" in refused["message"]
    assert "Check the connection" in refused["message"]
    assert "\n" not in refused["message"]


def test_the_command_says_it_in_one_line(online):
    lines = [line for line in online[1].stderr.splitlines() if line.startswith("repsim-nb") or "Traceback" in line]
    assert len(lines) == 1
    assert lines[0].startswith("repsim-nb: error: Cannot download 'some/gone': the hub has no such repository")


def test_a_token_is_used_and_never_printed(hub, online, offline):
    assert hub.tokens == {TOKEN}
    for _, done in (online, offline):
        assert TOKEN not in done.stdout + done.stderr


def test_offline_mode_is_named_as_the_reason(hub, home):
    """As the whole suite runs: nothing is asked of the hub."""
    program = "import repsim_nb as rs\ntry: rs.load_model('other/neox')\nexcept ValueError as error: print(error)"
    done = run(program, hub.endpoint, home, HF_HUB_OFFLINE="1")
    assert done.stdout.count("\n") == 1, done.stderr
    assert "HF_HUB_OFFLINE is not set" in done.stdout
