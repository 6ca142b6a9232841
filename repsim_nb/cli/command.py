"""The command `repsim-nb`.

Bad input is one line on stderr and exit code 2, a notebook that failed 1, Ctrl-C 130.
"""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import repsim_nb
from repsim_nb.cli.comparing import SUFFIXES, compare, parsed_layers
from repsim_nb.cli.tables import aligned, comma_separated
from repsim_nb.errors import InputError
from repsim_nb.runs.execution import RunError, run_notebook
from repsim_nb.runs.notebook_parameters import ParameterError, match
from repsim_nb.runs.notebooks import Notebook, find_notebook, notebooks
from repsim_nb.runs.results_folder import replaceable
from repsim_nb.runs.signals import interruptible
from repsim_nb.system.atomic import writable
from repsim_nb.system.memory import available_memory

_BETWEEN = "\0"  # a name and its value, where no word of a command line can hold it
_NEGATIVE = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # of pipes on Windows, whose code page lacks some of the characters
    try:
        with interruptible():
            options = _parser().parse_args(_with_values(sys.argv[1:] if arguments is None else arguments))
            code: int = options.do(options)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        logging.disable()  # the process ends; what the client of the killed kernel still complains about is no news
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InputError, OSError) as error:
        _complain(str(error))
        return 2


def _complain(message: str) -> None:
    print(f"repsim-nb: error: {' '.join(message.split())}", file=sys.stderr)


def _with_values(arguments: Sequence[str]) -> list[str]:
    """Arguments in which no value looks like an option: `-p NAME VALUE` in one word, and `--seed -1` as `--seed=-1`."""
    found, rest = [], list(arguments)
    while rest and rest[0] != "--":
        word = rest.pop(0)
        if word == "-p" and len(rest) > 1:
            word += rest.pop(0) + _BETWEEN + rest.pop(0)
        elif word.startswith("--") and "=" not in word and rest and _NEGATIVE.match(rest[0]):
            word += "=" + rest.pop(0)
        found.append(word)
    return found + rest


