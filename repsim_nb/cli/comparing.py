"""`repsim-nb compare`: two models, one measure, one file."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import repsim_nb
from repsim_nb.errors import InputError, needs
from repsim_nb.system.atomic import OutputError, atomic, writable
from repsim_nb.system.netcdf import as_netcdf


def compare(options: argparse.Namespace) -> int:
    """Compare what the options name, write the result; the exit code. Raises InputError before the heavy work."""
    out = writable(options.out)
    if out.suffix not in SUFFIXES:
        raise OutputError(f"Cannot write {out}: its suffix is {out.suffix!r}, expected one of {', '.join(SUFFIXES)}.")
    if SUFFIXES[out.suffix] is _write_heatmap:
        needs(f"A heatmap ({out.suffix})", "matplotlib", "seaborn")
    layers_a, layers_b = parsed_layers(options.layers_a), parsed_layers(options.layers_b)
    repsim_nb.get_measure(options.measure)
    corpus = options.corpus and repsim_nb.load_corpus(options.corpus)
    names = options.model_a, options.model_b
    how: dict[str, Any] = {"layers_a": layers_a, "layers_b": layers_b}
    how |= {"n_rows": options.n_rows, "seed": options.seed}
    print(repsim_nb.estimate(*names, corpus, options.measure, **how), flush=True)
    result = repsim_nb.compare(*names, corpus, options.measure, **how)  # by name: at a time what fits
    with atomic(out) as path:
        SUFFIXES[out.suffix](result, path)
    print(_summary(result, options))
    return 0


def parsed_layers(text: str) -> str | list[int]:
    """`all` or comma-separated positions."""
    if text == "all":
        return text
    try:
        return [int(layer) for layer in text.split(",")]
    except ValueError:
        raise InputError(f"Layers are 'all' or numbers such as 0,2,4; received {text!r}.") from None


def _summary(result: Any, options: argparse.Namespace) -> str:
    values = result.values
    return f"{options.measure} from {values.min():.4f} to {values.max():.4f}, mean {values.mean():.4f} -> {options.out}"


def _write_netcdf(result: Any, path: Path) -> None:
    path.write_bytes(as_netcdf(result))


def _write_csv(result: Any, path: Path) -> None:
    result.to_dataframe().reset_index().to_csv(path, index=False)


def _write_heatmap(result: Any, path: Path) -> None:
    os.environ.setdefault("MPLBACKEND", "agg")  # a file is written, no window is opened
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
