"""Ours beside what users would pick instead: time and peak memory of the same work, in one run.

    python -m tests.benchmarks.bench_peers [--seconds 40] [--only cka extraction] [--quick] [--out docs]

Two parts. Debiased linear CKA of all pairs of layers, against the packages of the index that are installed
(`pip install pytorch-cka ckatorch repsim torch_cka cka-pytorch`) and two loops that people write. Extraction: two
models of GPT-2's size with random weights on the same tokens, against bare forward passes and a loop over
`output_hidden_states`. WikiText-2's validation text and GPT-2's tokenizer where the folder REALDATA has them, else the
embedded corpus and tokenizer.

One thread. Seconds are CPU seconds of the process: contenders take turns, and the ratio to ours is the median over
rounds, because a shared machine changes its speed from one second to the next. Peak memory is beyond the inputs, each
in a process of its own that gives freed memory back at once. --out writes benchmarks.csv and benchmarks.svg.
"""

import os

# ruff: noqa: E402
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"], os.environ["TOKENIZERS_PARALLELISM"] = "1", "false"

import argparse
import ctypes
import importlib
import multiprocessing
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor

from tests.benchmarks.peers import CONTENDERS, OURS, Contender

ROUNDS = 5
LONG = 2.0  # seconds; what is expected to take longer is run once, where its peak is measured
ENOUGH = 6.0  # seconds of one contender in one size, after which it is not run again
SHARE = 0.8  # of the memory that is free


class Size(NamedTuple):
    """Rows, width, and layers on each side."""

    rows: int
    width: int
    layers: int


FULL = {
    "rows": [Size(n, 256, 12) for n in (1_000, 3_000, 10_000, 30_000, 100_000)],
    "width": [Size(1_000, d, 12) for d in (256, 1_024, 4_096)],
    "layers": [Size(2_000, 768, count) for count in (2, 12, 33)],
    "more": [Size(1_000, 256, 33), Size(10_000, 256, 33)],
    "too large": [Size(10_000, 4_096, 33), Size(100_000, 768, 33), Size(100_000, 4_096, 33)],
}
QUICK = {"rows": [Size(60, 8, 2), Size(120, 8, 2)], "width": [Size(60, 16, 2)], "layers": [Size(60, 8, 3)]}