def _name_and_value(word: str) -> tuple[str, str]:
    name, between, value = word.partition(_BETWEEN)
    if "=" in name:
        raise argparse.ArgumentTypeError(f"write -p {name.replace('=', ' ', 1)}, without the equals sign")
    if not between:
        raise argparse.ArgumentTypeError("expected 2 arguments, a name and a value")
    return name, value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _complain(f"{message} (see {self.prog} --help)")
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="repsim-nb", description="Measure how much representations of language models differ.")
    parser.add_argument("--version", action="version", version=f"repsim-nb {repsim_nb.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, do: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        sub.set_defaults(do=do)
        return sub

    sub = command("list", _list, "list what there is")
    sub.add_argument("what", choices=["models", "corpora", "measures", "notebooks"])
    sub.add_argument("--csv", action="store_true", help="comma-separated, nothing cut")

    sub = command("show", _show, "show what a notebook claims and which parameters it takes")
    sub.add_argument("notebook", metavar="NOTEBOOK", help="a name from `repsim-nb list notebooks`, or an .ipynb file")

    sub = command("run", _run, "run notebooks from start to end and collect their figures in DIR/index.html")
    sub.add_argument("notebooks", metavar="NOTEBOOK", nargs="*", help="a name, or an .ipynb file")
    sub.add_argument("--all", action="store_true", help="run every notebook that comes with the package")
    sub.add_argument(
        "-p",
        dest="parameters",
        metavar="NAME VALUE",
        type=_name_and_value,
        action="append",
        default=[],
        help="set a parameter, in every chosen notebook that has it; may be repeated",
    )
    sub.add_argument("--jobs", metavar="N", type=int, default=1, help="notebooks at a time (default: 1)")
    sub.add_argument("--out", metavar="DIR", type=Path, default=Path("results"), help="default: results")

    sub = command("sweep", _sweep, "run a notebook over a grid of parameter values; goes on after a kill")
    sub.add_argument("notebook", metavar="NOTEBOOK", help="a name, or an .ipynb file")
    sub.add_argument(
        "-p",
        dest="grid",
        metavar="NAME V1,V2,...",
        type=_name_and_value,
        action="append",
        required=True,
        help="a parameter and its values; may be repeated, all combinations are run. Values of a parameter that is a "
        "list are separated by semicolons: -p measures 'cka,procrustes;rsa'",
    )
    sub.add_argument("--jobs", metavar="N", type=int, help="cells at a time (default: the number of cores)")
    sub.add_argument("--memory", metavar="BYTES", type=float, help="for all cells together (default: what is free)")
    sub.add_argument("--out", metavar="DIR", type=Path, default=Path("results", "sweep"), help="default: results/sweep")

    sub = command("compare", compare, "compare two models, layer by layer")
    sub.add_argument("model_a", metavar="MODEL_A", help="a name from `repsim-nb list models`, a hub id, or a folder")
    sub.add_argument("model_b", metavar="MODEL_B")
    sub.add_argument("--measure", default="cka", help="a name from `repsim-nb list measures` (default: cka)")
    sub.add_argument("--corpus", metavar="NAME_OR_PATH", help="default: the corpus the models were made for")
    sub.add_argument("--n-rows", metavar="N", type=int, default=4096, help="rows compared (default: 4096)")
    sub.add_argument("--seed", metavar="S", type=int, default=0, help="which rows are drawn (default: 0)")
    sub.add_argument("--layers-a", metavar="LAYERS", default="all", help="such as 0,2,4 (default: all)")
    sub.add_argument("--layers-b", metavar="LAYERS", default="all")
    sub.add_argument("--out", metavar="FILE", required=True, help=f"a table or a heatmap: {', '.join(SUFFIXES)}")

    sub = command("stitch", _stitch, "stitch every model into every other and into itself; goes on after a kill")
    sub.add_argument("models", metavar="MODEL", nargs="+", help="causal models, or classifiers, with one tokenizer")
    sub.add_argument("--layers", metavar="LAYERS", default="all", help="such as 1,2,3 (default: all)")
    sub.add_argument("--map", default="affine", help="identity, orthogonal, affine, affine_norm or low_rank")
    sub.add_argument("--fit", default="gradient", help="gradient or least_squares")
    sub.add_argument("--corpus", metavar="NAME_OR_PATH", help="default: the corpus the models were made for")
    sub.add_argument("--seed", metavar="S", type=int, default=0)
    sub.add_argument("--out", metavar="FILE", type=Path, required=True, help="a table, .nc")

    sub = command("zoo", _zoo, "list or train the embedded models")
    sub.add_argument("action", choices=["list", "build"])
    sub.add_argument("recipes", metavar="RECIPE", nargs="*", help="with build: names from `repsim-nb zoo list`")
    sub.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("results", "models"), help="default: results/models"
    )
    sub.add_argument("--csv", action="store_true", help="with list: comma-separated, nothing cut")
    return parser


def _list(options: argparse.Namespace) -> int:
    if options.what == "notebooks":
        _print_table(["name", "title", "claim"], [(book.name, book.title, book.claim) for book in notebooks()], options)
    else:
        _print_frame(getattr(repsim_nb, f"list_{options.what}")(), options)
    return 0


def _print_frame(frame: Any, options: argparse.Namespace) -> None:
    frame = frame.astype(object).where(frame.notna(), None)  # NA is neither equal nor unequal to anything
    _print_table([frame.index.name or "name", *map(str, frame.columns)], list(frame.itertuples(name=None)), options)


def _print_table(header: Sequence[str], rows: Sequence[Sequence[object]], options: argparse.Namespace) -> None:
    print((comma_separated if options.csv else aligned)(header, rows))


def _show(options: argparse.Namespace) -> int:
    notebook = find_notebook(options.notebook)
    print(f"{notebook.title}\n\n{notebook.claim}\n")
    rows = [(p.name, p.annotation, repr(p.default), p.help) for p in notebook.parameters]
    print(aligned(["parameter", "type", "default", "help"], rows) if rows else "It has no parameters.")
    return 0


def _run(options: argparse.Namespace) -> int:
    chosen = _chosen(options)
    values = _values(chosen, options.parameters)
    if options.jobs < 1:
        raise InputError(f"--jobs {options.jobs}: expected a positive number.")
    failed = (_side_by_side if options.jobs > 1 else _in_turn)(chosen, values, options)
    if failed:
        print(f"{len(failed)} of {len(chosen)} notebooks failed: {', '.join(failed)}", file=sys.stderr)
    print(f"All figures: {options.out / 'index.html'}")
    return 1 if failed else 0


