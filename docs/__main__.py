"""Build the manual: python -m docs [--out docs/_build] [--results results]."""

import argparse
import os
import sys
from pathlib import Path

from docs.pages import TOP


def main() -> int:
    """Build the manual and return the exit code of Sphinx."""
    parser = argparse.ArgumentParser(prog="python -m docs", description="Build the manual.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=TOP / "docs" / "_build", help="default: docs/_build")
    parser.add_argument(
        "--results", metavar="DIR", type=Path, default=TOP / "results", help="executed notebooks (default: results)"
    )
    options = parser.parse_args()
    os.environ |= {"MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1"}  # no window, no network
    from docs.build import build

    code, page = build(options.out, options.results)
    if code == 0:
        print(f"The manual: {page}")
    return code


if __name__ == "__main__":
    sys.exit(main())
