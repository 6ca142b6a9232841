"""What every measure takes beside the rows it compares, measured, against what the estimate says.

    python -m tests.benchmarks.bench_memory [--rows 3000 6000] [--width 256] [--measures cka rsa ...]

Every line is a process of its own, whose peak is reset after the measure has run once on a few rows. What is freed goes
back to the system at once, unless --keep-freed says to leave that to malloc, as in daily use: it keeps some megabytes
more or less, in no two runs the same.
"""

import argparse
import ctypes
import multiprocessing
import os
import warnings
from pathlib import Path

import numpy as np

from repsim_nb.measures import DegenerateWarning, get_measure, list_measures

LAYERS = 2  # on each side
WARM = 64
SETTINGS = [
    *(("cka", {"kernel": "rbf"}), ("cka", {"debiased": False}), ("hsic", {"kernel": "rbf"})),
    *(("angular_shape", {"alpha": 0.5}), ("jaccard", {"metric": "euclidean"})),
    *(("rsa", {"inner": "euclidean", "outer": "pearson"}), ("rsa", {"outer": "kendall"})),
]


def in_status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak(name: str, params: dict, n: int, width: int, results: multiprocessing.SimpleQueue) -> None:
    """Bytes beyond those in use before, and those expected."""
    warnings.simplefilter("ignore", DegenerateWarning)
    rng = np.random.default_rng(0)
    if name == "accuracy_difference":
        params = {"labels": rng.integers(width, size=n)}
    layers = [rng.standard_normal((n, width), dtype="float32") for _ in range(2 * LAYERS)]
    warm = get_measure(name, **params | ({"labels": params["labels"][:WARM]} if "labels" in params else {}))
    few = [warm.prepare(x[:WARM]) for x in layers[:2]]
    warm.grid(few, few[::-1])
    measure = get_measure(name, **params)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed before is not there already
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = in_status("VmRSS")
    prepared = [measure.prepare(x) for x in layers]
    measure.grid(prepared[:LAYERS], prepared[LAYERS:])
    expected = measure.memory(n, [width] * LAYERS, [width] * LAYERS)
    results.put((in_status("VmHWM") - before, expected))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[3000, 6000])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--measures", nargs="+")
    parser.add_argument("--keep-freed", action="store_true")
    options = parser.parse_args()
    if not options.keep_freed:
        os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)  # read by every process as it starts
    every = [(name, {}) for name in list_measures().index] + SETTINGS
    context = multiprocessing.get_context("spawn")
    print(f"{'measure':46} {'rows':>6} {'expected':>9} {'measured':>9} {'of rows':>8} {'ratio':>6}")
    for name, params in every:
        if options.measures and name not in options.measures:
            continue
        for n in options.rows:
            results = context.SimpleQueue()
            process = context.Process(target=peak, args=(name, params, n, options.width, results))
            process.start()
            process.join()
            if process.exitcode:
                continue
            measured, expected = results.get()
            rows = 4 * n * options.width * 2 * LAYERS
            label = ", ".join([name, *(f"{k}={v}" for k, v in params.items())])
            ratio = measured / max(1, expected)
            sizes = f"{expected / 1e6:9.1f} {measured / 1e6:9.1f} {rows / 1e6:8.1f}"
            print(f"{label:46} {n:6} {sizes} {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    main()
