"""What an executor costs and gains: overhead per unit, one worker against two, a scheduler with 100,000 units, a plan.

python -m tests.benchmarks.bench_executor [overhead | workers | scheduler | plan]...
"""

import heapq
import sys
import time

import psutil

import repsim_nb as rs
from repsim_nb.depth import over_training
from repsim_nb.system.executor import mapped
from tests.support.clusters import dask, spawned

NAMES = ["tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-neox-w32-d4", "tiny-neox-w64-d4"]
KINDS = {
    "stitches": lambda e: rs.stitching_table(NAMES[:2], NAMES[:2], [1], n_fit=64, n_report=16, steps=40, executor=e),
    "population": lambda e: rs.compare_models(NAMES[:2], "cka", layers=[1, 2], n_rows=2000, executor=e),
    "checkpoints": lambda e: over_training("tiny-neox-w64-d4", ["step50", "step500"], n_rows=2000, executor=e),
    "sequences": lambda e: rs.compare_family(NAMES, n_sequences=64, length=64, at_once=8, executor=e),
    "batches": lambda e: rs.stream(NAMES[0], NAMES[1], n_rows=60_000, batch_tokens=4096, executor=e),
    "permutations": lambda e: rs.compare(
        NAMES[0], NAMES[1], measure="procrustes", n_rows=1000, null=64, layers_a=[1, 2], layers_b=[1, 2], executor=e
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


def workers():
    """Wall time of each kind with one worker and with two, after a first run that loads everything."""
    spent = {}
    for count in (1, 2):
        with dask(count) as executor:
            for kind, work in KINDS.items():
                work(executor)
                spent[kind, count] = seconds(lambda w=work, e=executor: w(e))
    for kind in KINDS:
        one, two = spent[kind, 1], spent[kind, 2]
        print(f"{kind}: {one:.2f} s with one worker, {two:.2f} s with two, {one / two:.2f} times as fast")


def scheduler(units=100_000):
    """Memory of the process that holds driver and scheduler, before, at most and after so many units."""
    with dask(2) as executor:
        list(mapped(nothing, None, range(100), executor, what="units"))
        process, most = psutil.Process(), 0
        before = process.memory_info().rss
        start = time.perf_counter()
        for done in mapped(nothing, None, range(units), executor, what="units"):
            if done % 1000 == 0:
                most = max(most, process.memory_info().rss)
        print(f"{units:,} units in {time.perf_counter() - start:.0f} s; at most {(most - before) / 1e6:.0f} MB more")


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
            hours = played(loads, weights, flops / 300e12, gpus, disk) / 3600
            print(f"{gpus} GPUs, {disk / 1e9:.0f} GB/s: {hours:.1f} h, {gpus * hours:.0f} GPU hours")


def played(units, bytes_read, computing, count, disk):
    """Seconds until the last of `count` workers is done, which read one after the other and compute side by side."""
    free, reading = [0.0] * count, 0.0
    for _ in range(units):
        start = max(heapq.heappop(free), reading)
        reading = start + bytes_read / disk
        heapq.heappush(free, reading + computing)
    return max(free)


if __name__ == "__main__":
    for name in sys.argv[1:] or ("overhead", "workers", "scheduler", "plan"):
        print(f"\n{name}", flush=True)
        {"overhead": overhead, "workers": workers, "scheduler": scheduler, "plan": plan}[name]()