def _in_turn(chosen: list[Notebook], values: dict[str, dict[str, Any]], options: argparse.Namespace) -> list[str]:
    """Run notebooks one after the other, here; the names of those that failed."""
    failed = []
    for number, notebook in enumerate(chosen, start=1):
        try:
            run = run_notebook(notebook.path, values[notebook.name], options.out)
        except RunError as error:
            _complain(str(error))
            failed.append(notebook.name)
        else:
            counts = f"{len(run.figures)} figure files, {len(run.tables)} tables"
            print(f"[{number}/{len(chosen)}] {run.name}: {counts} in {run.seconds:.1f} s", flush=True)
    return failed


def _side_by_side(chosen: list[Notebook], values: dict[str, dict[str, Any]], options: argparse.Namespace) -> list[str]:
    """Run several at a time, each in a process of its own; the names of those that failed."""
    from repsim_nb.runs.cells import Cell, run_cells

    cells = [Cell(notebook, values[notebook.name], options.out / notebook.name) for notebook in chosen]
    for cell in cells:
        replaceable(cell.folder)
    run_cells(cells, options.jobs, available_memory() or sys.maxsize, progress=True)
    return [cell.notebook.name for cell in cells if cell.exit_code]


def _chosen(options: argparse.Namespace) -> list[Notebook]:
    if options.all == bool(options.notebooks):
        raise InputError("Say which notebooks to run: either their names or --all. See: repsim-nb list notebooks")
    chosen = notebooks() if options.all else [find_notebook(name) for name in options.notebooks]
    if not chosen:
        raise InputError("There are no notebooks to run: the notebooks folder of this installation is empty.")
    paths: dict[str, Path] = {}
    for notebook in chosen:
        other = paths.setdefault(notebook.name.casefold(), notebook.path)  # some file systems know no case
        if other is not notebook.path:
            raise InputError(
                f"The results of {other} and of {notebook.path} would be in the same folder, "
                f"{options.out / notebook.name}. Run each into a folder of its own: --out."
            )
    return chosen


def _values(chosen: list[Notebook], given: list[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """For each notebook the values of those given parameters that it has."""
    everything = tuple({p.name: p for notebook in chosen for p in notebook.parameters}.values())
    match(everything, dict(given), ", ".join(notebook.name for notebook in chosen))
    texts = dict(given)
    if len(texts) < len(given):
        raise ParameterError("A parameter is given twice; give each -p NAME once.")
    return {
        notebook.name: {p.name: p.parse(texts[p.name]) for p in notebook.parameters if p.name in texts}
        for notebook in chosen
    }


def _sweep(options: argparse.Namespace) -> int:
    from repsim_nb.runs.sweep import parse_grid, sweep_notebook

    notebook = find_notebook(options.notebook)
    grid = parse_grid(notebook.parameters, options.grid, notebook.name)
    table = sweep_notebook(notebook.path, grid, options.out, jobs=options.jobs, memory=options.memory, progress=True)
    failed = int((table["status"] == "failed").sum())
    print(f"{len(table) - failed} of {len(table)} cells done: {options.out / 'sweep.csv'}")
    return 1 if failed else 0


def _stitch(options: argparse.Namespace) -> int:
    from repsim_nb.stitching import stitching_table

    if options.out.suffix != ".nc":
        raise InputError(f"--out {options.out} must end in .nc.")
    table = stitching_table(
        options.models,
        options.models,
        parsed_layers(options.layers),
        options.corpus,
        options.map,
        options.fit,
        options.seed,
        out=writable(options.out),
    )
    print(f"{table.penalty.size} stitches: {options.out}")
    return 0


def _zoo(options: argparse.Namespace) -> int:
    from repsim_nb import zoo

    if options.action == "list":
        _print_frame(zoo.list_recipes(), options)
        return 0
    if not options.recipes:
        raise InputError("Say which recipes to build. See: repsim-nb zoo list")
    for recipe in options.recipes:
        print(zoo.build(recipe, out=options.out), flush=True)
    return 0
