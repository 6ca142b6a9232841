"""The built manual: complete, without a broken link, and it asks for nothing when it is read from disk."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

import repsim_nb as rs
from docs.pages import SITE, TOP, api, command_line, findings
from repsim_nb.runs.notebooks import notebooks
from tests.browser import chromium

pytestmark = pytest.mark.slow
EXECUTED = "07_embedding_models"  # of which the tests plant a copy with a result


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder as `make figures` leaves it, of one notebook."""
    import nbformat

    book = next(book for book in notebooks() if book.name == EXECUTED)
    notebook = nbformat.read(book.path, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "Explorer()"}
    cell.outputs = [
        nbformat.v4.new_output("stream", text="what this run printed"),
        nbformat.v4.new_output("display_data", data=view),
    ]
    folder = tmp_path_factory.mktemp("results") / EXECUTED
    folder.mkdir()
    nbformat.write(notebook, folder / f"{EXECUTED}.ipynb")
    record = {"notebook": EXECUTED, "notebook_sha256": book.sha256, "parameters": {"preset": "quick"}}
    (folder / "run.json").write_text(json.dumps(record))
    return folder.parent


@pytest.fixture(scope="module")
def site(results, tmp_path_factory):
    """The manual, built once; warnings are errors."""
    out = tmp_path_factory.mktemp("manual")
    command = [sys.executable, "-m", "docs", "--out", out, "--results", results]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"The manual: {out / 'html' / 'index.html'}" in done.stdout
    return out / "html"


