"""What an executor costs and gains: overhead per unit, one worker against two, a scheduler with 100,000 units, a plan.

python -m tests.benchmarks.bench_executor [overhead | workers | scheduler | rates | plan]...
"""

import heapq
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch

import repsim_nb as rs
from repsim_nb.activations import Store
from repsim_nb.depth import over_training
from repsim_nb.system.executor import mapped
from tests.support.clusters import dask, spawned
from tests.support.notebook_files import write

NAMES = ["tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-neox-w32-d4", "tiny-neox-w64-d4"]
STORING = 0.3e9  # bytes per second that a process writes into a store, by `rates`
REVISIONS = ["step0", "step50", "step150", "step500", "step1000", "step1500"]
CELL = """\
import torch
x = torch.randn(600, 600, dtype=torch.float64)
for _ in range(size): torch.linalg.svd(x)
"""


def sweep(executor):
    with tempfile.TemporaryDirectory() as folder:
        notebook = write(Path(folder), "nb", CELL, parameters="k: int = 0\nsize: int = 8\n")
        jobs = {"jobs": 1} if executor is None else {"executor": executor}
        rs.sweep_notebook(notebook, {"k": [0, 1, 2, 3]}, Path(folder, "out"), **jobs)


def arrays(models, n, d, layers=1):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(n, d))
    one = {
        f"m{k}": {i: (shared + rng.normal(size=(n, d))).astype(np.float32) for i in range(layers)}
        for k in range(models)
    }
    return one


def pairs(executor):
    rs.compare_models(arrays(24, 2500, 160, 2), ["procrustes", "svcca", "pwcca", "gulp"], executor=executor)


def uncertain(**how):
    a, b = arrays(2, 3000, 256, 2).values()
    return lambda executor: rs.compare(a, b, measure="procrustes", executor=executor, **how)


# name -> (number of units, the call): each call takes some ten seconds here
KINDS = {
    "cells of a sweep": (4, sweep),
    "stitches": (8, lambda e: rs.stitching_table(NAMES[:2], NAMES[:2], [1, 2], n_fit=96, steps=40, executor=e)),
    "models of a population": (
        len(NAMES),
        lambda e: rs.compare_models(
            [f"tiny-neox-w64-d4@{r}" for r in REVISIONS[2:]], "cka", n_rows=8000, rows_per_document=4, executor=e
        ),
    ),
    "pairs and measures": (8, pairs),
    "sequences of a family": (16, lambda e: rs.compare_family(NAMES, n_sequences=128, at_once=8, executor=e)),
    "batches of a stream": (64, lambda e: rs.stream(NAMES[2], NAMES[3], n_rows=150_000, executor=e)),
    "permutations": (16, uncertain(null=96)),
    "blocks of the jackknife": (16, uncertain(interval=True)),
    "checkpoints": (
        len(REVISIONS),
        lambda e: over_training("tiny-neox-w64-d4", REVISIONS, n_rows=8000, rows_per_document=4, executor=e),
    ),
}


def nothing(_, unit):
    """A unit without work."""
    return unit


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def overhead(units=2000):
    """Seconds per unit that does nothing."""
    print(f"here: {seconds(lambda: list(mapped(nothing, None, range(units), what='units'))) / units * 1e6:.0f} us")
    for name, opened in (("spawned pool", spawned), ("dask", dask)):
        with opened(2) as executor:
            list(mapped(nothing, None, range(10), executor, what="units"))
            spent = seconds(lambda e=executor: list(mapped(nothing, None, range(units), e, what="units")))
            print(f"{name}: {spent / units * 1e6:.0f} us per unit")


def warm():
    """Import everything once in a worker."""
    rs.stream(NAMES[0], n_rows=50)
    rs.stitch(NAMES[0], NAMES[1], 1, n_fit=16, n_report=4, fit="least_squares")


def workers(kinds=tuple(KINDS)):
    """Wall time of each kind without an executor, with one worker and with two, that have imported everything."""
    torch.set_num_threads(1)
    warm()
    spent = {(kind, 0): seconds(lambda k=kind: KINDS[k][1](None)) for kind in kinds}
    for count in (1, 2):
        with dask(count) as executor:
            executor._client.run(warm)
            spent |= {(kind, count): seconds(lambda k=kind, e=executor: KINDS[k][1](e)) for kind in kinds}
    print("| kind | units | here | 1 worker | 2 workers | 1 to 2 |\n|---|---|---|---|---|---|")
    for kind in kinds:
        here, one, two = (spent[kind, count] for count in range(3))
        print(f"| {kind} | {KINDS[kind][0]} | {here:.1f} s | {one:.1f} s | {two:.1f} s | {one / two:.2f} |", flush=True)


