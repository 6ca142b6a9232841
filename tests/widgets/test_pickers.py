"""Each picker by itself: its value is read, set and observed from Python, and follows its controls."""

import json

import ipywidgets as widgets
import pandas as pd
import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.widgets.choice import Choice
from repsim_nb.widgets.picker import Frame, Picker

SMALL = "tiny-neox-w32-d2"


@pytest.fixture(params=[rs.ModelPicker, rs.LayerPicker, rs.MeasurePicker, rs.CorpusPicker])
def picker(request) -> Picker:
    return request.param()


def controls(box) -> list[widgets.Widget]:
    """All that can be operated, in the order in which they are laid out."""
    if isinstance(box, widgets.Box):
        return [control for child in box.children for control in controls(child)]
    return [] if isinstance(box, widgets.HTML | Frame) else [box]


def test_every_control_has_a_name_and_a_tooltip(picker):
    found = controls(picker)
    assert found
    for control in found:
        named = control.description or (isinstance(control, widgets.ToggleButton) and control.tooltip)
        assert named, control
        assert control.tooltip or isinstance(control, widgets.Textarea), control


def test_nothing_is_recomputed_while_something_is_typed_or_dragged(picker):
    typed = [c for c in controls(picker) if hasattr(c, "continuous_update")]
    # filtering a list by what is typed is all that may happen at every key
    assert [c.description for c in typed if c.continuous_update] in ([], ["search"])


def test_hiding_one_control_hides_no_other(picker):
    layouts = [control.layout for control in controls(picker)]
    assert len(set(map(id, layouts))) == len(layouts)


def test_it_is_displayed_as_often_as_one_likes(picker):
    first, second = picker._repr_mimebundle_(), picker._repr_mimebundle_()
    assert first == second
    assert "application/vnd.jupyter.widget-view+json" in (first[0] if isinstance(first, tuple) else first)


def test_models_are_chosen_by_name_checkpoint_hub_id_or_folder(tmp_path):
    picker, seen = rs.ModelPicker(SMALL), []
    picker.observe(lambda change: seen.append(change.new), "value")
    picker.value = "tiny-neox-w64-d4@step500"
    picker.value = "EleutherAI/pythia-70m"
    (tmp_path / "config.json").write_text("{}")
    picker.value = str(tmp_path)
    assert seen == ["tiny-neox-w64-d4@step500", "EleutherAI/pythia-70m", str(tmp_path)]
    assert picker._list.value == str(tmp_path)
    with pytest.raises(InputError, match=f"Did you mean '{SMALL}'"):
        picker.value = "tiny-neoxw32-d2"
    assert picker.value == str(tmp_path)
    with pytest.raises(InputError, match="got int"):
        picker.value = 3


def test_choosing_a_model_downloads_and_loads_nothing(monkeypatch):
    for place in ("loading.download", "loading.load_pretrained", "loading.load_native"):
        monkeypatch.setattr(f"repsim_nb.models.{place}", lambda *a, **k: pytest.fail("loaded"))
    picker = rs.ModelPicker("gelu-3l")
    assert "needed, at the first run" in picker._about.value
    picker.value = "some/model"
    assert "downloaded when run" in picker._about.value
    picker.value = SMALL
    assert "<dd>none</dd>" in picker._about.value


def test_the_catalogue_says_layers_width_loss_and_size_of_a_model():
    row = rs.list_models().loc[SMALL]
    shown = rs.ModelPicker(SMALL)._about.value
    for text in (
        f"<dd>{row.n_layers}</dd>",
        f"<dd>{row.d_model}</dd>",
        f"{row.loss:.2f} nats",
        f"{row.bytes / 1e3:.0f}",
    ):
        assert text in shown


