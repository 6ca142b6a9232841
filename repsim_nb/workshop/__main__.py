"""`python -m repsim_nb.workshop`: the printout, the solutions and the folder of the challenge, for instructors."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from repsim_nb.errors import InputError, needs
from repsim_nb.workshop import make_challenge, solved
from repsim_nb.workshop.handout import write_handouts
from repsim_nb.workshop.solutions import workshop_notebooks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    options = parser().parse_args(arguments)
    try:
        for path in options.do(options):
            print(path)
    except (InputError, OSError) as error:
        print(f"repsim_nb.workshop: error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    whole = argparse.ArgumentParser(prog="python -m repsim_nb.workshop", description="Material of the workshop.")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    sub = commands.add_parser("handout", help="run the notebooks and write a printout of each, one HTML file")
    sub.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("results", "handout"), help="default: results/handout"
    )
    sub.add_argument("--preset", choices=["quick", "default"], default="default")
    sub.set_defaults(do=lambda options: write_handouts(options.out, options.preset))
    sub = commands.add_parser("solutions", help="write the notebooks with the solutions filled in")
    sub.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("results", "solutions"), help="default: results/solutions"
    )
    sub.set_defaults(do=lambda options: _write_solutions(options.out))
    sub = commands.add_parser("challenge", help="write a folder of anonymous models")
    sub.add_argument("folder", metavar="DIR", type=Path)
    sub.add_argument("--seed", metavar="N", type=int, default=0)
    sub.set_defaults(do=lambda options: [make_challenge(options.folder, options.seed)])
    return whole


def _write_solutions(out: Path) -> list[Path]:
    needs("the notebooks with solutions", "nbformat")
    import nbformat

    out.mkdir(parents=True, exist_ok=True)
    written = [out / f"{name}.ipynb" for name in workshop_notebooks()]
    for path in written:
        nbformat.write(solved(path.stem), path)
    return written


if __name__ == "__main__":
    raise SystemExit(main())
