"""A parameter that does not fit is refused before anything runs, with a message that says what would fit."""

import json

import numpy as np
import pytest

from repsim_nb.errors import InputError
from repsim_nb.runs.notebook_parameters import check, read_parameters
from repsim_nb.runs.notebooks import list_notebooks, notebooks, read_notebook
from tests.support.notebook_files import PARAMETERS, write


def declared(source=PARAMETERS):
    cell = {"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"]}}
    return read_parameters([cell], "nb")


def one(line):
    return declared(line)[0]


def test_a_parameters_cell_is_read_as_written():
    found = {p.name: (p.annotation, p.default, p.help, p.choices) for p in declared()}
    assert found == {
        "preset": ("str", "default", "quick | default | paper", ("quick", "default", "paper")),
        "n_rows": ("int | None", None, "rows compared", ()),
        "measures": ("list[str]", ["cka", "procrustes"], "names", ()),
        "rate": ("float", 0.5, "", ()),
        "shuffle": ("bool", False, 'a # in a comment, and "quotes"', ()),
    }


def test_a_string_default_may_hold_a_hash_and_a_list_may_span_lines():
    found = declared(
        'colour: str = "#fff"  # of the line\nlayers: list[int] = [\n    1,\n    2,\n]  # which\nlog = 3\n'
    )
    assert [(p.default, p.help, p.annotation) for p in found] == [
        ("#fff", "of the line", "str"),
        ([1, 2], "which", "list[int]"),
        (3, "", "int"),
    ]


@pytest.mark.parametrize(
    ("line", "text", "value"),
    [
        ("x: int = 1", "3", 3),
        ("x: float = 1.0", "1e-3", 1e-3),
        ("x: float = 1.0", "3", 3.0),
        ("x: bool = True", "false", False),
        ("x: str = ''", "3", "3"),
        ("x: list[int] = []", "1,2", [1, 2]),
        ("x: list[int] = []", "[1, 2]", [1, 2]),
        ("x: list[str] = []", "cka, rsa", ["cka", "rsa"]),
        ("x: list[str] = []", '["a,b"]', ["a,b"]),
        ("x: int | None = None", "none", None),
        ("x: int | None = None", "7", 7),
        ("x: Optional[int] = None", "7", 7),
        ("x: list[int] | str = 'all'", "0,3", [0, 3]),
        ("x: list[int] | str = 'all'", "all", "all"),
        ("x: str | None = None  # a | b", "a", "a"),
        ("x: Literal['a', 3] = 'a'", "3", 3),
        ("x = 2", "5", 5),
        ("x = None", "5", 5),
        ("x: dict = {}", '{"a": 1}', {"a": 1}),
        ("x: list[str] | None = None", "None", None),
        ("x: list[str] | None = None", "null", None),
        ("x: None | list[str] = None", " none ", None),
        ("x: Optional[list[str]] = None", "None", None),
        ("x: Union[list[str], None] = None", "None", None),
        ("x: 'list[str] | None' = None", "None", None),
        ("x: list[str] | None = None", "a", ["a"]),
        ("x: list[str] | None = None", '["None"]', ["None"]),
        ("x: list[str] = []", "None", ["None"]),
        ("x: list[str | None] = []", "a,None", ["a", None]),
        ("x: list[str] | str = 'all'", "all", "all"),
        ("x: list[str] | str = 'all'", "a,b", ["a", "b"]),
        ("x: list[int] | None = None", "None", None),
        ("x: list[int] | None = None", "-1,-2", [-1, -2]),
        ("x: int | None = None", "None", None),
        ("x: int | None = None", "-3", -3),
        ("x: float | None = None", "None", None),
        ("x: float | None = None", "-1e-3", -1e-3),
        ("x: float = 0.0", "-.5", -0.5),
        ("x: float = 0.0", "-inf", float("-inf")),
        ("x: str | None = None", "None", None),
        ("x: str = ''", "None", "None"),
        ("x: bool | None = None", "None", None),
        ("x: dict | None = None", "None", None),
        ("x: Literal['a', None] = None", "None", None),
        ("x = None", "None", None),
        ("x = None", "True", True),
        ("x: str = 'a b'  # words or | more words", "any", "any"),
    ],
)
def test_text_from_the_command_line_becomes_the_declared_type(line, text, value):
    parsed = one(line).parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("x: int = 1", "3.5"),
        ("x: int = 1", "true"),
        ("x: int = 1", "None"),
        ("x: bool = True", "None"),
        ("x: list[int] = []", "None"),
        ("x: int | None = None", "-1e3"),
        ("x: float = 1.0", "many"),
        ("x: bool = True", "1"),
        ("x: bool = True", "yes"),
        ("x: list[int] = []", "1,two"),
        ("x: list[int] = []", "[1, 2.5]"),
        ("x: list[str] = []", "[1"),
        ("x: int | None = None", "many"),
        ("x: Literal['a'] = 'a'", "b"),
        ("x: dict = {}", "[1]"),
        ("x = 2", "five"),
    ],
)
def test_text_of_another_type_is_refused_with_both_types_named(line, text):
    parameter = one(line)
    with pytest.raises(InputError) as error:
        parameter.parse(text)
    assert parameter.annotation in str(error.value)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_rows", "64"),
        ("n_rows", 64.0),
        ("n_rows", True),
        ("rate", "0.5"),
        ("rate", None),
        ("shuffle", 1),
        ("measures", "cka"),
        ("measures", ["cka", 3]),
        ("preset", 3),
    ],
)
def test_a_python_value_of_another_type_is_refused(name, value):
    with pytest.raises(InputError, match=rf"'{name}' expects .*, received .*{type(value).__name__}"):
        check(declared(), {name: value}, "nb")


