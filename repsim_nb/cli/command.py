"""The command `repsim-nb`.

Bad input prints one line on stderr and exits with code 2, a failed notebook with 1, Ctrl-C with 130.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import repsim_nb
from repsim_nb.cli.arguments import name_and_value, parsed_layers, with_values
from repsim_nb.cli.comparing import SUFFIXES, compare, population
from repsim_nb.cli.tables import aligned, comma_separated
from repsim_nb.errors import InputError
from repsim_nb.runs.execution import RunError, run_notebook
from repsim_nb.runs.notebook_parameters import ParameterError, match
from repsim_nb.runs.notebooks import Notebook, find_notebook, notebooks
from repsim_nb.runs.results_folder import replaceable
from repsim_nb.runs.signals import interruptible
from repsim_nb.system.atomic import writable
from repsim_nb.system.cluster import opened
from repsim_nb.system.memory import available_memory
from repsim_nb.system.shard import ShareDone


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # on Windows, the code page of a pipe lacks some characters
    try:
        with interruptible():
            options = parser().parse_args(with_values(sys.argv[1:] if arguments is None else arguments))
            code: int = options.do(options)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        logging.disable()  # the process is ending; complaints from the client of a killed kernel are noise
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ShareDone as share:
        print(share)
        return 0
    except (InputError, OSError) as error:
        _complain(" ".join([str(error), *getattr(error, "__notes__", [])]))
        return 2


def _complain(message: str) -> None:
    print(f"repsim-nb: error: {' '.join(message.split())}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Reads options that need heavy modules only when it parses, so that other commands start at once."""

    late: Callable[[argparse.ArgumentParser], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        late, self.late = self.late, None
        if late is not None:
            late(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        _complain(f"{message} (see {self.prog} --help)")
        raise SystemExit(2)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command `repsim-nb`."""
    whole = _Parser(prog="repsim-nb", description="Measure how much representations of language models differ.")
    whole.add_argument("--version", action="version", version=f"repsim-nb {repsim_nb.__version__}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, do: Callable[[argparse.Namespace], int], about: str) -> _Parser:
        sub: _Parser = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        sub.set_defaults(do=do)
        return sub

    sub = command("list", _list, "list the models, corpora, measures or notebooks available")
    sub.add_argument("what", choices=["models", "corpora", "measures", "notebooks"])
    sub.add_argument("--family", metavar="NAME", help="with models: the models of one family (default: the families)")
    sub.add_argument("--csv", action="store_true", help="comma-separated, without shortening; all models, one by one")

    sub = command("show", _show, "show what a notebook claims and which parameters it takes")
    sub.add_argument("notebook", metavar="NOTEBOOK", help="a name from `repsim-nb list notebooks`, or an .ipynb file")

    sub = command("run", _run, "run notebooks from start to end and collect their figures in DIR/index.html")
    sub.add_argument("notebooks", metavar="NOTEBOOK", nargs="*", help="a name, or an .ipynb file")
    sub.add_argument("--all", action="store_true", help="run every notebook that comes with the package")
    _add_parameters(sub, "set a parameter in every chosen notebook that has it")
    sub.add_argument("--jobs", metavar="N", type=int, default=1, help="notebooks to run at a time (default: 1)")
    sub.add_argument("--out", metavar="DIR", type=Path, default=Path("results"), help="default: results")

    sub = command("sweep", _sweep, "run a notebook over a grid of parameter values; resumes when interrupted")
    sub.add_argument("notebook", metavar="NOTEBOOK", help="a name, or an .ipynb file")
    sub.add_argument(
        "-p",
        dest="grid",
        metavar="NAME V1,V2,...",
        type=name_and_value,
        action="append",
        required=True,
        help="a parameter and its values; may be repeated, all combinations are run. Separate values of a parameter "
        "that is a list by semicolons: -p measures 'cka,procrustes;rsa'",
    )
    sub.add_argument("--jobs", metavar="N", type=int, help="cells to run at a time (default: the number of cores)")
    sub.add_argument("--memory", metavar="BYTES", type=float, help="for all cells together (default: the free memory)")
    sub.add_argument("--executor", metavar="VALUE", help="instead of jobs here: dask, or dask:FILE of a scheduler")
    sub.add_argument("--shard", metavar="I/N", help="run share I of N; a last call without it collects all cells")
    sub.add_argument("--out", metavar="DIR", type=Path, default=Path("results", "sweep"), help="default: results/sweep")

    sub = command("compare", compare, "compare two models, layer by layer")
    sub.add_argument("model_a", metavar="MODEL_A", help="a name from `repsim-nb list models`, a hub id, or a folder")
    sub.add_argument("model_b", metavar="MODEL_B", help="the same name compares the model with itself")
    sub.add_argument("--out", metavar="FILE", required=True, help=f"a table or a heatmap: {', '.join(SUFFIXES)}")
    sub.late = _comparison_options

    sub = command("population", population, "compare every model with every other; resumes with --store")
    sub.add_argument("models", metavar="MODEL", nargs="+", help="models of any depth, kind and tokenizer")
    sub.add_argument(
        "--layers",
        metavar="LAYERS",
        default="all",
        help="last, relative, best, or such as 1,2,3 (default: all, for models of one depth)",
    )
    sub.add_argument("--out", metavar="FILE", type=Path, required=True, help="a table, .nc")
    sub.add_argument("--shard", metavar="I/N", help="run share I of N into --store; a last call without it compares")
    sub.late = _population_options

    sub = command("stitch", _stitch, "stitch every model into every other and into itself; resumes when interrupted")
    sub.add_argument("models", metavar="MODEL", nargs="+", help="causal models, or classifiers with one tokenizer")
    sub.add_argument("--layers", metavar="LAYERS", default="all", help="such as 1,2,3 (default: all)")
    sub.add_argument(
        "--into", metavar="LAYERS", help="all, or such as 1,2,3: every cut into each of these (default: the same layer)"
    )
    sub.add_argument("--controls", metavar="NAMES", help="self, shuffled and untrained, separated by commas, or all")
    sub.add_argument("--measures", metavar="NAMES", help="with --into: similarity of the layers, separated by commas")
    sub.add_argument("--out", metavar="FILE", type=Path, required=True, help="a table, .nc")
    sub.add_argument("--shard", metavar="I/N", help="run share I of N; a last call without it collects all stitches")
    sub.late = _stitch_options

    sub = command("zoo", _zoo, "list or train the embedded models")
    sub.add_argument("action", choices=["list", "build"])
    sub.add_argument("recipes", metavar="RECIPE", nargs="*", help="with build: names from `repsim-nb zoo list`")
    sub.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("results", "models"), help="default: results/models"
    )
    sub.add_argument("--csv", action="store_true", help="with list: comma-separated, without shortening")
    return whole


def _comparison_options(parser: argparse.ArgumentParser) -> None:
    from repsim_nb.runs.command_options import COMPARISON, DEFAULTS

    measure = DEFAULTS["measure"]
    parser.add_argument(
        "--measure",
        metavar="NAME",
        default=measure,
        help=f"a name from `repsim-nb list measures` (default: {measure})",
    )
    _add_parameters(parser, "set a parameter of the measure")
    _add_corpus(parser)
    _add_split(parser)
    for side in ("layers_a", "layers_b"):
        word = f"--{side.replace('_', '-')}"
        parser.add_argument(
            word, metavar="LAYERS", default=DEFAULTS[side], help=f"such as 0,2,4 (default: {DEFAULTS[side]})"
        )
    for option in COMPARISON.values():
        option.add_to(parser)


def _population_options(parser: argparse.ArgumentParser) -> None:
    from repsim_nb.comparison.population import CHEAP
    from repsim_nb.runs.command_options import POPULATION

    every = ",".join(CHEAP)
    parser.add_argument("--measures", metavar="NAMES", default=every, help=f"separated by commas (default: {every})")
    _add_parameters(parser, "set a parameter of a measure, such as -p cka.debiased False", "MEASURE.NAME VALUE")
    _add_corpus(parser, action="append")
    _add_split(parser)
    for option in POPULATION.values():
        option.add_to(parser)


def _stitch_options(parser: argparse.ArgumentParser) -> None:
    from repsim_nb.runs.command_options import STITCHES

    _add_corpus(parser)
    for option in STITCHES.values():
        option.add_to(parser)


def _add_corpus(parser: argparse.ArgumentParser, **how: Any) -> None:
    more = "; several by giving it several times" if how else ""
    parser.add_argument(
        "--corpus", metavar="NAME_OR_PATH", help=f"default: the corpus the models were made for{more}", **how
    )


def _add_parameters(parser: argparse.ArgumentParser, about: str, metavar: str = "NAME VALUE") -> None:
    how: dict[str, Any] = {"type": name_and_value, "action": "append", "default": []}
    parser.add_argument("-p", dest="parameters", metavar=metavar, help=f"{about}; may be repeated", **how)


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", metavar="NAME", help="part of a corpus that has splits (default: test)")


def _list(options: argparse.Namespace) -> int:
    if options.family is not None and options.what != "models":
        raise InputError(f"--family {options.family} chooses among models; leave it out to list {options.what}.")
    if options.what == "models":
        whole = options.csv or options.family is not None
        _print_frame(repsim_nb.list_models(options.family) if whole else repsim_nb.models.families(), options)
    elif options.what == "notebooks":
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
    """Run notebooks one after the other in this process; return the names of those that failed."""
    failed = []
    for number, notebook in enumerate(chosen, start=1):
        try:
            run = run_notebook(notebook.path, values[notebook.name], options.out)
        except RunError as error:
            _complain(str(error))
            failed.append(notebook.name)
            continue
        if run.skipped:
            print(f"[{number}/{len(chosen)}] {run.name}: skipped: {run.skipped}", flush=True)
        else:
            counts = f"{len(run.figures)} figure files, {len(run.tables)} tables"
            print(f"[{number}/{len(chosen)}] {run.name}: {counts} in {run.seconds:.1f} s", flush=True)
    return failed


def _side_by_side(chosen: list[Notebook], values: dict[str, dict[str, Any]], options: argparse.Namespace) -> list[str]:
    """Run several at a time, each in its own process; return the names of those that failed."""
    from repsim_nb.runs.cells import Cell, run_cells

    cells = [Cell(notebook, values[notebook.name], options.out / notebook.name) for notebook in chosen]
    for cell in cells:
        replaceable(cell.folder)
    run_cells(cells, options.jobs, available_memory() or sys.maxsize, progress=True)
    return [cell.notebook.name for cell in cells if cell.exit_code]


def _chosen(options: argparse.Namespace) -> list[Notebook]:
    if options.all == bool(options.notebooks):
        raise InputError("Name the notebooks to run, or give --all. See: repsim-nb list notebooks")
    chosen = notebooks() if options.all else [find_notebook(name) for name in options.notebooks]
    if not chosen:
        raise InputError("There are no notebooks to run: the notebooks folder of this installation is empty.")
    paths: dict[str, Path] = {}
    for notebook in chosen:
        other = paths.setdefault(notebook.name.casefold(), notebook.path)  # some file systems ignore case
        if other is not notebook.path:
            raise InputError(
                f"The results of {other} and of {notebook.path} would go to the same folder, "
                f"{options.out / notebook.name}. Give each its own with --out."
            )
    return chosen


def _values(chosen: list[Notebook], given: list[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Values for each notebook, of those given parameters that it has."""
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
    limits = {"jobs": options.jobs, "memory": options.memory}
    with opened(options.executor, options.shard) as executor:
        table = sweep_notebook(notebook.path, grid, options.out, **limits, progress=True, executor=executor)
    count = table["status"].value_counts()
    skipped = f", {count['skipped']} skipped" if "skipped" in count else ""
    print(f"{count.get('done', 0)} of {len(table)} cells done{skipped}: {options.out / 'sweep.csv'}")
    return 1 if "failed" in count else 0


def _stitch(options: argparse.Namespace) -> int:
    from repsim_nb.runs.command_options import STITCHES, given
    from repsim_nb.stitching import stitching_table

    if options.out.suffix != ".nc":
        raise InputError(f"--out {options.out} must end in .nc.")
    how = given(options, STITCHES)
    how["into"] = options.into and parsed_layers(options.into)
    how |= {name: of and of.split(",") for name, of in (("controls", options.controls), ("measures", options.measures))}
    layers, out = parsed_layers(options.layers), writable(options.out)
    with opened(how.pop("executor"), options.shard) as executor:
        table = stitching_table(
            options.models, options.models, layers, options.corpus, out=out, executor=executor, **how
        )
    print(f"{table.penalty.size} stitches: {options.out}")
    return 0


def _zoo(options: argparse.Namespace) -> int:
    from repsim_nb import zoo

    if options.action == "list":
        _print_frame(zoo.list_recipes(), options)
        return 0
    if not options.recipes:
        raise InputError("Name the recipes to build. See: repsim-nb zoo list")
    for recipe in options.recipes:
        print(zoo.build(recipe, out=options.out), flush=True)
    return 0
