"""Serve the explorer as a web page: `python -m repsim_nb.app --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from repsim_nb.errors import InputError, needs


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m repsim_nb.app",
        description="The explorer as a web page, for whoever uses this machine. Its address, which holds a token, is "
        "printed once; without the token nothing is served.",
    )
    parser.add_argument("--folder", type=Path, help="models and texts are read, and results written, below it alone")
    parser.add_argument("--port", type=int, help="default: 8866, or another that is free")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        help="another name under which this machine's browsers reach the app, as through a tunnel; may be repeated",
    )
    parser.add_argument("--kernels", type=int, default=4, help="pages open at a time, at most (default: 4)")
    parser.add_argument("--idle", type=float, default=30, help="minutes until an idle page is ended (default: 30)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
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