def test_search_and_filters_narrow_the_list_and_keep_the_choice():
    picker = rs.ModelPicker(SMALL)
    models = rs.list_models()
    picker._search.value = "SOLU"
    assert picker.value == SMALL
    offered = set(picker._list.options) - {SMALL}
    assert {name.partition("@")[0] for name in offered} == {name for name in models.index if "solu" in name}
    picker._filters["source"].value = "hub"
    there = models.index[models.index.str.contains("solu") & (models.source == "hub")]
    assert {name.partition("@")[0] for name in picker._list.options} - {SMALL} == set(there)
    picker._search.value = ""
    picker._filters["source"].value = "any"
    picker._filters["kind"].value = "classifier"
    offered = [name for name in picker._list.options if name != SMALL]
    assert offered == models.index[models.kind == "classifier"].tolist()
    picker._filters["kind"].value = "any"
    picker._filters["activation"].value = "gelu"
    assert "tiny-gelu-3l-s0" in picker._list.options
    assert "tiny-solu-3l-s0" not in picker._list.options
    picker._filters["size"].value = "under 0.2 M"
    smaller = models.index[(models.n_parameters < 0.2e6).fillna(False)]
    assert {n.partition("@")[0] for n in picker._list.options} <= set(smaller)


def base(names):
    """The models of a list of models and checkpoints."""
    return [*dict.fromkeys(name.partition("@")[0] for name in names)]


def test_model_picker_lists_one_family_and_offers_the_others():
    models, picker = rs.list_models(), rs.ModelPicker(SMALL)
    assert base(picker._list.options) == models.index[models.family == "tiny-neox"].tolist()
    offered = dict(reversed(entry) for entry in picker._family.options)
    assert offered == {"any": f"all {len(models)} models"} | {
        family: f"{family} ({count})" for family, count in models.family.value_counts(sort=False).items()
    }
    picker._family.value = "tiny-bert-nli"
    assert picker.value == SMALL, "looking at a family chooses nothing"
    assert picker._list.options == [SMALL, *rs.list_models("tiny-bert-nli").index]
    picker._list.value = "tiny-bert-nli-07"
    assert (picker.value, picker._family.value) == ("tiny-bert-nli-07", "tiny-bert-nli")
    picker._search.value = "varied"
    assert base(picker._list.options)[1:] == rs.list_models("tiny-bert-nli-varied").index.tolist()
    picker._search.value = ""
    picker.value = "tiny-gelu-3l-s0"
    assert picker._family.value == "tiny-gelu"
    picker._family.value = "any"
    picker._list.value = SMALL
    assert picker._family.value == "any", "the list stays where the user is"
    assert set(base(picker._list.options)) == set(models.index)


def test_model_picker_of_several_keeps_models_of_other_families_in_the_list():
    picker = rs.ModelPicker([SMALL, "tiny-gelu-3l-s0"], multiple=True)
    assert picker._family.value == "tiny-neox"
    picker._family.value = "tiny-solu"
    assert base(picker._list.options) == [SMALL, "tiny-gelu-3l-s0", *rs.list_models("tiny-solu").index]
    outside = rs.ModelPicker("owner/name")
    assert outside._family.value == "any"
    assert outside._list.options[0] == "owner/name"


def test_what_is_typed_can_be_chosen_if_a_model_may_be_there():
    picker = rs.ModelPicker(SMALL)
    picker._search.value = "owner/some-model"
    picker._list.value = "owner/some-model"
    assert picker.value == "owner/some-model"
    picker._search.value = "no model at all"
    assert picker._list.options == ["owner/some-model"]


def test_what_is_chosen_counts_though_the_list_has_changed_meanwhile():
    model, several = rs.ModelPicker(SMALL), rs.ModelPicker(SMALL, multiple=True)
    for picker in (model, several):
        picker._search.value = "solu-3l-s1"
    seen = "tiny-solu-3l-s4"  # on the page, which has not heard of the last letter yet
    assert seen not in model._list.options
    model._list.set_state({"value": seen})
    several._list.set_state({"value": [seen, SMALL]})
    assert (model.value, set(several.value)) == (seen, {seen, SMALL})
    layers = rs.LayerPicker(6, (5,))
    layers.n_layers = 2
    layers._first.set_state({"value": 6})
    assert "Layer 6 does not exist" in layers.alert.text
    assert layers.value == (layers._first.value,) == (2,)
    corpus = rs.CorpusPicker("python-docs")
    corpus._split.set_state({"value": "none such"})
    assert "none such" in corpus.alert.text
    assert corpus.split is corpus._split.value is None


