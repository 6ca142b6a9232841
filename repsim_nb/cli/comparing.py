"""`repsim-nb compare`: two models, one measure, one file; `population`: many models and measures, one file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import repsim_nb
from repsim_nb.cli.arguments import parsed_layers
from repsim_nb.errors import InputError, needs
from repsim_nb.system.atomic import OutputError, atomic, writable
from repsim_nb.system.cluster import opened
from repsim_nb.system.netcdf import netcdf_bytes, write_netcdf

if TYPE_CHECKING:
    from repsim_nb.measures import Measure


def compare(options: argparse.Namespace) -> int:
    """Run the comparison, write the result and return the exit code; bad input raises before the heavy work."""
    from repsim_nb.runs.command_options import COMPARISON, configured, given

    out = writable(options.out)
    if out.suffix not in SUFFIXES:
        raise OutputError(f"Cannot write {out}: its suffix is {out.suffix!r}; expected one of {', '.join(SUFFIXES)}.")
    if SUFFIXES[out.suffix] is _write_heatmap:
        needs(f"A heatmap ({out.suffix})", "matplotlib", "seaborn")
    measure = configured(options.measure, options.parameters)
    how = given(options, COMPARISON)
    how |= {side: parsed_layers(getattr(options, side)) for side in ("layers_a", "layers_b")}
    a, b = options.model_a, None if options.model_b == options.model_a else options.model_b
    corpus = _corpus(options)
    kept, executor = how.pop("store"), how.pop("executor")  # the estimate is for a run here that finds nothing stored
    print(repsim_nb.estimate(a, b, corpus, measure, **how), flush=True)
    with opened(executor) as workers:  # models by name: at a time what fits
        result = repsim_nb.compare(a, b, corpus, measure, store=kept, executor=workers, **how)
    with atomic(out) as path:
        SUFFIXES[out.suffix](result, path)
    print(_summary(result, options))
    return 0


def population(options: argparse.Namespace) -> int:
    """Compare all pairs of models and write the table; with a share only its models are run, into the store."""
    from repsim_nb.comparison.population.chosen_layers import WORDS
    from repsim_nb.runs.command_options import POPULATION, given

    if options.out.suffix != ".nc":
        raise OutputError(f"--out {options.out} must end in .nc.")
    out, how = writable(options.out), given(options, POPULATION)
    measures = _measures(options.measures.split(","), options.parameters)
    layers, corpora = parsed_layers(options.layers, WORDS), _corpora(options)
    kept = {"store": how.pop("store")}  # the estimate is for a run that finds nothing stored
    with opened(how.pop("executor"), options.shard) as workers:
        print(repsim_nb.estimate_models(options.models, measures, corpora, layers=layers, **how), flush=True)
        how |= kept | {"executor": workers}
        table = repsim_nb.compare_models(options.models, measures, corpora, layers=layers, **how)
    write_netcdf(table, out)
    names = ", ".join(map(str, table.data_vars))
    at = f"{table.sizes['layer']} layers" if "layer" in table.sizes else f"layers {options.layers}"
    print(f"{names} of {table.sizes['model_a']} models at {at}: {out}")
    return 0


def _measures(names: Sequence[str], parameters: Sequence[tuple[str, str]]) -> list[Measure]:
    """Measures with the parameters of `-p MEASURE.NAME VALUE`."""
    from repsim_nb.runs.command_options import configured

    of: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
    for word, value in parameters:
        measure, _, parameter = word.partition(".")
        if measure not in of or not parameter:
            raise InputError(f"-p {word} {value}: expected -p MEASURE.NAME VALUE, with a measure of {', '.join(of)}.")
        of[measure].append((parameter, value))
    return [configured(name, of[name]) for name in names]


def _corpora(options: argparse.Namespace) -> Any:
    """The corpus of `--corpus`, or several by name if it is given several times."""
    if options.corpus is None or len(options.corpus) == 1:
        return _corpus(argparse.Namespace(corpus=options.corpus and options.corpus[0], split=options.split))
    if len(set(options.corpus)) < len(options.corpus):
        raise InputError(f"--corpus names one corpus twice: {', '.join(options.corpus)}.")
    return {name: repsim_nb.load_corpus(name, options.split) for name in options.corpus}


def _corpus(options: argparse.Namespace) -> Any:
    if options.corpus is None:
        if options.split is not None:
            raise InputError(f"--split {options.split} was given without --corpus; name the corpus too.")
        return None
    return repsim_nb.load_corpus(options.corpus, options.split)


def _summary(result: Any, options: argparse.Namespace) -> str:
    values = result.values
    return f"{options.measure} from {values.min():.4f} to {values.max():.4f}, mean {values.mean():.4f} -> {options.out}"


def _write_netcdf(result: Any, path: Path) -> None:
    path.write_bytes(netcdf_bytes(result))


def _write_csv(result: Any, path: Path) -> None:
    result.to_dataframe().reset_index().to_csv(path, index=False)


def _write_heatmap(result: Any, path: Path) -> None:
    os.environ.setdefault("MPLBACKEND", "agg")  # write a file, open no window
    import matplotlib.pyplot as plt

    repsim_nb.figures.heatmap(result)
    plt.savefig(path, bbox_inches="tight", dpi=200)
    plt.close()


SUFFIXES: dict[str, Callable[[Any, Path], None]] = {
    ".nc": _write_netcdf,
    ".csv": _write_csv,
    ".svg": _write_heatmap,
    ".png": _write_heatmap,
}
