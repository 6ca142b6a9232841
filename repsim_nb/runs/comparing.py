"""`repsim-nb compare`: two models, one measure, one file."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import repsim_nb
from repsim_nb.atomic import OutputError, atomic, writable
from repsim_nb.errors import InputError


def compare(options: argparse.Namespace) -> int:
    """Compare what the options name, write the result; the exit code. Raises InputError before the heavy work."""
    out = writable(options.out)
    if out.suffix not in SUFFIXES:
        raise OutputError(f"Cannot write {out}: its suffix is {out.suffix!r}, expected one of {', '.join(SUFFIXES)}.")
    layers_a, layers_b = parsed_layers(options.layers_a), parsed_layers(options.layers_b)
    repsim_nb.get_measure(options.measure)
    corpus = options.corpus and repsim_nb.load_corpus(options.corpus)
    a, b = (repsim_nb.load_model(name) for name in (options.model_a, options.model_b))
    print(_estimate(a, b, layers_a, layers_b, options), flush=True)
    result = repsim_nb.compare(
        a,
        b,
        corpus,
        options.measure,
        layers_a=layers_a,
        layers_b=layers_b,
        n_rows=options.n_rows,
        seed=options.seed,
    )
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


def _estimate(a: Any, b: Any, layers_a: Any, layers_b: Any, options: argparse.Namespace) -> str:
    """What will be computed, and the memory that the activations of all rows take in float32."""
    n_a, n_b = (m.n_layers + 1 if layers == "all" else len(layers) for m, layers in ((a, layers_a), (b, layers_b)))
    megabytes = options.n_rows * (n_a * a.d_model + n_b * b.d_model) * 4 / 1e6
    return (
        f"{options.measure} of {a.name} and {b.name}: {n_a} x {n_b} layers, "
        f"at most {options.n_rows} rows, {megabytes:.1f} MB of activations"
    )


def _summary(result: Any, options: argparse.Namespace) -> str:
    values = result.values
    return f"{options.measure} from {values.min():.4f} to {values.max():.4f}, mean {values.mean():.4f} -> {options.out}"


def _write_netcdf(result: Any, path: Path) -> None:
    result.to_netcdf(path, engine="h5netcdf")


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