def test_models_are_known_by_what_load_model_takes():
    picker = rs.ModelPicker("pythia-70m")
    assert "<dd>6</dd>" in picker._about.value
    picker.value = "EleutherAI/pythia-70m@step3000"
    assert "<dd>6</dd>" in picker._about.value
    picker._search.value = "pythia-70m@"
    assert picker._list.options
    assert not [name for name in picker._list.options if "..." in name]


def test_a_split_has_a_corpus_and_a_missing_file_is_no_dataset():
    with pytest.raises(InputError, match="without a corpus"):
        rs.CorpusPicker(split="train")
    with pytest.raises(FileNotFoundError, match="nothing"):
        rs.CorpusPicker("data/nothing.txt")


def test_a_measure_without_an_upper_bound_says_no_value_for_the_same():
    for name, same in [("cka", True), ("hsic", False), ("cknna", False)]:
        assert ("1 = same" in rs.MeasurePicker(name)._about.value) is same


def test_several_models_are_a_tuple():
    picker = rs.ModelPicker(SMALL, multiple=True)
    assert picker.value == (SMALL,)
    picker._list.value = (SMALL, "tiny-neox-w64-d2")
    assert set(picker.value) == {SMALL, "tiny-neox-w64-d2"}
    picker.value = ["tiny-neox-w64-d4", SMALL, SMALL]
    assert picker.value == ("tiny-neox-w64-d4", SMALL)
    with pytest.raises(InputError, match="one or more"):
        picker.value = ()


def test_layers_are_all_a_range_or_one():
    picker = rs.LayerPicker(4)
    assert (picker.value, picker.positions) == ("all", (0, 1, 2, 3, 4))
    picker._which.value = "one"
    assert picker.value == (0,)
    picker._first.value = 3
    assert (picker.value, picker.depth) == ((3,), (0.75, 0.75))
    picker._which.value = "range"
    picker._first.value = 1
    picker._last.value = 2
    assert picker.value == (1, 2)
    picker._first.value = 3  # beyond the last one, which goes along
    assert picker.value == (3,)
    picker.value = [4, 0, 2]
    assert picker.value == (0, 2, 4)
    picker.value = 2
    assert picker._which.value == "one"
    picker._which.value = "all"
    assert picker.value == "all"


def test_layers_that_do_not_exist_are_refused():
    picker = rs.LayerPicker(2)
    for wrong, message in [((0, 3), "Layer 3 does not exist"), ("al", "expected"), ((), "empty"), (True, "Layer True")]:
        with pytest.raises(InputError, match=message):
            picker.value = wrong
    assert picker.value == "all"


def test_relative_depth_is_kept_when_the_model_changes():
    picker = rs.LayerPicker(4, (2,))
    picker.n_layers = 2
    assert picker.value == (1,)
    picker.depth = (0.5, 1)
    assert picker.value == (1, 2)
    with pytest.raises(InputError, match="shares of the depth"):
        picker.depth = (0.8, 0.2)


def test_layers_of_a_model_of_unknown_depth_are_neither_refused_nor_rescaled():
    picker = rs.LayerPicker(None, (6,))
    assert (picker.value, picker._first.value) == ((6,), 6)
    picker.n_layers = 8
    assert picker.value == (6,)
    picker.n_layers = None
    assert picker.value == (6,)
    with pytest.raises(InputError, match="to the last"):
        picker.value = (-1,)
    picker.n_layers = 4
    assert picker.value == (4,)  # never one that does not exist


