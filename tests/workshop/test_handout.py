"""The printout: a section for each heading, lines to write on, and nothing that has to be fetched."""

import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from repsim_nb.workshop import handout
from repsim_nb.workshop.__main__ import main
from repsim_nb.workshop.solutions import PLACEHOLDER, workshop_notebooks

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Parts(HTMLParser):
    """Everything that a browser would fetch, and the addresses of links."""

    def __init__(self, text):
        super().__init__()
        self.parts, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.parts += [value for name, value in attributes if name in ("src", "href", "srcset", "data") and value]


def executed(name):
    """A notebook as a run leaves it: figures, progress, and feedback on answers that are not there."""
    notebook = nbformat.read(workshop_notebooks()[name], as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                nbformat.v4.new_output("stream", name="stderr", text="extracting: 20%"),
                nbformat.v4.new_output("display_data", {"image/png": PIXEL}),
            ]
            if PLACEHOLDER.search(cell.source):
                told = {"text/plain": "Not yet. Put your answer in place of the dots."}
                cell.outputs.append(nbformat.v4.new_output("execute_result", told, execution_count=1))
    return notebook


@pytest.mark.parametrize("name", workshop_notebooks())
def test_a_page_asks_for_nothing_and_has_a_section_for_each_heading(name):
    notebook = executed(name)
    text = handout.page(notebook)
    found = Parts(text)
    assert [part for part in found.parts if not part.startswith(("data:image/png;base64,", "#"))] == []
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert not re.findall(r"url\(|@import", text)
    headed = [c for c in notebook.cells if c.cell_type == "markdown" and c.source.startswith("#")]
    assert found.tags.count("section") == len(headed) - 1  # that about parameters is not for reading
    exercises = [c for c in notebook.cells if c.cell_type == "code" and PLACEHOLDER.search(c.source)]
    assert text.count('<div class="answer">') == len(exercises) > 0
    assert found.tags.count("img") > 0
    assert "extracting" not in text
    assert "Not yet" not in text
    assert not re.findall(r"(In|Out)\W*\[", text)
    assert "break-after: page" in text


def test_the_command_writes_solutions_and_names_what_is_wrong(tmp_path, capsys):
    assert main(["solutions", "--out", str(tmp_path / "s")]) == 0
    written = capsys.readouterr().out.split()
    assert len(written) == len(workshop_notebooks())
    assert not [path for path in written if PLACEHOLDER.search(Path(path).read_text(encoding="utf-8"))]
    assert main(["challenge", str(tmp_path / "s")]) == 2
    assert "something other than a challenge" in capsys.readouterr().err