def layers(size: Size) -> tuple[list[Tensor], list[Tensor]]:
    """Two sides whose layers share 40 directions, with a spectrum that falls and a mean that is not 0."""
    n, d, count = size
    rng = torch.Generator().manual_seed(0)
    shared = torch.randn(n, 40, generator=rng)
    noise = torch.randn(n, d, generator=rng) / torch.arange(1, d + 1).sqrt()

    def layer(k: int) -> Tensor:
        x = noise.roll(7 * k + 1, 0)
        x.addmm_(shared, torch.randn(40, d, generator=rng), alpha=0.2)
        return x.add_(torch.randn(d, generator=rng))

    every = [layer(k) for k in range(2 * count)]
    return every[:count], every[count:]


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` returns in a process of its own, which starts with what this one holds; None if it was killed."""
    context = multiprocessing.get_context("fork")
    results, ours = context.Pipe(duplex=False)
    process = context.Process(target=lambda: ours.send(work(*arguments)))
    process.start()
    ours.close()
    try:
        return results.recv()
    except EOFError:
        return None
    finally:
        process.join()


class Taken(NamedTuple):
    """CPU seconds and wall seconds (medians), CPU seconds relative to the first's, and what came out."""

    cpu: float
    wall: float
    ratio: float
    result: Any


def alone(work: Callable[[], Any], warm: Callable[[], Any]) -> tuple[float, Taken]:
    """Bytes at the peak of `work` beyond those held before, and what else one run takes.

    What is freed goes back to the system at once.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 2**16)  # M_MMAP_THRESHOLD
    warm()
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    start, began = time.process_time(), time.perf_counter()
    result = work()
    cpu, wall = time.process_time() - start, time.perf_counter() - began
    values = result if isinstance(result, np.ndarray) else None  # tensors end with the process that made them
    return _status("VmHWM") - before, Taken(cpu, wall, float("nan"), values)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def turns(works: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS, enough: float = ENOUGH) -> dict[str, Taken]:
    """Run all in turn, as often as `rounds` and `enough` allow; ratios are to the first, in the same round."""
    first = next(iter(works))
    cpu: dict[str, list[float]] = {name: [] for name in works}
    wall: dict[str, list[float]] = {name: [] for name in works}
    results = {}
    for turn in range(rounds):
        due = [name for name in works if not turn or sum(cpu[name]) < enough]
        if turn and due in ([], [first]):
            break
        for name in dict.fromkeys([first, *due]):
            start, began = time.process_time(), time.perf_counter()
            results[name] = works[name]()
            cpu[name].append(time.process_time() - start)
            wall[name].append(time.perf_counter() - began)
    return {
        name: Taken(
            median(cpu[name]),
            median(wall[name]),
            median(t / o for t, o in zip(cpu[name], cpu[first], strict=False)),
            results[name],
        )
        for name in works
    }


def left_out(contender: Contender, size: Size, seconds: float) -> str:
    """Why this contender is not run at this size; empty if it is."""
    if contender.version is None:
        return "not installed"
    inputs = 4 * 2 * size.layers * size.rows * size.width
    free = SHARE * psutil.virtual_memory().available
    if inputs > free / 2:
        return f"the layers alone take {inputs / 1e9:.0f} GB"
    taken = contender.bytes(*size)
    if inputs + taken > free:
        return f"needs {taken / 1e9:.0f} GB of memory"
    expected = contender.seconds(*size)
    return f"would take about {expected:,.0f} s" if expected > seconds else ""


def grids(size: Size, contenders: Sequence[Contender], seconds: float) -> list[dict[str, Any]]:
    """One line of the table for every contender."""
    reasons = {c.name: left_out(c, size, seconds) for c in contenders}
    running = [c for c in contenders if not reasons[c.name]]
    taken: dict[str, Taken] = {}
    peaks = {}
    if OURS in running and len(running) > 1:
        xs, ys = layers(size)

        def warm(contender: Contender) -> None:  # both routes
            for small in (layers(Size(64, 128, 2)), layers(Size(600, 32, 2))):
                contender.grid(*small)

        def timed(short: list[Contender]) -> dict[str, Taken]:
            for c in short:
                warm(c)
            return turns({c.name: lambda c=c: c.grid(xs, ys) for c in short})

        for c in running:
            peaks[c.name], taken[c.name] = apart(alone, lambda c=c: c.grid(xs, ys), lambda c=c: warm(c))
        if OURS.seconds(*size) < LONG:
            taken |= apart(timed, [c for c in running if c.seconds(*size) < LONG])
        for name, t in taken.items():
            if np.isnan(t.ratio):
                taken[name] = t._replace(ratio=t.cpu / taken[OURS.name].cpu)
    lines = []
    for c in contenders:
        line = {"part": "cka", **size._asdict(), "contender": c.name, "version": c.version}
        if c.name in taken:
            t = taken[c.name]
            line |= {"cpu_seconds": t.cpu, "wall_seconds": t.wall, "ratio": t.ratio, "peak_mb": peaks[c.name] / 1e6}
            line["difference"] = float(np.abs(t.result - taken[OURS.name].result).max())
        lines.append(line | {"left_out": reasons[c.name]})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40, help="a contender that would take longer is left out")
    parser.add_argument("--only", nargs="+", choices=["cka", "extraction"], default=["cka", "extraction"])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="folder for benchmarks.csv and benchmarks.svg")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sizes = QUICK if options.quick else FULL
    lines(options.only, sizes, options.seconds, options.out)


def imported() -> None:
    """Import what contenders need, before processes fork."""
    for contender in CONTENDERS:
        if contender.module and contender.version:
            importlib.import_module(contender.module)


def lines(
    parts: Sequence[str], sizes: Mapping[str, Sequence[Size]], seconds: float, out: Path | None = None
) -> list[dict[str, Any]]:
    """The whole table, printed and written as it grows; at the first size every contender has 1.5 times as long."""
    imported()
    found: list[dict[str, Any]] = []
    if "extraction" in parts:
        from tests.benchmarks.peers_extraction import extraction

        found += shown(apart(extraction, sizes is QUICK))
    if "cka" in parts:
        for place, size in enumerate(dict.fromkeys(size for along in sizes.values() for size in along)):
            found += shown(grids(size, CONTENDERS, seconds * (1 if place else 1.5)))
            if out:
                write(pd.DataFrame(found), sizes, out)
    elif out:
        write(pd.DataFrame(found), sizes, out)
    return found


COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")  # Okabe and Ito
MARKS = "os^DvPX*"
AXES = {"rows": "rows", "width": "features of a layer", "layers": "layers of each model"}
SWEEPS = {"rows": "{width:,} features, {layers} layers", "width": "{rows:,} rows, {layers} layers"}
SWEEPS |= {"layers": "{rows:,} rows, {width:,} features"}


def write(table: pd.DataFrame, sizes: Mapping[str, Sequence[Size]], folder: Path) -> None:
    """The table with its provenance, and how cost grows."""
    cpu = next((x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model n" in x), "")
    packages = [f"{p} {version(p)}" for p in ("repsim-nb", "torch", "numpy", "transformers")]
    about = f"# {date.today()}; {cpu}, one thread; Python {platform.python_version()}, {', '.join(packages)}\n"
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {"cpu_seconds": 4, "wall_seconds": 4, "ratio": 3, "peak_mb": 1}
    rows = table.round(numbers).to_csv(index=False, float_format="%.4g")
    (folder / "benchmarks.csv").write_text(about + rows, encoding="utf-8")
    if (table.part == "cka").any():
        draw(table[table.part == "cka"], sizes, folder / "benchmarks.svg")


def draw(table: pd.DataFrame, sizes: Mapping[str, Sequence[Size]], path: Path) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter

    fig, axes = plt.subplots(2, 3, figsize=(10, 6), sharey="row", layout="constrained")
    for column, (along, title) in enumerate(SWEEPS.items()):
        wanted = set(sizes[along])
        part = table[[Size(*size) in wanted for size in zip(table.rows, table.width, table.layers, strict=True)]]
        for row, (field, label) in enumerate({"cpu_seconds": "CPU time (s)", "peak_mb": "peak memory (MB)"}.items()):
            ax = axes[row, column]
            for c, colour, mark in zip(CONTENDERS, COLOURS, MARKS, strict=True):
                own = part[(part.contender == c.name) & part[field].notna()].sort_values(along)
                width = 2.5 if c is OURS else 1
                ax.loglog(own[along], own[field], mark + "-", color=colour, linewidth=width, label=c.name, markersize=5)
            ax.set_xticks(sorted(part[along].unique()), minor=False)
            ax.minorticks_off()
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            if not row:
                ax.set_title(title.format(**sizes[along][0]._asdict()), fontsize=10)
            else:
                ax.set_xlabel(AXES[along])
            if not column:
                ax.set_ylabel(label)
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "benchmarks"}):
        fig.savefig(path, metadata={"Date": None})
    plt.close(fig)


def shown(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for line in lines:
        where = f"{line['part']:<11}{line['rows']:>8,} x {line['width']:<5,} {line['layers']:>3} layers"
        name = f"{line['contender']:<34}"
        if line["left_out"]:
            print(f"{where}  {name} left out: {line['left_out']}", flush=True)
            continue
        numbers = f"{line['cpu_seconds']:9.3f} s {line['ratio']:8.3f}"
        if "peak_mb" in line:
            numbers += f" {line['peak_mb']:8.1f} MB"
        if "difference" in line:
            numbers += f"  {line['difference']:.0e}"
        print(f"{where}  {name}{numbers}", flush=True)
    return lines


if __name__ == "__main__":
    main()
