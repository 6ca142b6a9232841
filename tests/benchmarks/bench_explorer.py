"""Seconds in front of the screen: the tour's first map, a second comparison, a cancelled run. Needs a Chromium.

python -m tests.benchmarks.bench_explorer
"""

import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).parents[2]
sys.path.insert(0, str(TOP / "tests"))

from browser import chromium, servers  # noqa: E402
from browser.notebook import idle, opened, run_all  # noqa: E402


def main() -> None:
    """Print what takes how long."""
    if chromium.missing():
        print(f"bench_explorer: {chromium.missing()}")
        return
    home = Path(tempfile.mkdtemp())
    shutil.copy(TOP / "notebooks" / "00_start_here.ipynb", home)
    with servers.lab(home) as address, chromium.browser(home / ".profile") as (context, _):
        page = opened(context, address, "00_start_here.ipynb")
        explorer = page.locator(".repsim-explorer")
        status = explorer.get_by_role("status")

        began = time.perf_counter()
        run_all(page)
        explorer.get_by_role("grid").first.wait_for()
        print(f"from Run All to the first map  {time.perf_counter() - began:6.2f} s   (target 15, kernel start apart)")
        idle(page)

        explorer.get_by_label("measure", exact=True).select_option(label="Orthogonal Procrustes distance")
        began = time.perf_counter()
        explorer.get_by_role("button", name="Run", exact=True).click()
        explorer.get_by_role("grid", name=re.compile("Procrustes")).wait_for()
        print(f"models that are extracted      {time.perf_counter() - began:6.2f} s   (target 1)")

        explorer.get_by_label("how many").fill("20000")
        explorer.get_by_label("how many").press("Tab")
        explorer.get_by_role("button", name="Run", exact=True).click()
        status.get_by_text(re.compile(r"\d+ of \d+")).wait_for()
        began = time.perf_counter()
        explorer.get_by_role("button", name="Cancel").click()
        status.get_by_text("Cancelled").wait_for()
        print(f"cancelling a long run          {time.perf_counter() - began:6.2f} s   (target 1)")
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