class Page(HTMLParser):
    """The ids and the addresses of a page."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.parts = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag in ("img", "script", "iframe") and given.get("src"):
            self.parts.append(given["src"])
        elif tag == "link" and given.get("href", "#") != "#":
            self.parts.append(given["href"])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


def test_every_public_name_has_an_entry(site, pages):
    ids = set().union(*(page.ids for path, page in pages.items() if path.parent.name == "api"))
    modules = {**{f"repsim_nb.{module}": module for module in api.public_modules()}}
    missing = [
        f"{title}.{name}"
        for title, module in modules.items()
        for name in api.public_names(module)
        if f"{title}.{name}" not in ids
    ]
    assert not missing
    first = (site / "reference" / "api" / "index.html").read_text(encoding="utf-8")
    assert [name for name in rs.__all__ if f"rs.{name}" not in first] == []
    links = {urlsplit(link).fragment for link in pages[site / "reference" / "api" / "index.html"].links}
    assert {f"repsim_nb.{api.home_of(name)}.{name}" for name in rs._HOME} <= links


@pytest.mark.parametrize("name", rs.list_measures().index)
def test_every_measure_has_a_page_of_its_own(site, name):
    text = (site / "reference" / "measures" / f"{name}.html").read_text(encoding="utf-8")
    measure = rs.get_measure(name)
    plain = " ".join(re.sub(r"<[^>]*>", "", text).split())
    assert f"rs.get_measure('{name}')" in plain
    assert measure.direction in plain
    for heading in ("What does not change it", "How the number misleads", "References", "Example"):
        assert f"<h2>{heading}" in text
    misleads = text.split("<h2>How the number misleads")[1].split("<h2>")[0]
    assert len(re.sub(r"<[^>]*>", "", misleads)) > 150
    rows = re.findall(r"<td><p>(yes|no)</p></td>\s*<td><p>(yes|no)</p></td>", text)
    declared = [
        (("no", "yes")[word in measure.invariances_x], ("no", "yes")[word in measure.invariances_y])
        for word in ("permutation", "orthogonal", "scale", "shift", "linear")
    ]
    assert rows == declared
    how_to = (site / "how-to" / "choose-a-measure.html").read_text(encoding="utf-8")
    assert f'href="../reference/measures/{name}.html"' in how_to
    assert 'href="../../how-to/choose-a-measure.html"' in text.split("<h2>References")[1]


def test_every_command_and_option_is_in_the_reference(site):
    text = re.sub(r"<[^>]*>", "", (site / "reference" / "command-line.html").read_text(encoding="utf-8"))
    for name, command in command_line.commands().items():
        assert f"repsim-nb {name}" in text
        for action in command._actions:
            assert all(word in text for word in action.option_strings if action.dest != "help")


def test_no_link_leads_nowhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            lost = place and target in pages and place not in pages[target].ids
            if lost or not target.is_file():
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_no_page_names_a_script_style_or_picture_elsewhere(site, pages):
    assert len(pages) > 80
    elsewhere = [
        (path.name, part)
        for path, page in pages.items()
        for part in page.parts
        if urlsplit(part).scheme not in ("", "data")
    ]
    assert elsewhere == []
    missing = [
        part
        for path, page in pages.items()
        for part in page.parts
        if not urlsplit(part).scheme and not (path.parent / unquote(urlsplit(part).path)).is_file()
    ]
    assert missing == []
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import )['\"]?https?:", style.read_text(encoding="utf-8")), style


def test_a_notebook_is_shown_as_it_was_left_and_says_of_which_run(site, pages):
    shown = (site / "findings" / f"{EXECUTED}.html").read_text(encoding="utf-8")
    assert "what this run printed" in shown
    assert "An interactive view" in shown
    assert "widget-view" not in shown
    assert re.search(r"These results are of this notebook as it stands.*quick", shown)
    without = (site / "tutorials" / "00_start_here.html").read_text(encoding="utf-8")
    assert "This copy has no results" in without
    names = {path.stem for folder in ("tutorials", "findings") for path in (site / folder).glob("*.html")}
    assert names - {"index", "claims"} == {book.name for book in notebooks()}


def test_results_of_another_version_of_a_notebook_say_so(results):
    book = next(book for book in notebooks() if book.name == EXECUTED)
    record = results / EXECUTED / "run.json"
    kept = record.read_text()
    try:
        record.write_text(kept.replace(book.sha256, "0" * 64))
        assert "of an earlier version" in findings.shown(book, results).metadata["repsim_nb"]["results"]
        record.write_text(kept[:-1] + ', "error": "in cell 3"}')
        assert findings.shown(book, results).metadata["repsim_nb"]["results"] == findings.WITHOUT
    finally:
        record.write_text(kept)


def test_notebooks_for_colab_install_first(site):
    for book in notebooks():
        cells = json.loads((site / "colab" / f"{book.name}.ipynb").read_text(encoding="utf-8"))["cells"]
        assert "".join(cells[0]["source"]) == f'%pip install --quiet "repsim-nb[lab]=={rs.__version__}"'
        assert len(cells) == book.n_cells + 1


def test_the_gallery_has_the_figure_of_every_example(site):
    text = (site / "gallery" / "index.html").read_text(encoding="utf-8")
    examples = sorted((TOP / "docs" / "gallery").glob("*.py"))
    assert len(examples) >= 10
    for path in examples:
        assert (site / "_images" / f"{path.stem}.png").stat().st_size > 5000
        assert f"{path.stem}.png" in text


def test_llms_txt_lists_the_pages(site):
    listed = (site / "llms.txt").read_text(encoding="utf-8")
    addresses = [
        urlsplit(url).path.removeprefix(f"{urlsplit(SITE).path}/") for url in re.findall(r"\]\((.*?)\)", listed)
    ]
    assert "how-to/choose-a-measure.html" in addresses
    assert [path for path in addresses if not (site / path).is_file()] == []
    assert "{{" not in (site / "llms-full.txt").read_text(encoding="utf-8")


READ = ("index", "how-to/read-a-map", "reference/measures/cka", "reference/api/comparison", f"findings/{EXECUTED}")


@pytest.mark.browser
@pytest.mark.skipif(bool(chromium.missing()), reason=str(chromium.missing()))
@pytest.mark.parametrize("width", [1440, 390])
def test_pages_read_from_disk_ask_for_nothing_complain_of_nothing_and_bar_nobody(site, width, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    asked, barriers = [], []
    with chromium.browser(tmp_path, width) as (context, notes):
        page = context.new_page()
        page.on("request", lambda one: asked.append(one.url))
        for name in READ:
            page.goto((site / f"{name}.html").as_uri())
            page.wait_for_load_state("load")
            assert page.locator("h1").first.is_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            found = Axe().run(page, options={"preload": False}).response["violations"]  # asks for no style again
            barriers += [
                f"{name}: {v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")
            ]
    assert barriers == []
    assert [url for url in asked if not url.startswith((site.as_uri(), "data:"))] == []
    assert notes.errors == []
    assert len(asked) > len(READ)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    from docs.build import build
    from repsim_nb.errors import InputError

    (tmp_path / "html").mkdir()
    with pytest.raises(InputError, match="something other than a built manual"):
        build(tmp_path, tmp_path)
    assert (tmp_path / "html").is_dir()
