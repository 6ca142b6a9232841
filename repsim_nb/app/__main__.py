"""Serve the explorer as a web page: `python -m repsim_nb.app --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from repsim_nb.errors import InputError, needs


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m repsim_nb.app",
        description="Serve the explorer as a web page for users of this machine. The address is printed once and "
        "contains a token, without which nothing is served.",
    )
    parser.add_argument("--folder", type=Path, help="the only folder to read models and texts from and to write to")
    parser.add_argument("--port", type=int, help="default: 8866, or any free port")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        help="another host name for the app, for example behind a tunnel; may be repeated",
    )
    parser.add_argument("--kernels", type=int, default=4, help="maximum number of open pages (default: 4)")
    parser.add_argument("--idle", type=float, default=30, help="minutes until an idle page is closed (default: 30)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    options = parser.parse_args(arguments)
    try:
        needs("The app", "voila", "ipywidgets", "matplotlib", extra="app")
        from repsim_nb.app.server import serve

        serve(
            options.folder,
            options.port,
            options.host,
            kernels=options.kernels,
            idle=60 * options.idle,
            browser=not options.no_browser,
        )
    except (InputError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
