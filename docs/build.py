"""Stage the sources with the generated pages, and run Sphinx on them; warnings are errors.

Nothing is written into docs/ itself, so several builds can run from one checkout.
"""

import shutil
from pathlib import Path

from sphinx.cmd.build import build_main

from docs.pages import TOP, api, command_line, findings, gallery, measures, plain_text, project
from repsim_nb.errors import InputError

SOURCES = TOP / "docs"
SHIPPED = ("explorer.png", "real_model_maps.png", "scaling_maps.png")  # pictures of data/images that pages show


def build(out: Path, results: Path) -> tuple[int, Path]:
    """Build the manual into `out`/html; return the exit code of Sphinx and the path of the first page.

    Parameters
    ----------
    out
        Folder to write to, made if missing; what an earlier build left there is replaced.
    results
        Folder of `make figures`, with the executed notebooks. Those that are not there are shown without results.

    Raises
    ------
    InputError
        `out` holds something else.
    """
    source, site = out / "source", out / "html"
    if out.is_dir() and any(out.iterdir()) and not (out / "source" / "conf.py").is_file():
        raise InputError(f"{out} holds something other than a built manual. Name another folder, or an empty one.")
    stage(source, results)
    shutil.rmtree(site, ignore_errors=True)
    shutil.rmtree(out / "doctrees", ignore_errors=True)
    options = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(out / "doctrees")]
    code = build_main([*options, str(source), str(site)])  # in this process, which has imported what autodoc reads
    if code == 0:
        plain_text.write(source, site)
        findings.write_colab(site)
    return code, site / "index.html"


def stage(source: Path, results: Path) -> None:
    """Copy docs/ to `source`, and write there every page that is made from the package."""
    shutil.rmtree(source, ignore_errors=True)
    left_out = shutil.ignore_patterns("_build", "*.py", "__pycache__", "pages")
    shutil.copytree(SOURCES, source, ignore=left_out)
    shutil.copy(SOURCES / "conf.py", source)
    for name in SHIPPED:
        shutil.copy(TOP / "data" / "images" / name, source / "_static")
    api.write(source / "reference" / "api")
    measures.write(source / "reference" / "measures")
    command_line.write(source / "reference")
    findings.write(source, results)
    gallery.write(SOURCES / "gallery", source / "gallery")
    project.write(source / "project")
