"""The workshop: right answers are right, wrong ones are not, and each notebook runs with and without answers."""

import re
from functools import lru_cache

import nbformat
import pytest

from repsim_nb import workshop
from repsim_nb.errors import InputError
from repsim_nb.runs import RUN_DIR
from repsim_nb.runs.exercises import UNANSWERED, Feedback
from repsim_nb.runs.notebooks import notebooks
from repsim_nb.system.shipped import checkout
from repsim_nb.workshop.solutions import PLACEHOLDER, workshop_notebooks
from tests.support.notebook_cells import run_cell, run_cells

NOTEBOOKS = workshop_notebooks()
KEYS = workshop.list_exercises().index.tolist()
# Exercise -> wrong answers, as a learner might type them in the notebook.
WRONG = {
    "1.1": ("model_b.n_layers", "model_b.n_layers + 2", "'five'"),
    "1.2": ("[0, 1]", "np.flatnonzero(token == count.argmax())[:3]", "[0, len(a.rows)]", "'the'", "[5, 5]", "[0.5, 1]"),
    "1.3": ("x", "x[:, ::-1]", "-x", "x[:10]", "np.zeros_like(x)"),
    "1.4": ("x", "x[::-1]", "x ** 3", "x + 0 * 1j"),
    "2.1": ("64", "100", "320", "3", "'many'", "10**9"),
    "2.2": ("[0, 1]", "range(300)", "planted[:2]", "[-1]", "planted > 0", "'first'"),
    "2.3": ("'cka'", "'procrustes'", "'mutual_knn'", "'ccca'", "3"),
    "2.4": ("few.size - (few.p_value <= 0.05).sum().item()", "-1", "0.05", "few.size + 1"),
    "2.5": ("'cka'", "'mutual_knn'", "'rsa'", "'procrustes'", "2"),
    "3.1": ("itself.loss", "1", "'nothing'", "float('nan')"),
    "3.2": ("'identity'", "'orthogonal'", "'gradient'", "0"),
    "3.3": ("joined.penalty", "2 ** joined.penalty", "10 ** joined.penalty", "-1", "'e'"),
    "3.4": ("joined.penalty", "joined.penalty / (joined.mean_losses.mean - joined.receiver_loss)", "1", "78", "'all'"),
    "3.5": ("by_layer.trained.idxmax()", "0", "'last'"),
    "4.1": (
        "('the guard admired the baker', 'the guard admired the baker')",
        "('the guard admired the baker', 'the pilot admired the guard')",
        "('the king admired the queen', 'the queen admired the king')",
        "('the guard and the baker danced', 'the guard danced')",
        "'the guard'",
        "('the guard', 3)",
    ),
    "4.2": ("by_case.std().idxmin()", "by_case.mean().idxmax()", "'test'", "1"),
    "4.3": ("by_layer.p_value.idxmax()", "0", "2.5"),
    "4.4": ("joint.p_value.min()", "1.5", "joint.p_value", "'yes'"),
    "5.1": ("kinds.generalizes.idxmax()", "distances.filter(like='generalizes').mean(axis=1).idxmax()", "'oak'", "7"),
    "1.5": ("first_map.sel(layer_a=3).idxmin().item()", "len(first_map) + 9", "'layer 3'"),
}


def key_of(cell):
    found = PLACEHOLDER.search(cell.source)
    return f"{found[1]}.{found[2]}" if found else None


def cells_of_answers():
    """Exercise -> its notebook and the cell that asks for the answer."""
    found = {}
    for name, path in NOTEBOOKS.items():
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and key_of(cell):
                assert key_of(cell) not in found
                found[key_of(cell)] = (name, cell)
    return found


CELLS = cells_of_answers()


