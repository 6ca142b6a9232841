"""The tour and the notebook about measures on a pretrained model, in a real JupyterLab."""

import os

import pytest

from repsim_nb.models.packaged import WHEELS
from repsim_nb.system.shipped import notebooks_dir
from tests.browser import chromium, servers
from tests.browser.notebook import idle, opened, run_all

if chromium.missing():
    pytest.skip(chromium.missing(), allow_module_level=True)
if "REPSIM_NB_REAL_WHEELS" not in os.environ:
    pytest.skip("REPSIM_NB_REAL_WHEELS names no folder of wheels", allow_module_level=True)

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PATIENCE = 900_000  # milliseconds, for the first conversion of the weights too
LAST = {"00_start_here": "2. Layers are most similar", "04_measures_compared": "5. Agreement between measures"}


@pytest.fixture(scope="module")
def context_and_address(tmp_path_factory):
    """A browser, and a server whose folder holds both notebooks with preset "real"."""
    home = tmp_path_factory.mktemp("home")
    for name in LAST:
        source = (notebooks_dir() / f"{name}.ipynb").read_text(encoding="utf-8")
        real = source.replace(r"preset: str = \"default\"", r"preset: str = \"real\"")
        assert real != source
        (home / f"{name}.ipynb").write_text(real, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WHEELS, os.environ["REPSIM_NB_REAL_WHEELS"])
        with servers.lab(home) as address, chromium.browser(tmp_path_factory.mktemp("profile")) as (context, _):
            yield context, address


@pytest.mark.parametrize("name", LAST)
def test_a_notebook_runs_to_its_verdict_on_a_pretrained_model(context_and_address, name):
    context, address = context_and_address
    page = opened(context, address, f"{name}.ipynb")
    page.set_default_timeout(PATIENCE)
    run_all(page)
    if name == "00_start_here":
        page.locator('.repsim-explorer [role=gridcell][data-layer-a="30"][data-layer-b="4"]').wait_for()
    page.locator(".jp-OutputArea-output").get_by_text(LAST[name]).wait_for()
    idle(page)
    assert page.locator(".jp-OutputArea-output .jp-RenderedText[data-mime-type*=error]").count() == 0
    page.close()