def test_a_measure_has_its_declarations_and_its_parameters_as_controls():
    picker = rs.MeasurePicker()
    picker._parameters._by_name["debiased"].value = False
    assert picker.params == {"debiased": False}
    assert picker.measure.params["debiased"] is False
    assert "orthogonal" in picker._about.value
    assert "similarity" in picker._about.value
    picker.value = "procrustes"
    assert (picker.params, picker._parameters.children) == ({}, ())
    assert "0 = same" in picker._about.value
    picker.value = "svcca"
    picker._parameters._by_name["components"].value = "5"
    assert picker.params == {"components": 5}
    picker.params = {"variance": 0.5}
    assert picker._parameters._by_name["variance"].value == 0.5
    assert picker._parameters._by_name["components"].value == ""


def test_every_measure_of_representations_can_be_picked():
    picker = rs.MeasurePicker()
    for name in rs.list_measures().index:
        if rs.get_measure(name).__class__.__module__.endswith("functional"):
            with pytest.raises(InputError):
                picker.value = name
        else:
            picker.value = name
            assert picker.measure.name == name


def test_a_wrong_parameter_is_refused_from_python_and_shown_when_it_is_entered():
    picker = rs.MeasurePicker("svcca")
    with pytest.raises(InputError, match="Did you mean 'variance'"):
        picker.params = {"varience": 0.5}
    picker._parameters._by_name["components"].value = "many"
    assert 'role="alert"' in picker.alert.value
    assert "components must be" in picker.alert.text
    assert picker.params == {}
    picker._parameters._by_name["components"].value = "3"
    assert picker.alert.value == ""


def test_text_is_embedded_pasted_a_file_or_on_the_hub(tmp_path):
    picker = rs.CorpusPicker()
    assert picker.value is None
    picker._source.value = "nli-heuristics"
    assert picker.value == "nli-heuristics"
    picker._split.value = "ood"
    assert picker.split == "ood"
    picker._source.value = "pasted"
    picker._pasted.value = "One document.\n\nAnother\none."
    assert (picker.value, picker.split) == (("One document.", "Another\none."), None)
    assert [len(rs.load_corpus(picker.value))] == [2]
    file = tmp_path / "text.txt"
    file.write_text("Text.")
    picker._source.value = "path"
    picker._place.value = str(file)
    assert picker.value == str(file)
    picker._place.value = str(tmp_path / "nothing.txt")
    assert "No text file" in picker.alert.text
    assert picker.value == str(file)
    picker.value = "owner/dataset"
    assert picker._source.value == "hub"
    picker.value = None
    assert picker._source.value == "own"


