"""In the app, paths stay inside the folder that it was started with."""

import os
import shutil

import matplotlib.pyplot as plt
import pytest

import repsim_nb as rs
from repsim_nb.app import FOLDER, explorer
from repsim_nb.errors import InputError
from repsim_nb.models.catalogue import checkpoint
from repsim_nb.widgets import bounds

TEXT = "\n\n".join(f"Document {i} says: import module_{i} as m{i}; the value of x is {i * 7}." for i in range(12))
B = "tiny-neox-w64-d2"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The app's folder, with models, texts and links, beside a folder that is none of its business."""
    for place in ("root", "outside"):
        (tmp_path / place / "texts").mkdir(parents=True)
        (tmp_path / place / "texts" / "notes.txt").write_text(TEXT)
        shutil.copytree(checkpoint("tiny-neox-w32-d2", None), tmp_path / place / "model")
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "link.txt").symlink_to(outside / "texts" / "notes.txt")
    (root / "inner.txt").symlink_to(root / "texts" / "notes.txt")
    (root / "linked").symlink_to(outside)
    (root / "holds").mkdir()
    (root / "holds" / "link.txt").symlink_to(outside / "texts" / "notes.txt")
    (root / "circle").symlink_to(root / "circle")
    (tmp_path / "rooted").mkdir()  # begins as the folder's name does
    monkeypatch.setattr(bounds, "_limits", [])
    monkeypatch.setenv("HOME", str(outside))
    monkeypatch.setenv(FOLDER, str(root))
    monkeypatch.chdir(root)
    yield root
    plt.close("all")


OUTSIDE = ["{top}/outside", "{top}/outside/{}", "../outside/{}", "./../outside/{}", "x/../../outside/{}", "linked/{}"]
OUTSIDE += [
    "~/{}",
    "~",
    "..",
    "../rooted",
    "{top}/rooted",
    "/",
    "holds/..//../outside/{}",
    "/nowhere/at/all",
    "~nobody/x",
]


@pytest.mark.parametrize("outside", OUTSIDE)
def test_pickers_of_the_app_refuse_what_is_outside_its_folder(root, outside):
    asked = explorer()
    text, model = (outside.format(what, top=root.parent) for what in ("texts/notes.txt", "model"))
    for picker, path in ((asked.corpus, text), (asked.model_a, model), (asked.models_b, model)):
        before = picker.value
        with pytest.raises(InputError, match="leads out of the folder of this app"):
            picker.value = path
        assert picker.value == before


def test_pickers_of_the_app_refuse_links_that_lead_out(root):
    asked = explorer()
    for path in ("link.txt", root / "link.txt", "holds", ".", "holds/link.txt"):
        with pytest.raises(InputError, match="leads out"):
            asked.corpus.value = str(path)


def test_pickers_of_the_app_take_what_is_inside_its_folder(root):
    asked = explorer()
    for path in ("texts", "texts/notes.txt", "inner.txt", "model/../texts", str(root / "texts")):
        asked.corpus.value = path
        assert asked.corpus.value.startswith(str(root / "texts"))
    asked.model_a.value = "model"
    assert asked.model_a.value == str(root / "model")
    asked.model_a.value = "EleutherAI/pythia-70m"
    asked.corpus.value = "owner/dataset"
    asked.corpus.value = "python-docs"
    asked.corpus.value = ("a text",)


def test_search_for_a_model_of_the_app_does_not_tell_what_is_outside(root):
    picker = explorer().model_a
    for typed in (f"{root.parent}/outside/model", f"{root.parent}/outside/nothing"):
        picker._search.value = typed
        assert typed not in picker._list.options
        assert (
            picker.alert.text
            == f"'{typed}' leads out of the folder of this app. Give a path inside it, such as 'mine'."
        )
    picker._search.value = "model"
    assert (picker._list.options[0], picker.alert.text) == (picker.value, "")


def test_explorer_of_the_app_reads_and_writes_inside_its_folder_alone(root):
    asked = explorer()
    asked.model_a.value, asked.models_b.value, asked.corpus.value = "model", [B], "texts"
    asked.corpus.n_rows = 60
    asked.run()
    assert {file.parent for file in asked.export()} == {root / "results"}
    assert {file.parent for file in asked.export("mine")} == {root / "mine"}
    assert asked.save_html("mine/map.html") == root / "mine" / "map.html"
    before = {*root.parent.rglob("*")}
    for folder in ("..", "../outside", root.parent / "new", "~", "linked", "linked/new", "holds", "/tmp"):
        with pytest.raises(InputError, match="leads out"):
            asked.export(folder)
    for file in ("../map.html", root.parent / "map.html", "linked/map.html"):
        with pytest.raises(InputError, match="leads out"):
            asked.save_html(file)
    asked._take_away.folder.value = "../new"
    for button in (asked._take_away.export, asked._take_away.page):
        button.click()
        assert "leads out" in asked.error
    assert {*root.parent.rglob("*")} == before


def test_explorer_of_the_app_looks_again_when_it_reads(root):
    asked = explorer()
    asked.corpus.value = "texts"
    shutil.rmtree(root / "texts")
    (root / "texts").symlink_to(root.parent / "outside" / "texts")
    with pytest.raises(InputError, match="leads out"):
        asked.run()
    asked = explorer()
    asked.model_a.value = "model"
    (root / "model" / "config.json").unlink()
    (root / "model" / "config.json").symlink_to(root.parent / "outside" / "model" / "config.json")
    with pytest.raises(InputError, match="leads out"):
        asked.run()


def test_saved_state_does_not_lead_out_of_the_folder_of_the_app(root, monkeypatch):
    outside = str(root.parent / "outside")
    states = [rs.Explorer(f"{outside}/model", B).state, rs.Explorer(B, corpus=f"{outside}/texts").state]
    asked = explorer()
    before = asked.question
    for state in states:
        with pytest.raises(InputError, match="leads out"):
            asked.state = state
        assert asked.question == before


@pytest.mark.parametrize("unset", [True, False])
def test_explorer_of_an_app_without_a_folder_reads_and_writes_no_files(root, monkeypatch, unset):
    monkeypatch.delenv(FOLDER) if unset else monkeypatch.setenv(FOLDER, "")
    asked = explorer()
    assert not os.listdir()
    for path in (str(root / "texts"), ".", "../x", "~", "/etc/passwd"):
        with pytest.raises(InputError, match=r"started without a folder.*--folder"):
            asked.corpus.value = path
    with pytest.raises(InputError, match="started without a folder"):
        asked.model_a.value = str(root / "model")
    with pytest.raises(InputError, match="Unknown corpus"):
        asked.corpus.value = "texts"
    asked.corpus.value = tuple(TEXT.split("\n\n"))
    asked.corpus.n_rows = 60
    asked.run()
    for folder in (None, "mine", str(root)):
        with pytest.raises(InputError, match="started without a folder"):
            asked.export(folder)
    assert not os.listdir()


def test_explorer_outside_the_app_has_no_limits(root):
    picker = rs.CorpusPicker(str(root.parent / "outside" / "texts"))
    assert picker.value == str(root.parent / "outside" / "texts")
    assert rs.ModelPicker("~/model").value == "~/model"
