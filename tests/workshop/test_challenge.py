"""The folder of anonymous models: the same representations, nothing that gives a model away, and a way to find it."""

import hashlib
import json

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.system.shipped import data_dir
from repsim_nb.workshop import challenge, check, make_challenge
from repsim_nb.workshop.challenge import NAMES

SEED = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_challenge(tmp_path_factory.mktemp("challenge") / "here", SEED)


@pytest.fixture(scope="module")
def drawn():
    """The models, the one that generalizes first, and the references, as the seed draws them."""
    return challenge._draw(np.random.default_rng([SEED, 24]))


def of_all(folder):
    return sorted(path.parent for path in folder.rglob("model.safetensors"))


def test_every_kind_is_there_and_the_accuracies_of_the_two_are_far_apart(folder, drawn):
    (good, *cheats), references = drawn
    accuracy = challenge.generalization()
    assert accuracy[[good, *references["generalizes"]]].min() > 2 * accuracy[[*cheats, *references["cheats"]]].max()
    assert len({good, *cheats, *references["generalizes"], *references["cheats"]}) == 13
    assert sum("varied" in name for name in cheats) == 3, "an unusual recipe gives nothing away"
    labelled = [f"{kind}-{i}" for kind in ("cheats", "generalizes") for i in (1, 2, 3)]
    assert sorted(path.name for path in of_all(folder)) == sorted([*NAMES, *labelled])


def test_representations_are_those_of_the_models_and_weights_are_not(folder, drawn):
    """Each anonymous model is one of those drawn, in another order of its features."""
    batch, found = None, {}
    originals = {name: rs.load_model(name) for name in drawn[0][:2]}
    anonymous = {name: rs.load_model(folder / name) for name in NAMES}
    for name, model in originals.items():
        batch = batch or model.batch(rs.load_corpus("nli-heuristics", "ood").texts[:8])
        states = model.run(model.embed(batch), 0, model.n_layers, batch)
        for tree, other in anonymous.items():
            assert other.kind == "encoder"
            its = other.run(other.embed(batch), 0, other.n_layers, batch)
            gap = (states.sort(dim=-1).values - its.sort(dim=-1).values).abs().max().item()
            if gap < 1e-4:
                found[tree] = name
                assert (states - its).abs().max() > 0.1, "the features are in another order"
    assert sorted(found.values()) == sorted(originals)
    right = next(tree for tree, name in found.items() if name == drawn[0][0])
    assert [tree for tree in NAMES if check("5.1", tree, folder)] == [right]


def test_files_give_nothing_away(folder):
    weights = [(path / "model.safetensors").read_bytes() for path in of_all(folder)]
    shipped = {hashlib.sha256(path.read_bytes()).digest() for path in data_dir().glob("tiny-bert*/model.safetensors")}
    assert not {hashlib.sha256(data).digest() for data in weights} & shipped
    assert len({len(data) for data in weights}) == 1
    assert len(set(weights)) == len(weights)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert len({(path / name).read_bytes() for path in of_all(folder)}) == 1
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert not [word for word in (b"tiny-bert", b"recipe", b"accurac", b"varied", b"classifier") if word in everything]
    key = json.loads((folder / "key.json").read_text())
    assert set(key) == {"salt", "sha256"}
    assert not [name for name in NAMES if name in json.dumps(key)]


def test_a_seed_is_a_folder(folder, tmp_path, drawn):
    again = make_challenge(tmp_path / "again", SEED)
    assert (again / "key.json").read_bytes() == (folder / "key.json").read_bytes()
    assert (again / "hazel" / "model.safetensors").read_bytes() == (folder / "hazel" / "model.safetensors").read_bytes()
    other = make_challenge(tmp_path / "again", SEED + 1)
    assert (other / "key.json").read_bytes() != (folder / "key.json").read_bytes()
    seeds = [challenge._draw(np.random.default_rng([seed, 24]))[0][0] for seed in range(12)]
    assert len(set(seeds)) > 1, "not always the same model"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="something other than a challenge"):
        make_challenge(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
    with pytest.raises(InputError, match=r"has no key\.json"):
        check("5.1", "hazel", tmp_path)