@pytest.fixture(scope="module", autouse=True)
def results(tmp_path_factory):
    """Where notebooks write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUN_DIR, str(tmp_path_factory.mktemp("results")))
        yield


@lru_cache
def solved(name):
    """What is left of a run with the solutions filled in: its names, and what its cells showed."""
    return run_cells(workshop.solved(name), preset="quick")


def test_every_exercise_is_asked_in_the_notebook_of_its_part_and_has_a_solution():
    assert list(CELLS) == KEYS
    for key, (name, cell) in CELLS.items():
        assert name.startswith(f"{key[0]}_")
        assert cell.id == f"answer-{key.replace('.', '-')}"
        assert f'check("{key}", answer_{key.replace(".", "_")}' in cell.source
        assert workshop.solution(key).splitlines()[-1].startswith(f"answer_{key.replace('.', '_')} = ")
    assert workshop.list_exercises().groupby("part").size().min() >= 1


@pytest.mark.parametrize("key", KEYS)
def test_the_solution_is_right_and_three_wrong_answers_are_not(key):
    name, cell = CELLS[key]
    names, shown = solved(name)
    assert isinstance(shown[cell.id], Feedback)
    assert shown[cell.id], shown[cell.id]
    assert len(WRONG[key]) >= 3
    for answer in WRONG[key]:
        told = run_cell(
            PLACEHOLDER.sub(lambda found, a=answer: f"{found[0].split('...')[0]}{a}", cell.source), {**names}
        )
        assert isinstance(told, Feedback)
        assert not told, f"{answer} passes for {key}: {told}"
        assert told is not UNANSWERED


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_from_top_to_bottom_without_an_answer(name):
    _, shown = run_cells(nbformat.read(NOTEBOOKS[name], as_version=4), preset="quick")
    asked = [cell.id for of, cell in CELLS.values() if of == name]
    assert asked
    assert {shown[cell] for cell in asked} == {UNANSWERED}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_without_outputs_and_answers(name):
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert [cell.id for cell in code if "parameters" in cell.metadata.get("tags", [])] == ["parameters"]
    for cell in code:
        assert not [line for line in cell.source.splitlines() if line.startswith("def ")]
    solutions = [workshop.solution(key).splitlines()[-1] for key, (of, _) in CELLS.items() if of == name]
    assert not [line for line in solutions if any(line in cell.source for cell in code)]


def test_make_figures_does_not_run_the_workshop_and_make_strip_and_check_see_it():
    assert len(NOTEBOOKS) == 5
    assert not {*NOTEBOOKS} & {book.name for book in notebooks()}
    stripped = re.search(r"^NOTEBOOKS := \$\(wildcard (.*)\)$", (checkout() / "Makefile").read_text(), re.MULTILINE)[1]
    found = {path for pattern in stripped.split() for path in checkout().glob(pattern)}
    assert {*NOTEBOOKS.values()} <= found


@pytest.mark.parametrize("key", KEYS)
def test_hints_grow_and_only_the_last_says_the_most(key):
    hints = workshop._EXERCISES[key].hints
    assert len(hints) == workshop.list_exercises().hints[key] >= 3
    assert len(set(hints)) == len(hints)
    assert str(workshop.hint(key)).startswith(f"Hint 1 of {len(hints)}: {hints[0]}")
    assert f'hint("{key}", 2)' in workshop.hint(key)
    assert "Still stuck" not in workshop.hint(key, len(hints))
    assert repr(workshop.hint(key)) == str(workshop.hint(key)), "shown without quotation marks"
    for level in (0, len(hints) + 1, True, "2"):
        with pytest.raises(InputError, match=f"hints 1 to {len(hints)}"):
            workshop.hint(key, level)


def test_unknown_exercises_and_notebooks_are_named():
    for call in (workshop.hint, workshop.solution, lambda key: workshop.check(key, 1)):
        with pytest.raises(InputError, match=r"Unknown exercise '9\.9'"):
            call("9.9")
    with pytest.raises(InputError, match="Unknown notebook of the workshop"):
        workshop.solved("9_nothing")