def scheduler(units=100_000):
    """Memory of the process that holds driver and scheduler, after more and more units."""
    with dask(2) as executor:
        list(mapped(nothing, None, range(100), executor, what="units"))
        process = psutil.Process()
        before, start = process.memory_info().rss, time.perf_counter()
        for done in mapped(nothing, None, range(1, units + 1), executor, what="units"):
            if done in (1_000, 10_000, units // 4, units // 2, units):
                spent, more = time.perf_counter() - start, process.memory_info().rss - before
                print(f"{done:,} units in {spent:.0f} s; {more / 1e6:+.0f} MB since the first 100", flush=True)


def rates(rows=4096, width=4096, layers=4):
    """What the plan assumes and a machine without a GPU can measure, on one core at the width of a 7B model."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    acts = {layer: torch.from_numpy(rng.normal(size=(rows, width)).astype(np.float32)) for layer in range(layers)}
    about = pd.DataFrame(dict.fromkeys(("document", "sequence", "position", "char_end"), np.arange(rows)))
    size = sum(x.nbytes for x in acts.values())
    with tempfile.TemporaryDirectory() as folder:
        store, key = Store(folder), {"layers": list(acts)}
        wrote = seconds(lambda: store.keep(key, acts, about, {}))
        stored = sum(path.stat().st_size for path in Path(folder).iterdir())
        read = seconds(lambda: store.find(key))
    speeds = f"writes {size / wrote / 1e9:.2f} GB/s, reads {size / read / 1e9:.2f} GB/s"
    print(f"store: {stored / size:.4f} bytes per byte, {speeds}")
    for name in ("cka", "procrustes", "mutual_knn"):
        measure, start = rs.get_measure(name), time.perf_counter()
        one, other = (measure.prepare(acts[layer]) for layer in (0, 1))
        middle = time.perf_counter()
        measure.grid([one], [other])
        each, pair = (middle - start) / 2, time.perf_counter() - middle
        print(f"{name}: {each:.1f} s for a layer alone, {pair:.1f} s for a pair of layers", flush=True)


def plan(models=100, corpora=5, steps=20, parameters=7e9, layers=33, width=4096, rows=4096):
    """The plan of docs/clusters.md: its sums, and its units played through on workers that share a disk."""
    loads, weights = models * steps, 2 * parameters
    flops = 6 * rows * corpora * 2 * parameters
    activations = 4 * rows * layers * width
    pairs = models * (models - 1) // 2 * steps * corpora
    cka = 2 * rows * width**2 * layers
    print(f"{loads:,} units; {loads * weights / 1e12:.0f} TB of weights; {loads * flops / 1e18:.1f} EFLOP forward")
    print(
        f"{loads * corpora * activations / 1e12:.0f} TB of activations; {pairs:,} pairs, {pairs * cka / 1e18:.1f} EFLOP"
    )
    for gpus in (1, 8, 64):
        for disk in (1e9, 10e9):
            moved, working = weights + corpora * activations, flops / 300e12 + corpora * activations / STORING
            hours = played(loads, moved, working, gpus, disk) / 3600
            print(f"{gpus} GPUs, {disk / 1e9:.0f} GB/s: {hours:.1f} h, {gpus * hours:.0f} GPU hours")


def played(units, bytes_moved, computing, count, disk):
    """Seconds until the last of `count` workers is done; they take turns at the disk and compute side by side."""
    free, reading = [0.0] * count, 0.0
    for _ in range(units):
        start = max(heapq.heappop(free), reading)
        reading = start + bytes_moved / disk
        heapq.heappush(free, reading + computing)
    return max(free)


if __name__ == "__main__":
    for name in sys.argv[1:] or ("overhead", "workers", "scheduler", "rates", "plan"):
        print(f"\n{name}", flush=True)
        {"overhead": overhead, "workers": workers, "scheduler": scheduler, "rates": rates, "plan": plan}[name]()