def test_numpy_numbers_and_tuples_become_plain_python():
    values = check(declared(), {"n_rows": np.int64(5), "rate": np.float32(0.5), "measures": ("cka",)}, "nb")
    assert json.dumps(values) == '{"n_rows": 5, "measures": ["cka"], "rate": 0.5}'


def test_a_choice_that_does_not_exist_names_the_nearest_one():
    with pytest.raises(InputError, match=r"'preset'.*'quik'.*Did you mean 'quick'"):
        check(declared(), {"preset": "quik"}, "nb")
    with pytest.raises(InputError, match="default, paper, quick"):
        check(declared(), {"preset": "xxxx"}, "nb")


def test_choices_hold_for_every_item_of_a_list_and_may_be_explained():
    parameter = one('x: list[str] = ["a"]  # a | b: which sides')
    assert parameter.parse("a,b") == ["a", "b"]
    with pytest.raises(InputError, match="'c'"):
        parameter.parse("a,c")


def test_a_misspelt_name_names_the_nearest_one():
    with pytest.raises(InputError, match=r"'n_row'.*Did you mean 'n_rows'.*'nb'"):
        check(declared(), {"n_row": 3}, "nb")
    with pytest.raises(InputError, match="no parameters"):
        check((), {"n_row": 3}, "nb")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("%matplotlib inline", "not plain Python .line 1"),
        ("x: int = len('abc')", "plain value"),
        ("x: int = 'abc'", "'nb' does not fit"),
        ("x: str = 'c'  # a | b", "'nb' does not fit"),
    ],
)
def test_a_parameters_cell_that_cannot_be_read_says_why(source, message):
    with pytest.raises(InputError, match=message):
        declared(source)


def test_papermill_sees_the_same_defaults_where_it_sees_them(tmp_path):
    import papermill

    path = write(tmp_path, "nb")
    notebook = json.loads(path.read_text())
    notebook["metadata"]["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    path.write_text(json.dumps(notebook))
    theirs = papermill.inspect_notebook(path)
    ours = {p.name: p for p in read_notebook(path).parameters}
    assert "n_rows" not in theirs, "papermill reads `int | None` now: its inspection may do"
    assert set(theirs) == set(ours) - {"n_rows"}
    assert theirs["preset"]["help"] == ours["preset"].help


def test_a_notebook_describes_itself(tmp_path):
    found = read_notebook(write(tmp_path, "nb"))
    assert (found.name, found.title, found.n_cells) == ("nb", "The title of nb", 3)
    assert found.claim == "Rows agree (Brown et al. 2023)."


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"cells": [1]}', "\udc80"])
def test_a_file_that_is_no_notebook_is_refused(tmp_path, content):
    path = tmp_path / "nb.ipynb"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"nb\.ipynb is not a notebook"):
        read_notebook(path)


def test_the_notebooks_of_the_package_are_listed_by_glob(tmp_path, monkeypatch):
    write(tmp_path, "02_b")
    write(tmp_path, "01_a", parameters="k: int = 3")
    monkeypatch.setattr("repsim_nb.runs.notebooks.notebooks_dir", lambda: tmp_path)
    table = list_notebooks()
    assert list(table.index) == ["01_a", "02_b"]
    assert table.index.name == "name"
    assert list(table.columns) == ["title", "claim", "parameters", "path"]
    assert table.loc["01_a", "parameters"] == "k"


def test_every_shipped_notebook_can_be_listed_and_has_a_preset():
    for notebook in notebooks():
        preset = {p.name: p for p in notebook.parameters}["preset"]
        assert preset.choices in (("quick", "default", "paper"), ("quick", "default", "real", "paper"))
        assert preset.default == "default"


@pytest.mark.parametrize("value", [{1: "a"}, {"a": object()}, [{"b": {1, 2}}], {"a": b"bytes"}])
def test_a_value_that_a_notebook_cannot_be_given_is_refused(value):
    line = "x: list = []" if isinstance(value, list) else "x: dict = {}"
    for declared in (line, "x = None"):
        with pytest.raises(InputError, match="'x' expects"):
            one(declared).check(value)


def test_plain_values_of_any_depth_are_passed_on():
    value = {"a": [1, 2.5, None, True, "text"], "b": {"c": (np.float64(3), np.int64(4))}}
    assert one("x: dict = {}").check(value) == {"a": [1, 2.5, None, True, "text"], "b": {"c": [3.0, 4]}}
