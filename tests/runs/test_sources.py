"""What is missing on the hub is named with the parameter of the notebook, before anything large is downloaded."""

import json

import pytest

from tests.support import published
from tests.support.hub import Hub, run
from tests.support.native_checkpoints import older, older_weights, write

pytestmark = pytest.mark.slow  # processes that import everything
PROGRAM = """
import json
import nbformat
import repsim_nb as rs
from repsim_nb.runs import check_sources

def outcome(work, *given):
    try:
        work(*given)
    except Exception as error:
        return [type(error).__name__, str(error)]

def settled(path):
    own = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            source = cell.source.replace('preset: str = "default"', 'preset: str = "paper"')
            exec(compile(source, path, "exec"), own)
            if "check_sources(" in cell.source:
                return

books = {name: outcome(settled, path) for name, path in rs.list_notebooks().path.items() if name in NAMES}
print(json.dumps([books, [outcome(lambda: check_sources(*case)) for case in CASES]]))
"""
FIRST = {  # of what each notebook names, and the parameter that names it
    "00_start_here": ("EleutherAI/pythia-70m", "model_a"),
    "01_activation_asymmetry": ("NeelNanda/GELU_3L512W_C4_Code", "models"),
    "02_locating_generalization": ("connectivity/feather_berts_99", "paper_models"),
    "03_scaling_families": ("EleutherAI/pythia-70m-deduped", "models"),
    "04_measures_compared": ("EleutherAI/pythia-160m", "model_a"),
}
NATIVE, LOST = "some/toy", "some/lost-tokenizer"
CASES = {
    "nothing is missing": ({"a": "EleutherAI/pythia-14m@step0", "b": ["tiny-neox-w32-d2"]}, {"c": "nyu-mll/multi_nli"}),
    "Cannot download 'EleutherAI/pythia-14m': it has no revision 'step1'": ({"a": ["EleutherAI/pythia-14m@step1"]},),
    f"Cannot download '{LOST}': the hub has no such repository": ({"a": NATIVE},),
    "Unknown model 'pythia-15m'. Did you mean": ({"a": "pythia-15m"},),
    "No model directory at": ({"a": "./nowhere"},),
    "'nyu-mll/multi_nly': the hub has no such dataset, or it is private. Did you mean 'nyu-mll/multi_nli'": (
        {},
        {"a": "nyu-mll/multi_nly"},
    ),
    "Cannot read the dataset 'jhu-cogsci/hans': it has no revision 'v9'": ({}, {"a": "jhu-cogsci/hans@v9"}),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    published.write_pythia(folder, "14m", steps=("step0",))
    write(folder / NATIVE, older() | {"tokenizer_name": LOST}, older_weights(), "toy_final.pth")
    published.write_mnli(folder)
    published.write_hans(folder)
    program = PROGRAM.replace("NAMES", repr([*FIRST])).replace("CASES", repr([*CASES.values()]))
    with Hub(folder) as hub:
        done = run(program, hub.endpoint, tmp_path_factory.mktemp("home"))
    assert done.returncode == 0, done.stderr
    books, cases = json.loads(done.stdout.splitlines()[-1])
    return books, dict(zip(CASES, cases, strict=True)), hub.sent


@pytest.mark.parametrize("name", FIRST)
def test_a_notebook_names_the_missing_repository_and_the_parameter(outcomes, name):
    kind, message = outcomes[0][name]
    repository, parameter = FIRST[name]
    assert kind == "InputError"
    assert f"Cannot download '{repository}': the hub has no such repository" in message
    assert message.endswith(f"To use another, set the parameter {parameter} of this notebook.")
    assert "\n" not in message


@pytest.mark.parametrize("start", CASES)
def test_check_sources_says_what_is_missing_in_one_line(outcomes, start):
    found = outcomes[1][start]
    if start == "nothing is missing":
        assert found is None
        return
    kind, message = found
    assert kind == "InputError"
    assert start in message
    assert message.endswith("To use another, set the parameter a of this notebook.")
    assert "\n" not in message


def test_check_sources_downloads_no_weights_and_no_data(outcomes):
    sent = outcomes[2]
    assert any(path.endswith("config.json") for path in sent)
    assert not any(path.endswith((".safetensors", ".bin", ".pth", ".parquet")) for path in sent)