def test_the_text_that_is_shown_is_the_text_that_is_used(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("Text.")
    picker = rs.CorpusPicker()
    for source, field, typed, value in [
        ("pasted", picker._pasted, "One.\n\nTwo.", ("One.", "Two.")),
        ("path", picker._place, str(file), str(file)),
        ("hub", picker._place, "owner/dataset", "owner/dataset"),
    ]:
        picker._source.value = source
        field.value = typed
        assert picker.value == value
        picker._source.value = "own"
        assert picker.value is None
        picker._source.value = source
        assert (field.value, picker.value) == (typed, value)
    picker._source.value = "path"
    assert picker._place.value == ""  # a dataset is no path


def test_a_source_stays_chosen_while_its_field_is_empty():
    picker = rs.CorpusPicker()
    picker._source.value = "pasted"
    picker._n_rows.value = 70
    assert picker._source.value == "pasted"
    assert picker._pasted.layout.display == ""


def test_wrong_texts_rows_and_seeds_are_refused():
    picker = rs.CorpusPicker()
    with pytest.raises(InputError, match="Did you mean 'python-docs'"):
        picker.value = "python-doc"
    with pytest.raises(InputError, match="none of them empty"):
        picker.value = ["a", " "]
    picker.value = "python-docs"
    with pytest.raises(InputError, match="Did you mean 'train'"):
        picker.split = "trian"
    with pytest.raises(InputError, match="Did you mean 'tokens'"):
        picker.rows = "token"
    for wrong in (1, "9", True):
        with pytest.raises(InputError, match="n_rows"):
            picker.n_rows = wrong
    with pytest.raises(InputError, match="seed=-1"):
        picker.seed = -1


def test_rows_and_seed_follow_their_controls():
    picker = rs.CorpusPicker(n_rows=50, seed=3)
    picker._n_rows.value, picker._seed.value, picker._rows.value = 70, 4, "mean"
    assert (picker.n_rows, picker.seed, picker.rows) == (70, 4, "mean")
    json.dumps([picker.n_rows, picker.seed])


@pytest.mark.parametrize(
    ("make", "name", "value", "says"),
    [
        (rs.ModelPicker, "values", SMALL, "Unknown attribute of ModelPicker 'values'. Did you mean 'value'"),
        (rs.ModelPicker, "multiple", True, "is read-only. What can be set: value."),
        (rs.ModelPicker, "names", (SMALL,), "is read-only"),
        (rs.ModelPicker, "heading", "A", "is read-only"),
        (rs.ModelPicker, "title", "A", "Unknown attribute"),
        (rs.LayerPicker, "positions", (1,), "is read-only. What can be set: depth, n_layers, value."),
        (rs.LayerPicker, "n_layers", "four", "n_layers"),
        (rs.LayerPicker, "n_layers", -1, "n_layers"),
        (rs.LayerPicker, "layers", [1], "Did you mean 'n_layers'"),
        (rs.LayerPicker, "depth", (2, 3), "expected two shares"),
        (rs.LayerPicker, "depth", "all", "expected two shares"),
        (rs.LayerPicker, "depth", 0.5, "expected two shares"),
        (rs.MeasurePicker, "measure", "cka", "is read-only. What can be set: params, value."),
        (rs.MeasurePicker, "param", {}, "Did you mean 'params'"),
        (rs.MeasurePicker, "params", ["debiased"], "params"),
        (rs.MeasurePicker, "value", ["cka"], "Unknown measure"),
        (rs.CorpusPicker, "split", 3, "split"),
        (rs.CorpusPicker, "row", "mean", "Did you mean 'rows'"),
        (rs.CorpusPicker, "n_row", 5, "Did you mean 'n_rows'"),
        (rs.CorpusPicker, "value", {"document": "text"}, "one or more strings"),
        (rs.CorpusPicker, "value", pd.DataFrame({"text": ["a"]}), "one or more strings"),
    ],
)
def test_pickers_take_no_assignment_without_an_effect(make, name, value, says):
    picker = make()
    before = picker.value
    with pytest.raises(InputError) as raised:
        setattr(picker, name, value)
    assert says in str(raised.value)
    assert picker.value == before


def test_pickers_can_be_extended():
    class Mine(rs.LayerPicker):
        def __init__(self):
            super().__init__(4)
            self.mine = 1

    picker = Mine()
    picker.value = 2
    with pytest.raises(InputError, match="is read-only"):
        picker.mine = 2
    assert (picker.mine, picker.value) == (1, (2,))


@pytest.mark.parametrize("value", [None, "tiny-bert-nli-03", "tiny-neox-w64-d4@step50"])
@pytest.mark.parametrize("multiple", [False, True])
def test_model_picker_opens_its_lists_with_all_that_they_show(monkeypatch, value, multiple):
    """A server that drops messages, as Jupyter's does when many come at once, keeps those that open a widget."""
    opened = []
    opens = Choice.open
    monkeypatch.setattr(Choice, "open", lambda self: (opened.append((self, self.get_state())), opens(self)))
    rs.ModelPicker(value, multiple=multiple)
    assert len(opened) == 2
    for control, state in opened:
        assert state["options"]
        for key in ("options", "value"):
            assert state[key] == control.get_state()[key]


def test_choice_is_told_again_what_to_show_when_it_is_drawn(monkeypatch):
    """Updates that a busy server dropped are made up for."""
    picker = rs.LayerPicker(4)
    sent = []
    monkeypatch.setattr(picker._last, "_send", lambda message, buffers=None: sent.append(message["state"]))
    picker._last._handle_custom_msg({"drawn": True}, [])
    assert [len(state["options"]) for state in sent] == [5]
    assert sent[0]["value"] == picker._last.value == 4
